//! The guard around every entry point. A panic that reaches C ends the server
//! and with it everybody's data; here it is caught, logged, and answered.

use super::callback::Callback;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

/// Runs the body of an entry point; `None` when it panicked, which the log then
/// tells. The state a panic leaves behind is whole: bodies validate, then
/// decide, then write.
pub fn guard<R>(entry: Callback, body: impl FnOnce() -> R) -> Option<R> {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(debug_assertions)]
        super::faults::panic_if_armed(entry);
        body()
    }));
    match caught {
        Ok(value) => Some(value),
        Err(payload) => {
            // Dropping a payload may panic too; a few leaked bytes may not.
            std::mem::forget(payload);
            log(&format!("a panic in {} was caught", entry.name()));
            None
        }
    }
}

/// Sends what a panic says, and where it stood, to the server's log.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log(&panic.to_string())));
}

/// A line in the server's log, at the level of a warning.
pub fn log(line: &str) {
    let line: Vec<u8> = line.bytes().filter(|byte| *byte != 0).collect();
    let Ok(line) = CString::new(line) else { return };
    if offers!(RedisModule_Log) {
        // SAFETY: the format takes one C string, which outlives the call; the
        // server allows a null context here.
        unsafe {
            api!(RedisModule_Log(
                null_mut(),
                c"warning".as_ptr(),
                c"<ml> %s".as_ptr(),
                line.as_ptr()
            ));
        }
    }
}
