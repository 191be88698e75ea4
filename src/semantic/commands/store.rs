//! How entries change in a key: what the commands that write share, with what applies
//! their effects.

use crate::semantic::change::{Change, Put};
use crate::semantic::codec;
use crate::semantic::datatype::APPLY;
use crate::semantic::entry::Texts;
use crate::semantic::table::{Misfit, Table};
use crate::server::{Error, Lives, WriteKey, refuse};

/// The texts of an entry, not in a key yet.
pub fn texts(put: &Put) -> Result<Texts, Error> {
    Texts::new(put.value, put.prompt, put.digest)
        .ok_or_else(|| refuse("not enough memory for value"))
}

/// Refuses an entry that does not go with those that a key holds.
pub fn check(table: Option<&Table>, put: &Put) -> Result<(), Error> {
    let Some(table) = table else { return Ok(()) };
    let checked = table.check(put.code.dim(), put.embedder);
    checked.and_then(|()| table.check_version(put.version)).map_err(Misfit::refusal)
}

/// Commits a change of what a key holds, on the primary and on whatever follows it.
/// `texts` are those of what is put in, which was [checked](check).
pub fn commit(mut key: WriteKey, change: &Change, texts: Option<Texts>) -> Result<(), Error> {
    let lives = match key.value::<Table>()? {
        Some(table) => {
            let before = Lives::Until(table.until_ms());
            table.apply(change, texts);
            lives(table).moved_from(before)
        }
        None => {
            let mut table = Box::<Table>::default();
            table.apply(change, texts);
            let lives = lives(&table);
            key.set(table)?;
            lives
        }
    };
    let event = match change {
        Change { put: Some(_), .. } => c"ml.semset",
        Change { threshold: Some(_), .. } => c"ml.semthreshold",
        Change { alias: Some(_), .. } => c"ml.semalias",
        _ => c"ml.semdrop",
    };
    let effect = || {
        let mut payload = Vec::new();
        codec::encode_change(change, &mut payload);
        payload
    };
    key.commit(lives, event, APPLY, effect);
    Ok(())
}

fn lives(table: &Table) -> Lives {
    if table.is_empty() { Lives::Gone } else { Lives::Until(table.until_ms()) }
}
