//! Commands as values: one table says what a command is called, takes and
//! touches, and registration, arity check and COMMAND DOCS all come from it.

use super::args::{Arg, Args};
use super::clock;
use super::entry::Entry;
use super::error::Error;
use super::global::Lock;
use super::guard::{guard, log};
use super::key::{ReadKey, WriteKey};
use super::number::parse_integer;
use super::raw::{self, REDISMODULE_OK, RedisModuleCtx, RedisModuleString};
use super::reply::Reply;
use crate::time::Micros;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{null, null_mut};

/// What a handler is given: the arguments, and the ways to act on the server.
pub struct Call<'a> {
    /// The arguments, after the command's name.
    pub args: Args<'a>,
    /// The one reply.
    pub reply: Reply,
    ctx: *mut RedisModuleCtx,
}

impl<'a> Call<'a> {
    /// The time of the call. Read it once.
    pub fn now(&self) -> Micros {
        clock::now()
    }

    /// Proof that this call is all that runs.
    pub fn lock(&self) -> Lock<'a> {
        // SAFETY: the server runs a command under its lock, for all of 'a.
        unsafe { Lock::held() }
    }

    /// The database that the client has selected.
    pub fn db(&self) -> i32 {
        // SAFETY: the context is valid for the whole call.
        unsafe { api!(RedisModule_GetSelectedDb(self.ctx)) }
    }

    /// Whether this server decides itself, rather than follow a primary.
    pub fn is_primary(&self) -> bool {
        self.context_flags() & raw::REDISMODULE_CTX_FLAGS_MASTER != 0
    }

    /// Whether the client speaks RESP3.
    pub fn speaks_resp3(&self) -> bool {
        self.context_flags() & raw::REDISMODULE_CTX_FLAGS_RESP3 != 0
    }

    pub(super) fn context_flags(&self) -> u32 {
        // SAFETY: the context is valid for the whole call. Flags are bits.
        unsafe { api!(RedisModule_GetContextFlags(self.ctx)) }.cast_unsigned()
    }

    pub(super) fn context(&self) -> *mut RedisModuleCtx {
        self.ctx
    }

    /// Opens a key for reading.
    pub fn read(&self, key: Arg<'a>) -> ReadKey<'a> {
        // SAFETY: the context is valid for the whole call, 'a.
        unsafe { ReadKey::open(self.ctx, key) }
    }

    /// Opens a key for writing; until it is dropped, no other key is opened.
    pub fn write<'k>(&'k mut self, key: Arg<'a>) -> WriteKey<'k>
    where
        'a: 'k,
    {
        // SAFETY: the context is valid for the whole call, and the borrow of
        // the call keeps this the only open key.
        unsafe { WriteKey::open(self.ctx, key) }
    }

    /// Counts the call as a write where [`super::effects_are_wanted`] by nobody:
    /// save points count writes. Should somebody listen after all, they get the
    /// call as it was written.
    pub fn replicate_nothing(&self) {
        // SAFETY: the context is valid for the whole call.
        unsafe { api!(RedisModule_ReplicateVerbatim(self.ctx)) };
    }

    /// Sends the effect of this call to replicas and the AOF: `command payload`,
    /// of what belongs to no key.
    pub fn replicate_keyless(&self, command: &CStr, payload: &[u8]) {
        let (start, length) = (payload.as_ptr(), payload.len());
        // SAFETY: the context is valid for the whole call; `b` stands for bytes
        // and their length.
        unsafe {
            api!(RedisModule_Replicate(self.ctx, command.as_ptr(), c"b".as_ptr(), start, length))
        };
    }

    /// Sends the effect of this call to replicas and the AOF: `command payload
    /// key [key ...]`.
    pub fn replicate_keys(&self, command: &CStr, payload: &[u8], keys: &[Arg]) {
        let keys: Vec<_> = keys.iter().map(|key| key.as_raw()).collect();
        let (start, length) = (payload.as_ptr(), payload.len());
        // SAFETY: the context is valid for the whole call; the format says how
        // each argument is passed: `b` bytes and their length, `v` server strings
        // and their number.
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
    }

    /// Sends the effect of this call to replicas and the AOF: `command key
    /// payload [value]`.
    pub fn replicate(&self, command: &CStr, key: Arg, payload: &[u8], value: Option<Arg>) {
        let (ctx, command) = (self.ctx, command.as_ptr());
        let (key, start, length) = (key.as_raw(), payload.as_ptr(), payload.len());
        // SAFETY: the context is valid for the whole call; the format says how
        // each argument is passed: `s` a server string, `b` bytes and their
        // length.
        unsafe {
            match value {
                None => {
                    api!(RedisModule_Replicate(ctx, command, c"sb".as_ptr(), key, start, length))
                }
                Some(value) => {
                    let format = c"sbs".as_ptr();
                    let value = value.as_raw();
                    api!(RedisModule_Replicate(ctx, command, format, key, start, length, value))
                }
            }
        };
    }
}

/// What runs a command. Validate, then decide, then write, then reply: an
/// error, or a caught panic, leaves nothing half done.
pub trait Handler: Fn(&mut Call) -> Result<(), Error> + Copy {}

impl<F: Fn(&mut Call) -> Result<(), Error> + Copy> Handler for F {}

/// The C function of a command.
type EntryPoint =
    unsafe extern "C" fn(*mut RedisModuleCtx, *mut *mut RedisModuleString, c_int) -> c_int;

/// The entry point that runs `handler`, a function without captures.
pub const fn handler<H: Handler>(_handler: H) -> EntryPoint {
    const { assert!(size_of::<H>() == 0, "a handler captures nothing") }
    run::<H>
}

unsafe extern "C" fn run<H: Handler>(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the context of the running command.
    if unsafe { api!(RedisModule_IsKeysPositionRequest(ctx)) } != 0 {
        // SAFETY: as above; the server passes `argc` strings.
        guard(Entry::Keys, || unsafe { name_counted_keys(ctx, argv, argc) });
        return REDISMODULE_OK as c_int;
    }
    // SAFETY: the context of the running command.
    let reply = unsafe { Reply::from_raw(ctx) };
    let outcome = guard(Entry::Command, || {
        // SAFETY: `H` has no size, so that reading one touches no memory, and
        // a value of it exists: the function that `handler` was given. The
        // server passes `argc` strings that live as long as the call.
        let (handler, argv) = unsafe {
            let handler = std::ptr::NonNull::<H>::dangling().read();
            (handler, std::slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or(0)))
        };
        // SAFETY: as above.
        let args = unsafe { Args::from_raw(argv) };
        handler(&mut Call { args, reply, ctx })
    });
    if let Err(error) = outcome.unwrap_or(Err(Error::Internal)) {
        reply.error(&error);
    }
    REDISMODULE_OK as c_int
}

/// Tells the server where the keys of a call stand whose number is its first
/// argument. Key specs say so as well, but servers do not go by them where they
/// route in a cluster and remember what a client caches.
///
/// Valkey asks this in its I/O threads, too: nothing here may touch what belongs
/// to the main thread.
///
/// # Safety
/// `ctx` is that of a request for positions, `argv` holds `argc` strings.
unsafe fn name_counted_keys(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) {
    let argc = usize::try_from(argc).unwrap_or(0);
    // SAFETY: promised by the caller.
    let count = unsafe {
        let argv = std::slice::from_raw_parts(argv, argc);
        argv.get(1).and_then(|count| parse_integer(Arg::from_raw(*count).bytes()))
    };
    let end = count.and_then(|count| usize::try_from(count).ok()?.checked_add(2));
    // Of a call that names more keys than it has arguments, none is one.
    for position in 2..end.filter(|end| *end <= argc).unwrap_or(2) {
        // SAFETY: promised by the caller.
        unsafe { api!(RedisModule_KeyAtPos(ctx, position as c_int)) };
    }
}

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static CStr,
    /// What runs it; see [`handler`].
    pub run: EntryPoint,
    /// Flags of CreateCommand, apart by spaces.
    pub flags: &'static CStr,
    /// ACL categories, apart by spaces, where the server has them for modules.
    pub categories: &'static CStr,
    /// Arguments with the name; negative: at least that many.
    pub arity: i32,
    /// Where its keys stand, if it names any.
    pub keys: Option<Keys>,
    /// What COMMAND DOCS says of its arguments.
    pub arguments: &'static [Argument],
    /// What COMMAND DOCS says of it, in a line.
    pub summary: &'static CStr,
    /// Its complexity.
    pub complexity: &'static CStr,
    /// The version of the module that had it first.
    pub since: &'static CStr,
}

/// Where the keys of a command stand: by position, so that no other argument
/// can shift them.
#[derive(Clone, Copy)]
pub struct Keys {
    first: i32,
    access: KeyAccess,
    reach: Reach,
}

/// How far the keys of a command go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    One,
    /// Their number stands before them.
    Counted,
    /// To the end of the arguments, each so many after the last.
    ToTheEnd(i32),
}

impl Keys {
    /// One key, at the position (1 is the first argument).
    pub const fn one(first: i32, access: KeyAccess) -> Self {
        Self { first, access, reach: Reach::One }
    }

    /// Several keys, their number before them at the position.
    pub const fn counted(position: i32, access: KeyAccess) -> Self {
        Self { first: position, access, reach: Reach::Counted }
    }

    /// All from the position to the end, every `step` arguments.
    pub const fn to_the_end(first: i32, step: i32, access: KeyAccess) -> Self {
        Self { first, access, reach: Reach::ToTheEnd(step) }
    }
}

/// What a command does to its keys, in the words of the key specs.
#[derive(Clone, Copy)]
pub enum KeyAccess {
    /// Reads the value and answers from it.
    Read,
    /// Reads and writes the value, and answers from it.
    Update,
    /// Writes without answering from the value.
    Write,
}

impl KeyAccess {
    const fn flags(self) -> u64 {
        let flags = match self {
            Self::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
            Self::Update => {
                raw::REDISMODULE_CMD_KEY_RW
                    | raw::REDISMODULE_CMD_KEY_ACCESS
                    | raw::REDISMODULE_CMD_KEY_UPDATE
            }
            Self::Write => raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_UPDATE,
        };
        flags as u64
    }
}

/// An argument, as COMMAND DOCS describes it and redis-cli hints it.
#[derive(Clone, Copy)]
pub struct Argument {
    name: &'static CStr,
    kind: raw::RedisModuleCommandArgType,
    token: Option<&'static CStr>,
    flags: u32,
    parts: &'static [Self],
}

impl Argument {
    const fn new(name: &'static CStr, kind: raw::RedisModuleCommandArgType) -> Self {
        Self { name, kind, token: None, flags: 0, parts: &[] }
    }

    /// When something expires, as to SET; see [`super::Arg::expiry`].
    pub const EXPIRATION: Self = Self::one_of(
        c"expiration",
        &[
            Self::integer(c"seconds").after(c"EX"),
            Self::integer(c"milliseconds").after(c"PX"),
            Self::unix_time(c"unix-time-seconds").after(c"EXAT"),
            Self::unix_time(c"unix-time-milliseconds").after(c"PXAT"),
        ],
    );

    /// A key.
    pub const fn key(name: &'static CStr) -> Self {
        Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY)
    }

    /// Any bytes.
    pub const fn string(name: &'static CStr) -> Self {
        Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING)
    }

    /// An integer.
    pub const fn integer(name: &'static CStr) -> Self {
        Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER)
    }

    /// A number with decimals.
    pub const fn double(name: &'static CStr) -> Self {
        Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_DOUBLE)
    }

    /// A moment since the Unix epoch.
    pub const fn unix_time(name: &'static CStr) -> Self {
        Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_UNIX_TIME)
    }

    /// A keyword that stands alone.
    pub const fn token(name: &'static CStr, token: &'static CStr) -> Self {
        Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN).after(token)
    }

    /// One of several.
    pub const fn one_of(name: &'static CStr, parts: &'static [Self]) -> Self {
        let one_of = Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF);
        Self { parts, ..one_of }
    }

    /// Several that go together.
    pub const fn block(name: &'static CStr, parts: &'static [Self]) -> Self {
        let block = Self::new(name, raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK);
        Self { parts, ..block }
    }

    /// The keyword it follows.
    pub const fn after(self, token: &'static CStr) -> Self {
        Self { token: Some(token), ..self }
    }

    /// It may be left out.
    pub const fn optional(self) -> Self {
        Self { flags: self.flags | raw::REDISMODULE_CMD_ARG_OPTIONAL, ..self }
    }

    /// It may be repeated.
    pub const fn repeated(self) -> Self {
        Self { flags: self.flags | raw::REDISMODULE_CMD_ARG_MULTIPLE, ..self }
    }

    /// The list as C wants it, ended by a zeroed element. What it points to is
    /// kept in `lists`.
    fn raw_list(
        arguments: &[Self],
        lists: &mut Vec<Vec<raw::RedisModuleCommandArg>>,
    ) -> *mut raw::RedisModuleCommandArg {
        if arguments.is_empty() {
            return null_mut();
        }
        let none = raw::RedisModuleCommandArg {
            name: null(),
            type_: 0,
            key_spec_index: -1,
            token: null(),
            summary: null(),
            since: null(),
            flags: 0,
            deprecated_since: null(),
            subargs: null_mut(),
            display_text: null(),
        };
        let mut list: Vec<_> = arguments
            .iter()
            .map(|argument| raw::RedisModuleCommandArg {
                name: argument.name.as_ptr(),
                type_: argument.kind,
                key_spec_index: if argument.is_key() { 0 } else { -1 },
                token: pointer(argument.token),
                flags: argument.flags as c_int,
                subargs: Self::raw_list(argument.parts, lists),
                ..none
            })
            .chain([none])
            .collect();
        let start = list.as_mut_ptr();
        lists.push(list);
        start
    }

    const fn is_key(&self) -> bool {
        self.kind == raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY
    }
}

fn pointer(text: Option<&CStr>) -> *const c_char {
    text.map_or(null(), CStr::as_ptr)
}

impl Command {
    /// A command of the module's own, `key ...`, by which a write reaches
    /// replicas and the AOF; not for clients.
    pub const fn internal(
        name: &'static CStr,
        run: EntryPoint,
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
            keys: Some(Keys::one(1, KeyAccess::Write)),
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
    pub(super) unsafe fn register(&self, ctx: *mut RedisModuleCtx) -> Result<(), Error> {
        let (first, last, step) = self.keys.map_or((0, 0, 0), |keys| match keys.reach {
            Reach::One => (keys.first, keys.first, 1),
            Reach::ToTheEnd(step) => (keys.first, -1, step),
            // The old way to say where keys stand knows no count.
            Reach::Counted => (0, 0, 0),
        });
        let counted = self.keys.is_some_and(|keys| keys.reach == Reach::Counted);
        let asked = if counted { " getkeys-api" } else { "" };
        let flags = CString::new(format!("{}{asked}", self.flags.to_string_lossy()));
        let flags = flags.map_err(|_| Error::Internal)?;
        // SAFETY: `ctx` is valid by the caller's promise, the texts are C
        // strings, and the server copies all it is given here.
        let registered = unsafe {
            let name = self.name.as_ptr();
            let flags = flags.as_ptr();
            let created = api!(RedisModule_CreateCommand(
                ctx,
                name,
                Some(self.run),
                flags,
                first,
                last,
                step
            ));
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
        let mut key_specs: Vec<_> = self.keys.iter().map(Keys::raw).chain([Keys::END]).collect();
        let info = raw::RedisModuleCommandInfo {
            version: &raw const version,
            summary: self.summary.as_ptr(),
            complexity: self.complexity.as_ptr(),
            since: self.since.as_ptr(),
            history: null_mut(),
            tips: null(),
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

impl Keys {
    /// What ends a list of key specs.
    const END: raw::RedisModuleCommandKeySpec = raw::RedisModuleCommandKeySpec {
        notes: null(),
        flags: 0,
        begin_search_type: raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INVALID,
        bs: raw::RedisModuleCommandKeySpec__bindgen_ty_1 {
            index: raw::RedisModuleCommandKeySpec__bindgen_ty_1__bindgen_ty_1 { pos: 0 },
        },
        find_keys_type: raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_OMITTED,
        fk: raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
            range: raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 {
                lastkey: 0,
                keystep: 1,
                limit: 0,
            },
        },
    };

    fn raw(&self) -> raw::RedisModuleCommandKeySpec {
        raw::RedisModuleCommandKeySpec {
            flags: self.access.flags(),
            begin_search_type: raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX,
            bs: raw::RedisModuleCommandKeySpec__bindgen_ty_1 {
                index: raw::RedisModuleCommandKeySpec__bindgen_ty_1__bindgen_ty_1 {
                    pos: self.first,
                },
            },
            find_keys_type: match self.reach {
                Reach::Counted => raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM,
                _ => raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE,
            },
            fk: match self.reach {
                Reach::One => Self::END.fk,
                Reach::ToTheEnd(keystep) => raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
                    range: raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 {
                        lastkey: -1,
                        keystep,
                        limit: 0,
                    },
                },
                Reach::Counted => raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
                    keynum: raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_2 {
                        keynumidx: 0,
                        firstkey: 1,
                        keystep: 1,
                    },
                },
            },
            ..Self::END
        }
    }
}
