//! How a row lives in a key.

use super::layout::Layout;
use super::row::Row;
use super::shared_layout::Head;
use super::{codec, field_lists};
use crate::server::{AuxTable, DataType, Defrag, Digest, TypeHandle};
use std::ffi::CStr;

/// The command that carries a write to replicas and into the AOF.
pub const APPLY: &CStr = c"ML.APPLYROW";

impl DataType for Row {
    const NAME: &'static CStr = c"MLfeature";
    const LOAD: &'static CStr = c"ML.LOADFEATURE";
    const TABLE: Option<&'static AuxTable> = Some(&field_lists::TABLE);

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

    /// A layout is shared: `INFO ml` says what they take together.
    fn heap_bytes(&self) -> usize {
        self.head().heap_bytes()
    }

    fn blocks(&self) -> usize {
        1 + self.head().blocks()
    }

    /// Of events, what they stand in is moved: what leads to it may be another row's too.
    fn defrag(head: &mut Head, defrag: &Defrag) {
        for events in head.own_events() {
            events.relocate(|items| defrag.ring(items), |tiles| defrag.ring(tiles));
        }
    }

    /// What the row's bytes mean is in the names; what is in them is times and
    /// values, in the one form that they have; events are beside them.
    fn digest(&self, digest: &mut Digest) {
        let layout: &Layout = self.layout();
        for (view, field) in layout.names() {
            digest.bytes(view);
            digest.bytes(field);
        }
        digest.bytes(self.bytes());
        for events in self.head().events() {
            let mut payload = Vec::new();
            events.encode(&mut payload);
            digest.bytes(&payload);
        }
        digest.end();
    }
}
