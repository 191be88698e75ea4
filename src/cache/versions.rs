//! The versions in force, kept with the data set beside the keys.

use super::codec;
use super::namespaces::{InForce, MAX_NAMESPACES};
use super::state::{self, State};
use crate::server::{AuxTable, Lock};
use std::ffi::CStr;

/// The command that carries versions in force to replicas and into the AOF.
pub const APPLY_VERSIONS: &CStr = c"ML.APPLYVERSIONS";

/// The versions in force, as they are saved with the data set.
pub static TABLE: AuxTable = AuxTable { load_command: APPLY_VERSIONS, save, load };

fn save(lock: &Lock, out: &mut Vec<u8>) {
    state::with(lock, |state| {
        let mut all = state.namespaces.in_force().peekable();
        if all.peek().is_some() {
            codec::encode_namespaces(all, out);
        }
    });
}

/// Puts the versions of a payload in force; `None`, and nothing changed, unless
/// it is one that can be.
pub fn load(lock: &Lock, payload: &[u8]) -> Option<()> {
    let all = codec::decode_namespaces(payload)?;
    state::act(lock, |state| all.iter().for_each(|one| put_in_force(state, one)));
    Some(())
}

/// Puts versions in force that were so elsewhere: whatever the config says.
fn put_in_force(state: &mut State, InForce { namespace, versions }: &InForce) {
    // What no primary could have set changes nothing.
    let _ = state.namespaces.set(namespace, versions, MAX_NAMESPACES);
    let State { namespaces, flights, .. } = state;
    if let Some(one) = namespaces.named(namespace) {
        flights.retire(namespace, |version| one.admits(version));
    }
}
