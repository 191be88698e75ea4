//! Arguments, as COMMAND DOCS describes them.

use crate::server::border::raw;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::{null, null_mut};

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

    /// When something expires, as to SET; see [`crate::server::Arg::expiry`].
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
    pub(super) fn raw_list(
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
