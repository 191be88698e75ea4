//! Configs: `ml.<name>` in CONFIG GET and SET, redis.conf and MODULE LOADEX.

use crate::bug;
use crate::server::border::callback::Callback;
use crate::server::border::guard::{guard, log};
use crate::server::border::raw::{
    REDISMODULE_CONFIG_DEFAULT, REDISMODULE_CONFIG_MEMORY, REDISMODULE_ERR, REDISMODULE_OK,
    RedisModuleCtx, RedisModuleString,
};
use crate::server::call::error::Error;
use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// A number that operators set, or one of several names, by its place.
pub struct Config {
    name: &'static CStr,
    default: i64,
    low: i64,
    high: i64,
    flags: u32,
    names: &'static [&'static CStr],
    value: AtomicI64,
}

impl Config {
    /// A number from `low` to `high`.
    pub const fn number(name: &'static CStr, default: i64, low: i64, high: i64) -> Self {
        let value = AtomicI64::new(default);
        Self { name, default, low, high, flags: REDISMODULE_CONFIG_DEFAULT, names: &[], value }
    }

    /// One of several names; the first is the default.
    pub const fn choice(name: &'static CStr, names: &'static [&'static CStr]) -> Self {
        Self { names, ..Self::number(name, 0, 0, names.len() as i64 - 1) }
    }

    /// A size in bytes, which may be written with a unit: `64mb`.
    pub const fn bytes(name: &'static CStr, default: i64, low: i64, high: i64) -> Self {
        let config = Self::number(name, default, low, high);
        Self { flags: REDISMODULE_CONFIG_MEMORY, ..config }
    }

    /// What operators know it by.
    pub fn name(&self) -> String {
        format!("ml.{}", self.name.to_string_lossy())
    }

    /// The value in force.
    pub fn get(&self) -> i64 {
        self.value.load(Relaxed)
    }

    /// The value in force, of a config that cannot be negative.
    pub fn get_unsigned(&self) -> u64 {
        u64::try_from(self.get()).unwrap_or_else(|_| bug("a config below its least value"))
    }

    /// The value in force, of a config that counts what is held in memory.
    pub fn get_count(&self) -> usize {
        usize::try_from(self.get()).unwrap_or_else(|_| bug("a config out of its range"))
    }

    /// # Safety
    /// `ctx` is the context that the module is loaded with.
    pub(in crate::server) unsafe fn register(
        &'static self,
        ctx: *mut RedisModuleCtx,
    ) -> Result<(), Error> {
        let (name, flags) = (self.name.as_ptr(), self.flags);
        let private = (&raw const *self).cast_mut().cast();
        // SAFETY: `ctx` is valid by the caller's promise, the server copies the
        // names, and the callbacks get back the private data passed here, a
        // static of this type.
        let registered = unsafe {
            if self.names.is_empty() {
                let (default, low, high) = (self.default, self.low, self.high);
                api!(RedisModule_RegisterNumericConfig(
                    ctx,
                    name,
                    default,
                    flags,
                    low,
                    high,
                    Some(get),
                    Some(set),
                    None,
                    private
                ))
            } else {
                let mut names: Vec<_> = self.names.iter().map(|name| name.as_ptr()).collect();
                let places: Vec<_> = (0..).take(names.len()).collect();
                let count = names.len() as c_int;
                api!(RedisModule_RegisterEnumConfig(
                    ctx,
                    name,
                    self.default as c_int,
                    flags,
                    names.as_mut_ptr(),
                    places.as_ptr(),
                    count,
                    Some(get_place),
                    Some(set_place),
                    None,
                    private
                ))
            }
        };
        if registered == REDISMODULE_OK as c_int {
            return Ok(());
        }
        log(&format!("the server refused the config {:?}", self.name));
        Err(Error::Internal)
    }
}

/// # Safety
/// `private` is what [`Config::register`] passed.
unsafe fn config(private: *mut c_void) -> &'static Config {
    // SAFETY: promised by the caller.
    unsafe { &*private.cast::<Config>() }
}

unsafe extern "C" fn get(_name: *const c_char, private: *mut c_void) -> c_longlong {
    // SAFETY: the server passes the private data back.
    let config = unsafe { config(private) };
    guard(Callback::Config, || config.get()).unwrap_or(config.default)
}

unsafe extern "C" fn set(
    _name: *const c_char,
    value: c_longlong,
    private: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    // SAFETY: the server passes the private data back.
    let config = unsafe { config(private) };
    match guard(Callback::Config, || config.value.store(value, Relaxed)) {
        Some(()) => REDISMODULE_OK as c_int,
        None => REDISMODULE_ERR as c_int,
    }
}

unsafe extern "C" fn get_place(name: *const c_char, private: *mut c_void) -> c_int {
    // SAFETY: the server's promise is passed on. There are few places.
    unsafe { get(name, private) as c_int }
}

unsafe extern "C" fn set_place(
    name: *const c_char,
    place: c_int,
    private: *mut c_void,
    error: *mut *mut RedisModuleString,
) -> c_int {
    // SAFETY: the server's promise is passed on.
    unsafe { set(name, place.into(), private, error) }
}
