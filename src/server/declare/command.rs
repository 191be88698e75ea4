//! Commands as values: one table says what a command is called, takes and
//! touches, and registration, arity check and COMMAND DOCS all come from it.

use super::argument::Argument;
use super::keyspec::{self, KeyAccess, KeySpec, Updated};
use crate::server::border::callback::Callback;
use crate::server::border::guard::{guard, log};
use crate::server::border::raw::{self, REDISMODULE_OK, RedisModuleCtx, RedisModuleString};
use crate::server::call::{Args, Call, Error, Reply};
use crate::server::runtime::only_asks;
use std::ffi::{CStr, CString, c_int};
use std::ptr::{null, null_mut};

/// What runs a command. Validate, then decide, then write, then reply: an
/// error, or a caught panic, leaves nothing half done.
pub trait Handler: Fn(&mut Call) -> Result<(), Error> + Copy {}

impl<F: Fn(&mut Call) -> Result<(), Error> + Copy> Handler for F {}

/// The C function of a command.
type EntryPoint =
    unsafe extern "C" fn(*mut RedisModuleCtx, *mut *mut RedisModuleString, c_int) -> c_int;

/// The C functions of a command.
#[derive(Clone, Copy)]
pub struct EntryPoints {
    /// What runs it.
    run: EntryPoint,
    /// The same, of a command with counted keys: the server asks it where they
    /// stand, too.
    run_or_name_keys: EntryPoint,
    /// The same, where each key has a value behind it.
    run_or_name_pairs: EntryPoint,
}

/// The entry points that run `handler`, a function without captures.
pub const fn handler<H: Handler>(_handler: H) -> EntryPoints {
    const { assert!(size_of::<H>() == 0, "a handler captures nothing") }
    EntryPoints {
        run: run::<H>,
        run_or_name_keys: run_or_name_keys::<H, 1>,
        run_or_name_pairs: run_or_name_keys::<H, 2>,
    }
}

/// The same, of a command that updates some of its counted keys, as `updated` says of a
/// call, and reads the others.
pub const fn handler_updating<H: Handler, U: Updated>(handler: H, _updated: U) -> EntryPoints {
    const { assert!(size_of::<U>() == 0, "what names keys captures nothing") }
    EntryPoints { run_or_name_keys: run_or_name_updated::<H, U>, ..self::handler(handler) }
}

unsafe extern "C" fn run_or_name_updated<H: Handler, U: Updated>(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the context of the running command.
    if unsafe { api!(RedisModule_IsKeysPositionRequest(ctx)) } == 0 {
        // SAFETY: what the server passes is passed on.
        return unsafe { run::<H>(ctx, argv, argc) };
    }
    guard(Callback::Keys, || {
        // SAFETY: `U` has no size, and a value of it exists: what `handler_updating` was
        // given. The server passes `argc` strings.
        unsafe {
            let updated = std::ptr::NonNull::<U>::dangling().read();
            keyspec::name_keys_as(ctx, argv, argc, updated);
        }
    });
    REDISMODULE_OK as c_int
}

unsafe extern "C" fn run_or_name_keys<H: Handler, const STEP: usize>(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the context of the running command.
    if unsafe { api!(RedisModule_IsKeysPositionRequest(ctx)) } == 0 {
        // SAFETY: what the server passes is passed on.
        return unsafe { run::<H>(ctx, argv, argc) };
    }
    // SAFETY: as above; the server passes `argc` strings.
    guard(Callback::Keys, || unsafe { keyspec::name_counted_keys(ctx, argv, argc, STEP) });
    REDISMODULE_OK as c_int
}

unsafe extern "C" fn run<H: Handler>(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the context of the running command.
    let reply = unsafe { Reply::from_raw(ctx) };
    if only_asks() {
        reply.ok();
        return REDISMODULE_OK as c_int;
    }
    let outcome = guard(Callback::Command, || {
        // SAFETY: `H` has no size, so that reading one touches no memory, and
        // a value of it exists: the function that `handler` was given. The
        // server passes `argc` strings that live as long as the call.
        let (handler, argv) = unsafe {
            let handler = std::ptr::NonNull::<H>::dangling().read();
            (handler, std::slice::from_raw_parts(argv, argc.cast_unsigned() as usize))
        };
        // SAFETY: as above; this is the only `Call` made of the context.
        handler(&mut unsafe { Call::new(ctx, Args::from_raw(argv)) })
    });
    match outcome {
        Some(Ok(())) => {}
        Some(Err(error)) => reply.error(&error),
        None => reply.error(&Error::Internal),
    }
    #[cfg(debug_assertions)]
    do_wrong(reply);
    REDISMODULE_OK as c_int
}

/// What a planted fault has a call do after all else.
#[cfg(debug_assertions)]
fn do_wrong(reply: Reply) {
    use crate::server::border::faults::{Fault, plant, planted};
    if planted(Fault::Leak) {
        std::mem::forget(Box::new([0_u64; 64]));
    }
    if planted(Fault::Answer) {
        plant(Fault::Nothing);
        reply.null();
    }
}

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static CStr,
    /// What runs it; see [`handler`].
    pub run: EntryPoints,
    /// Flags of CreateCommand, apart by spaces.
    pub flags: &'static CStr,
    /// ACL categories, apart by spaces, where the server has them for modules.
    pub categories: &'static CStr,
    /// Arguments with the name; negative: at least that many.
    pub arity: i32,
    /// Where its keys stand; a command that names none works on a table of the
    /// node, and clients of a cluster are told to call it on all shards.
    pub keys: Option<KeySpec>,
    /// What COMMAND DOCS says of its arguments.
    pub arguments: &'static [Argument],
    /// What COMMAND DOCS says of it, in a line.
    pub summary: &'static CStr,
    /// Its complexity.
    pub complexity: &'static CStr,
    /// The version of the module that had it first.
    pub since: &'static CStr,
}

impl Command {
    /// A command of the module's own, `key ...`, by which a write reaches
    /// replicas and the AOF; not for clients.
    pub const fn internal(
        name: &'static CStr,
        run: EntryPoints,
        arguments: &'static [Argument],
        summary: &'static CStr,
        complexity: &'static CStr,
    ) -> Self {
        Self {
            name,
            run,
            flags: c"write admin fast",
            categories: c"write admin dangerous",
            arity: arguments.len() as i32 + 1,
            keys: Some(KeySpec::one(1, KeyAccess::Write)),
            arguments,
            summary,
            complexity,
            since: c"0.1.0",
        }
    }

    /// The same, of a command that names no key.
    pub const fn keyless(self) -> Self {
        Self { keys: None, ..self }
    }

    /// Registers the command with all that the server wants to know of it.
    ///
    /// # Safety
    /// `ctx` is the context that the module is loaded with.
    pub(in crate::server) unsafe fn register(&self, ctx: *mut RedisModuleCtx) -> Result<(), Error> {
        let (first, last, step) = self.keys.map_or((0, 0, 0), |keys| keys.range());
        let (run, asked) = match self.keys.and_then(|keys| keys.counted_step()) {
            Some(2) => (self.run.run_or_name_pairs, " getkeys-api"),
            Some(_) => (self.run.run_or_name_keys, " getkeys-api"),
            None => (self.run.run, ""),
        };
        let flags = CString::new(format!("{}{asked}", self.flags.to_string_lossy()));
        let flags = flags.map_err(|_| Error::Internal)?;
        // SAFETY: `ctx` is valid by the caller's promise, the texts are C
        // strings, and the server copies all it is given here.
        let registered = unsafe {
            let name = self.name.as_ptr();
            let flags = flags.as_ptr();
            let created =
                api!(RedisModule_CreateCommand(ctx, name, Some(run), flags, first, last, step));
            let command = api!(RedisModule_GetCommand(ctx, name));
            created == REDISMODULE_OK as c_int
                && !command.is_null()
                && self.describe(command)
                && self.categorize(command)
        };
        if registered {
            return Ok(());
        }
        log(&format!("the server refused the command {:?}", self.name));
        Err(Error::Internal)
    }

    /// # Safety
    /// `command` is the command just created.
    unsafe fn describe(&self, command: *mut raw::RedisModuleCommand) -> bool {
        let version = raw::RedisModuleCommandInfoVersion {
            version: 1,
            sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
            sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
            sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
        };
        let mut lists = Vec::new();
        let mut key_specs: Vec<_> =
            self.keys.iter().map(KeySpec::raw).chain([KeySpec::END]).collect();
        let tips = match self.keys {
            Some(keys) => keys.tips(),
            None => Some(c"request_policy:all_shards"),
        };
        let info = raw::RedisModuleCommandInfo {
            version: &raw const version,
            summary: self.summary.as_ptr(),
            complexity: self.complexity.as_ptr(),
            since: self.since.as_ptr(),
            history: null_mut(),
            tips: tips.map_or(null(), CStr::as_ptr),
            arity: self.arity,
            key_specs: if self.keys.is_some() { key_specs.as_mut_ptr() } else { null_mut() },
            args: Argument::raw_list(self.arguments, &mut lists),
        };
        // SAFETY: `command` is valid by the caller's promise; every list ends
        // with an empty element, lives until the call returns, and is copied.
        let described = unsafe { api!(RedisModule_SetCommandInfo(command, &raw const info)) };
        described == REDISMODULE_OK as c_int
    }

    /// # Safety
    /// `command` is the command just created.
    unsafe fn categorize(&self, command: *mut raw::RedisModuleCommand) -> bool {
        if !offers!(RedisModule_SetCommandACLCategories) {
            return true;
        }
        let categories = self.categories.as_ptr();
        // SAFETY: `command` is valid by the caller's promise.
        let set = unsafe { api!(RedisModule_SetCommandACLCategories(command, categories)) };
        set == REDISMODULE_OK as c_int
    }
}
