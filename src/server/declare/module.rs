//! The module as a whole: its table of contents, and loading it.

use super::command::Command;
use super::config::Config;
use super::datatype::TypeSpec;
use super::events::{self, Listener};
use super::info::{self, Section};
use crate::server::border::callback::Callback;
use crate::server::border::guard::{guard, log, log_panics};
use crate::server::border::raw::{
    Export_RedisModule_Init, REDISMODULE_APIVER_1, REDISMODULE_ERR, REDISMODULE_OK,
    REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED, REDISMODULE_OPTIONS_HANDLE_IO_ERRORS,
    RedisModuleCtx, RedisModuleInfoFunc,
};
use crate::server::call::error::Error;
use std::ffi::{CStr, c_int};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// What a module is made of.
pub struct Module {
    /// Its name, which prefixes its configs.
    pub name: &'static CStr,
    /// Its version: 10203 is 1.2.3.
    pub version: i32,
    /// Its data types.
    pub types: &'static [&'static [TypeSpec]],
    /// Its commands.
    pub commands: &'static [&'static [Command]],
    /// Its configs.
    pub configs: &'static [&'static [&'static Config]],
    /// Its sections of INFO.
    pub info: &'static [&'static Section],
    /// What follows what happens to the server as a whole.
    pub listeners: &'static [Listener],
}

static CONTEXT: AtomicPtr<RedisModuleCtx> = AtomicPtr::new(null_mut());

/// A context of the module that outlives every call, for timers.
pub(in crate::server) fn context() -> *mut RedisModuleCtx {
    CONTEXT.load(Relaxed)
}

/// Makes a [`Module`] the one that this library is: defines the functions that
/// the server looks up and calls.
macro_rules! export_module {
    ($module:expr) => {
        #[allow(unsafe_code)]
        mod entry {
            use super::*;
            use $crate::server::exports::*;

            /// What the server calls to load the module.
            ///
            /// # Safety
            /// Only for the server to call.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn RedisModule_OnLoad(
                ctx: *mut RedisModuleCtx,
                _argv: *mut *mut RedisModuleString,
                argc: c_int,
            ) -> c_int {
                // SAFETY: the server's promise is passed on.
                unsafe { load(&$module, ctx, argc, Some(info)) }
            }

            unsafe extern "C" fn info(to: *mut RedisModuleInfoCtx, _crash: c_int) {
                // SAFETY: the server's promise is passed on.
                unsafe { write_info(&$module, to) }
            }
        }
    };
}

/// Loads the module: the body of `RedisModule_OnLoad`.
///
/// # Safety
/// To be called by the server, with the context of the module being loaded.
pub unsafe fn load(
    module: &'static Module,
    ctx: *mut RedisModuleCtx,
    argc: c_int,
    write_info: RedisModuleInfoFunc,
) -> c_int {
    // SAFETY: the caller's promise is passed on. Nothing is allocated before
    // this call has filled the table of functions, the allocator's among them.
    let initialized = unsafe {
        Export_RedisModule_Init(
            ctx,
            module.name.as_ptr(),
            module.version,
            REDISMODULE_APIVER_1 as c_int,
        )
    };
    if initialized != REDISMODULE_OK as c_int {
        return REDISMODULE_ERR as c_int;
    }
    log_panics();
    // SAFETY: the caller's promise is passed on.
    match guard(Callback::Load, || unsafe { register(module, ctx, argc, write_info) }) {
        Some(Ok(())) => REDISMODULE_OK as c_int,
        _ => REDISMODULE_ERR as c_int,
    }
}

/// # Safety
/// As for [`load`], the table of functions filled.
unsafe fn register(
    module: &'static Module,
    ctx: *mut RedisModuleCtx,
    argc: c_int,
    write_info: RedisModuleInfoFunc,
) -> Result<(), Error> {
    if argc > 0 {
        log("unknown argument: settings go into redis.conf as ml.<config>, or after CONFIG");
        return Err(Error::Internal);
    }
    if !(offers!(RedisModule_SetCommandInfo)
        && offers!(RedisModule_RegisterNumericConfig)
        && offers!(RedisModule_EventLoopAddOneShot)
        && offers!(RedisModule_SetAbsExpire))
    {
        log("this server is too old: Redis 7.0 or Valkey 7.2 is the least");
        return Err(Error::Internal);
    }
    // SAFETY: the caller's promise is passed on.
    unsafe {
        // A payload cut short is an error to answer, not one to die of; and a
        // key counts as modified when the module says so.
        let options =
            REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
        api!(RedisModule_SetModuleOptions(ctx, options as c_int | slot_migration(ctx)));
        for data_type in module.types.iter().copied().flatten() {
            data_type.register(ctx)?;
        }
        for command in module.commands.iter().copied().flatten() {
            command.register(ctx)?;
        }
        #[cfg(debug_assertions)]
        super::debug::COMMAND.register(ctx)?;
        for config in module.configs.iter().copied().flatten() {
            config.register(ctx)?;
        }
        let loaded = api!(RedisModule_LoadConfigs(ctx));
        let informed = api!(RedisModule_RegisterInfoFunc(ctx, write_info));
        if loaded != REDISMODULE_OK as c_int || informed != REDISMODULE_OK as c_int {
            log("a config has a value out of its range");
            return Err(Error::Internal);
        }
        // Last, and nothing after it fails: Redis 7.0 goes on calling a module
        // that it did not load.
        CONTEXT.store(api!(RedisModule_GetDetachedThreadSafeContext(ctx)), Relaxed);
        events::watch(ctx, module.listeners);
    }
    Ok(())
}

/// On Valkey, the option that a module must set before slots with its keys may be
/// migrated whole (Valkey 9): it vouches that what an AOF rewrite emits for a key,
/// and the effects replicated from then on, are all there is to the key. Nothing on
/// other servers, which may give the bit another meaning.
///
/// # Safety
/// `ctx` is valid.
unsafe fn slot_migration(ctx: *mut RedisModuleCtx) -> c_int {
    const HANDLE_ATOMIC_SLOT_MIGRATION: c_int = 1 << 5;
    // SAFETY: `ctx` is valid by the caller's promise, the names are C strings, and
    // the data is freed once, after its last use. A field that is missing is null.
    unsafe {
        let info = api!(RedisModule_GetServerInfo(ctx, c"server".as_ptr()));
        let version = api!(RedisModule_ServerInfoGetFieldC(info, c"valkey_version".as_ptr()));
        let is_valkey = !version.is_null();
        api!(RedisModule_FreeServerInfo(ctx, info));
        if is_valkey { HANDLE_ATOMIC_SLOT_MIGRATION } else { 0 }
    }
}

/// Writes `INFO ml`: the body of the info callback.
///
/// # Safety
/// To be called by the server, with the info context it passes.
pub unsafe fn write_info(
    module: &Module,
    info: *mut crate::server::border::raw::RedisModuleInfoCtx,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe { info::write(info, module.info) };
}
