//! The command that a data type is loaded by from an AOF: `key payload`.
//!
//! A rewrite without RDB preamble emits it for each key of the type, with the
//! payload that an RDB file would hold, and leaves the key's expiry to the
//! server.

use super::command::{Argument, Call, Command, handler};
use super::datatype::{DataType, decode};
use super::error::{Error, refuse};

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
    let value = decode::<T>(payload.bytes())
        .ok_or_else(|| refuse(format!("payload is not one of {}", T::NAME.to_string_lossy())))?;
    let mut open = call.write(key);
    open.kept::<T>()?;
    open.set(value)?;
    open.changed(c"ml.load");
    drop(open);
    call.replicate(T::LOAD, key, payload.bytes(), None);
    call.reply.ok();
    Ok(())
}
