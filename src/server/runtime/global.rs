//! State of this node that lives beside the keys: kept by nobody, replicated
//! to nobody unless a domain does so.

use std::cell::RefCell;
use std::marker::PhantomData;

/// Proof that the server runs nothing else meanwhile: it calls the module under
/// a lock of its own, but for what frees values in the background, which is
/// given no such proof.
pub struct Lock<'a>(PhantomData<&'a *mut ()>);

impl Lock<'_> {
    /// # Safety
    /// The server is in a call to the module that holds its lock, which lasts
    /// for as long as the proof.
    pub(in crate::server) unsafe fn held() -> Self {
        Self(PhantomData)
    }
}

/// State beside the keys, made when it is first asked for.
pub struct Global<T>(RefCell<Option<T>>);

// SAFETY: the state is reached with a `Lock` only, and so by one thread at a
// time.
unsafe impl<T: Send> Sync for Global<T> {}

impl<T: Default> Global<T> {
    /// State not made yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Works on the state. `work` calls nothing of the server that could call
    /// back for the same state: that would be a panic.
    pub fn with<R>(&self, _lock: &Lock, work: impl FnOnce(&mut T) -> R) -> R {
        let mut slot = self.0.borrow_mut();
        let state = match &mut *slot {
            Some(state) => state,
            none => none.insert(T::default()),
        };
        work(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_made_once_kept_and_not_worked_on_twice_at_once() {
        static STATE: Global<Vec<String>> = Global::new();
        // SAFETY: this test alone uses the state.
        let lock = unsafe { Lock::held() };
        for number in 0..3 {
            STATE.with(&lock, |state| state.push(number.to_string()));
        }
        assert_eq!(STATE.with(&lock, |state| state.concat()), "012");
        let twice = std::panic::catch_unwind(|| {
            // SAFETY: as above.
            let lock = unsafe { Lock::held() };
            STATE.with(&lock, |_| STATE.with(&lock, |state| state.len()))
        });
        assert!(twice.is_err());
        // And it works on after such a panic.
        assert_eq!(STATE.with(&lock, std::mem::take).len(), 3);
    }
}
