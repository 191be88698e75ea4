//! How permits live in a key.

use super::codec;
use super::permits::{Permit, Permits};
use crate::server::{DataType, Defrag, Digest, TypeHandle};
use std::ffi::CStr;

/// The command that carries a change to replicas and into the AOF.
pub const APPLY: &CStr = c"ML.APPLYPERMIT";

impl DataType for Box<Permits> {
    const NAME: &'static CStr = c"MLpermits";
    const LOAD: &'static CStr = c"ML.LOADPERMIT";

    fn handle() -> &'static TypeHandle {
        static HANDLE: TypeHandle = TypeHandle::new();
        &HANDLE
    }

    fn encode(&self, out: &mut Vec<u8>) {
        codec::encode(self, out);
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        codec::decode(payload).map(Self::new)
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn heap_bytes(&self) -> usize {
        self.all().capacity() * size_of::<Permit>()
    }

    fn blocks(&self) -> usize {
        1
    }

    fn defrag(permits: &mut Permits, defrag: &Defrag) {
        permits.relocate(|all| defrag.list(all));
    }

    fn digest(&self, digest: &mut Digest) {
        digest.number(self.clock_us());
        for Permit { id, cost, ttl_ms, since_us } in self.all() {
            digest.bytes(&id.0);
            for number in [*cost, *ttl_ms, *since_us] {
                digest.number(number);
            }
        }
        digest.end();
    }
}
