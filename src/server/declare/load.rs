//! The command that a data type is loaded by from an AOF: `key payload`.
//!
//! A rewrite without RDB preamble emits it for each key of the type, with the
//! payload that an RDB file would hold, and leaves the key's expiry to the
//! server. A value that is saved in parts is loaded by a command for each: those after
//! the first add to what the key holds.

use super::argument::Argument;
use super::command::{Command, handler};
use super::datatype::{DataType, decode};
use crate::server::call::error::{Error, refuse};
use crate::server::call::{Call, Lives};

/// The command of `T`, for the domain's table.
pub const fn load_command<T: DataType>() -> Command {
    Command::internal(
        T::LOAD,
        handler(load::<T>),
        const { &[Argument::key(c"key"), Argument::string(c"payload")] },
        c"Internal: puts a saved value into a key, for the AOF.",
        c"O(N) where N is the length of the payload.",
    )
}

fn load<T: DataType>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let payload = call.args.arg()?;
    let wrong = || refuse(format!("payload is not one of {}", T::NAME.to_string_lossy()));
    let mut open = call.keys.write(key);
    if T::IN_PARTS
        && let Some(inner) = open.inner::<T>()?
    {
        T::extend(inner, payload.bytes()).ok_or_else(wrong)?;
    } else {
        let value = decode::<T>(payload.bytes()).ok_or_else(wrong)?;
        open.value_ref::<T>()?;
        open.set(value)?;
    }
    open.commit(Lives::AsBefore, c"ml.load", T::LOAD, || payload.bytes());
    call.reply.ok();
    Ok(())
}
