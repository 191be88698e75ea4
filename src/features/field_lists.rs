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
use crate::server::{AuxTable, Event, Global, Listener, Lock, Strings};
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

/// A field list.
#[derive(Debug)]
pub struct FieldList {
    fields: Vec<Box<[u8]>>,
    /// The same as a call has its arguments, once one asked for them.
    strings: OnceLock<Arc<Strings>>,
}

impl FieldList {
    /// The names of the fields, in order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.fields.iter().map(|field| &**field)
    }

    /// The same, as arguments of a call.
    pub fn strings(&self) -> &Arc<Strings> {
        self.strings.get_or_init(|| Arc::new(Strings::new(self.fields())))
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

    /// Has a name stand for these fields, in place of those it stood for; for none of any:
    /// the list goes. Of at most `most` lists. Whether that changes anything.
    pub fn set(&mut self, name: &[u8], fields: &[&[u8]], most: usize) -> Result<bool, Refusal> {
        let fits = fields.iter().all(|field| field.len() <= MAX_NAME_BYTES)
            && fields.len() <= MAX_FIELDS
            && fields.iter().map(|field| field.len()).sum::<usize>() <= MAX_LIST_BYTES;
        if !fits {
            return Err(Refusal::TooLarge);
        }
        let held = self.0.get(name);
        if held.is_some_and(|list| list.fields().eq(fields.iter().copied())) {
            return Ok(false);
        }
        if fields.is_empty() {
            return Ok(self.0.remove(name).is_some());
        }
        if held.is_none() && self.0.len() >= most {
            return Err(Refusal::TooMany);
        }
        let fields = fields.iter().map(|field| Box::from(*field)).collect();
        self.0.insert(name.into(), FieldList { fields, strings: OnceLock::new() });
        Ok(true)
    }
}

/// Appends the payload of lists.
pub fn encode<'a, F>(lists: impl Iterator<Item = (&'a [u8], F)>, out: &mut Vec<u8>)
where
    F: ExactSizeIterator<Item = &'a [u8]>,
{
    out.push(VERSION);
    for (name, fields) in lists {
        out.push(name.len() as u8);
        out.extend(name);
        push_number(fields.len() as u64, out);
        for field in fields {
            push_number(field.len() as u64, out);
            out.extend(field);
        }
    }
}

/// Has names stand for what a payload says, whatever the config; `None`, and nothing
/// changed, unless the payload is one that can be.
pub fn apply(lists: &mut FieldLists, payload: &[u8]) -> Option<()> {
    let mut reader = Reader::new(payload);
    (reader.u8()? == VERSION).then_some(())?;
    let mut all = Vec::new();
    while !reader.rest().is_empty() {
        let length = reader.u8().filter(|length| *length > 0)?;
        let name = reader.bytes(length.into())?;
        let count = reader.number().filter(|count| *count <= MAX_FIELDS as u64)?;
        let field = |_| {
            let length = usize::try_from(reader.number()?).ok()?;
            reader.bytes(Some(length).filter(|length| *length <= MAX_NAME_BYTES)?)
        };
        all.push((name, (0..count).map(field).collect::<Option<Vec<_>>>()?));
    }
    for (name, fields) in all {
        // What no primary could have set changes nothing.
        let _ = lists.set(name, &fields, MAX_LISTS);
    }
    Some(())
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
            encode(lists.all().map(|(name, list)| (name, list.fields())), out);
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
    Event::Flushed(_) | Event::Swapped(..) | Event::RoleChanged | Event::Tick => {}
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Oracle;

    fn encoded(lists: &FieldLists) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(lists.all().map(|(name, list)| (name, list.fields())), &mut payload);
        payload
    }

    fn content(lists: &FieldLists) -> Oracle<Vec<u8>, Vec<Vec<u8>>> {
        let fields = |list: &FieldList| list.fields().map(<[u8]>::to_vec).collect();
        lists.all().map(|(name, list)| (name.to_vec(), fields(list))).collect()
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
                let changed = lists.set(name.as_bytes(), &fields, 100);
                prop_assert_eq!(changed, Ok(before != oracle));
                prop_assert_eq!(&content(&lists), &oracle);
                let mut payload = Vec::new();
                encode([(name.as_bytes(), fields.iter().copied())].into_iter(), &mut payload);
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
            lists.set(b"a", &[b"kept"], 9).unwrap();
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
        assert_eq!(lists.set(b"a", &[b"f"], 1), Ok(true));
        assert_eq!(lists.set(b"b", &[b"f"], 1), Err(Refusal::TooMany));
        assert_eq!(lists.set(b"a", &[b"g", b"g"], 1), Ok(true));
        let long = vec![b'x'; MAX_NAME_BYTES + 1];
        assert_eq!(lists.set(b"a", &[&long], 1), Err(Refusal::TooLarge));
        let much = vec![&long[1..]; MAX_LIST_BYTES / MAX_NAME_BYTES + 1];
        assert_eq!(lists.set(b"a", &much, 1), Err(Refusal::TooLarge));
        let many = vec![&b"x"[..]; MAX_FIELDS + 1];
        assert_eq!(lists.set(b"a", &many, 1), Err(Refusal::TooLarge));
        assert_eq!(lists.get(b"a").unwrap().fields().len(), 2);
        assert_eq!(lists.set(b"a", &[], 1), Ok(true));
        assert_eq!(lists.set(b"a", &[], 1), Ok(false));
        assert!(lists.get(b"a").is_none());
    }
}
