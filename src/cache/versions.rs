//! The versions in force, kept with the data set beside the keys.

use super::codec;
use super::in_force::MAX_NAMESPACES;
use super::state;
use crate::server::{AuxTable, Event, Lock, announce};
use std::ffi::CStr;

/// The command that carries versions in force to replicas and into the AOF.
pub const APPLY_VERSIONS: &CStr = c"ML.APPLYVERSIONS";

/// The versions in force, as they are saved with the data set.
pub static TABLE: AuxTable = AuxTable { load_command: APPLY_VERSIONS, save, load };

fn save(lock: &Lock, out: &mut Vec<u8>) {
    state::with(lock, |state| {
        let all = state.in_force.all();
        if !all.is_empty() {
            let all = all.into_iter().map(|one| (one.name(), one.versions()));
            codec::encode_namespaces(all, out);
        }
    });
}

/// The versions in force of a saved data set. `None`, and nothing changed, unless the
/// payload is one that can be.
fn load(lock: &Lock, payload: &[u8]) -> Option<()> {
    put_in_force(lock, payload)?;
    announce(lock, Event::VersionsChanged);
    Some(())
}

/// Puts versions in force that were so elsewhere, whatever the config says;
/// `None`, and nothing changed, unless the payload is one that can be. Domains are to be
/// told ([`Event::VersionsChanged`]).
pub fn put_in_force(lock: &Lock, payload: &[u8]) -> Option<()> {
    let all = codec::decode_namespaces(payload)?;
    state::with(lock, |state| {
        let set = all.clone().filter(|(_, versions)| !versions.is_empty());
        state.in_force.reserve(set.take(MAX_NAMESPACES).count());
        for (name, versions) in all {
            // What no primary could have set changes nothing.
            let _ = state.in_force.set(&name, versions, MAX_NAMESPACES);
        }
    });
    Some(())
}
