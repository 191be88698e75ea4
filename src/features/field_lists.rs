//! Field lists: names of fields under one name, so that a call says them in a word.
//!
//! A table of the node. What leaves it:
//!
//! ```text
//! lists   1 u8 · for each: name length u8 · name · fields (0: the list goes)
//!         · for each field: length · bytes
//! ```
//!
//! What has no size given is a number as [`crate::wire`] writes it.

use super::config::MAX_LISTS;
use super::layout::{MAX_FIELDS, MAX_NAME_BYTES};
use super::listing::Listing;
use crate::bug;
use crate::server::{AuxTable, Event, Global, Listener, Lock};
use crate::wire::{Reader, push_number};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, OnceLock};

/// The command that carries field lists to replicas and into the AOF.
pub const APPLY_LISTS: &CStr = c"ML.APPLYFIELDLISTS";

/// The longest name of a list, in bytes.
pub const MAX_LIST_NAME_BYTES: usize = 255;

/// The most bytes that the names of a list's fields take.
pub const MAX_LIST_BYTES: usize = 1 << 20;

const VERSION: u8 = 1;

/// A field list: as it is sent, so that a payload makes no more of it than it is long.
#[derive(Debug)]
pub struct FieldList {
    count: usize,
    /// For each field its length, and its bytes.
    packed: Box<[u8]>,
    /// The fields as calls ask for them, once one did.
    listing: OnceLock<Arc<Listing>>,
}

impl FieldList {
    /// The list of these fields.
    pub fn new<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut count, mut packed) = (0, Vec::new());
        for field in fields {
            count += 1;
            push_number(field.len() as u64, &mut packed);
            packed.extend(field);
        }
        Self::of(count, &packed)
    }

    fn of(count: usize, packed: &[u8]) -> Self {
        Self { count, packed: packed.into(), listing: OnceLock::new() }
    }

    /// The names of the fields, in order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut reader = Reader::new(&self.packed);
        let next =
            move |_| read_field(&mut reader).unwrap_or_else(|| bug("a field that is not there"));
        (0..self.count).map(next)
    }

    /// The same, as calls ask for them.
    pub fn listing(&self) -> &Arc<Listing> {
        self.listing.get_or_init(|| Arc::new(Listing::new(self.fields())))
    }

    /// Whether it is as small as it may be.
    fn fits(&self) -> bool {
        self.count <= MAX_FIELDS
            && self.fields().all(|field| field.len() <= MAX_NAME_BYTES)
            && self.fields().map(<[u8]>::len).sum::<usize>() <= MAX_LIST_BYTES
    }
}

impl PartialEq for FieldList {
    fn eq(&self, other: &Self) -> bool {
        (self.count, &self.packed) == (other.count, &other.packed)
    }
}

/// Why there can be no such list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are as many as there may be.
    #[error("name would be one more than ml.features-max-lists")]
    TooMany,
    /// A list of too many fields, or of too long a name.
    #[error("field must be at most 65535 times, each of at most 65535 bytes, 1 MiB in all")]
    TooLarge,
}

/// All field lists, by name.
#[derive(Debug, Default)]
pub struct FieldLists(BTreeMap<Box<[u8]>, FieldList>);

impl FieldLists {
    /// The list of a name.
    pub fn get(&self, name: &[u8]) -> Option<&FieldList> {
        self.0.get(name)
    }

    /// All lists, by name.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (&[u8], &FieldList)> {
        self.0.iter().map(|(name, list)| (&**name, list))
    }

    /// Has a name stand for the fields of a list, in place of those it stood for; for none of
    /// any: it goes. Of at most `most` lists. Whether that changes anything.
    pub fn set(&mut self, name: &[u8], list: FieldList, most: usize) -> Result<bool, Refusal> {
        if !list.fits() {
            return Err(Refusal::TooLarge);
        }
        let held = self.0.get(name);
        if held == Some(&list) {
            return Ok(false);
        }
        if list.count == 0 {
            return Ok(self.0.remove(name).is_some());
        }
        if held.is_none() && self.0.len() >= most {
            return Err(Refusal::TooMany);
        }
        self.0.insert(name.into(), list);
        Ok(true)
    }
}

/// Appends the payload of lists: of a name without fields, that it stands for none.
pub fn encode<'a>(lists: impl Iterator<Item = (&'a [u8], &'a FieldList)>, out: &mut Vec<u8>) {
    out.push(VERSION);
    for (name, list) in lists {
        out.push(name.len() as u8);
        out.extend(name);
        push_number(list.count as u64, out);
        out.extend(&list.packed);
    }
}

/// Has names stand for what a payload says, whatever the config; `None`, and nothing
/// changed, unless the payload is one that can be.
pub fn apply(lists: &mut FieldLists, payload: &[u8]) -> Option<()> {
    let mut reader = Reader::new(payload);
    (reader.u8()? == VERSION).then_some(())?;
    // All is read before anything is changed, and nothing kept of it meanwhile.
    let mut checked = Reader::new(reader.rest());
    while !checked.is_empty() {
        read_list(&mut checked)?;
    }
    while let Some((name, count, packed)) = read_list(&mut reader) {
        // What no primary could have set changes nothing.
        let _ = lists.set(name, FieldList::of(count, packed), MAX_LISTS);
    }
    Some(())
}

/// Reads a list: its name, how many fields it has, and these as they are packed.
fn read_list<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], usize, &'a [u8])> {
    let length = reader.u8().filter(|length| *length > 0)?;
    let name = reader.bytes(length.into())?;
    let count = reader.number().filter(|count| *count <= MAX_FIELDS as u64)? as usize;
    let packed = reader.rest();
    for _ in 0..count {
        read_field(reader)?;
    }
    Some((name, count, packed.get(..packed.len() - reader.rest().len())?))
}

fn read_field<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.number()?).ok()?;
    reader.bytes(length)
}

/// The lists of the node.
#[derive(Default)]
struct State {
    lists: FieldLists,
    /// Those that there were before a data set began to load.
    set_aside: FieldLists,
}

static STATE: Global<State> = Global::new();

/// Looks at the lists of the node, and changes them.
pub fn with<R>(lock: &Lock, work: impl FnOnce(&mut FieldLists) -> R) -> R {
    STATE.with(lock, |state| work(&mut state.lists))
}

/// The lists, as they are saved with the data set.
pub static TABLE: AuxTable = AuxTable { load_command: APPLY_LISTS, save, load };

fn save(lock: &Lock, out: &mut Vec<u8>) {
    with(lock, |lists| {
        if lists.all().len() > 0 {
            encode(lists.all(), out);
        }
    });
}

fn load(lock: &Lock, payload: &[u8]) -> Option<()> {
    with(lock, |lists| apply(lists, payload))
}

/// Follows what happens to the server as a whole: what is loaded says which lists there
/// are.
pub const LISTENER: Listener = |lock, event| match event {
    Event::LoadingStarted => STATE.with(lock, |state| {
        state.set_aside = std::mem::take(&mut state.lists);
    }),
    Event::LoadingEnded => STATE.with(lock, |state| state.set_aside = FieldLists::default()),
    Event::LoadingFailed => STATE.with(lock, |state| {
        state.lists = std::mem::take(&mut state.set_aside);
    }),
    Event::Flushed(_)
    | Event::Swapped(..)
    | Event::RoleChanged
    | Event::Tick
    | Event::VersionsChanged => {}
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Oracle;

    fn encoded(lists: &FieldLists) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(lists.all(), &mut payload);
        payload
    }

    fn content(lists: &FieldLists) -> Oracle<Vec<u8>, Vec<Vec<u8>>> {
        let fields = |list: &FieldList| list.fields().map(<[u8]>::to_vec).collect();
        lists.all().map(|(name, list)| (name.to_vec(), fields(list))).collect()
    }

    fn list(fields: &[&[u8]]) -> FieldList {
        FieldList::new(fields.iter().copied())
    }

    fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), length)
    }

    proptest! {
        #[test]
        fn names_stand_for_what_was_set_last_here_and_where_it_is_sent(
            sets in prop::collection::vec(("[ab]{1,2}", prop::collection::vec(bytes(0..4), 0..4)), 0..20)
        ) {
            let (mut lists, mut replica) = (FieldLists::default(), FieldLists::default());
            let mut oracle = Oracle::new();
            for (name, fields) in sets {
                let fields: Vec<_> = fields.iter().map(Vec::as_slice).collect();
                let owned: Vec<_> = fields.iter().map(|field| field.to_vec()).collect();
                let before = oracle.clone();
                if owned.is_empty() {
                    oracle.remove(name.as_bytes());
                } else {
                    oracle.insert(name.as_bytes().to_vec(), owned);
                }
                let list = || FieldList::new(fields.iter().copied());
                let changed = lists.set(name.as_bytes(), list(), 100);
                prop_assert_eq!(changed, Ok(before != oracle));
                prop_assert_eq!(&content(&lists), &oracle);
                let mut payload = Vec::new();
                encode([(name.as_bytes(), &list())].into_iter(), &mut payload);
                apply(&mut replica, &payload).unwrap();
            }
            prop_assert_eq!(content(&replica), oracle);
            let mut loaded = FieldLists::default();
            let payload = encoded(&lists);
            apply(&mut loaded, &payload).unwrap();
            prop_assert_eq!(content(&loaded), content(&lists));
            prop_assert_eq!(encoded(&loaded), payload);
        }

        #[test]
        fn no_bytes_are_half_taken(payload in bytes(0..40), version in 0u8..3) {
            let mut lists = FieldLists::default();
            lists.set(b"a", list(&[b"kept"]), 9).unwrap();
            let before = content(&lists);
            let payload = [&[version], payload.as_slice()].concat();
            if apply(&mut lists, &payload).is_none() {
                prop_assert_eq!(content(&lists), before);
            }
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut lists = FieldLists::default();
        assert_eq!(lists.set(b"a", list(&[b"f"]), 1), Ok(true));
        assert_eq!(lists.set(b"b", list(&[b"f"]), 1), Err(Refusal::TooMany));
        assert_eq!(lists.set(b"a", list(&[b"g", b"g"]), 1), Ok(true));
        let long = vec![b'x'; MAX_NAME_BYTES + 1];
        assert_eq!(lists.set(b"a", list(&[&long]), 1), Err(Refusal::TooLarge));
        let much = vec![&long[1..]; MAX_LIST_BYTES / MAX_NAME_BYTES + 1];
        assert_eq!(lists.set(b"a", list(&much), 1), Err(Refusal::TooLarge));
        let many = vec![&b"x"[..]; MAX_FIELDS + 1];
        assert_eq!(lists.set(b"a", list(&many), 1), Err(Refusal::TooLarge));
        assert_eq!(lists.get(b"a").unwrap().fields().len(), 2);
        assert_eq!(lists.set(b"a", list(&[]), 1), Ok(true));
        assert_eq!(lists.set(b"a", list(&[]), 1), Ok(false));
        assert!(lists.get(b"a").is_none());
    }
}
