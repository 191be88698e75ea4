//! How an entry lives in a key.

use super::codec;
use super::entry::Entry;
use crate::server::{DataType, Digest, TypeSlot, heap_bytes};
use std::ffi::CStr;

/// The command that carries a write to replicas and into the AOF.
pub const APPLY: &CStr = c"ML.APPLYCACHE";

impl DataType for Entry {
    const NAME: &'static CStr = c"MLcacheen";
    const LOAD: &'static CStr = c"ML.LOADCACHE";

    fn slot() -> &'static TypeSlot {
        static SLOT: TypeSlot = TypeSlot::new();
        &SLOT
    }

    fn encode(&self, out: &mut Vec<u8>) {
        codec::encode(self, out);
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        codec::decode(payload)
    }

    fn heap_bytes(&self) -> usize {
        self.answers().iter().map(|answer| heap_bytes(answer.block())).sum()
    }

    fn blocks(&self) -> usize {
        self.answers().len()
    }

    fn digest(&self, digest: &mut Digest) {
        for answer in self.answers() {
            digest.bytes(answer.version());
            digest.bytes(answer.value());
            digest.number(answer.expires_at_ms);
        }
        digest.end();
    }
}
