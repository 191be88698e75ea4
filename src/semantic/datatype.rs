//! How a table lives in a key.

use super::table::Table;
use super::{codec, leases, searches};
use crate::server::{DataType, Digest, Lock, TypeHandle, now};
use crate::time::MICROS_PER_MILLI;
use std::ffi::CStr;

/// The command that carries a write to replicas and into the AOF.
pub const APPLY: &CStr = c"ML.APPLYSEMANTIC";

impl DataType for Box<Table> {
    const NAME: &'static CStr = c"MLsemcach";
    const LOAD: &'static CStr = c"ML.LOADSEMANTIC";

    fn handle() -> &'static TypeHandle {
        static HANDLE: TypeHandle = TypeHandle::new();
        &HANDLE
    }

    fn encode(&self, out: &mut Vec<u8>) {
        codec::encode(self, out);
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        codec::decode(payload).map(Box::new)
    }

    const IN_PARTS: bool = true;

    fn encode_parts(&self, part: &mut dyn FnMut(&[u8])) {
        codec::encode_parts(self, part);
    }

    fn extend(table: &mut Table, payload: &[u8]) -> Option<()> {
        codec::extend(table, payload)
    }

    fn try_clone(&self) -> Option<Self> {
        let mut payload = Vec::new();
        payload.try_reserve_exact(self.bytes()).ok()?;
        codec::encode(self, &mut payload);
        Self::decode(&payload)
    }

    fn heap_bytes(&self) -> usize {
        Table::heap_bytes(self)
    }

    fn blocks(&self) -> usize {
        Table::blocks(self)
    }

    /// In which order entries were hit is each node's own.
    fn digest(&self, digest: &mut Digest) {
        digest.number(self.dim().unwrap_or(0) as u64);
        digest.bytes(self.embedder().unwrap_or_default());
        digest.end();
        let mut payload = Vec::new();
        for entry in self.entries() {
            payload.clear();
            codec::encode_entry(self, entry, &mut payload);
            digest.bytes(&payload);
            digest.end();
        }
    }

    /// What takes away an entry that could be served (DEL, SET, RENAME, an eviction) takes
    /// away the leases of its key: what they were granted for may have been read before.
    /// A key emptied by a command of the module, or whose time is over, holds none. Scans of
    /// it are given up, whatever took it away.
    fn unlinked(&self, lock: &Lock, db: i32, key: &[u8]) {
        searches::taken_away(lock, db, key);
        if !self.is_empty() && now() / MICROS_PER_MILLI < self.until_ms() {
            leases::invalidate(lock, db, key, None);
        }
    }
}
