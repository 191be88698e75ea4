//! `INFO ml`: counters, a section a domain.

use crate::metrics::Metric;
use crate::server::border::callback::Callback;
use crate::server::border::guard::guard;
use crate::server::border::raw::{REDISMODULE_ERR, RedisModuleInfoCtx};
use std::ffi::{CStr, c_int};

/// A section of `INFO ml`.
pub struct Section {
    /// Its name; the server puts `ml_` in front.
    pub name: &'static CStr,
    /// Its fields.
    pub fields: &'static [(&'static CStr, &'static dyn Metric)],
}

/// Writes the sections that the client asked for.
///
/// # Safety
/// `info` is what the server passed to the module's info callback.
pub unsafe fn write(info: *mut RedisModuleInfoCtx, sections: &[&Section]) {
    guard(Callback::Info, || {
        for section in sections {
            // SAFETY: `info` is valid by the caller's promise, and the names
            // are C strings. The server answers ERR for a section that nobody
            // asked for.
            unsafe {
                let wanted = api!(RedisModule_InfoAddSection(info, section.name.as_ptr()));
                if wanted == REDISMODULE_ERR as c_int {
                    continue;
                }
                for (name, metric) in section.fields {
                    api!(RedisModule_InfoAddFieldULongLong(info, name.as_ptr(), metric.value()));
                }
            }
        }
    });
}
