//! The table of a key: its entries by id, by what their questions are told by, and in
//! the order in which they were last hit; and their vectors.

use super::asked::Asked;
use super::best::Best;
use super::change::{Change, Put};
use super::entry::{Aliases, Entry, NONE, Texts};
use super::shelves::{Held, Moved, Owner, Shelves};
use super::vector::{Code, Query, padded};
use crate::bug;
use crate::by_id::ById;
use crate::id::Id;
use crate::rows::Rows;
use crate::time::Millis;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// How many versions a key may hold answers of.
pub const MAX_VERSIONS: usize = 64;

/// How many entries a write takes out for the bounds at most: what is over them after a
/// config was lowered goes by and by.
const MAX_PUSHED_OUT: usize = 64;

/// How many entries a write looks at for whether their time is over.
const LOOKS: u32 = 8;

/// How many further vectors may lead to an entry: one more pushes out the first.
pub const MAX_ALIASES: usize = 64;

/// What an entry counts for beside its vectors and its texts, in bytes: about what it
/// takes.
const ENTRY_BYTES: usize = 150;

/// What a vector counts for beside its dimensions.
const VECTOR_BYTES: usize = 64;

/// A similarity of 1, in the units of thresholds.
pub const MILLION: u32 = 1_000_000;

/// Why a vector does not go with those of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Of another number of dimensions than this.
    #[error("vector must have the {0} dimensions of those in the key")]
    Dimensions(usize),
    /// Made by something else.
    #[error("EMBEDDER must be that of the key")]
    Embedder,
    /// There are answers of too many versions already.
    #[error("key holds answers of {MAX_VERSIONS} versions already")]
    Versions,
}

/// What a key may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many entries.
    pub entries: usize,
    /// How many bytes, as they are [counted](cost).
    pub bytes: usize,
}

/// What an entry counts for in the bound on bytes.
pub fn cost(put: &Put) -> usize {
    let texts = [Some(put.value), put.prompt, put.digest].into_iter().flatten();
    ENTRY_BYTES + vector_cost(put.code.dim()) + texts.map(<[u8]>::len).sum::<usize>()
}

fn vector_cost(dim: usize) -> usize {
    VECTOR_BYTES + padded(dim) * 13 / 8
}

/// A version, and how many entries are of it.
#[derive(Clone, Debug)]
struct Version {
    name: Box<[u8]>,
    entries: usize,
}

/// What a key holds.
pub struct Table {
    /// 0 in a table that never held a vector.
    dim: usize,
    embedder: Option<Box<[u8]>>,
    /// By number; those without entries are used again.
    versions: Vec<Version>,
    /// By place: the last one moves into the place of one that is taken out.
    entries: Rows<Entry, 64>,
    /// What all entries cost.
    bytes: usize,
    by_id: ById<u32>,
    /// By the hash of version and digest.
    by_digest: ById<u32>,
    hashes: u64,
    /// The ends of the order in which entries were last hit.
    newest: Cell<u32>,
    oldest: Cell<u32>,
    /// Up to which place entries were looked at for whether their time is over.
    looked_at: Cell<u32>,
    shelves: Shelves,
    /// The latest end of any entry so far.
    until_ms: Millis,
    /// The latest end of any entry so far that may be served past its time.
    stale_until_ms: Millis,
    /// What was asked.
    pub asked: Asked,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            dim: 0,
            embedder: None,
            versions: Vec::new(),
            entries: Rows::new(),
            bytes: 0,
            by_id: ById::new(),
            by_digest: ById::new(),
            hashes: RandomState::new().hash_one(()),
            newest: Cell::new(NONE),
            oldest: Cell::new(NONE),
            looked_at: Cell::new(0),
            shelves: Shelves::default(),
            until_ms: 0,
            stale_until_ms: 0,
            asked: Asked::default(),
        }
    }
}

impl Table {
    /// Whether any entry may be stale: none was put in that may be served past its time,
    /// or all of these are gone.
    pub fn has_stale(&self, now_ms: Millis) -> bool {
        now_ms < self.stale_until_ms
    }

    /// Has its key live until then at least.
    pub fn keep_until(&mut self, until_ms: Millis) {
        self.until_ms = self.until_ms.max(until_ms);
    }

    /// How many entries there are, those whose time is over included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// How many dimensions its vectors have; `None` before the first one.
    pub fn dim(&self) -> Option<usize> {
        (self.dim > 0).then_some(self.dim)
    }

    /// What makes its vectors, if anybody said.
    pub fn embedder(&self) -> Option<&[u8]> {
        self.embedder.as_deref()
    }

    /// What all entries count for, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The latest end of any entry.
    pub fn until_ms(&self) -> Millis {
        self.until_ms
    }

    /// Bytes on the heap, but for what the allocator adds.
    pub fn heap_bytes(&self) -> usize {
        let vectors = self.shelves.vectors() * vector_cost(self.dim);
        let texts = self.bytes.saturating_sub(self.len() * ENTRY_BYTES + vectors);
        let versions = self.versions.iter().map(|version| version.name.len()).sum::<usize>();
        self.shelves.heap_bytes()
            + self.entries.heap_bytes()
            + self.by_id.heap_bytes()
            + self.by_digest.heap_bytes()
            + self.versions.capacity() * size_of::<Version>()
            + versions
            + texts
            + self.embedder.as_ref().map_or(0, |name| name.len())
    }

    /// How many blocks it is made of, about.
    pub fn blocks(&self) -> usize {
        self.len() + self.shelves.segments() * 8
    }

    /// Whether a vector goes with those that are there.
    pub fn check(&self, dim: usize, embedder: Option<&[u8]>) -> Result<(), Misfit> {
        if self.dim > 0 && self.dim != dim {
            return Err(Misfit::Dimensions(self.dim));
        }
        match (&self.embedder, embedder) {
            (Some(own), Some(other)) if **own != *other => Err(Misfit::Embedder),
            _ => Ok(()),
        }
    }

    /// Whether an entry of a version can be put in.
    pub fn check_version(&self, version: &[u8]) -> Result<(), Misfit> {
        let used = self.versions.iter().filter(|one| one.entries > 0).count();
        let has_room = used < MAX_VERSIONS || self.number_of(version).is_some();
        if has_room { Ok(()) } else { Err(Misfit::Versions) }
    }

    /// Whether all entries of another table can be put in as well.
    pub fn goes_with(&self, other: &Self) -> bool {
        let checked = other.dim().is_none_or(|dim| self.check(dim, other.embedder()).is_ok());
        let used = |table: &Self| table.versions.iter().filter(|one| one.entries > 0).count();
        let others = other.versions.iter().filter(|one| one.entries > 0);
        let new = others.filter(|one| self.number_of(&one.name).is_none()).count();
        let is_new = |entry: &Entry| self.get(entry.id).is_none();
        checked && used(self) + new <= MAX_VERSIONS && other.entries().all(is_new)
    }

    fn number_of(&self, version: &[u8]) -> Option<u16> {
        let is = |one: &Version| one.entries > 0 && *one.name == *version;
        self.versions.iter().position(is).map(|number| number as u16)
    }

    /// The version of an entry.
    pub fn version(&self, entry: &Entry) -> &[u8] {
        let version = self.versions.get(entry.version as usize);
        &version.unwrap_or_else(|| bug("an entry of no version")).name
    }

    fn entry(&self, place: u32) -> &Entry {
        self.entries.get(place as usize).unwrap_or_else(|| no_entry())
    }

    fn entry_mut(&mut self, place: u32) -> &mut Entry {
        self.entries.get_mut(place as usize).unwrap_or_else(|| no_entry())
    }

    /// The entry of an id.
    pub fn get(&self, id: Id) -> Option<&Entry> {
        self.by_id.get(id).map(|place| self.entry(*place))
    }

    /// The entry of a version whose question is told by a digest.
    pub fn by_digest(&self, version: &[u8], digest: &[u8]) -> Option<&Entry> {
        let place = *self.by_digest.get(self.hash(self.number_of(version)?, digest))?;
        let is =
            |entry: &&Entry| entry.texts.digest() == Some(digest) && self.version(entry) == version;
        Some(self.entry(place)).filter(is)
    }

    fn hash(&self, version: u16, digest: &[u8]) -> Id {
        let seed = self.hashes ^ u64::from(version);
        Id(xxh3_128_with_seed(digest, seed).to_le_bytes())
    }

    /// The vectors of an entry, its own first.
    pub fn codes(&self, entry: &Entry) -> impl Iterator<Item = Code<'_>> {
        entry.slots().map(|slot| self.shelves.code(slot))
    }

    /// The entries of a version nearest to a query, as `best` asks for them: of those that
    /// `serves` says may answer.
    pub fn find(
        &self,
        query: &Query,
        version: &[u8],
        serves: impl Fn(&Owner) -> bool,
        best: &mut Best<Id>,
    ) {
        if let Some(version) = self.number_of(version) {
            self.shelves.scan(query, version, serves, None, best);
        }
    }

    /// What a scan of the entries of a version goes through, in bytes of vectors.
    pub fn to_scan(&self, version: &[u8]) -> usize {
        let vectors = self.number_of(version).map_or(0, |_| self.shelves.vectors());
        vectors * (vector_cost(self.dim) - VECTOR_BYTES)
    }

    /// The segments that threads can scan, and the number of a version in them.
    pub fn hold(&self, version: &[u8]) -> Option<(Arc<Held>, u16)> {
        Some((self.shelves.hold(), self.number_of(version)?))
    }

    /// As [`Self::find`], in all that is not held.
    pub fn find_beside(
        &self,
        held: &Held,
        query: &Query,
        version: &[u8],
        serves: impl Fn(&Owner) -> bool,
        best: &mut Best<Id>,
    ) {
        if let Some(version) = self.number_of(version) {
            self.shelves.scan(query, version, serves, Some(held), best);
        }
    }

    /// As [`Self::find`], among some entries, of which some may be gone.
    pub fn find_among(
        &self,
        ids: impl Iterator<Item = Id>,
        similarity: impl Fn(&Code) -> f64,
        version: &[u8],
        serves: impl Fn(&Owner) -> bool,
        best: &mut Best<Id>,
    ) {
        let number = self.number_of(version);
        let there = ids.filter_map(|id| self.get(id));
        for entry in there.filter(|entry| Some(entry.version) == number) {
            if serves(&entry.owner(NONE)) {
                let codes = self.codes(entry);
                codes
                    .for_each(|code| best.offer(similarity(&code), entry.id, entry.answers_from()));
            }
        }
    }

    /// All entries, from the one that was hit longest ago on.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let at = |place: u32| (place != NONE).then(|| self.entry(place));
        std::iter::successors(at(self.oldest.get()), move |entry| at(entry.newer.get()))
    }

    /// Takes note of a hit. What is known of hits is the node's own.
    pub fn touch(&self, id: Id) {
        if let Some(place) = self.by_id.get(id).filter(|place| **place != self.newest.get()) {
            self.unlink(*place);
            self.link_newest(*place);
        }
    }

    fn unlink(&self, place: u32) {
        let entry = self.entry(place);
        let (newer, older) = (entry.newer.get(), entry.older.get());
        match newer {
            NONE => self.newest.set(older),
            newer => self.entry(newer).older.set(older),
        }
        match older {
            NONE => self.oldest.set(newer),
            older => self.entry(older).newer.set(newer),
        }
    }

    fn link_newest(&self, place: u32) {
        let before = self.newest.replace(place);
        let entry = self.entry(place);
        entry.newer.set(NONE);
        entry.older.set(before);
        match before {
            NONE => self.oldest.set(place),
            before => self.entry(before).newer.set(place),
        }
    }

    /// What an entry counts for once it is put in, in bytes: further vectors of the one in
    /// whose place it comes stay.
    pub fn cost_of_put(&self, put: &Put) -> usize {
        let aliases = self.get(put.id).map_or(0, |entry| entry.aliases.count());
        cost(put) + aliases * vector_cost(put.code.dim())
    }

    /// What an entry counts for once another vector leads to it.
    pub fn cost_of_aliased(&self, entry: &Entry) -> usize {
        let is_full = entry.aliases.count() == MAX_ALIASES;
        self.cost_of(entry) + if is_full { 0 } else { vector_cost(self.dim) }
    }

    /// Decides what goes when an entry comes to count for so many bytes, be it put in or
    /// another vector leads to it: a few of those whose time is over, and those hit longest
    /// ago where there would be too many, or too much.
    pub fn decide_room(&self, id: Id, cost: usize, bounds: Bounds, now_ms: Millis) -> Vec<Id> {
        let replaced = self.get(id);
        let mut dropped = self.over(now_ms);
        dropped.retain(|entry| entry.id != id);
        let goes: usize = dropped.iter().chain(&replaced).map(|entry| self.cost_of(entry)).sum();
        let mut bytes = (self.bytes + cost).saturating_sub(goes);
        let mut count = self.len() + 1 - dropped.len() - usize::from(replaced.is_some());
        let others = self.entries().filter(|entry| entry.id != id);
        let mut pushed_out = Vec::new();
        for entry in others.take(MAX_PUSHED_OUT + dropped.len()) {
            if count <= bounds.entries && bytes <= bounds.bytes {
                break;
            }
            if pushed_out.len() == MAX_PUSHED_OUT {
                break;
            }
            if !dropped.iter().any(|other| other.id == entry.id) {
                bytes = bytes.saturating_sub(self.cost_of(entry));
                count -= 1;
                pushed_out.push(entry);
            }
        }
        dropped.into_iter().chain(pushed_out).map(|entry| entry.id).collect()
    }

    /// The next few entries whose time is over.
    fn over(&self, now_ms: Millis) -> Vec<&Entry> {
        let places = self.entries.len() as u32;
        let from = self.looked_at.get();
        let to = from.saturating_add(LOOKS).min(places);
        self.looked_at.set(if to == places { 0 } else { to });
        let looked_at = (from..to).filter_map(|place| self.entries.get(place as usize));
        looked_at.filter(|entry| !entry.lifetime.is_alive(now_ms)).collect()
    }

    fn cost_of(&self, entry: &Entry) -> usize {
        ENTRY_BYTES + entry.slots().count() * vector_cost(self.dim) + entry.texts.bytes()
    }

    /// The entries of a version.
    pub fn of_version(&self, version: &[u8]) -> Vec<Id> {
        let number = self.number_of(version);
        let of_it = self.entries().filter(|entry| Some(entry.version) == number);
        of_it.map(|entry| entry.id).collect()
    }

    /// Makes a change. What it puts in goes with what is there, and is kept in `texts`.
    pub fn apply(&mut self, change: &Change, texts: Option<Texts>) {
        change.dropped.iter().for_each(|id| self.remove(*id));
        if let Some((id, threshold)) = change.threshold
            && let Some(place) = self.by_id.get(id).copied()
        {
            self.entry_mut(place).threshold = threshold;
            let entry = self.entries.get(place as usize).unwrap_or_else(|| no_entry());
            entry.slots().for_each(|slot| {
                self.shelves.change(slot, |owner| owner.threshold = threshold);
            });
        }
        if let Some((put, texts)) = change.put.as_ref().zip(texts) {
            self.put(put, texts);
        }
        if let Some((id, code)) = &change.alias {
            self.add_alias(*id, &code.as_ref());
        }
        let (dim, entries) = (self.dim, &mut self.entries);
        self.shelves.tidy(dim, |Moved { owner, from, to }| {
            let entry = entries.get_mut(owner as usize).unwrap_or_else(|| no_entry());
            if entry.slot == from {
                entry.slot = to;
            } else {
                let aliases = entry.aliases.slots_mut().iter_mut();
                aliases.filter(|slot| **slot == from).for_each(|slot| *slot = to);
            }
        });
    }

    /// Puts in an entry.
    fn put(&mut self, put: &Put, texts: Texts) {
        self.dim = put.code.dim();
        if self.embedder.is_none() {
            self.embedder = put.embedder.map(Into::into);
        }
        self.keep_until(put.lifetime.stale_until_ms);
        if put.lifetime.stale_until_ms > put.lifetime.expires_at_ms {
            self.stale_until_ms = self.stale_until_ms.max(put.lifetime.stale_until_ms);
        }
        let (threshold, aliases) = match self.by_id.get(put.id).copied() {
            Some(place) => {
                let entry = self.take(place);
                (entry.threshold, entry.aliases)
            }
            None => (0, Aliases::default()),
        };
        let place = self.entries.len() as u32;
        let version = self.count_in(put.version);
        let owner = Owner::new(put.id, place, threshold, &put.lifetime);
        let slot = self.shelves.put(put.code.dim(), &put.code.as_ref(), version, owner);
        let aliases = self.move_all(aliases, version, owner);
        let entry = Entry {
            id: put.id,
            version,
            threshold,
            lifetime: put.lifetime,
            texts,
            slot,
            aliases,
            newer: Cell::new(NONE),
            older: Cell::new(NONE),
        };
        self.bytes += self.cost_of(&entry);
        if let Some(digest) = entry.texts.digest() {
            let hash = self.hash(version, digest);
            // Another one of the same hash, be it the same digest, is told by it no more.
            self.by_digest.remove_if(hash, |_| true);
            self.by_digest.add(hash, place);
        }
        self.by_id.add(put.id, place);
        self.entries.push(entry);
        self.link_newest(place);
    }

    /// Has another vector lead to an entry, if it is there.
    fn add_alias(&mut self, id: Id, code: &Code) {
        let Some(place) = self.by_id.get(id).copied() else { return };
        let entry = self.entries.get(place as usize).unwrap_or_else(|| no_entry());
        let slot = self.shelves.put(self.dim, code, entry.version, entry.owner(place));
        let aliases = &mut self.entry_mut(place).aliases;
        let is_full = aliases.count() == MAX_ALIASES;
        let pushed_out = is_full.then(|| aliases.remove_first());
        aliases.push(slot);
        match pushed_out {
            Some(slot) => self.shelves.remove(slot),
            None => self.bytes += vector_cost(self.dim),
        }
    }

    /// Further vectors of an entry that was taken out, put in anew for the one in its
    /// place.
    fn move_all(&mut self, mut slots: Aliases, version: u16, owner: Owner) -> Aliases {
        for slot in slots.slots_mut() {
            let code = self.shelves.code(*slot).to_owned(self.dim);
            self.shelves.remove(*slot);
            *slot = self.shelves.put(self.dim, &code.as_ref(), version, owner);
        }
        slots
    }

    /// The number of a version, which one more entry is of.
    fn count_in(&mut self, version: &[u8]) -> u16 {
        let number = self.number_of(version).map(|number| number as usize);
        let free = || self.versions.iter().position(|version| version.entries == 0);
        let number = number.or_else(free).unwrap_or(self.versions.len());
        match self.versions.get_mut(number) {
            Some(one) if one.entries > 0 => one.entries += 1,
            Some(one) => *one = Version { name: version.into(), entries: 1 },
            None => self.versions.push(Version { name: version.into(), entries: 1 }),
        }
        number as u16
    }

    /// Takes out an entry, if it is there.
    fn remove(&mut self, id: Id) {
        if let Some(place) = self.by_id.get(id).copied() {
            let entry = self.take(place);
            entry.aliases.slots().iter().for_each(|slot| self.shelves.remove(*slot));
        }
    }

    /// Takes out an entry and its vector, but for further ones.
    fn take(&mut self, place: u32) -> Entry {
        self.unlink(place);
        let last = self.entries.len() as u32 - 1;
        let entry = self.entries.swap_remove(place as usize).unwrap_or_else(|| no_entry());
        self.by_id.remove_if(entry.id, |_| true);
        if let Some(digest) = entry.texts.digest() {
            let hash = self.hash(entry.version, digest);
            self.by_digest.remove_if(hash, |other| *other == place);
        }
        if let Some(version) = self.versions.get_mut(entry.version as usize) {
            version.entries -= 1;
        }
        self.bytes -= self.cost_of(&entry);
        self.shelves.remove(entry.slot);
        if last != place {
            self.follow(last, place);
        }
        entry
    }

    /// Has all that leads to an entry lead to where it is now.
    fn follow(&mut self, from: u32, to: u32) {
        let entry = self.entries.get(to as usize).unwrap_or_else(|| no_entry());
        match entry.newer.get() {
            NONE => self.newest.set(to),
            newer => self.entry(newer).older.set(to),
        }
        match entry.older.get() {
            NONE => self.oldest.set(to),
            older => self.entry(older).newer.set(to),
        }
        let hash = entry.texts.digest().map(|digest| self.hash(entry.version, digest));
        let told = hash.and_then(|hash| self.by_digest.get_mut(hash));
        told.into_iter().filter(|place| **place == from).for_each(|place| *place = to);
        if let Some(place) = self.by_id.get_mut(entry.id) {
            *place = to;
        }
        entry.slots().for_each(|slot| self.shelves.change(slot, |owner| owner.place = to));
    }
}

#[cold]
fn no_entry() -> ! {
    bug("a place without an entry")
}

#[cfg(test)]
mod tests {
    use super::super::vector::tests::{bytes, cosine, random};
    use super::super::vector::{MAX_DEVIATION, OwnedCode, Unit};
    use super::*;
    use crate::lifetime::Lifetime;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const DIM: usize = 24;

    /// An entry as the oracle has it: plain.
    #[derive(Clone, Debug)]
    struct Plain {
        version: u8,
        vector: Vec<f32>,
        aliases: Vec<Vec<f32>>,
        digest: Option<u8>,
        value: Vec<u8>,
        until_ms: Millis,
        threshold: u32,
        hit: usize,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put { id: u8, version: u8, seed: u8, digest: Option<u8>, until_ms: u8, value: u8 },
        Alias { id: u8, seed: u8 },
        Drop { ids: Vec<u8> },
        DropVersion { version: u8 },
        Threshold { id: u8, threshold: u32 },
        Touch { id: u8 },
        Nearest { seed: u8, far: f32, version: u8, threshold: f64, most: usize, now_ms: u8 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let (id, version, seed) = (0u8..60, 0u8..3, 0u8..20);
        let put = (
            id.clone(),
            version.clone(),
            seed.clone(),
            prop::option::of(0u8..20),
            1u8..100,
            0u8..9,
        )
            .prop_map(|(id, version, seed, digest, until_ms, value)| Step::Put {
                id,
                version,
                seed,
                digest,
                until_ms,
                value,
            });
        let alias = (id.clone(), seed.clone()).prop_map(|(id, seed)| Step::Alias { id, seed });
        let nearest = (seed, 0.0f32..1.0, version.clone(), -1.0..1.0, 1usize..9, 0u8..100)
            .prop_map(|(seed, far, version, threshold, most, now_ms)| Step::Nearest {
                seed,
                far,
                version,
                threshold,
                most,
                now_ms,
            });
        let step = prop_oneof![
            8 => put,
            2 => alias,
            1 => prop::collection::vec(id.clone(), 1..8).prop_map(|ids| Step::Drop { ids }),
            1 => version.prop_map(|version| Step::DropVersion { version }),
            1 => (id.clone(), 0..=MILLION).prop_map(|(id, threshold)| Step::Threshold { id, threshold }),
            2 => id.prop_map(|id| Step::Touch { id }),
            3 => nearest,
        ];
        prop::collection::vec(step, 1..150)
    }

    fn id(number: u8) -> Id {
        Id([number; 16])
    }

    fn vector(seed: u8) -> Vec<f32> {
        random(u64::from(seed) << 32, DIM)
    }

    fn code(vector: &[f32]) -> OwnedCode {
        OwnedCode::of(&Unit::read(&bytes(vector)).unwrap())
    }

    fn put<'a>(
        id: Id,
        version: &'a [u8],
        vector: &[f32],
        value: &'a [u8],
        digest: Option<&'a [u8]>,
        until_ms: Millis,
    ) -> Put<'a> {
        let lifetime =
            Lifetime { expires_at_ms: until_ms, stale_until_ms: until_ms, ..Lifetime::default() };
        Put {
            id,
            version,
            embedder: None,
            code: code(vector),
            lifetime,
            value,
            prompt: None,
            digest,
        }
    }

    fn apply(table: &mut Table, change: &Change) {
        let put = change.put.as_ref();
        let texts = put.map(|put| Texts::new(put.value, put.prompt, put.digest).unwrap());
        table.apply(change, texts);
    }

    /// Takes the steps on a table and on a plain list of its entries: they hold the same.
    fn check_steps(steps: Vec<Step>) -> Result<(), TestCaseError> {
        let mut table = Table::default();
        let mut plain: BTreeMap<u8, Plain> = BTreeMap::new();
        for (hit, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put { id: number, version, seed, digest, until_ms, value } => {
                    let value = vec![b'v'; value.into()];
                    // One that is told by the same goes, as a command sees to.
                    let name = [version];
                    let told = digest.map(|digest| [digest]);
                    let told = told.as_ref().map(|digest| &digest[..]);
                    let same = told.and_then(|digest| table.by_digest(&name, digest));
                    let same = same.map(|entry| entry.id).filter(|same| *same != id(number));
                    let expected = plain.iter().find(|(other, one)| {
                        **other != number
                            && digest.is_some()
                            && (one.version, one.digest) == (version, digest)
                    });
                    prop_assert_eq!(same, expected.map(|(other, _)| id(*other)));
                    if let Some(same) = same {
                        plain.remove(&same.0[0]);
                    }
                    let vector = vector(seed);
                    let put = put(id(number), &name, &vector, &value, told, until_ms.into());
                    let change = Change {
                        dropped: same.into_iter().collect(),
                        put: Some(put),
                        ..Change::default()
                    };
                    apply(&mut table, &change);
                    let before = plain.remove(&number);
                    let (aliases, threshold) =
                        before.map_or((vec![], 0), |one| (one.aliases, one.threshold));
                    plain.insert(
                        number,
                        Plain {
                            version,
                            vector,
                            aliases,
                            digest,
                            value,
                            until_ms: until_ms.into(),
                            threshold,
                            hit,
                        },
                    );
                }
                Step::Alias { id: number, seed } => {
                    let code = code(&vector(seed));
                    apply(
                        &mut table,
                        &Change { alias: Some((id(number), code)), ..Change::default() },
                    );
                    if let Some(one) = plain.get_mut(&number) {
                        one.aliases.push(vector(seed));
                    }
                }
                Step::Drop { ids } => {
                    let dropped = ids.iter().map(|number| id(*number)).collect();
                    apply(&mut table, &Change { dropped, ..Change::default() });
                    plain.retain(|number, _| !ids.contains(number));
                }
                Step::DropVersion { version } => {
                    let dropped = table.of_version(&[version]);
                    apply(&mut table, &Change { dropped, ..Change::default() });
                    plain.retain(|_, one| one.version != version);
                }
                Step::Threshold { id: number, threshold } => {
                    apply(
                        &mut table,
                        &Change { threshold: Some((id(number), threshold)), ..Change::default() },
                    );
                    if let Some(one) = plain.get_mut(&number) {
                        one.threshold = threshold;
                    }
                }
                Step::Touch { id: number } => {
                    table.touch(id(number));
                    if let Some(one) = plain.get_mut(&number) {
                        one.hit = hit;
                    }
                }
                Step::Nearest { seed, far, version, threshold, most, now_ms } => {
                    let pairs = vector(seed).into_iter().zip(vector(99));
                    let asked: Vec<_> = pairs.map(|(one, other)| one + other * far).collect();
                    let query = Query::new(&Unit::read(&bytes(&asked)).unwrap());
                    let now_ms = u64::from(now_ms);
                    let mut best = Best::new(most, threshold, Some(threshold));
                    table.find(&query, &[version], |lifetime| lifetime.is_fresh(now_ms), &mut best);
                    let alive = plain
                        .iter()
                        .filter(|(_, one)| one.version == version && now_ms < one.until_ms);
                    let similar: Vec<_> = alive
                        .map(|(number, one)| {
                            let vectors = one.aliases.iter().chain([&one.vector]);
                            let best =
                                vectors.map(|vector| cosine(&asked, vector)).fold(-1.0, f64::max);
                            (best, id(*number), f64::from(one.threshold) / 1e6)
                        })
                        .collect();
                    let (hits, maybes) = (best.hits(), best.maybes());
                    // In order, each as similar as it is, and none left out but for a hair.
                    for (found, are_hits) in [(hits, true), (maybes, false)] {
                        prop_assert!(found.len() <= most);
                        prop_assert!(found.is_sorted_by(|one, other| one.0 >= other.0));
                        for (similarity, id) in found {
                            let (exact, _, own) =
                                similar.iter().find(|(_, other, _)| other == id).unwrap();
                            // An alias that is a hit may leave a lesser one a maybe.
                            prop_assert!(!are_hits || (exact - similarity).abs() <= MAX_DEVIATION);
                            prop_assert!(
                                *similarity >= threshold && (*similarity >= *own) == are_hits
                            );
                        }
                        let least = if found.len() == most { found[most - 1].0 } else { threshold };
                        for (exact, id, own) in &similar {
                            let near_own = (exact - own).abs() <= MAX_DEVIATION;
                            if near_own
                                || (exact > own) != are_hits
                                || !are_hits && !hits.is_empty()
                            {
                                continue;
                            }
                            let is_found = found.iter().any(|(_, other)| other == id);
                            prop_assert!(
                                is_found || *exact <= least + MAX_DEVIATION,
                                "{} {}",
                                exact,
                                least
                            );
                        }
                    }
                }
            }
            // What is there.
            prop_assert_eq!(table.len(), plain.len());
            let mut order: Vec<_> = plain.iter().map(|(number, one)| (one.hit, *number)).collect();
            order.sort_unstable();
            let order: Vec<_> = order.into_iter().map(|(_, number)| id(number)).collect();
            prop_assert_eq!(table.entries().map(|entry| entry.id).collect::<Vec<_>>(), order);
            let mut cost = 0;
            for (number, one) in &plain {
                let entry = table.get(id(*number)).unwrap();
                let digest = one.digest.map(|digest| vec![digest]);
                prop_assert_eq!(entry.texts.value(), &one.value[..]);
                prop_assert_eq!(entry.texts.digest(), digest.as_deref());
                prop_assert_eq!(table.version(entry), &[one.version]);
                prop_assert_eq!(
                    (entry.threshold, entry.lifetime.expires_at_ms),
                    (one.threshold, one.until_ms)
                );
                let codes: Vec<_> = table.codes(entry).map(|code| code.to_owned(DIM)).collect();
                let vectors = std::iter::once(&one.vector).chain(&one.aliases);
                prop_assert_eq!(codes, vectors.map(|vector| code(vector)).collect::<Vec<_>>());
                cost += ENTRY_BYTES
                    + (1 + one.aliases.len()) * vector_cost(DIM)
                    + one.value.len()
                    + usize::from(one.digest.is_some());
            }
            prop_assert_eq!(table.bytes(), cost);
        }
        Ok(())
    }

    /// What goes for another entry: what is over among the first eight, and then as many of
    /// those hit longest ago as must.
    fn check_room(
        held: &[(u8, bool)],
        touched: &[u8],
        most: usize,
        most_bytes: usize,
        (replaces, is_alias): (Option<u8>, bool),
    ) -> Result<(), TestCaseError> {
        let mut table = Table::default();
        let aliases = |number: usize| if number.is_multiple_of(3) { number % 5 } else { 0 };
        for (number, (value, is_over)) in held.iter().enumerate() {
            let value = vec![b'v'; usize::from(*value) * 20];
            let until_ms = if *is_over { 5 } else { 100 };
            let put = put(id(number as u8), b"v", &vector(number as u8), &value, None, until_ms);
            apply(&mut table, &Change { put: Some(put), ..Change::default() });
            for _ in 0..aliases(number) {
                let alias = Some((id(number as u8), code(&vector(98))));
                apply(&mut table, &Change { alias, ..Change::default() });
            }
        }
        touched.iter().for_each(|number| table.touch(id(*number)));
        let order: Vec<_> = table.entries().map(|entry| entry.id).collect();
        let put = put(id(replaces.unwrap_or(99)), b"w", &vector(99), b"new", None, 100);
        let bounds = Bounds { entries: most, bytes: most_bytes };
        let aliased = table.get(put.id).filter(|_| is_alias);
        let cost = match aliased {
            Some(entry) => table.cost_of_aliased(entry),
            None => table.cost_of_put(&put),
        };
        let dropped = table.decide_room(put.id, cost, bounds, 10);
        prop_assert!(!dropped.contains(&put.id));
        let over = |id: &Id| !table.get(*id).unwrap().lifetime.is_alive(10);
        let first_eight = |id: &Id| over(id) && id.0[0] < LOOKS as u8 && *id != put.id;
        prop_assert!(order.iter().filter(|id| first_eight(id)).all(|id| dropped.contains(id)));
        let pushed_out: Vec<_> = dropped.iter().filter(|id| !first_eight(id)).collect();
        let others: Vec<_> = order.iter().filter(|id| **id != put.id && !first_eight(id)).collect();
        prop_assert_eq!(&pushed_out[..], &others[..pushed_out.len()]);
        let change = match aliased.is_some() {
            true => Change { alias: Some((put.id, code(&vector(99)))), ..Change::default() },
            false => Change { put: Some(put.clone()), ..Change::default() },
        };
        apply(&mut table, &Change { dropped: dropped.clone(), ..change });
        prop_assert_eq!(table.cost_of(table.get(put.id).unwrap()), cost);
        prop_assert!(table.len() <= most.max(1));
        prop_assert!(table.bytes() <= most_bytes.max(cost));
        // Not one more than need be.
        if let Some(last) = pushed_out.last() {
            let last = usize::from(last.0[0]);
            let vectors = (1 + aliases(last)) * vector_cost(DIM);
            let cost = ENTRY_BYTES + vectors + usize::from(held[last].0) * 20;
            prop_assert!(table.len() + 1 > most || table.bytes() + cost > most_bytes);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn a_table_is_what_a_plain_list_is(steps in steps()) {
            check_steps(steps)?;
        }

        #[test]
        fn room_is_made_by_those_hit_longest_ago(
            held in prop::collection::vec((0u8..9, any::<bool>()), 0..40),
            touched in prop::collection::vec(0u8..40, 0..10),
            most in 1usize..45, most_bytes in 0usize..12_000,
            replaces in prop::option::of(0u8..40), is_alias: bool,
        ) {
            check_room(&held, &touched, most, most_bytes, (replaces, is_alias))?;
        }
    }

    #[test]
    fn a_key_of_one_answer_takes_about_what_is_in_it() {
        for dim in [8_usize, 384, 1_536, 4_096] {
            let code = OwnedCode::of(&Unit::read(&bytes(&random(1, dim))).unwrap());
            let put = Put { code, ..put(id(1), b"v", &vector(1), b"value", None, 9) };
            let mut table = Table::default();
            apply(&mut table, &Change { put: Some(put), ..Change::default() });
            // Its signs stand among those of 32.
            let most = 1_500 + vector_cost(dim) + padded(dim) * 4;
            assert!(table.heap_bytes() <= most, "{dim}: {} > {most}", table.heap_bytes());
        }
    }

    #[test]
    fn what_was_over_goes_by_and_by_without_any_bound() {
        let mut table = Table::default();
        let none = Bounds { entries: usize::MAX, bytes: usize::MAX };
        for number in 0..200_u8 {
            let put =
                put(id(number), b"v", &vector(number), b"value", None, 50 + u64::from(number));
            let dropped = table.decide_room(put.id, cost(&put), none, number.into());
            apply(&mut table, &Change { dropped, put: Some(put), ..Change::default() });
        }
        // All that are over at 250 and later, twice around.
        for round in 0..50_u8 {
            let put = put(id(250), b"v", &vector(round), b"value", None, 1_000);
            let dropped = table.decide_room(put.id, cost(&put), none, 260);
            apply(&mut table, &Change { dropped, put: Some(put), ..Change::default() });
        }
        assert_eq!(table.len(), 1);
        assert_eq!(table.until_ms(), 1_000);
    }

    #[test]
    fn no_vector_is_put_beside_others_that_it_cannot_be_compared_with() {
        let mut table = Table::default();
        assert_eq!((table.dim(), table.check(9, Some(b"any"))), (None, Ok(())));
        let mut first = put(id(1), b"v", &vector(1), b"", None, 9);
        first.embedder = Some(b"model-a");
        apply(&mut table, &Change { put: Some(first), ..Change::default() });
        assert_eq!((table.dim(), table.embedder()), (Some(DIM), Some(&b"model-a"[..])));
        assert_eq!(table.check(DIM, None), Ok(()));
        assert_eq!(table.check(DIM, Some(b"model-a")), Ok(()));
        assert_eq!(table.check(DIM, Some(b"model-b")), Err(Misfit::Embedder));
        assert_eq!(table.check(DIM + 1, None), Err(Misfit::Dimensions(DIM)));
        for version in 1..MAX_VERSIONS as u8 {
            assert_eq!(table.check_version(&[version]), Ok(()));
            let name = [version];
            let put = put(id(version + 1), &name, &vector(1), b"", None, 9);
            apply(&mut table, &Change { put: Some(put), ..Change::default() });
        }
        assert_eq!(table.check_version(b"new"), Err(Misfit::Versions));
        assert_eq!(table.check_version(b"v"), Ok(()));
        apply(&mut table, &Change { dropped: vec![id(1)], ..Change::default() });
        assert_eq!(table.check_version(b"new"), Ok(()));
        let mut best = Best::new(9, -1.0, None);
        let query = Query::new(&Unit::read(&bytes(&vector(1))).unwrap());
        table.find(&query, b"v", |_| true, &mut best);
        assert_eq!(best.hits(), [], "its last entry is gone");
        table.find(&query, &[1], |_| true, &mut best);
        assert_eq!(best.hits().len(), 1);
    }

    #[test]
    fn a_further_vector_too_many_pushes_out_the_first() {
        let mut table = Table::default();
        let put = put(id(1), b"v", &vector(0), b"", None, 9);
        apply(&mut table, &Change { put: Some(put), ..Change::default() });
        for seed in 1..=MAX_ALIASES as u8 + 1 {
            let alias = Some((id(1), code(&vector(seed))));
            apply(&mut table, &Change { alias, ..Change::default() });
        }
        let codes: Vec<_> =
            table.codes(table.get(id(1)).unwrap()).map(|code| code.to_owned(DIM)).collect();
        assert_eq!(codes.len(), 1 + MAX_ALIASES);
        assert_eq!((&codes[0], &codes[1]), (&code(&vector(0)), &code(&vector(2))));
    }
}
