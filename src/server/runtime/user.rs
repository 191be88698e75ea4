//! The rights of a client's user, asked for while the client waits: what it is
//! handed then it must be allowed to have then.

use super::global::Lock;
use crate::bug;
use crate::server::border::raw::{
    ACL_LOG_DB, REDISMODULE_CMD_KEY_ACCESS, REDISMODULE_OK, RedisModuleString, RedisModuleUser,
    acl_check_permissions,
};
use crate::server::call::Call;
use crate::server::call::args::Arg;
use crate::server::call::error::{Error, quoted};
use std::ffi::c_int;
use std::ptr::null_mut;

/// The user of a client, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(Box<[u8]>);

impl Call<'_> {
    /// Whether the client has a user. That of a call of another module's may have
    /// none.
    pub(in crate::server) fn has_user(&self) -> bool {
        self.user_name().is_some()
    }

    /// The client's user; `None` for one that the server's list of users does not
    /// have, such as one that another module made up, whose rights nobody can change
    /// by name.
    pub fn user(&self) -> Option<User> {
        self.user_name().map(User).filter(User::is_listed)
    }

    fn user_name(&self) -> Option<Box<[u8]>> {
        // SAFETY: the context of the running command; the string is freed once, after
        // its last use. Servers differ in how they are asked for the name of no user:
        // later ones have none, and earlier ones crash, but list only clients that
        // are connected and so have one. Without a place to write what is known of
        // the client, it is only asked whether it is listed.
        unsafe {
            let id = api!(RedisModule_GetClientId(self.context()));
            if api!(RedisModule_GetClientInfoById(null_mut(), id)) != REDISMODULE_OK as c_int {
                return None;
            }
            let name = api!(RedisModule_GetCurrentUserName(self.context()));
            if name.is_null() {
                return None;
            }
            let bytes = Arg::from_raw(name).bytes().into();
            api!(RedisModule_FreeString(null_mut(), name));
            Some(bytes)
        }
    }
}

impl User {
    /// How many bytes are kept of it.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    fn is_listed(&self) -> bool {
        self.with(|user, _| !user.is_null())
    }

    /// Whether the user may call a command with these arguments in a database, its
    /// name first, of which the one at `key_at` is the key that it reads; otherwise the
    /// error that the server would answer.
    pub fn may(
        &self,
        _lock: &Lock,
        db: i32,
        command: &[&[u8]],
        key_at: usize,
    ) -> Result<(), Error> {
        let strings: Vec<_> = command.iter().map(|word| ServerString::new(word)).collect();
        let mut argv: Vec<_> = strings.iter().map(|string| string.0).collect();
        self.with(|user, _| {
            if user.is_null() {
                return Err(Error::NoPermission("User is no longer there".to_owned()));
            }
            let (ok, count) = (REDISMODULE_OK as c_int, argv.len() as c_int);
            let mut reason = 0;
            // SAFETY: the user and the strings are valid here, and so is where the
            // reason is written.
            let (may_call, may_read) = unsafe {
                let argv = argv.as_mut_ptr();
                let call = match acl_check_permissions() {
                    Some(check) => check(user, argv, count, db, &raw mut reason),
                    None => api!(RedisModule_ACLCheckCommandPermissions(user, argv, count)),
                };
                let read = strings.get(key_at).map(|key| {
                    let access = REDISMODULE_CMD_KEY_ACCESS as c_int;
                    api!(RedisModule_ACLCheckKeyPermissions(user, key.0, access))
                });
                (call == ok, read.is_none_or(|read| read == ok))
            };
            match (may_call, may_read) {
                (true, _) => Ok(()),
                (false, _) if reason == ACL_LOG_DB => {
                    Err(Error::NoPermission("No permissions to access database".to_owned()))
                }
                (false, false) => {
                    Err(Error::NoPermission("No permissions to access a key".to_owned()))
                }
                (false, true) => {
                    let Some(name) = command.first() else { bug("a call of no command") };
                    let name = name.to_ascii_lowercase();
                    let (user, name) = (quoted(&self.0), quoted(&name));
                    let user = user.trim_matches('\'');
                    Err(Error::NoPermission(format!(
                        "User {user} has no permissions to run the {name} command"
                    )))
                }
            }
        })
    }

    /// Looks the user up: null where there is none.
    fn with<R>(&self, work: impl FnOnce(*mut RedisModuleUser, &ServerString) -> R) -> R {
        let name = ServerString::new(&self.0);
        // SAFETY: the name is valid; what is looked up is freed once, after its
        // last use.
        unsafe {
            let user = api!(RedisModule_GetModuleUserFromUserName(name.0));
            let result = work(user, &name);
            if !user.is_null() {
                api!(RedisModule_FreeModuleUser(user));
            }
            result
        }
    }
}

/// A string of the server's, freed when dropped.
pub(in crate::server) struct ServerString(pub(in crate::server) *mut RedisModuleString);

impl ServerString {
    pub(in crate::server) fn new(bytes: &[u8]) -> Self {
        // SAFETY: the server copies so many bytes; no context owns the string.
        Self(unsafe {
            api!(RedisModule_CreateString(null_mut(), bytes.as_ptr().cast(), bytes.len()))
        })
    }
}

impl Drop for ServerString {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { api!(RedisModule_FreeString(null_mut(), self.0)) };
    }
}
