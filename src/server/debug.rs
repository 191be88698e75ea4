//! `ML.DEBUG`, in debug builds only: tests stop the clock and inject panics.
//!
//!     ML.DEBUG PANIC entry | ENTRIES
//!     ML.DEBUG CLOCK microseconds | REAL

use super::command::{Argument, Call, Command, handler};
use super::error::{Error, refuse};
use super::guard::Entry;
use crate::time::Micros;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::Relaxed};

const REAL: i64 = -1;
const NOTHING: u8 = u8::MAX;

static CLOCK: AtomicI64 = AtomicI64::new(REAL);
static ARMED: AtomicU8 = AtomicU8::new(NOTHING);

/// The time a test has set, if it has.
pub fn frozen_clock() -> Option<Micros> {
    Micros::try_from(CLOCK.load(Relaxed)).ok()
}

/// Panics, once, if a test has asked for it in this kind of entry point.
#[allow(clippy::panic)]
pub fn panic_if_armed(entry: Entry) {
    let armed = ARMED.compare_exchange(entry as u8, NOTHING, Relaxed, Relaxed);
    if armed.is_ok() {
        panic!("injected panic in {}", entry.name());
    }
}

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
            &[Argument::token(c"panic", c"PANIC"), Argument::token(c"clock", c"CLOCK")],
        ),
        Argument::string(c"value"),
    ],
    summary: c"Injects a panic or freezes the clock, for tests. Debug builds only.",
    complexity: c"O(1)",
    since: c"0.1.0",
};

fn debug(call: &mut Call) -> Result<(), Error> {
    let mut options = call.args.options();
    match options.next(&["PANIC", "CLOCK"])? {
        Some("PANIC") => {
            let name = options.value()?;
            if name.is(b"ENTRIES") {
                call.reply.array(Entry::ALL.len());
                Entry::ALL.iter().for_each(|entry| call.reply.bytes(entry.name().as_bytes()));
                return Ok(());
            }
            let entry = Entry::ALL
                .iter()
                .find(|entry| name.is(entry.name().as_bytes()))
                .ok_or_else(|| refuse("no such entry point; see ML.DEBUG PANIC ENTRIES"))?;
            ARMED.store(*entry as u8, Relaxed);
        }
        _ => {
            let time =
                if options.value()?.is(b"REAL") { REAL } else { options.integer(0..=i64::MAX)? };
            CLOCK.store(time, Relaxed);
        }
    }
    call.reply.ok();
    Ok(())
}
