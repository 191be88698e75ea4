//! How a limiter lives in a key.

use super::codec;
use super::limiter::Limiter;
use super::reservation::Reservation;
use super::slot::Slot;
use crate::server::{DataType, Defrag, Digest, TypeHandle};
use std::ffi::CStr;

/// The command that carries a change to replicas and into the AOF.
pub const APPLY: &CStr = c"ML.APPLYRATE";

impl DataType for Box<Limiter> {
    const NAME: &'static CStr = c"MLratelmt";
    const LOAD: &'static CStr = c"ML.LOADRATE";

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
        let slots = self.slots().iter().map(Slot::heap_bytes).sum::<usize>();
        let Limiter::Many(many) = &**self else { return slots };
        let marks: usize = many.reservations.iter().map(|held| size_of_val(&*held.marks)).sum();
        many.slots.capacity() * size_of::<Slot>()
            + many.reservations.capacity() * size_of::<Reservation>()
            + slots
            + marks
    }

    fn blocks(&self) -> usize {
        self.slots().len() + self.reservations().len()
    }

    fn defrag(limiter: &mut Limiter, defrag: &Defrag) {
        if let Limiter::Many(many) = limiter {
            defrag.list(&mut many.slots);
            defrag.list(&mut many.reservations);
        }
    }

    fn digest(&self, digest: &mut Digest) {
        let mut payload = Vec::new();
        self.encode(&mut payload);
        digest.bytes(&payload);
        digest.end();
    }
}
