//! The commands: parse → decide → replicate → reply.

use super::codec;
use super::datatype::APPLY;
use super::permits::{Change, Full, HELD, MAX_PERMITS, Outcome, Permits, Request, Step};
use crate::bounds::{MAX_AMOUNT, MAX_TTL_MS};
use crate::id::Id;
use crate::metrics::Counter;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Reply, Section, TypeSpec,
    WriteKey, handler, load_command, new_id, refuse,
};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use std::ffi::CStr;

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Box<Permits>>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    Command {
        name: c"ML.PERMITACQUIRE",
        run: handler(acquire),
        flags: c"write deny-oom fast",
        categories: c"write fast",
        arity: -4,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: &[
            Argument::key(c"key"),
            Argument::integer(c"max"),
            Argument::integer(c"ttl_ms"),
            Argument::integer(c"cost").after(c"COST").optional(),
        ],
        summary: c"Grants a permit if it fits under a maximum, and says how long to wait if not.",
        complexity:
            c"O(log(N)) where N is the number of permits, plus those expired or waited for.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.PERMITRENEW",
        run: handler(renew),
        flags: c"write",
        categories: c"write",
        arity: 4,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: &[Argument::key(c"key"), Argument::string(c"id"), Argument::integer(c"ttl_ms")],
        summary: c"Has the time of a permit start anew, unless it has expired.",
        complexity: c"O(N) where N is the number of permits.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.PERMITRELEASE",
        run: handler(release),
        flags: c"write",
        categories: c"write",
        arity: 3,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: &[Argument::key(c"key"), Argument::string(c"id")],
        summary: c"Gives a permit back, unless it has expired.",
        complexity: c"O(N) where N is the number of permits.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.PERMITINFO",
        run: handler(info),
        flags: c"readonly",
        categories: c"read",
        arity: 2,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: &[Argument::key(c"key")],
        summary: c"Returns what is in use, and the permits that are open.",
        complexity: c"O(N) where N is the number of permits.",
        since: c"0.1.0",
    },
    Command::internal(
        APPLY,
        handler(apply),
        &[Argument::key(c"key"), Argument::string(c"change")],
        c"Internal: changes the permits of a key, for replicas and the AOF.",
        c"O(N) where N is the number of permits.",
    ),
    load_command::<Box<Permits>>(),
];

static GRANTED: Counter = Counter::new();
static DENIED: Counter = Counter::new();
static RENEWED: Counter = Counter::new();
static RELEASED: Counter = Counter::new();

/// The section of INFO.
pub const INFO: Section = Section {
    name: c"permit",
    fields: &[
        (c"permit_granted", &GRANTED),
        (c"permit_denied", &DENIED),
        (c"permit_renewed", &RENEWED),
        (c"permit_released", &RELEASED),
        (c"permit_held", &HELD),
    ],
};

/// ML.PERMITACQUIRE key max ttl_ms [COST n]
fn acquire(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let request = request(&mut call.args)?;
    let now_us = call.now();
    let mut open = call.write(key);
    let none = Permits::default();
    let permits = open.value::<Permits>()?.map_or(&none, |permits| permits);
    let outcome = permits
        .decide(&request, now_us, new_id)
        .map_err(|Full| refuse(format!("the key holds {MAX_PERMITS} permits already")))?;
    if let Some(change) = &outcome.change {
        store(&mut open, change)?;
    }
    drop(open);
    if let Some(change) = &outcome.change {
        replicate(call, key, change);
    }
    let counter = if outcome.id.is_some() { &GRANTED } else { &DENIED };
    counter.increment();
    answer(call.reply, &request, &outcome);
    Ok(())
}

fn request(args: &mut Args) -> Result<Request, Error> {
    let max = args.arg()?.integer("max", 0..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
    let ttl_ms = ttl(args.arg()?)?;
    let mut request = Request { max, cost: 1, ttl_ms };
    let mut options = args.options();
    while options.next(&["COST"])?.is_some() {
        request.cost = options.integer(1..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
    }
    Ok(request)
}

fn ttl(ttl_ms: Arg) -> Result<Millis, Error> {
    Ok(ttl_ms.integer("ttl_ms", 1..=MAX_TTL_MS.cast_signed())?.cast_unsigned())
}

/// `[granted, max, in_use, retry_after_ms, id|nil]`; the wait rounds up, and
/// one without end is −1.
fn answer(reply: Reply, request: &Request, outcome: &Outcome) {
    reply.array(5);
    let granted = if outcome.id.is_some() { request.cost } else { 0 };
    for amount in [granted, request.max, outcome.in_use] {
        reply.integer(amount.cast_signed());
    }
    reply.integer(outcome.retry_after_us.map_or(-1, millis));
    match outcome.id {
        Some(id) => reply.bytes(&id.text()),
        None => reply.null(),
    }
}

fn millis(micros: Micros) -> i64 {
    micros.div_ceil(MICROS_PER_MILLI).cast_signed()
}

/// ML.PERMITRENEW key id ttl_ms
fn renew(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = Id::parse(call.args.arg()?.bytes());
    let ttl_ms = ttl(call.args.arg()?)?;
    change(call, key, id, &RENEWED, |id| Step::Renew { id, ttl_ms })
}

/// ML.PERMITRELEASE key id
fn release(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = Id::parse(call.args.arg()?.bytes());
    change(call, key, id, &RELEASED, |id| Step::Release { id })
}

/// Takes a step with a permit that is open, and answers whether it was.
fn change<'a>(
    call: &mut Call<'a>,
    key: Arg<'a>,
    id: Option<Id>,
    counter: &Counter,
    step: impl FnOnce(Id) -> Step,
) -> Result<(), Error> {
    let now_us = call.now();
    let mut open = call.write(key);
    let permits = open.value::<Permits>()?;
    let found = permits.zip(id).filter(|(permits, id)| permits.is_open(*id, now_us));
    let Some((_, id)) = found else {
        drop(open);
        call.reply.integer(0);
        return Ok(());
    };
    let change = Change { now_us, step: step(id) };
    store(&mut open, &change)?;
    drop(open);
    replicate(call, key, &change);
    counter.increment();
    call.reply.integer(1);
    Ok(())
}

/// ML.PERMITINFO key
fn info(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_us = call.now();
    let key = call.read(key);
    let Some(permits) = key.value::<Permits>()?.map(|permits| permits.seen_at(now_us)) else {
        call.reply.null();
        return Ok(());
    };
    let open = permits.open(now_us);
    if open.len() == 0 {
        call.reply.null();
        return Ok(());
    }
    let field = |name: &str, value: i64| {
        call.reply.bytes(name.as_bytes());
        call.reply.integer(value);
    };
    call.reply.map(2);
    field("in_use", permits.in_use(now_us).cast_signed());
    call.reply.bytes(b"permits");
    call.reply.array(open.len());
    for permit in open {
        call.reply.map(3);
        call.reply.bytes(b"id");
        call.reply.bytes(&permit.id.text());
        field("cost", permit.cost.cast_signed());
        field("ttl_ms", millis(permit.expires_us().saturating_sub(now_us)));
    }
    Ok(())
}

/// ML.APPLYPERMIT key change
fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let payload = call.args.arg()?;
    let change = codec::decode_change(payload.bytes())
        .ok_or_else(|| refuse("change is not a change of permits"))?;
    let mut open = call.write(key);
    let none = Permits::default();
    if !open.value::<Permits>()?.map_or(&none, |permits| permits).takes(&change) {
        return Err(refuse("change is not one of the permits in the key"));
    }
    store(&mut open, &change)?;
    drop(open);
    call.replicate(APPLY, key, payload.bytes(), None);
    call.reply.ok();
    Ok(())
}

/// Changes the permits in the key, which lives as long as one of them.
fn store(key: &mut WriteKey, change: &Change) -> Result<(), Error> {
    const EVENT: &CStr = c"ml.permit";
    let expires_at_ms = match key.value::<Permits>()? {
        Some(permits) => {
            permits.apply(change);
            permits.expires_at_ms()
        }
        None => {
            let mut permits = Permits::default();
            permits.apply(change);
            let expires_at_ms = permits.expires_at_ms();
            key.set(Box::new(permits))?;
            expires_at_ms
        }
    };
    match expires_at_ms {
        Some(at_ms) => {
            key.expire_at_ms(at_ms);
            key.changed(EVENT);
        }
        None => {
            key.delete();
            key.deleted(EVENT);
        }
    }
    Ok(())
}

fn replicate(call: &Call, key: Arg, change: &Change) {
    let mut payload = Vec::new();
    codec::encode_change(change, &mut payload);
    call.replicate(APPLY, key, &payload, None);
}
