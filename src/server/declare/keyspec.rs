//! Key specs: where the keys of a command stand, and what it does to them.

use crate::number::parse_integer;
use crate::server::border::raw::{self, RedisModuleCtx, RedisModuleString};
use crate::server::call::{Arg, Args};
use std::ffi::{CStr, c_int};
use std::ops::Range;
use std::ptr::null;

/// Where the keys of a command stand: by position, so that no other argument
/// can shift them.
#[derive(Clone, Copy)]
pub struct KeySpec {
    first: i32,
    access: KeyAccess,
    reach: Reach,
    tips: Option<&'static CStr>,
}

/// How far the keys of a command go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    One,
    /// Their number stands before them, each so many after the last.
    Counted(i32),
    /// To the end of the arguments, each so many after the last.
    ToTheEnd(i32),
}

impl KeySpec {
    /// One key, at the position (1 is the first argument).
    pub const fn one(first: i32, access: KeyAccess) -> Self {
        Self::of(first, access, Reach::One)
    }

    /// Several keys, their number before them at the position.
    pub const fn counted(position: i32, access: KeyAccess) -> Self {
        Self::of(position, access, Reach::Counted(1))
    }

    /// Several keys, each with a value behind it, their number before them at the
    /// position.
    pub const fn counted_pairs(position: i32, access: KeyAccess) -> Self {
        Self::of(position, access, Reach::Counted(2))
    }

    /// All from the position to the end, every `step` arguments.
    pub const fn to_the_end(first: i32, step: i32, access: KeyAccess) -> Self {
        Self::of(first, access, Reach::ToTheEnd(step))
    }

    /// In a cluster, clients may split a call by the shards of its keys, and put
    /// the answers together again in the order of the keys.
    pub const fn multi_shard(self) -> Self {
        Self { tips: Some(c"request_policy:multi_shard"), ..self }
    }

    const fn of(first: i32, access: KeyAccess, reach: Reach) -> Self {
        Self { first, access, reach, tips: None }
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
    /// One or the other, as the call says: the server asks for each key.
    Varies,
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
            // Where it cannot be asked, all that any of them may be.
            Self::Varies => {
                return Self::Update.flags() | raw::REDISMODULE_CMD_KEY_VARIABLE_FLAGS as u64;
            }
        };
        flags as u64
    }
}

impl KeySpec {
    /// What ends a list of key specs.
    pub(super) const END: raw::RedisModuleCommandKeySpec = raw::RedisModuleCommandKeySpec {
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

    /// Where they stand, as commands said it before there were key specs: first,
    /// last, step.
    pub(super) const fn range(&self) -> (i32, i32, i32) {
        match self.reach {
            Reach::One => (self.first, self.first, 1),
            Reach::ToTheEnd(step) => (self.first, -1, step),
            // That way knows no count.
            Reach::Counted(_) => (0, 0, 0),
        }
    }

    /// Where their number stands before them: how many arguments there are to
    /// each.
    pub(super) fn counted_step(&self) -> Option<i32> {
        match self.reach {
            Reach::Counted(step) => Some(step),
            Reach::One | Reach::ToTheEnd(_) => None,
        }
    }

    /// What clients of a cluster are told, see
    /// <https://redis.io/docs/latest/develop/reference/command-tips/>.
    pub(super) fn tips(&self) -> Option<&'static CStr> {
        self.tips
    }

    pub(super) fn raw(&self) -> raw::RedisModuleCommandKeySpec {
        raw::RedisModuleCommandKeySpec {
            flags: match self.reach {
                // Servers before Redis 8.4 reckon with a step of 1, whatever it
                // says: an incomplete spec has them ask the command.
                Reach::Counted(step) if step != 1 => {
                    self.access.flags() | u64::from(raw::REDISMODULE_CMD_KEY_INCOMPLETE)
                }
                _ => self.access.flags(),
            },
            begin_search_type: raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX,
            bs: raw::RedisModuleCommandKeySpec__bindgen_ty_1 {
                index: raw::RedisModuleCommandKeySpec__bindgen_ty_1__bindgen_ty_1 {
                    pos: self.first,
                },
            },
            find_keys_type: match self.reach {
                Reach::Counted(_) => {
                    raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_KEYNUM
                }
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
                Reach::Counted(keystep) => raw::RedisModuleCommandKeySpec__bindgen_ty_2 {
                    keynum: raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_2 {
                        keynumidx: 0,
                        firstkey: 1,
                        keystep,
                    },
                },
            },
            ..Self::END
        }
    }
}

/// What says of a call on counted keys how many of them, from the first on, it updates;
/// the others it reads. It is given what stands behind the keys.
pub trait Updated: Fn(Args) -> usize + Copy {}

impl<F: Fn(Args) -> usize + Copy> Updated for F {}

/// Tells the server where the keys of a call stand whose number is its first
/// argument, each `step` arguments after the last. Key specs say so as well, but servers
/// do not go by them where they route in a cluster and remember what a client caches.
///
/// Valkey asks this in its I/O threads, too: nothing here may touch what belongs
/// to the main thread.
///
/// # Safety
/// `ctx` is that of a request for positions, `argv` holds `argc` strings.
pub(super) unsafe fn name_counted_keys(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
    step: usize,
) {
    // SAFETY: promised by the caller.
    let argv = unsafe { std::slice::from_raw_parts(argv, argc.cast_unsigned() as usize) };
    // SAFETY: as above.
    for position in unsafe { counted_keys(argv, step) }.step_by(step) {
        // SAFETY: promised by the caller.
        unsafe {
            if step == 1 {
                api!(RedisModule_KeyAtPos(ctx, position as c_int));
            } else {
                // Access goes by what is said here. All commands on pairs write.
                let flags = KeyAccess::Write.flags() as c_int;
                api!(RedisModule_KeyAtPosWithFlags(ctx, position as c_int, flags));
            }
        }
    }
}

/// The same of keys of which some are updated and the others read.
///
/// # Safety
/// As [`name_counted_keys`].
pub(super) unsafe fn name_keys_as(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
    updated: impl Updated,
) {
    // SAFETY: promised by the caller.
    let argv = unsafe { std::slice::from_raw_parts(argv, argc.cast_unsigned() as usize) };
    // SAFETY: as above.
    let keys = unsafe { counted_keys(argv, 1) };
    let behind = argv.get(keys.end.saturating_sub(1)..).unwrap_or_default();
    if behind.is_empty() {
        return;
    }
    // SAFETY: as above. The last key stands where a command's name does.
    let updated = keys.start + updated(unsafe { Args::from_raw(behind) });
    for position in keys {
        let access = if position < updated { KeyAccess::Update } else { KeyAccess::Read };
        // SAFETY: promised by the caller.
        unsafe {
            api!(RedisModule_KeyAtPosWithFlags(ctx, position as c_int, access.flags() as c_int))
        };
    }
}

/// Where the keys stand whose number is the first argument. Of a call that names more keys
/// than it has arguments, none is one.
///
/// # Safety
/// `argv` holds valid server strings.
unsafe fn counted_keys(argv: &[*mut RedisModuleString], step: usize) -> Range<usize> {
    // SAFETY: promised by the caller.
    let count =
        argv.get(1).and_then(|count| unsafe { parse_integer(Arg::from_raw(*count).bytes()) });
    let arguments = count.and_then(|count| usize::try_from(count).ok()?.checked_mul(step));
    let end = arguments.and_then(|arguments| arguments.checked_add(2));
    2..end.filter(|end| *end <= argv.len()).unwrap_or(2)
}
