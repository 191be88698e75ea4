//! How a limiter lives in a key.

use super::codec;
use super::limiter::Limiter;
use crate::server::{DataType, Digest, TypeSlot};
use std::ffi::CStr;

/// The command that carries a limiter's state to replicas and into the AOF.
pub const APPLY: &CStr = c"ML.APPLYRATE";

impl DataType for Limiter {
    const NAME: &'static CStr = c"MLratelmt";
    const LOAD: &'static CStr = c"ML.LOADRATE";

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
        0
    }

    fn blocks(&self) -> usize {
        0
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { policy, window } = self;
        for number in [policy.limit, policy.window_us, window.opened_us, window.used] {
            digest.number(number);
        }
        digest.end();
    }
}
