//! How permits live in a key.

use super::codec;
use super::permits::Permits;
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
        self.holds().heap_bytes()
    }

    fn blocks(&self) -> usize {
        1 + self.holds().len()
    }

    /// What is held stays where it is: the nodes of a B-tree cannot be moved.
    fn defrag(_: &mut Permits, _: &Defrag) {}

    fn digest(&self, digest: &mut Digest) {
        let mut payload = Vec::new();
        self.encode(&mut payload);
        digest.bytes(&payload);
        digest.end();
    }
}
