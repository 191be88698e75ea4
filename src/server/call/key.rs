//! Open keys, closed when dropped.
//!
//! The module loads with NO_IMPLICIT_SIGNAL_MODIFIED: opening a key for writing
//! breaks nobody's WATCH and invalidates nobody's cache. A write ends with
//! [`WriteKey::commit`], the one door through which it reaches everybody else.

use super::args::{Arg, DistinctKeys, FEW};
use super::error::Error;
use crate::block::Block;
use crate::bug;
use crate::server::border::callback::Callback;
use crate::server::border::guard::guard;
use crate::server::border::raw::{
    REDISMODULE_HASH_NONE, REDISMODULE_KEYTYPE_EMPTY, REDISMODULE_KEYTYPE_HASH,
    REDISMODULE_NO_EXPIRE, REDISMODULE_NOTIFY_GENERIC, REDISMODULE_NOTIFY_MODULE, REDISMODULE_OK,
    REDISMODULE_OPEN_KEY_NOTOUCH, REDISMODULE_READ, REDISMODULE_WRITE, RedisModuleCtx,
    RedisModuleKey, RedisModuleString,
};
use crate::server::declare::datatype::{DataType, RawValue};
use crate::server::runtime::propagation::effects_are_wanted;
use crate::time::Millis;
use smallvec::SmallVec;
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

    /// What the server holds a value of this type by, if there is one.
    fn held<T: DataType>(&self) -> Option<*mut c_void> {
        if self.raw.is_null() {
            return None;
        }
        // SAFETY: `raw` is an open key. The type of an empty key, or of a key
        // that no module owns, reads as null; that of ours names what its
        // value points to.
        unsafe {
            let held = api!(RedisModule_ModuleTypeGetType(self.raw));
            let is_one = !held.is_null() && held == T::handle().get();
            is_one.then(|| api!(RedisModule_ModuleTypeGetValue(self.raw)))
        }
    }

    /// The same; a value of another type is an error.
    fn value<T: DataType>(&self) -> Result<Option<*mut c_void>, Error> {
        match self.held::<T>() {
            None if !self.is_empty() => Err(Error::WrongType),
            held => Ok(held),
        }
    }
}

/// The value of an open key, to be looked at.
pub struct ValueRef<'k, T> {
    value: ManuallyDrop<T>,
    key: PhantomData<&'k T>,
}

impl<T> Deref for ValueRef<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl OpenKey<'_> {
    fn value_ref<T: DataType>(&self) -> Result<Option<ValueRef<'_, T>>, Error> {
        match self.own() {
            None if !self.is_empty() => Err(Error::WrongType),
            own => Ok(own),
        }
    }

    fn own<T: DataType>(&self) -> Option<ValueRef<'_, T>> {
        self.held::<T>().map(|raw| {
            // SAFETY: the type was checked; the server owns the value while the
            // key is open, and nobody writes to it meanwhile. It is not dropped.
            let value = ManuallyDrop::new(unsafe { T::from_raw(raw) });
            ValueRef { value, key: PhantomData }
        })
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

/// The keys of the database that the client has selected.
pub struct Keyspace<'a> {
    ctx: *mut RedisModuleCtx,
    runs: PhantomData<&'a ()>,
}

impl<'a> Keyspace<'a> {
    /// # Safety
    /// `ctx` is the context of a running command or of a client being answered,
    /// which lasts for all of `'a`, and this is the only keyspace made of it.
    pub(in crate::server) unsafe fn new(ctx: *mut RedisModuleCtx) -> Self {
        Self { ctx, runs: PhantomData }
    }

    /// Opens a key for reading.
    pub fn read<'k>(&'k self, key: Arg<'a>) -> ReadKey<'k> {
        // SAFETY: the context is valid for all of 'a, and the borrow keeps all
        // keys from being written to.
        ReadKey(unsafe { OpenKey::open(self.ctx, key, REDISMODULE_READ) })
    }

    /// Opens a key for reading that is read, or was, in the same call once more: it counts
    /// neither among the reads nor as a use that keeps the key from being evicted.
    pub fn peek<'k>(&'k self, key: Arg<'a>) -> ReadKey<'k> {
        // As for writing, which no server counts among the reads.
        const MODE: u32 = REDISMODULE_READ | REDISMODULE_WRITE | REDISMODULE_OPEN_KEY_NOTOUCH;
        // SAFETY: the context is valid for all of 'a, and the borrow keeps all
        // keys from being written to.
        ReadKey(unsafe { OpenKey::open(self.ctx, key, MODE) })
    }

    /// Opens a key for writing; until it is closed, no other key is opened.
    pub fn write<'k>(&'k mut self, key: Arg<'a>) -> WriteKey<'k> {
        // SAFETY: the borrow keeps this the only open key.
        unsafe { self.open_to_write(key) }
    }

    /// Opens keys for writing, so that what is decided on all of them is done without
    /// looking any of them up again. All are [closed](WriteKey::close) before anybody
    /// is told of a change.
    ///
    /// One that is found expired is told of at once, while others are open. What another
    /// module may do then is what it may while the server's own commands on many keys
    /// (SINTER, SMOVE) hold what they have looked up: it changes no key there and then,
    /// which the server's rules for its notifications forbid.
    pub fn write_all<'k>(&'k mut self, keys: &DistinctKeys<'a>) -> OpenKeys<'k> {
        // SAFETY: the borrow keeps these the only open keys, and none comes twice.
        keys.iter().map(|key| unsafe { self.open_to_write(*key) }).collect()
    }

    /// # Safety
    /// The key is not open otherwise as long as it is open here, nor is a key that is
    /// opened later the same.
    unsafe fn open_to_write<'k>(&self, key: Arg<'a>) -> WriteKey<'k>
    where
        'a: 'k,
    {
        let writing = Writing::begin();
        // SAFETY: the context is valid for all of 'a; the rest is promised by the caller.
        let open = unsafe { OpenKey::open(self.ctx, key, REDISMODULE_READ | REDISMODULE_WRITE) };
        WriteKey { open: ReadKey(open), _writing: writing }
    }

    /// The effect of a key that was [closed](WriteKey::close) already, for replicas and
    /// the AOF: the second half of [`WriteKey::commit`].
    pub(in crate::server) fn send<P: AsRef<[u8]>>(
        &mut self,
        key: Arg<'a>,
        command: &CStr,
        effect: impl FnOnce() -> P,
    ) {
        // SAFETY: the context is valid for all of 'a.
        unsafe { send(self.ctx, key, command, effect, None) };
    }

    /// Says that a key has changed: the last part of [`WriteKey::commit`].
    pub(in crate::server) fn announce(&mut self, key: Arg<'a>, ends: Ends, event: &CStr) {
        // SAFETY: the context is valid for all of 'a, the name by its type.
        unsafe { announce(self.ctx, key, event, ends) };
    }

    /// Commits a change of several keys, each [closed](WriteKey::close) already:
    /// [`WriteKey::commit`] of one effect, `command effect key [key ...]`, and of
    /// one event for each.
    pub fn commit_all<P: AsRef<[u8]>>(
        &mut self,
        written: &[(Arg<'a>, Ends)],
        event: &CStr,
        command: &CStr,
        effect: impl FnOnce() -> P,
    ) {
        if effects_are_wanted() {
            let effect = effect();
            let keys: SmallVec<[_; FEW]> = written.iter().map(|(key, _)| key.as_raw()).collect();
            let (start, length) = (effect.as_ref().as_ptr(), effect.as_ref().len());
            // SAFETY: the context is valid; the format says how each argument is
            // passed: `b` bytes and their length, `v` server strings and their
            // number.
            unsafe {
                api!(RedisModule_Replicate(
                    self.ctx,
                    command.as_ptr(),
                    c"bv".as_ptr(),
                    start,
                    length,
                    keys.as_ptr(),
                    keys.len()
                ))
            };
        } else {
            self.count_a_write();
        }
        for (key, ends) in written {
            // SAFETY: context and name are valid.
            unsafe { announce(self.ctx, *key, event, *ends) };
        }
    }

    /// Counts the call as a write where its effect is wanted by nobody: save
    /// points count writes. Should somebody listen after all, they get the call
    /// as it was written.
    pub(in crate::server) fn count_a_write(&self) {
        // SAFETY: the context is valid for all of 'a.
        unsafe { api!(RedisModule_ReplicateVerbatim(self.ctx)) };
    }
}

/// How long a key lives on after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lives {
    /// Until that moment, whatever expiry was given to it by hand.
    Until(Millis),
    /// Until it is removed: an expiry is taken off.
    Forever,
    /// As long as it did, or was made to by hand.
    AsBefore,
    /// No longer: it is removed.
    Gone,
}

impl Lives {
    /// What is to be done with the expiry of a key that lived on like `before`, and like
    /// this now: nothing where its end has not moved, so that an expiry which somebody
    /// gave the key, or took off, stays.
    pub fn moved_from(self, before: Self) -> Self {
        if self == before && self != Self::Gone { Self::AsBefore } else { self }
    }
}

/// Whether a key that was written to is there still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a write is to be committed"]
pub enum Ends {
    /// It is.
    Stays,
    /// It was removed.
    Gone,
}

/// Sends the effect of a write, `command key effect [value]`, to replicas and the AOF, if
/// anybody wants it.
///
/// # Safety
/// `ctx` is a valid context of a command.
unsafe fn send<P: AsRef<[u8]>>(
    ctx: *mut RedisModuleCtx,
    key: Arg,
    command: &CStr,
    effect: impl FnOnce() -> P,
    value: Option<Arg>,
) {
    if effects_are_wanted() {
        let effect = effect();
        let (command, name) = (command.as_ptr(), key.as_raw());
        let (start, length) = (effect.as_ref().as_ptr(), effect.as_ref().len());
        // SAFETY: promised by the caller; the format says how each argument is
        // passed: `s` a server string, `b` bytes and their length.
        unsafe {
            match value.map(Arg::as_raw) {
                None => {
                    let format = c"sb".as_ptr();
                    api!(RedisModule_Replicate(ctx, command, format, name, start, length))
                }
                Some(value) => {
                    let format = c"sbs".as_ptr();
                    api!(RedisModule_Replicate(ctx, command, format, name, start, length, value))
                }
            }
        };
    } else {
        // SAFETY: promised by the caller. See `Keyspace::count_a_write`.
        unsafe { api!(RedisModule_ReplicateVerbatim(ctx)) };
    }
}

/// Says that a key changed: breaks WATCH, invalidates clients' caches, and
/// notifies `event`; of a key that is gone `del` too, as DEL does.
///
/// # Safety
/// `ctx` is a valid context of a command.
unsafe fn announce(ctx: *mut RedisModuleCtx, key: Arg, event: &CStr, ends: Ends) {
    // SAFETY: promised by the caller; the name is valid by its type.
    unsafe {
        let name = key.as_raw();
        api!(RedisModule_SignalModifiedKey(ctx, name));
        api!(RedisModule_NotifyKeyspaceEvent(ctx, REDISMODULE_NOTIFY_MODULE, event.as_ptr(), name));
        if ends == Ends::Gone {
            let kind = REDISMODULE_NOTIFY_GENERIC as c_int;
            api!(RedisModule_NotifyKeyspaceEvent(ctx, kind, c"del".as_ptr(), name));
        }
    }
}

/// A key open for reading.
pub struct ReadKey<'k>(OpenKey<'k>);

impl ReadKey<'_> {
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
    pub fn value_ref<T: DataType>(&self) -> Result<Option<ValueRef<'_, T>>, Error> {
        self.0.value_ref()
    }

    /// The same, if there is one, whatever else is in the key.
    pub fn own<T: DataType>(&self) -> Option<ValueRef<'_, T>> {
        self.0.own()
    }

    /// Whether a plain hash is in it.
    pub fn is_hash(&self) -> bool {
        self.0.kind() == REDISMODULE_KEYTYPE_HASH as c_int
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

/// Has the processor fetch what is at a place from memory, so that it is there when it
/// is asked for a little later.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn fetch<T>(place: *const T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which reads nothing and faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
}

/// Elsewhere it is fetched when it is read.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn fetch<T>(_place: *const T) {}

/// A plain Redis hash in an open key.
pub struct Hash<'k>(&'k OpenKey<'k>);

impl Hash<'_> {
    /// How many fields it has; those that have expired may count.
    pub fn field_count(&self) -> usize {
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_ValueLength(self.0.raw)) }
    }

    /// Calls `work` with each field and its value, in one pass. A field may come
    /// twice, with the same value. A panic in `work` ends the pass with an error.
    pub fn each(&self, work: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        self.each_if(work, || true).map(|_| ())
    }

    /// The same, of a hash that the server holds as a list. Of one that it holds as a
    /// table the fields of one bucket come, which may be none; then `is_worth_it` says
    /// whether all others are to come as well. Whether all came.
    pub fn each_if(
        &self,
        mut work: impl FnMut(&[u8], &[u8]),
        is_worth_it: impl FnOnce() -> bool,
    ) -> Result<bool, Error> {
        let mut pass = Pass { work: &mut work, panicked: false };
        // SAFETY: the key is open and holds a hash; the cursor is freed once; the
        // callback gets back the pointer to `pass`, which outlives the scan.
        let all = unsafe {
            let cursor = api!(RedisModule_ScanCursorCreate());
            let data = (&raw mut pass).cast();
            let step = || api!(RedisModule_ScanKey(self.0.raw, cursor, Some(scanned), data)) != 0;
            let mut is_left = step();
            let all = !is_left || is_worth_it();
            while is_left && all {
                is_left = step();
            }
            api!(RedisModule_ScanCursorDestroy(cursor));
            all
        };
        if pass.panicked { Err(Error::Internal) } else { Ok(all) }
    }

    /// The value of a field, as HGET reads it; `None` when the hash has no
    /// such field, or has it no longer.
    pub fn field(&self, field: Arg) -> Option<HashField<'_>> {
        self.field_of(field.as_raw())
    }

    /// The same, of a field that no argument names.
    pub fn field_named(&self, name: &[u8]) -> Option<HashField<'_>> {
        let ctx = self.0.ctx;
        // SAFETY: the server copies the bytes into a string, which is freed once, after
        // the last look at it.
        unsafe {
            let raw = api!(RedisModule_CreateString(ctx, name.as_ptr().cast(), name.len()));
            let value = self.field_of(raw);
            api!(RedisModule_FreeString(ctx, raw));
            value
        }
    }

    fn field_of(&self, field: *mut RedisModuleString) -> Option<HashField<'_>> {
        let mut value: *mut RedisModuleString = null_mut();
        // SAFETY: the key is open and holds a hash; the list of field and
        // output pairs ends with a null, as the function wants it.
        let read = unsafe {
            api!(RedisModule_HashGet(
                self.0.raw,
                REDISMODULE_HASH_NONE as c_int,
                field,
                &raw mut value,
                null_mut::<RedisModuleString>()
            ))
        };
        (read == REDISMODULE_OK as c_int && !value.is_null()).then(|| HashField {
            ctx: self.0.ctx,
            raw: value,
            key: PhantomData,
        })
    }
}

/// A pass over the fields of a hash.
struct Pass<'w> {
    work: &'w mut dyn FnMut(&[u8], &[u8]),
    /// Whether `work` panicked: then it is called no more.
    panicked: bool,
}

unsafe extern "C" fn scanned(
    _key: *mut RedisModuleKey,
    field: *mut RedisModuleString,
    value: *mut RedisModuleString,
    pass: *mut c_void,
) {
    // SAFETY: the server passes the pointer back that `each` gave it.
    let pass = unsafe { &mut *pass.cast::<Pass>() };
    if value.is_null() || pass.panicked {
        return;
    }
    // Caught here already, for the server's frames in between.
    let done = guard(Callback::Scan, || {
        // SAFETY: the server passes strings that live as long as the call.
        let (field, value) = unsafe { (Arg::from_raw(field), Arg::from_raw(value)) };
        (pass.work)(field.bytes(), value.bytes());
    });
    if done.is_none() {
        pass.panicked = true;
    }
}

/// The value of a hash field: a string of the server's, released when dropped.
pub struct HashField<'k> {
    ctx: *mut RedisModuleCtx,
    raw: *mut RedisModuleString,
    key: PhantomData<&'k ()>,
}

impl HashField<'_> {
    /// The stored bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `raw` is a string this value owns.
        unsafe { Arg::from_raw(self.raw) }.bytes()
    }
}

impl Drop for HashField<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` is a string this value owns, released once.
        unsafe { api!(RedisModule_FreeString(self.ctx, self.raw)) };
    }
}

/// A key open for writing. Opening it changes nothing; what changes it ends with
/// [`commit`](Self::commit).
pub struct WriteKey<'k> {
    open: ReadKey<'k>,
    _writing: Writing,
}

/// Whatever can be written to can be looked at.
impl<'k> Deref for WriteKey<'k> {
    type Target = ReadKey<'k>;

    fn deref(&self) -> &ReadKey<'k> {
        &self.open
    }
}

/// Several keys open for writing, mostly few.
pub type OpenKeys<'k> = SmallVec<[WriteKey<'k>; FEW]>;

/// How many keys are open for writing, of whatever call. Keys are opened under the
/// server's lock, so that a load and a store lose nothing and cost less than a locked
/// addition.
static WRITING: AtomicUsize = AtomicUsize::new(0);

/// How many looks are taken at keys beside a call.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// Proof that a key is open for writing. The borrow of a [`Keyspace`] knows of its
/// own keys only: a look beside the call is kept off by this.
struct Writing(());

impl Writing {
    fn begin() -> Self {
        if LOOKING.load(Relaxed) > 0 {
            bug("a key opened for writing while one is looked at");
        }
        WRITING.store(WRITING.load(Relaxed) + 1, Relaxed);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.store(WRITING.load(Relaxed) - 1, Relaxed);
    }
}

/// Proof that no key is open for writing, nor will be while a look is taken at one
/// beside a call.
pub(in crate::server) struct Looking(());

impl Looking {
    pub(in crate::server) fn begin() -> Self {
        if WRITING.load(Relaxed) > 0 {
            bug("a key looked at while one is open for writing");
        }
        LOOKING.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOOKING.fetch_sub(1, Relaxed);
    }
}

impl<'k> WriteKey<'k> {
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
        Ok(self.open.0.value::<T>()?.map(|raw| unsafe { T::inner(raw) }))
    }

    /// The same of a [block](crate::block::Block), with its bytes.
    pub fn block<H>(&mut self) -> Result<Option<(&mut H, &mut [u8])>, Error>
    where
        Block<H>: DataType,
    {
        // SAFETY: as above.
        Ok(self.open.0.value::<Block<H>>()?.map(|raw| unsafe { Block::parts_at(raw) }))
    }

    /// Puts a value into the key, in place of the one it held, which is given
    /// back; a value of another type goes.
    pub fn set<T: DataType>(&mut self, value: T) -> Result<Option<T>, Error> {
        let held = self.open.0.held::<T>().is_some();
        let (raw, kind) = (value.into_raw(), T::handle().get());
        let mut old = null_mut();
        // SAFETY: the key is open for writing. The server takes the value over
        // when it answers OK, and frees it through the type's callback; when it
        // replaces one, it gives that one back.
        let set = unsafe {
            if held {
                api!(RedisModule_ModuleTypeReplaceValue(self.open.0.raw, kind, raw, &raw mut old))
            } else {
                api!(RedisModule_ModuleTypeSetValue(self.open.0.raw, kind, raw))
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

    /// The one door for a write: the key is given its expiry and closed; the
    /// effect, `command key effect`, goes to replicas and the AOF, if anybody
    /// wants it; WATCH is broken, clients' caches are invalidated, and `event` is
    /// notified, of a key that is gone `del` too. In this order: what other
    /// modules do about an event follows its effect.
    pub fn commit<P: AsRef<[u8]>>(
        self,
        lives: Lives,
        event: &CStr,
        command: &CStr,
        effect: impl FnOnce() -> P,
    ) {
        self.commit_with(lives, event, command, effect, None);
    }

    /// [`commit`](Self::commit) of an effect that ends with an argument of the
    /// call: `command key effect value`.
    pub fn commit_with<P: AsRef<[u8]>>(
        self,
        lives: Lives,
        event: &CStr,
        command: &CStr,
        effect: impl FnOnce() -> P,
        value: Option<Arg>,
    ) {
        let (ctx, key) = (self.open.0.ctx, self.open.0.name);
        let ends = self.close(lives);
        // SAFETY: the context outlives the key, the name is valid by its type.
        unsafe {
            send(ctx, key, command, effect, value);
            announce(ctx, key, event, ends);
        }
    }

    /// The first half of [`commit`](Self::commit), where several keys are open or
    /// one effect tells of them all: gives the key its expiry, or removes it, and
    /// closes it. The other half is [`Keyspace::send`] and [`Keyspace::announce`], or
    /// [`Keyspace::commit_all`].
    pub fn close(self, lives: Lives) -> Ends {
        match lives {
            Lives::Until(at_ms) => self.expire_at(i64::try_from(at_ms).unwrap_or(i64::MAX)),
            Lives::Forever => self.expire_at(REDISMODULE_NO_EXPIRE.into()),
            Lives::AsBefore => {}
            Lives::Gone => {
                // SAFETY: the key is open for writing.
                unsafe { api!(RedisModule_DeleteKey(self.open.0.raw)) };
                return Ends::Gone;
            }
        }
        Ends::Stays
    }

    fn expire_at(&self, at_ms: i64) {
        if !self.open.0.is_empty() {
            // SAFETY: the key is open for writing, and exists.
            unsafe { api!(RedisModule_SetAbsExpire(self.open.0.raw, at_ms)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn no_key_is_looked_at_beside_one_that_is_open_for_writing_nor_the_other_way_round() {
        let writing = Writing::begin();
        assert!(catch_unwind(Looking::begin).is_err());
        drop(writing);
        let looking = Looking::begin();
        drop(Looking::begin());
        assert!(catch_unwind(Writing::begin).is_err());
        drop(looking);
        drop(Writing::begin());
        drop(Looking::begin());
    }
}
