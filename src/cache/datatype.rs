//! How an entry lives in a key.

use super::answer::{Answer, Head};
use super::codec;
use super::{leases, versions};
use crate::server::{AuxTable, DataType, Defrag, Digest, Lock, TypeHandle, block_bytes, now};
use crate::time::MICROS_PER_MILLI;
use std::ffi::CStr;

/// The command that carries a write to replicas and into the AOF.
pub const APPLY: &CStr = c"ML.APPLYANSWERS";

impl DataType for Answer {
    const NAME: &'static CStr = c"MLcacheen";
    const LOAD: &'static CStr = c"ML.LOADCACHE";
    const TABLE: Option<&'static AuxTable> = Some(&versions::TABLE);

    fn handle() -> &'static TypeHandle {
        static HANDLE: TypeHandle = TypeHandle::new();
        &HANDLE
    }

    fn encode(&self, out: &mut Vec<u8>) {
        codec::encode(self, out);
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        codec::decode(payload)
    }

    fn try_clone(&self) -> Option<Self> {
        self.duplicate()
    }

    fn heap_bytes(&self) -> usize {
        self.answers().skip(1).map(block_bytes).sum()
    }

    fn blocks(&self) -> usize {
        self.answers().count()
    }

    fn digest(&self, digest: &mut Digest) {
        for answer in self.answers() {
            digest.bytes(answer.version());
            digest.bytes(answer.value());
            digest.number(answer.lifetime().expires_at_ms);
            digest.number(answer.lifetime().stale_until_ms);
            digest.number(answer.lifetime().written_at_ms);
            digest.number(answer.lifetime().cost_ms.into());
        }
        digest.end();
    }

    fn defrag(head: &mut Head, defrag: &Defrag) {
        let mut next = head.older_mut();
        while let Some(answer) = next {
            defrag.one(answer);
            next = answer.head_mut().older_mut();
        }
    }

    /// What takes away an answer that could be served (DEL, SET, RENAME, an
    /// eviction) takes away the leases of its key: what they were granted for
    /// may have been read before. An entry emptied by a command of the module,
    /// or whose time is over, holds none.
    fn unlinked(&self, lock: &Lock, db: i32, key: &[u8]) {
        let now_ms = now() / MICROS_PER_MILLI;
        if !self.answers().any(|answer| answer.lifetime().is_alive(now_ms)) {
            return;
        }
        leases::invalidate(lock, db, key, None);
    }
}
