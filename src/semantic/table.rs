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
use crate::server::{Error, refuse};
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
    #[error("EMBEDDER must be that of the key, which ML.SEMINFO tells")]
    Embedder,
    /// There are answers of too many versions already.
    #[error("key holds answers of {MAX_VERSIONS} versions already")]
    Versions,
}

impl Misfit {
    /// The refusal of what does not go with what is there.
    pub fn refusal(self) -> Error {
        refuse(self.to_string())
    }
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
mod tests;
