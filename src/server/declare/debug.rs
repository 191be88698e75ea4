//! `ML.DEBUG`, in debug builds only: tests stop the clock, hold threads back and inject panics.
//!
//! ```text
//! ML.DEBUG PANIC entry | ENTRIES
//! ML.DEBUG FAULT nothing | effects | leak | answer | threads
//! ML.DEBUG CLOCK microseconds | REAL
//! ML.DEBUG EFFECTS WANTED
//! ML.DEBUG WORK DONE
//! ML.DEBUG THREADS HOLD | GO
//! ```

use super::argument::Argument;
use super::command::{Command, handler};
use crate::server::border::callback::Callback;
use crate::server::border::faults::{Fault, arm, freeze_clock, hold_back, plant};
use crate::server::call::Call;
use crate::server::call::error::{Error, refuse};
use crate::server::runtime::propagation::effects_are_wanted;

pub const COMMAND: Command = Command {
    name: c"ML.DEBUG",
    run: handler(debug),
    flags: c"admin",
    categories: c"admin dangerous",
    arity: 3,
    keys: None,
    arguments: &[
        Argument::one_of(
            c"subcommand",
            &[
                Argument::token(c"panic", c"PANIC"),
                Argument::token(c"fault", c"FAULT"),
                Argument::token(c"clock", c"CLOCK"),
                Argument::token(c"effects", c"EFFECTS"),
                Argument::token(c"work", c"WORK"),
                Argument::token(c"threads", c"THREADS"),
            ],
        ),
        Argument::string(c"value"),
    ],
    summary:
        c"Injects a panic, freezes the clock, holds threads back, or tells a secret, for tests. Debug builds only.",
    complexity: c"O(1)",
    since: c"0.1.0",
};

fn debug(call: &mut Call) -> Result<(), Error> {
    let mut options = call.args.options();
    match options.next(&["PANIC", "FAULT", "CLOCK", "EFFECTS", "WORK", "THREADS"])? {
        Some("EFFECTS") => {
            call.reply.integer(effects_are_wanted().into());
            return Ok(());
        }
        Some("WORK") => {
            let work = crate::server::border::work::take();
            call.reply.array(4);
            match work.edges {
                Some(edges) => call.reply.integer(edges.cast_signed()),
                None => call.reply.null(),
            }
            call.reply.integer(work.allocated.cast_signed());
            call.reply.integer(work.most.cast_signed());
            call.reply.integer(work.held);
            return Ok(());
        }
        Some("THREADS") => hold_back(options.value()?.is(b"HOLD")),
        Some("FAULT") => {
            let name = options.value()?;
            let fault = Fault::ALL
                .iter()
                .find(|fault| name.is(fault.name().to_ascii_uppercase().as_bytes()))
                .ok_or_else(|| refuse("no such fault"))?;
            plant(*fault);
        }
        Some("PANIC") => {
            let name = options.value()?;
            if name.is(b"ENTRIES") {
                call.reply.array(Callback::ALL.len());
                Callback::ALL.iter().for_each(|entry| call.reply.bytes(entry.name().as_bytes()));
                return Ok(());
            }
            let entry = Callback::ALL
                .iter()
                .find(|entry| name.is(entry.name().to_ascii_uppercase().as_bytes()))
                .ok_or_else(|| refuse("no such entry point; see ML.DEBUG PANIC ENTRIES"))?;
            arm(*entry);
        }
        _ => {
            let time = options.value()?;
            freeze_clock(if time.is(b"REAL") {
                None
            } else {
                Some(time.integer("CLOCK", 0..=i64::MAX)?.cast_unsigned())
            });
        }
    }
    call.reply.ok();
    Ok(())
}
