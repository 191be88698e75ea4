//! The module's commands, from its own table: a command that is added there and
//! lacks a line in one of the lists of the tests fails them.

use std::collections::BTreeSet;

/// The commands as the module registers them.
pub fn all() -> impl Iterator<Item = &'static mlserve::server::Command> {
    mlserve::MODULE.commands.iter().copied().flatten()
}

/// The name of a command.
pub fn name(command: &mlserve::server::Command) -> &'static str {
    command.name.to_str().unwrap()
}

/// The names of all of them.
pub fn names() -> Vec<&'static str> {
    all().map(name).collect()
}

/// The names of those that name keys.
pub fn keyed() -> Vec<&'static str> {
    all().filter(|command| command.keys.is_some()).map(name).collect()
}

/// Whether a command is the module's own, for replicas and the AOF.
pub fn is_internal(command: &mlserve::server::Command) -> bool {
    has_flag(command, "admin") && name(command).starts_with("ML.APPLY")
        || name(command).starts_with("ML.LOAD")
}

/// The flags that a command is registered with, as the server tells them.
pub fn flags(command: &mlserve::server::Command) -> Vec<&'static str> {
    let told = |flag| if flag == "deny-oom" { "denyoom" } else { flag };
    command.flags.to_str().unwrap().split(' ').map(told).collect()
}

/// Whether a command has a flag.
pub fn has_flag(command: &mlserve::server::Command, flag: &str) -> bool {
    flags(command).contains(&flag)
}

/// Fails unless the calls, each with its command's name in front, are of all of
/// these commands; calls of the server's own commands may be among them.
#[track_caller]
pub fn assert_calls_of_all<'a>(
    what: &str,
    commands: Vec<&'static str>,
    calls: impl IntoIterator<Item = &'a str>,
) {
    let called = calls.into_iter().map(|call| call.split(' ').next().unwrap().to_uppercase());
    let called: BTreeSet<_> = called.filter(|name| name.starts_with("ML.")).collect();
    let expected: BTreeSet<_> = commands.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = expected.difference(&called).collect();
    assert!(missing.is_empty(), "{what} lacks {missing:?}");
    let known = names();
    let unknown: Vec<_> =
        called.iter().filter(|name| *name != "ML.DEBUG" && !known.contains(&&name[..])).collect();
    assert!(unknown.is_empty(), "{what} has what is no command: {unknown:?}");
}
