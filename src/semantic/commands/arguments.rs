//! The arguments that several commands take: what COMMAND DOCS says of them, and their
//! parsers.

use crate::semantic::table::MILLION;
use crate::semantic::vector::Unit;
use crate::server::{Arg, Argument, Error, refuse};

/// A key.
pub const KEY: Argument = Argument::key(c"key");

/// A version.
pub const VERSION: Argument = Argument::string(c"version");

/// A vector.
pub const VECTOR: Argument = Argument::string(c"vector");

/// An id.
pub const ID: Argument = Argument::string(c"id");

/// What made the vector.
pub const EMBEDDER: Argument = Argument::string(c"name").after(c"EMBEDDER");

/// What a question is told by.
pub const DIGEST: Argument = Argument::string(c"bytes").after(c"DIGEST");

/// A version.
pub fn version(version: Arg<'_>) -> Result<&[u8], Error> {
    version.sized("version", 1..=255)
}

/// What made a vector.
pub fn embedder(name: Arg<'_>) -> Result<&[u8], Error> {
    name.sized("EMBEDDER", 1..=255)
}

/// What a question is told by.
pub fn digest(digest: Arg<'_>) -> Result<&[u8], Error> {
    digest.sized("DIGEST", 1..=64)
}

/// A vector.
pub fn vector(vector: Arg) -> Result<Unit, Error> {
    Unit::read(vector.bytes()).map_err(|unfit| refuse(unfit.to_string()))
}

/// A similarity, in millionths; otherwise an error that names `what`.
pub fn similarity(value: Arg, what: &str) -> Result<u32, Error> {
    let millionths = value.decimal(0..=MILLION.into()).ok_or_else(|| {
        refuse(format!("{what} must be a cosine from 0 to 1, with at most six decimals"))
    })?;
    Ok(millionths as u32)
}
