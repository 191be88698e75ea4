//! Open keys, closed when dropped.
//!
//! The module loads with NO_IMPLICIT_SIGNAL_MODIFIED: opening a key for writing
//! breaks nobody's WATCH and invalidates nobody's cache. What really changed a
//! key says so with [`WriteKey::changed`].

use super::args::Arg;
use super::datatype::{DataType, Held};
use super::entry::Entry;
use super::error::Error;
use super::guard::guard;
use super::raw::{
    REDISMODULE_HASH_NONE, REDISMODULE_KEYTYPE_EMPTY, REDISMODULE_KEYTYPE_HASH,
    REDISMODULE_NO_EXPIRE, REDISMODULE_NOTIFY_GENERIC, REDISMODULE_NOTIFY_MODULE, REDISMODULE_OK,
    REDISMODULE_READ, REDISMODULE_WRITE, RedisModuleCtx, RedisModuleKey, RedisModuleString,
};
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::null_mut;

/// A key of the server, open; null for one that does not exist.
struct OpenKey<'a> {
    ctx: *mut RedisModuleCtx,
    raw: *mut RedisModuleKey,
    name: Arg<'a>,
}

impl<'a> OpenKey<'a> {
    /// # Safety
    /// `ctx` is the context of the running command, which outlives `'a`.
    unsafe fn open(ctx: *mut RedisModuleCtx, name: Arg<'a>, mode: u32) -> Self {
        // SAFETY: `ctx` is valid by the caller's promise, `name` by its type.
        let raw = unsafe { api!(RedisModule_OpenKey(ctx, name.as_raw(), mode as c_int)) };
        Self { ctx, raw: raw.cast(), name }
    }

    fn kind(&self) -> c_int {
        if self.raw.is_null() {
            return REDISMODULE_KEYTYPE_EMPTY as c_int;
        }
        // SAFETY: `raw` is an open key.
        unsafe { api!(RedisModule_KeyType(self.raw)) }
    }

    fn is_empty(&self) -> bool {
        self.kind() == REDISMODULE_KEYTYPE_EMPTY as c_int
    }

    /// What the server holds the value by, if the key exists.
    fn value<T: DataType>(&self) -> Result<Option<*mut c_void>, Error> {
        if self.raw.is_null() {
            return Ok(None);
        }
        // SAFETY: `raw` is an open key. The type of an empty key, or of a key
        // that no module owns, reads as null; that of ours names what its
        // value points to.
        unsafe {
            let held = api!(RedisModule_ModuleTypeGetType(self.raw));
            if !held.is_null() && held == T::slot().get() {
                return Ok(Some(api!(RedisModule_ModuleTypeGetValue(self.raw))));
            }
        }
        if self.is_empty() { Ok(None) } else { Err(Error::WrongType) }
    }

    /// Has the processor fetch the value from memory, so that it is there when
    /// it is asked for a little later.
    fn read_ahead<T: DataType>(&self) {
        if let Ok(Some(raw)) = self.value::<T>() {
            fetch(raw);
        }
    }
}

/// The value of an open key, to be looked at.
pub struct Kept<'k, T> {
    value: ManuallyDrop<T>,
    key: PhantomData<&'k T>,
}

impl<T> Deref for Kept<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl OpenKey<'_> {
    fn kept<T: DataType>(&self) -> Result<Option<Kept<'_, T>>, Error> {
        Ok(self.value::<T>()?.map(|raw| {
            // SAFETY: the type was checked; the server owns the value while the
            // key is open, and nobody writes to it meanwhile. It is not dropped.
            let value = ManuallyDrop::new(unsafe { T::from_raw(raw) });
            Kept { value, key: PhantomData }
        }))
    }
}

impl Drop for OpenKey<'_> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: `raw` is an open key, and nothing borrowed from it
            // outlives its owner.
            unsafe { api!(RedisModule_CloseKey(self.raw)) };
        }
    }
}

/// A key open for reading.
pub struct ReadKey<'a>(OpenKey<'a>);

impl<'a> ReadKey<'a> {
    /// # Safety
    /// As for [`OpenKey::open`].
    pub(super) unsafe fn open(ctx: *mut RedisModuleCtx, name: Arg<'a>) -> Self {
        // SAFETY: the caller's promise is passed on.
        Self(unsafe { OpenKey::open(ctx, name, REDISMODULE_READ) })
    }

    /// The module's own value in it; `None` when the key does not exist.
    pub fn value<T>(&self) -> Result<Option<&T>, Error>
    where
        Box<T>: DataType<Inner = T>,
    {
        // SAFETY: the server owns the value while the key is open, nobody
        // writes to it meanwhile, and its type was checked.
        Ok(self.0.value::<Box<T>>()?.map(|raw| unsafe { &*<Box<T>>::inner(raw) }))
    }

    /// The same, of a value held by other means than a box.
    pub fn kept<T: DataType>(&self) -> Result<Option<Kept<'_, T>>, Error> {
        self.0.kept()
    }

    /// See [`OpenKey::read_ahead`].
    pub fn read_ahead<T: DataType>(&self) {
        self.0.read_ahead::<T>();
    }

    /// The plain hash in it; `None` when the key does not exist.
    pub fn hash(&self) -> Result<Option<Hash<'_>>, Error> {
        match self.0.kind() {
            kind if kind == REDISMODULE_KEYTYPE_HASH as c_int => Ok(Some(Hash(&self.0))),
            kind if kind == REDISMODULE_KEYTYPE_EMPTY as c_int => Ok(None),
            _ => Err(Error::WrongType),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn fetch(raw: *const c_void) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which reads nothing and faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(raw.cast()) };
}

/// Elsewhere the value is fetched when it is read.
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_raw: *const c_void) {}

/// A plain Redis hash in an open key.
pub struct Hash<'k>(&'k OpenKey<'k>);

impl Hash<'_> {
    /// How many fields it has; those that have expired may count.
    pub fn field_count(&self) -> usize {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_ValueLength(self.0.raw)) }
    }

    /// Calls `work` with each field and its value, in one pass. A field may come
    /// twice, with the same value.
    pub fn each(&self, mut work: impl FnMut(&[u8], &[u8])) {
        let mut work: &mut dyn FnMut(&[u8], &[u8]) = &mut work;
        // SAFETY: the key is open and holds a hash; the cursor is freed once; the
        // callback gets back the pointer to `work`, which outlives the pass.
        unsafe {
            let cursor = api!(RedisModule_ScanCursorCreate());
            let work = (&raw mut work).cast();
            while api!(RedisModule_ScanKey(self.0.raw, cursor, Some(scanned), work)) != 0 {}
            api!(RedisModule_ScanCursorDestroy(cursor));
        }
    }

    /// The value of a field, as HGET reads it; `None` when the hash has no
    /// such field, or has it no longer.
    pub fn field(&self, field: Arg) -> Option<HashField> {
        let mut value: *mut RedisModuleString = null_mut();
        // SAFETY: the key is open and holds a hash; the list of field and
        // output pairs ends with a null, as the function wants it.
        let read = unsafe {
            api!(RedisModule_HashGet(
                self.0.raw,
                REDISMODULE_HASH_NONE as c_int,
                field.as_raw(),
                &raw mut value,
                null_mut::<RedisModuleString>()
            ))
        };
        (read == REDISMODULE_OK as c_int && !value.is_null())
            .then(|| HashField { ctx: self.0.ctx, raw: value })
    }
}

unsafe extern "C" fn scanned(
    _key: *mut RedisModuleKey,
    field: *mut RedisModuleString,
    value: *mut RedisModuleString,
    work: *mut c_void,
) {
    // Within the guard of the command that scans: a panic is caught here already,
    // for the server's frames in between.
    guard(Entry::Scan, || {
        if !value.is_null() {
            // SAFETY: the server passes strings that live as long as the call,
            // and the pointer that `each` gave it.
            unsafe {
                let work = &mut *work.cast::<&mut dyn FnMut(&[u8], &[u8])>();
                work(Arg::from_raw(field).bytes(), Arg::from_raw(value).bytes());
            }
        }
    });
}

/// The value of a hash field: a string of the server's, released when dropped.
pub struct HashField {
    ctx: *mut RedisModuleCtx,
    raw: *mut RedisModuleString,
}

impl HashField {
    /// The stored bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `raw` is a string this value owns.
        unsafe { Arg::from_raw(self.raw) }.bytes()
    }
}

impl Drop for HashField {
    fn drop(&mut self) {
        // SAFETY: `raw` is a string this value owns, released once.
        unsafe { api!(RedisModule_FreeString(self.ctx, self.raw)) };
    }
}

/// A key open for writing. Opening it changes nothing.
pub struct WriteKey<'a> {
    open: OpenKey<'a>,
    /// When the key expires, once that was asked.
    expiry: Option<i64>,
}

impl<'a> WriteKey<'a> {
    /// # Safety
    /// As for [`OpenKey::open`], and the key is not open already.
    pub(super) unsafe fn open(ctx: *mut RedisModuleCtx, name: Arg<'a>) -> Self {
        // SAFETY: the caller's promise is passed on.
        let open = unsafe { OpenKey::open(ctx, name, REDISMODULE_READ | REDISMODULE_WRITE) };
        Self { open, expiry: None }
    }

    /// The module's own value in it; `None` when the key does not exist.
    pub fn value<T>(&mut self) -> Result<Option<&mut T>, Error>
    where
        Box<T>: DataType<Inner = T>,
    {
        self.inner::<Box<T>>()
    }

    /// What can be changed in place of a value held by other means than a box.
    pub fn inner<T: DataType>(&mut self) -> Result<Option<&mut T::Inner>, Error> {
        // SAFETY: the server owns the value while the key is open, this is the
        // only open handle on it, and its type was checked.
        Ok(self.open.value::<T>()?.map(|raw| unsafe { T::inner(raw) }))
    }

    /// The value, to be looked at.
    pub fn kept<T: DataType>(&self) -> Result<Option<Kept<'_, T>>, Error> {
        self.open.kept()
    }

    /// Has the processor fetch the value from memory, and meanwhile asks when the
    /// key expires, which whoever moves that has to know.
    pub fn read_ahead<T: DataType>(&mut self) {
        self.open.read_ahead::<T>();
        self.expiry = Some(self.asked_expiry());
    }

    /// Puts a value into the key, in place of the one it held, which is given
    /// back; a value of another type goes.
    pub fn set<T: DataType>(&mut self, value: T) -> Result<Option<T>, Error> {
        let held = self.open.value::<T>().ok().flatten().is_some();
        let (raw, kind) = (value.into_raw(), T::slot().get());
        let mut old = null_mut();
        // SAFETY: the key is open for writing. The server takes the value over
        // when it answers OK, and frees it through the type's callback; when it
        // replaces one, it gives that one back.
        let set = unsafe {
            if held {
                api!(RedisModule_ModuleTypeReplaceValue(self.open.raw, kind, raw, &raw mut old))
            } else {
                self.expiry = None;
                api!(RedisModule_ModuleTypeSetValue(self.open.raw, kind, raw))
            }
        };
        if set == REDISMODULE_OK as c_int {
            // SAFETY: what is given back was held by the key, and is so no more.
            return Ok((!old.is_null()).then(|| unsafe { T::from_raw(old) }));
        }
        // SAFETY: the server did not take the value.
        drop(unsafe { T::from_raw(raw) });
        Err(Error::Internal)
    }

    /// Removes the key, if it exists.
    pub fn delete(&mut self) {
        self.expiry = None;
        // SAFETY: the key is open for writing.
        unsafe { api!(RedisModule_DeleteKey(self.open.raw)) };
    }

    /// Has the server remove the key at `at_ms`, milliseconds since the epoch.
    /// Costs a look-up when that is when it goes already; a TTL that was taken
    /// off by hand is put back.
    pub fn expire_at(&mut self, at_ms: u64) {
        self.set_expiry(i64::try_from(at_ms).unwrap_or(i64::MAX));
    }

    /// Takes the key's expiry off, if it has one.
    pub fn persist(&mut self) {
        self.set_expiry(REDISMODULE_NO_EXPIRE.into());
    }

    fn set_expiry(&mut self, at_ms: i64) {
        if self.expiry.unwrap_or_else(|| self.asked_expiry()) != at_ms {
            // SAFETY: the key is open for writing; a missing one refuses.
            unsafe { api!(RedisModule_SetAbsExpire(self.open.raw, at_ms)) };
            self.expiry = None;
        }
    }

    fn asked_expiry(&self) -> i64 {
        // Redis 8.2 crashes when it is asked this of a key that does not exist.
        if self.open.is_empty() {
            return REDISMODULE_NO_EXPIRE.into();
        }
        // SAFETY: the key is open and exists.
        unsafe { api!(RedisModule_GetAbsExpire(self.open.raw)) }
    }

    /// [`changed`](Self::changed), by an event that took the last of the value;
    /// notifies too that the key is gone, as DEL does.
    pub fn deleted(&self, event: &CStr) {
        self.changed(event);
        let (ctx, name) = (self.open.ctx, self.open.name.as_raw());
        let kind = REDISMODULE_NOTIFY_GENERIC as c_int;
        // SAFETY: context and name are valid while the key is open.
        unsafe { api!(RedisModule_NotifyKeyspaceEvent(ctx, kind, c"del".as_ptr(), name)) };
    }

    /// Says that the key changed: breaks WATCH, invalidates clients' caches,
    /// and notifies `event`.
    pub fn changed(&self, event: &CStr) {
        let (ctx, name) = (self.open.ctx, self.open.name.as_raw());
        // SAFETY: context and name are valid while the key is open.
        unsafe {
            api!(RedisModule_SignalModifiedKey(ctx, name));
            api!(RedisModule_NotifyKeyspaceEvent(
                ctx,
                REDISMODULE_NOTIFY_MODULE,
                event.as_ptr(),
                name
            ));
        }
    }
}
