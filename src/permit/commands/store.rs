//! What commands of this domain do alike: change the permits in a key.

use crate::bounds::MAX_TTL_MS;
use crate::id::Id;
use crate::permit::change::{Change, Step};
use crate::permit::codec;
use crate::permit::datatype::APPLY;
use crate::permit::permits::Permits;
use crate::server::{Arg, Call, Error, Lives, WriteKey};
use crate::time::Millis;

/// How long a permit lasts.
pub fn ttl(ttl_ms: Arg) -> Result<Millis, Error> {
    Ok(ttl_ms.integer("ttl_ms", 1..=MAX_TTL_MS.cast_signed())?.cast_unsigned())
}

/// Makes a change to the permits in a key, which lives as long as one of them.
pub fn commit(mut open: WriteKey, change: &Change) -> Result<(), Error> {
    let expires_at_ms = match open.value::<Permits>()? {
        Some(permits) => {
            permits.apply(change);
            permits.expires_at_ms()
        }
        None => {
            let mut permits = Permits::default();
            permits.apply(change);
            let expires_at_ms = permits.expires_at_ms();
            open.set(Box::new(permits))?;
            expires_at_ms
        }
    };
    let lives = expires_at_ms.map_or(Lives::Gone, Lives::Until);
    open.commit(lives, c"ml.permit", APPLY, || {
        let mut payload = Vec::with_capacity(64);
        codec::encode_change(change, &mut payload);
        payload
    });
    Ok(())
}

/// Takes a step with a permit that is open: whether it was.
pub fn step<'a>(
    call: &mut Call<'a>,
    key: Arg<'a>,
    id: Option<Id>,
    step: impl FnOnce(Id) -> Step,
) -> Result<bool, Error> {
    let now_us = call.now();
    let mut open = call.keys.write(key);
    let permits = open.value::<Permits>()?;
    let found = permits.zip(id).filter(|(permits, id)| permits.is_open(*id, now_us));
    let Some((_, id)) = found else { return Ok(false) };
    commit(open, &Change { now_us, step: step(id) })?;
    Ok(true)
}
