//! What renews and ends a lease, the same in every domain: of a key whose value is a `T`.

use super::arguments::{TOKEN, lease_ms, token};
use super::{Domain, settle, with};
use crate::server::{
    Args, Argument, Call, Command, Config, DataType, Error, KeyAccess, KeySpec, handler, monotonic,
};
use crate::time::{MICROS_PER_MILLI, Millis};
use std::ffi::CStr;

const KEY: Argument = Argument::key(c"key");

const RENEW: &[Argument] = &[KEY, TOKEN, Argument::integer(c"milliseconds")];

const RELEASE: &[Argument] =
    &[KEY, TOKEN, Argument::integer(c"milliseconds").after(c"BACKOFF").optional()];

/// The command that has the time of a lease start anew.
pub const fn renew<D: Domain, T: DataType>(name: &'static CStr) -> Command {
    Command {
        name,
        run: handler(renew_lease::<D, T>),
        flags: c"write fast",
        categories: c"write fast",
        arity: 4,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: RENEW,
        summary: c"Has the time of a lease start anew.",
        complexity: c"O(log(N)) where N is the number of open leases.",
        since: c"0.1.0",
    }
}

/// `key token ms`
fn renew_lease<D: Domain, T: DataType>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let token = token(call.args.arg()?);
    let lease_us =
        lease_ms(call.args.arg()?, "milliseconds", D::MAX_LEASE)?.saturating_mul(MICROS_PER_MILLI);
    let lock = call.lock();
    call.keys.read(key).value_ref::<T>()?;
    let renewed = token.is_some_and(|token| {
        let (db, now) = (call.db(), monotonic());
        with::<D, _>(&lock, |flights| flights.renew(db, key.bytes(), token, lease_us, now))
    });
    settle::<D>(&lock);
    call.reply.integer(renewed.into());
    Ok(())
}

/// The command that gives a lease up.
pub const fn release<D: Domain, T: DataType>(name: &'static CStr) -> Command {
    Command {
        name,
        run: handler(release_lease::<D, T>),
        flags: c"write fast",
        categories: c"write fast",
        arity: -3,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: RELEASE,
        summary: c"Gives a lease up, without an answer.",
        complexity:
            c"O(log(N)+M) where N is the number of open leases, and M that of callers that wait.",
        since: c"0.1.0",
    }
}

/// `[BACKOFF ms]`
fn back_off(args: &mut Args, most: &Config) -> Result<Option<Millis>, Error> {
    let mut options = args.options();
    let mut back_off_ms = None;
    while options.next(&["BACKOFF"])?.is_some() {
        back_off_ms = Some(lease_ms(options.value()?, "BACKOFF", most)?);
    }
    Ok(back_off_ms)
}

/// `key token [BACKOFF ms]`
fn release_lease<D: Domain, T: DataType>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let token = token(call.args.arg()?);
    let back_off_ms = back_off(&mut call.args, D::MAX_LEASE)?;
    let lock = call.lock();
    call.keys.read(key).value_ref::<T>()?;
    let released = token.is_some_and(|token| {
        let back_off_us = back_off_ms.map(|ms| ms.saturating_mul(MICROS_PER_MILLI));
        let (db, now) = (call.db(), monotonic());
        with::<D, _>(&lock, |flights| flights.release(db, key.bytes(), token, back_off_us, now))
    });
    settle::<D>(&lock);
    call.reply.integer(released.into());
    Ok(())
}
