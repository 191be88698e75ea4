//! How a limiter lives in a key.

use super::change::{Change, Step};
use super::codec;
use super::ledger::Ledger;
use super::limiter::{Held, Limiter};
use super::window::{Usage, Window};
use crate::server::{Changeable, DataType, Defrag, Lives, TypeHandle};
use std::ffi::CStr;

impl Changeable for Limiter {
    type Change<'c> = Change<'c>;

    const APPLY: &'static CStr = c"ML.APPLYLIMIT";

    fn apply(&mut self, change: &Change) {
        Self::apply(self, change);
    }

    fn lives(&self) -> Lives {
        Lives::Until(self.expires_at_ms())
    }

    fn event(change: &Change) -> &'static CStr {
        match change.step {
            Step::Rewind | Step::Charge { .. } => c"ml.ratelimit",
            Step::Settle { .. } => c"ml.settle",
            Step::Renew { .. } => c"ml.renew",
        }
    }

    fn encode(change: &Change, payload: &mut Vec<u8>) {
        codec::encode_change(change, payload);
    }
}

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
        let windows = self.windows().iter().map(Window::heap_bytes).sum::<usize>();
        let blocks = match &**self {
            Limiter::One(_) => 0,
            Limiter::Held(_) => size_of::<Held>(),
            Limiter::Many(many) => {
                many.windows.capacity() * size_of::<Window>()
                    + many.ledger.as_ref().map_or(0, |_| size_of::<Ledger>())
            }
        };
        blocks + windows + self.ledger().map_or(0, Ledger::heap_bytes)
    }

    fn blocks(&self) -> usize {
        self.windows().len() + self.ledger().map_or(0, |ledger| ledger.holds().len())
    }

    /// What is held stays where it is: it comes and goes, and the nodes of a tree of the
    /// library's cannot be moved.
    fn defrag(limiter: &mut Limiter, defrag: &Defrag) {
        let windows = match limiter {
            Limiter::One(window) => std::slice::from_mut(window),
            Limiter::Held(held) => std::slice::from_mut(&mut held.window),
            Limiter::Many(many) => {
                defrag.list(&mut many.windows);
                &mut many.windows
            }
        };
        for window in windows {
            if let Usage::Sliding(sliding) = &mut window.usage {
                sliding.0.relocate(|log| defrag.list(log), |sums| defrag.list(sums));
            }
        }
    }
}
