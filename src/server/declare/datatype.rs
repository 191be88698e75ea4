//! Data types: one trait for a domain's state, and the table of C callbacks
//! that the server drives it through.

use super::aux::{AuxTable, aux_load, aux_save, aux_save_if_any, declare, emit_tables};
use super::defrag::Defrag;
use crate::block::Block;
use crate::server::border::alloc::bytes_at;
use crate::server::border::callback::Callback;
use crate::server::border::guard::{guard, log};
use crate::server::border::raw::{
    REDISMODULE_AUX_BEFORE_RDB, REDISMODULE_TYPE_METHOD_VERSION, RedisModuleCtx,
    RedisModuleDefragCtx, RedisModuleDigest, RedisModuleIO, RedisModuleKeyOptCtx,
    RedisModuleString, RedisModuleType, RedisModuleTypeMethods,
};
use crate::server::call::args::Arg;
use crate::server::call::error::Error;
use crate::server::runtime::Lock;
use std::ffi::{CStr, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// What the server holds a value by: one pointer.
///
/// # Safety
/// `from_raw` of what `into_raw` gave is that very value, and may also be looked
/// at, without being dropped, while the pointer is out.
pub unsafe trait RawValue: Sized {
    /// What can be changed in place.
    type Inner;

    /// Gives the value away as a pointer to a block of this allocator.
    fn into_raw(self) -> *mut c_void;

    /// Takes it back.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of this type, and nobody else takes it back.
    unsafe fn from_raw(raw: *mut c_void) -> Self;

    /// What can be changed in place.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of this type and is not taken back, and the
    /// value not looked at otherwise, for all of `'a`.
    unsafe fn inner<'a>(raw: *mut c_void) -> &'a mut Self::Inner;
}

// SAFETY: the pointer of a box is all that a box is.
unsafe impl<T> RawValue for Box<T> {
    type Inner = T;

    fn into_raw(self) -> *mut c_void {
        Self::into_raw(self).cast()
    }

    unsafe fn from_raw(raw: *mut c_void) -> Self {
        // SAFETY: promised by the caller.
        unsafe { Self::from_raw(raw.cast()) }
    }

    unsafe fn inner<'a>(raw: *mut c_void) -> &'a mut T {
        // SAFETY: promised by the caller.
        unsafe { &mut *raw.cast() }
    }
}

// SAFETY: the pointer is that of the block, and all that a block is.
unsafe impl<H> RawValue for Block<H> {
    type Inner = H;

    fn into_raw(self) -> *mut c_void {
        Self::into_raw(self)
    }

    unsafe fn from_raw(raw: *mut c_void) -> Self {
        // SAFETY: promised by the caller.
        unsafe { Self::from_raw(raw) }
    }

    unsafe fn inner<'a>(raw: *mut c_void) -> &'a mut H {
        // SAFETY: promised by the caller.
        unsafe { Self::head_at(raw) }
    }
}

/// The value of a key, of a type of the module's own, in what the server holds
/// it by: a box, or a [`crate::block::Block`].
///
/// One encoding serves RDB files, DUMP payloads, the AOF and replication: bytes
/// that start with their own encoding version. The default value is one that
/// holds nothing (a limit at full, a cache entry without answers); it is also
/// what the empty payload stands for.
pub trait DataType: RawValue + Default + Send + 'static {
    /// The type's name in RDB files: nine characters.
    const NAME: &'static CStr;

    /// The command that loads a value from an AOF; see [`super::load`].
    const LOAD: &'static CStr;

    /// The table of the node that is saved in this type's name, if there is one.
    const TABLE: Option<&'static AuxTable> = None;

    /// Where the server's handle of the type is kept.
    fn handle() -> &'static TypeHandle;

    /// Appends the payload.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a payload, from anywhere: `None` unless it is whole, consistent
    /// and of a known version. Allocates no more than the payload is long.
    fn decode(payload: &[u8]) -> Option<Self>;

    /// Whether the payload may be that of a part: what is too large to be saved and sent in
    /// one piece is [given](Self::encode_parts) in several.
    const IN_PARTS: bool = false;

    /// Gives the payload, or those of parts.
    fn encode_parts(&self, part: &mut dyn FnMut(&[u8])) {
        let mut payload = Vec::new();
        self.encode(&mut payload);
        part(&payload);
    }

    /// Adds what the payload of a further part holds: `None`, and nothing added, unless it
    /// is one that goes with what is there.
    fn extend(_inner: &mut Self::Inner, _payload: &[u8]) -> Option<()> {
        None
    }

    /// A copy; `None` when there is no memory for it.
    fn try_clone(&self) -> Option<Self>;

    /// Bytes reserved for the value beyond the block that holds it.
    fn heap_bytes(&self) -> usize;

    /// How many blocks the value is made of.
    fn blocks(&self) -> usize;

    /// Adds all that makes the value what it is: its payload, where equal values have
    /// equal ones.
    fn digest(&self, digest: &mut Digest) {
        let mut payload = Vec::new();
        self.encode(&mut payload);
        digest.bytes(&payload);
        digest.end();
    }

    /// Moves the blocks that the value leads to, beyond the one that holds it.
    fn defrag(_inner: &mut Self::Inner, _defrag: &Defrag) {}

    /// Called when the value is taken out of its key, whatever the way: deleted,
    /// overwritten, renamed, expired, evicted; not when databases are flushed.
    fn unlinked(&self, _lock: &Lock, _db: i32, _key: &[u8]) {}
}

/// The server's handle of a data type, once it is registered.
pub struct TypeHandle(AtomicPtr<RedisModuleType>);

impl TypeHandle {
    /// A handle still empty.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    pub(in crate::server) fn get(&self) -> *mut RedisModuleType {
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
    pub(in crate::server) unsafe fn register(&self, ctx: *mut RedisModuleCtx) -> Result<(), Error> {
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

/// The version of the RDB frame, one string; the payload in it has its own.
const FRAME: c_int = 1;

/// # Safety
/// `ctx` is the context that the module is loaded with.
unsafe fn register<T: DataType>(ctx: *mut RedisModuleCtx) -> Result<(), Error> {
    let saves_table = T::TABLE.is_some();
    T::TABLE.into_iter().for_each(declare);
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
        aux_load: saves_table.then_some(aux_load::<T>),
        aux_save: saves_table.then_some(aux_save::<T>),
        aux_save_triggers: REDISMODULE_AUX_BEFORE_RDB as c_int,
        unlink: None,
        defrag: Some(defrag::<T>),
        mem_usage2: None,
        free_effort2: None,
        unlink2: Some(unlink::<T>),
        copy2: None,
        // Unlike `aux_save`, it may save nothing, and then leaves no trace. Redis
        // 7.0 does not know it.
        aux_save2: saves_table.then_some(aux_save_if_any::<T>),
    };
    // SAFETY: `ctx` is valid by the caller's promise; the server copies the
    // table of callbacks, each of which matches its declaration.
    let handle =
        unsafe { api!(RedisModule_CreateDataType(ctx, T::NAME.as_ptr(), FRAME, &raw mut methods)) };
    if handle.is_null() {
        log(&format!("the server refused the data type {:?}", T::NAME));
        return Err(Error::Internal);
    }
    T::handle().0.store(handle, Relaxed);
    Ok(())
}

/// The value behind a callback's pointer, to be looked at.
///
/// # Safety
/// `value` came from `into_raw` and is not taken back while this is in use.
unsafe fn borrow<T: RawValue>(value: *const c_void) -> ManuallyDrop<T> {
    // SAFETY: promised by the caller.
    ManuallyDrop::new(unsafe { T::from_raw(value.cast_mut()) })
}

unsafe extern "C" fn rdb_load<T: DataType>(io: *mut RedisModuleIO, frame: c_int) -> *mut c_void {
    guard(Callback::RdbLoad, || {
        // SAFETY: `io` is valid while the callback runs.
        let loaded = || unsafe { load_payload(io, frame) };
        let value = decode::<T>(&loaded()?)?.into_raw();
        if T::IN_PARTS {
            // SAFETY: the value is this function's own, and led to by nothing else.
            if unsafe { load_parts::<T>(T::inner(value), loaded) }.is_none() {
                // SAFETY: as above; it is taken back once.
                drop(unsafe { T::from_raw(value) });
                return None;
            }
        }
        Some(value)
    })
    .flatten()
    .unwrap_or(null_mut())
}

/// Loads further parts, up to the empty one that ends them.
fn load_parts<T: DataType>(
    inner: &mut T::Inner,
    loaded: impl Fn() -> Option<Loaded>,
) -> Option<()> {
    loop {
        let part = loaded()?;
        if part.is_empty() {
            return Some(());
        }
        T::extend(inner, &part)?;
    }
}

/// The bytes that a server loaded, freed when dropped.
pub(super) struct Loaded {
    start: *mut u8,
    length: usize,
}

impl std::ops::Deref for Loaded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the server gave as many bytes, which are ours until freed.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: the buffer is ours and not used any more.
        unsafe { api!(RedisModule_Free(self.start.cast())) };
    }
}

/// The payload in a frame; `None` of another frame, or when it was cut short.
///
/// # Safety
/// `io` is what the server passed to a callback that loads.
pub(super) unsafe fn load_payload(io: *mut RedisModuleIO, frame: c_int) -> Option<Loaded> {
    if frame != FRAME {
        return None;
    }
    let mut length = 0;
    // SAFETY: promised by the caller.
    let start = unsafe { api!(RedisModule_LoadStringBuffer(io, &raw mut length)) };
    (!start.is_null()).then_some(Loaded { start: start.cast(), length })
}

/// Reads a payload, the empty one included.
pub(in crate::server) fn decode<T: DataType>(payload: &[u8]) -> Option<T> {
    if payload.is_empty() { Some(T::default()) } else { T::decode(payload) }
}

/// Gives the payload of a value, or those of its parts, for an RDB file or an AOF. One
/// that cannot be saved is saved as empty: its key loses what it held, but the file still
/// loads.
///
/// # Safety
/// `value` is a value of this type.
unsafe fn save<T: DataType>(entry: Callback, value: *const c_void, mut part: impl FnMut(&[u8])) {
    let mut is_saved = false;
    guard(entry, || {
        // SAFETY: promised by the caller.
        unsafe { borrow::<T>(value) }.encode_parts(&mut |payload| {
            part(payload);
            is_saved = true;
        });
    });
    if !is_saved {
        part(&[]);
    }
}

unsafe extern "C" fn rdb_save<T: DataType>(io: *mut RedisModuleIO, value: *mut c_void) {
    let save_part = |payload: &[u8]| {
        // SAFETY: `io` is valid while the callback runs; the bytes are copied.
        unsafe {
            api!(RedisModule_SaveStringBuffer(io, payload.as_ptr().cast(), payload.len()));
        }
    };
    // SAFETY: the server passes a value of this type.
    unsafe { save::<T>(Callback::RdbSave, value, save_part) };
    if T::IN_PARTS {
        save_part(&[]);
    }
}

unsafe extern "C" fn aof_rewrite<T: DataType>(
    io: *mut RedisModuleIO,
    key: *mut RedisModuleString,
    value: *mut c_void,
) {
    // SAFETY: `io` is valid while the callback runs.
    unsafe { emit_tables(io) };
    let emit_part = |payload: &[u8]| {
        let (start, length) = (payload.as_ptr(), payload.len());
        // SAFETY: `io` and `key` are valid while the callback runs; the format says
        // how each argument is passed: `s` a server string, `b` bytes and their
        // length.
        unsafe {
            api!(RedisModule_EmitAOF(io, T::LOAD.as_ptr(), c"sb".as_ptr(), key, start, length));
        }
    };
    // SAFETY: the server passes a value of this type.
    unsafe { save::<T>(Callback::AofRewrite, value, emit_part) };
}

unsafe extern "C" fn unlink<T: DataType>(key: *mut RedisModuleKeyOptCtx, value: *const c_void) {
    guard(Callback::Unlink, || {
        // SAFETY: the server passes a value of this type, and the key it is
        // taken out of, under its lock.
        unsafe {
            let name = api!(RedisModule_GetKeyNameFromOptCtx(key));
            let db = api!(RedisModule_GetDbIdFromOptCtx(key));
            if !name.is_null() {
                let name = Arg::from_raw(name.cast_mut()).bytes();
                borrow::<T>(value).unlinked(&Lock::held(), db, name);
            }
        }
    });
}

unsafe extern "C" fn mem_usage<T: DataType>(value: *const c_void) -> usize {
    guard(Callback::MemUsage, || {
        // SAFETY: the server passes a value of this type, a block of its own.
        unsafe { bytes_at(value) + borrow::<T>(value).heap_bytes() }
    })
    .unwrap_or(size_of::<T::Inner>())
}

unsafe extern "C" fn digest<T: DataType>(raw: *mut RedisModuleDigest, value: *mut c_void) {
    guard(Callback::Digest, || {
        // SAFETY: the server passes a value of this type.
        unsafe { borrow::<T>(value) }.digest(&mut Digest { raw });
    });
}

unsafe extern "C" fn free<T: DataType>(value: *mut c_void) {
    guard(Callback::Free, || {
        // SAFETY: the server passes a value of this type, for the last time.
        drop(unsafe { T::from_raw(value) });
    });
}

/// What freeing the value costs; above 64, UNLINK has it done in the background.
unsafe extern "C" fn free_effort<T: DataType>(
    _key: *mut RedisModuleString,
    value: *const c_void,
) -> usize {
    /// Bytes that take about as long to give back as a small block does.
    const BYTES_PER_EFFORT: usize = 64 << 10;
    guard(Callback::FreeEffort, || {
        // SAFETY: the server passes a value of this type.
        let value = unsafe { borrow::<T>(value) };
        1 + value.blocks() + value.heap_bytes() / BYTES_PER_EFFORT
    })
    .unwrap_or(1)
}

/// Moves the value's blocks, all in one go: none leads to many.
unsafe extern "C" fn defrag<T: DataType>(
    ctx: *mut RedisModuleDefragCtx,
    _key: *mut RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    guard(Callback::Defrag, || {
        // SAFETY: the server passes a value of this type, which is a block of its
        // own and led to from its key alone, and a context that outlives the call.
        unsafe {
            let defrag = Defrag::from_raw(ctx);
            *value = defrag.block(*value);
            T::defrag(T::inner(*value), &defrag);
        }
    });
    0
}

unsafe extern "C" fn copy<T: DataType>(
    _from: *mut RedisModuleString,
    _to: *mut RedisModuleString,
    value: *const c_void,
) -> *mut c_void {
    // SAFETY: the server passes a value of this type. Null refuses the COPY.
    let copy = guard(Callback::Copy, || unsafe { borrow::<T>(value) }.try_clone());
    copy.flatten().map_or(null_mut(), T::into_raw)
}
