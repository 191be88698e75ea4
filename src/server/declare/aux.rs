//! The auxiliary field of RDB files: a table of the node that is saved with the
//! data set, beside the keys.

use super::datatype::load_payload;
use crate::server::border::callback::Callback;
use crate::server::border::guard::guard;
use crate::server::border::raw::{REDISMODULE_ERR, REDISMODULE_OK, RedisModuleIO};
use crate::server::runtime::Lock;
use std::ffi::{CStr, c_int};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A table that is saved with the data set, beside the keys.
pub struct AuxTable {
    /// The command that takes the payload from an AOF.
    pub load_command: &'static CStr,
    /// Appends the payload; nothing where there is nothing to save.
    pub save: fn(&Lock, &mut Vec<u8>),
    /// Reads a payload, from anywhere: `None`, and nothing changed, unless it is
    /// whole, consistent and of a known version.
    pub load: fn(&Lock, &[u8]) -> Option<()>,
}

/// The one table of the module.
pub(super) static TABLE: OnceLock<&'static AuxTable> = OnceLock::new();

/// Has the table stand before the first key of the module in a rewritten
/// AOF, which has no other place for it.
///
/// # Safety
/// `io` is what the server passed to a rewrite callback.
pub(super) unsafe fn emit_table(io: *mut RedisModuleIO) {
    // A rewrite runs in a process of its own, which begins with this unset.
    static EMITTED: AtomicBool = AtomicBool::new(false);
    let Some(table) = TABLE.get().filter(|_| !EMITTED.swap(true, Relaxed)) else { return };
    let payload = table_payload(Callback::AofRewrite);
    if !payload.is_empty() {
        let (command, start, length) = (table.load_command, payload.as_ptr(), payload.len());
        // SAFETY: promised by the caller; `b` stands for bytes and their length.
        unsafe { api!(RedisModule_EmitAOF(io, command.as_ptr(), c"b".as_ptr(), start, length)) };
    }
}

fn table_payload(entry: Callback) -> Vec<u8> {
    guard(entry, || {
        let mut payload = Vec::new();
        // SAFETY: the server saves under its lock, or in a process of its own.
        let lock = unsafe { Lock::held() };
        TABLE.get().into_iter().for_each(|table| (table.save)(&lock, &mut payload));
        payload
    })
    .unwrap_or_default()
}

pub(super) unsafe extern "C" fn aux_save(io: *mut RedisModuleIO, _when: c_int) {
    let payload = table_payload(Callback::AuxSave);
    // SAFETY: `io` is valid while the callback runs; the bytes are copied.
    unsafe { api!(RedisModule_SaveStringBuffer(io, payload.as_ptr().cast(), payload.len())) };
}

pub(super) unsafe extern "C" fn aux_save_if_any(io: *mut RedisModuleIO, _when: c_int) {
    let payload = table_payload(Callback::AuxSave);
    if !payload.is_empty() {
        // SAFETY: as for `aux_save`.
        unsafe { api!(RedisModule_SaveStringBuffer(io, payload.as_ptr().cast(), payload.len())) };
    }
}

pub(super) unsafe extern "C" fn aux_load(
    io: *mut RedisModuleIO,
    frame: c_int,
    _when: c_int,
) -> c_int {
    let loaded = guard(Callback::AuxLoad, || {
        // SAFETY: `io` is valid while the callback runs, which the server calls
        // under its lock.
        let (payload, lock) = unsafe { (load_payload(io, frame)?, Lock::held()) };
        if payload.is_empty() {
            return Some(());
        }
        TABLE.get().and_then(|table| (table.load)(&lock, &payload))
    });
    (if loaded.flatten().is_some() { REDISMODULE_OK } else { REDISMODULE_ERR }) as c_int
}
