//! How permits live in a key.

use super::change::{Change, Step};
use super::codec;
use super::permits::Permits;
use crate::server::{Changeable, DataType, Defrag, Lives, TypeHandle};
use std::ffi::CStr;

impl Changeable for Permits {
    type Change<'c> = Change;

    const APPLY: &'static CStr = c"ML.APPLYPERMIT";

    fn apply(&mut self, change: &Change) {
        Self::apply(self, change);
    }

    /// As long as one of them.
    fn lives(&self) -> Lives {
        self.expires_at_ms().map_or(Lives::Gone, Lives::Until)
    }

    fn event(change: &Change) -> &'static CStr {
        match change.step {
            Step::Rewind | Step::Acquire { .. } => c"ml.permit",
            Step::Release { .. } => c"ml.settle",
            Step::Renew { .. } => c"ml.renew",
        }
    }

    fn encode(change: &Change, payload: &mut Vec<u8>) {
        codec::encode_change(change, payload);
    }
}

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

    /// What is held stays where it is: it comes and goes, and the nodes of a tree of the
    /// library's cannot be moved.
    fn defrag(_: &mut Permits, _: &Defrag) {}
}
