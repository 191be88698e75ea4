//! The auxiliary fields of RDB files: tables of the node that are saved with the
//! data set, beside the keys. A file has one for each data type.

use super::datatype::{DataType, load_payload};
use crate::server::border::callback::Callback;
use crate::server::border::guard::guard;
use crate::server::border::raw::{REDISMODULE_ERR, REDISMODULE_OK, RedisModuleIO};
use crate::server::runtime::Lock;
use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

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

/// All tables of the module. Locked where it is loaded and where an AOF is rewritten,
/// which nothing does at once.
static TABLES: Mutex<Vec<&'static AuxTable>> = Mutex::new(Vec::new());

/// Has the table of a type saved with the data set.
pub(super) fn declare(table: &'static AuxTable) {
    TABLES.lock().unwrap_or_else(PoisonError::into_inner).push(table);
}

/// Has the tables stand before the first key of the module in a rewritten
/// AOF, which has no other place for them.
///
/// # Safety
/// `io` is what the server passed to a rewrite callback.
pub(super) unsafe fn emit_tables(io: *mut RedisModuleIO) {
    // A rewrite runs in a process of its own, which begins with this unset.
    static EMITTED: AtomicBool = AtomicBool::new(false);
    if EMITTED.swap(true, Relaxed) {
        return;
    }
    for table in TABLES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let payload = payload(table, Callback::AofRewrite);
        if !payload.is_empty() {
            let (command, start, length) = (table.load_command, payload.as_ptr(), payload.len());
            // SAFETY: promised by the caller; `b` stands for bytes and their length.
            unsafe {
                api!(RedisModule_EmitAOF(io, command.as_ptr(), c"b".as_ptr(), start, length));
            };
        }
    }
}

fn payload(table: &AuxTable, entry: Callback) -> Vec<u8> {
    guard(entry, || {
        let mut payload = Vec::new();
        // SAFETY: the server saves under its lock, or in a process of its own.
        let lock = unsafe { Lock::held() };
        (table.save)(&lock, &mut payload);
        payload
    })
    .unwrap_or_default()
}

fn payload_of<T: DataType>() -> Vec<u8> {
    T::TABLE.map_or_else(Vec::new, |table| payload(table, Callback::AuxSave))
}

pub(super) unsafe extern "C" fn aux_save<T: DataType>(io: *mut RedisModuleIO, _when: c_int) {
    let payload = payload_of::<T>();
    // SAFETY: `io` is valid while the callback runs; the bytes are copied.
    unsafe { api!(RedisModule_SaveStringBuffer(io, payload.as_ptr().cast(), payload.len())) };
}

pub(super) unsafe extern "C" fn aux_save_if_any<T: DataType>(io: *mut RedisModuleIO, _when: c_int) {
    let payload = payload_of::<T>();
    if !payload.is_empty() {
        // SAFETY: as for `aux_save`.
        unsafe { api!(RedisModule_SaveStringBuffer(io, payload.as_ptr().cast(), payload.len())) };
    }
}

pub(super) unsafe extern "C" fn aux_load<T: DataType>(
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
        T::TABLE.and_then(|table| (table.load)(&lock, &payload))
    });
    (if loaded.flatten().is_some() { REDISMODULE_OK } else { REDISMODULE_ERR }) as c_int
}
