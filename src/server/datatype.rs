//! Data types: one trait for a domain's state, and the table of C callbacks
//! that the server drives it through.

use super::alloc::block_bytes;
use super::entry::Entry;
use super::error::Error;
use super::guard::{guard, log};
use super::raw::{
    REDISMODULE_TYPE_METHOD_VERSION, RedisModuleCtx, RedisModuleDigest, RedisModuleIO,
    RedisModuleString, RedisModuleType, RedisModuleTypeMethods,
};
use std::ffi::{CStr, c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// The value of a key, of a type of the module's own.
///
/// One encoding serves RDB files, DUMP payloads, the AOF and replication: bytes
/// that start with their own encoding version. The default value is one that
/// holds nothing (a limit at full, a cache entry without answers); it is also
/// what the empty payload stands for.
pub trait DataType: Clone + Default + Send + 'static {
    /// The type's name in RDB files: nine characters.
    const NAME: &'static CStr;

    /// The command that loads a value from an AOF; see [`super::load`].
    const LOAD: &'static CStr;

    /// Where the server's handle of the type is kept.
    fn slot() -> &'static TypeSlot;

    /// Appends the payload.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a payload, from anywhere: `None` unless it is whole, consistent
    /// and of a known version. Allocates no more than the payload is long.
    fn decode(payload: &[u8]) -> Option<Self>;

    /// Bytes reserved for the value beyond its own struct.
    fn heap_bytes(&self) -> usize;

    /// How many blocks the value is made of.
    fn blocks(&self) -> usize;

    /// Adds all that makes the value what it is.
    fn digest(&self, digest: &mut Digest);
}

/// The server's handle of a data type, once it is registered.
pub struct TypeSlot(AtomicPtr<RedisModuleType>);

impl TypeSlot {
    /// A slot still empty.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    pub(super) fn get(&self) -> *mut RedisModuleType {
        self.0.load(Relaxed)
    }
}

/// A data type in the module's table of contents.
pub struct TypeSpec {
    register: unsafe fn(*mut RedisModuleCtx) -> Result<(), Error>,
}

impl TypeSpec {
    /// The entry of `T`.
    pub const fn of<T: DataType>() -> Self {
        Self { register: register::<T> }
    }

    /// # Safety
    /// `ctx` is the context that the module is loaded with.
    pub(super) unsafe fn register(&self, ctx: *mut RedisModuleCtx) -> Result<(), Error> {
        // SAFETY: the caller's promise is passed on.
        unsafe { (self.register)(ctx) }
    }
}

/// The sum that DEBUG DIGEST compares data sets by.
pub struct Digest {
    raw: *mut RedisModuleDigest,
}

impl Digest {
    /// Adds bytes; the order of what is added counts.
    pub fn bytes(&mut self, bytes: &[u8]) {
        // SAFETY: `raw` is valid while the digest callback runs.
        unsafe {
            api!(RedisModule_DigestAddStringBuffer(self.raw, bytes.as_ptr().cast(), bytes.len()));
        }
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        // The digest only compares: the sign bit is as good as any other.
        // SAFETY: `raw` is valid while the digest callback runs.
        unsafe { api!(RedisModule_DigestAddLongLong(self.raw, number.cast_signed())) };
    }

    /// Ends one element of the value.
    pub fn end(&mut self) {
        // SAFETY: `raw` is valid while the digest callback runs.
        unsafe { api!(RedisModule_DigestEndSequence(self.raw)) };
    }
}

/// # Safety
/// `ctx` is the context that the module is loaded with.
unsafe fn register<T: DataType>(ctx: *mut RedisModuleCtx) -> Result<(), Error> {
    /// The version of the RDB frame, one string; the payload in it has its own.
    const FRAME: c_int = 1;
    let mut methods = RedisModuleTypeMethods {
        version: u64::from(REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(rdb_load::<T>),
        rdb_save: Some(rdb_save::<T>),
        aof_rewrite: Some(aof_rewrite::<T>),
        mem_usage: Some(mem_usage::<T>),
        digest: Some(digest::<T>),
        free: Some(free::<T>),
        free_effort: Some(free_effort::<T>),
        copy: Some(copy::<T>),
        aux_load: None,
        aux_save: None,
        aux_save_triggers: 0,
        unlink: None,
        defrag: None,
        mem_usage2: None,
        free_effort2: None,
        unlink2: None,
        copy2: None,
        aux_save2: None,
    };
    // SAFETY: `ctx` is valid by the caller's promise; the server copies the
    // table of callbacks, each of which matches its declaration.
    let handle =
        unsafe { api!(RedisModule_CreateDataType(ctx, T::NAME.as_ptr(), FRAME, &raw mut methods)) };
    if handle.is_null() {
        log(&format!("the server refused the data type {:?}", T::NAME));
        return Err(Error::Internal);
    }
    T::slot().0.store(handle, Relaxed);
    Ok(())
}

/// The value behind a callback's pointer.
///
/// # Safety
/// `value` came from `Box::into_raw` of a `Box<T>` that still lives.
unsafe fn borrow<'a, T>(value: *const c_void) -> &'a T {
    // SAFETY: promised by the caller.
    unsafe { &*value.cast::<T>() }
}

fn into_value<T>(value: T) -> *mut c_void {
    Box::into_raw(Box::new(value)).cast()
}

unsafe extern "C" fn rdb_load<T: DataType>(io: *mut RedisModuleIO, frame: c_int) -> *mut c_void {
    guard(Entry::RdbLoad, || {
        if frame != 1 {
            return null_mut();
        }
        let mut length = 0;
        // SAFETY: `io` is valid while the callback runs. The buffer, null when
        // the payload was cut short, is ours to free.
        let value = unsafe {
            let buffer = api!(RedisModule_LoadStringBuffer(io, &raw mut length));
            if buffer.is_null() {
                return null_mut();
            }
            let payload = std::slice::from_raw_parts(buffer.cast::<u8>(), length);
            let value = decode::<T>(payload);
            api!(RedisModule_Free(buffer.cast()));
            value
        };
        value.map_or(null_mut(), into_value)
    })
    .unwrap_or(null_mut())
}

/// Reads a payload, the empty one included.
pub(super) fn decode<T: DataType>(payload: &[u8]) -> Option<T> {
    if payload.is_empty() { Some(T::default()) } else { T::decode(payload) }
}

/// The payload of a value, for an RDB file or an AOF. One that cannot be saved
/// is saved as empty: its key loses what it held, but the file still loads.
///
/// # Safety
/// `value` is a value of this type.
unsafe fn payload<T: DataType>(entry: Entry, value: *const c_void) -> Vec<u8> {
    guard(entry, || {
        let mut payload = Vec::new();
        // SAFETY: promised by the caller.
        unsafe { borrow::<T>(value) }.encode(&mut payload);
        payload
    })
    .unwrap_or_default()
}

unsafe extern "C" fn rdb_save<T: DataType>(io: *mut RedisModuleIO, value: *mut c_void) {
    // SAFETY: the server passes a value of this type.
    let payload = unsafe { payload::<T>(Entry::RdbSave, value) };
    // SAFETY: `io` is valid while the callback runs; the bytes are copied.
    unsafe {
        api!(RedisModule_SaveStringBuffer(io, payload.as_ptr().cast(), payload.len()));
    }
}

unsafe extern "C" fn aof_rewrite<T: DataType>(
    io: *mut RedisModuleIO,
    key: *mut RedisModuleString,
    value: *mut c_void,
) {
    // SAFETY: the server passes a value of this type.
    let payload = unsafe { payload::<T>(Entry::AofRewrite, value) };
    let (start, length) = (payload.as_ptr(), payload.len());
    // SAFETY: `io` and `key` are valid while the callback runs; the format says
    // how each argument is passed: `s` a server string, `b` bytes and their
    // length.
    unsafe {
        api!(RedisModule_EmitAOF(io, T::LOAD.as_ptr(), c"sb".as_ptr(), key, start, length));
    }
}

unsafe extern "C" fn mem_usage<T: DataType>(value: *const c_void) -> usize {
    guard(Entry::MemUsage, || {
        // SAFETY: the server passes a value of this type, a block of its own.
        unsafe { block_bytes(value) + borrow::<T>(value).heap_bytes() }
    })
    .unwrap_or(size_of::<T>())
}

unsafe extern "C" fn digest<T: DataType>(raw: *mut RedisModuleDigest, value: *mut c_void) {
    guard(Entry::Digest, || {
        // SAFETY: the server passes a value of this type.
        unsafe { borrow::<T>(value) }.digest(&mut Digest { raw });
    });
}

unsafe extern "C" fn free<T: DataType>(value: *mut c_void) {
    guard(Entry::Free, || {
        // SAFETY: the server passes a value of this type, for the last time.
        drop(unsafe { Box::from_raw(value.cast::<T>()) });
    });
}

/// What freeing the value costs; above 64, UNLINK has it done in the background.
unsafe extern "C" fn free_effort<T: DataType>(
    _key: *mut RedisModuleString,
    value: *const c_void,
) -> usize {
    /// Bytes that take about as long to give back as a small block does.
    const BYTES_PER_EFFORT: usize = 64 << 10;
    guard(Entry::FreeEffort, || {
        // SAFETY: the server passes a value of this type.
        let value = unsafe { borrow::<T>(value) };
        1 + value.blocks() + value.heap_bytes() / BYTES_PER_EFFORT
    })
    .unwrap_or(1)
}

unsafe extern "C" fn copy<T: DataType>(
    _from: *mut RedisModuleString,
    _to: *mut RedisModuleString,
    value: *const c_void,
) -> *mut c_void {
    // SAFETY: the server passes a value of this type. Null refuses the COPY.
    guard(Entry::Copy, || into_value(unsafe { borrow::<T>(value) }.clone())).unwrap_or(null_mut())
}
