//! Key specs: where the keys of a command stand, and what it does to them.

use crate::number::parse_integer;
use crate::server::border::raw::{self, RedisModuleCtx, RedisModuleString};
use crate::server::call::Arg;
use std::ffi::c_int;
use std::ptr::null;

/// Where the keys of a command stand: by position, so that no other argument
/// can shift them.
#[derive(Clone, Copy)]
pub struct KeySpec {
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

impl KeySpec {
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
            Reach::Counted => (0, 0, 0),
        }
    }

    /// Whether their number stands before them.
    pub(super) fn is_counted(&self) -> bool {
        self.reach == Reach::Counted
    }

    pub(super) fn raw(&self) -> raw::RedisModuleCommandKeySpec {
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

/// Tells the server where the keys of a call stand whose number is its first
/// argument. Key specs say so as well, but servers do not go by them where they
/// route in a cluster and remember what a client caches.
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
) {
    let argc = argc.cast_unsigned() as usize;
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
