//! How a table lives in a key.

use super::codec;
use super::table::Table;
use crate::server::{DataType, Digest, TypeHandle};
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
}
