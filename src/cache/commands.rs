//! The commands: parse → decide → replicate → reply.

use super::codec::{self, Change, MAX_TIME_MS};
use super::datatype::APPLY;
use super::entry::{Answer, Entry, MAX_VERSION_BYTES, MAX_VERSIONS};
use crate::metrics::Counter;
use crate::server::{
    Arg, Argument, Call, Command, Config, Error, KeyAccess, Keys, Options, Section, TypeSpec,
    WriteKey, handler, load_command, refuse,
};
use crate::time::{MICROS_PER_MILLI, MILLIS_PER_SECOND, Millis};
use std::ffi::CStr;

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Entry>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    Command {
        name: c"ML.CACHEGET",
        run: handler(get),
        flags: c"readonly fast",
        categories: c"read fast",
        arity: 3,
        keys: Some(Keys::one(1, KeyAccess::Read)),
        arguments: &[Argument::key(c"key"), Argument::string(c"version")],
        summary: c"Returns the answer that a version of the model gave, unless it has expired.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHESET",
        run: handler(set),
        flags: c"write deny-oom fast",
        categories: c"write fast",
        arity: -4,
        keys: Some(Keys::one(1, KeyAccess::Write)),
        arguments: &[
            Argument::key(c"key"),
            Argument::string(c"version"),
            Argument::string(c"value"),
            Argument::one_of(
                c"expiration",
                &[
                    Argument::integer(c"seconds").after(c"EX"),
                    Argument::integer(c"milliseconds").after(c"PX"),
                    Argument::unix_time(c"unix-time-seconds").after(c"EXAT"),
                    Argument::unix_time(c"unix-time-milliseconds").after(c"PXAT"),
                ],
            )
            .optional(),
        ],
        summary: c"Keeps the answer that a version of the model gave.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command::internal(
        APPLY,
        handler(apply),
        &[Argument::key(c"key"), Argument::string(c"change"), Argument::string(c"value")],
        c"Internal: puts an answer into a key, for replicas and the AOF.",
        c"O(1)",
    ),
    load_command::<Entry>(),
];

static TTL: Config = Config::number(c"cache-ttl", 3600, 1, 100 * 366 * 86_400);
static VERSIONS: Config = Config::number(c"cache-versions-per-key", 2, 1, MAX_VERSIONS as i64);
static MAX_VALUE_BYTES: Config = Config::bytes(c"cache-max-value-bytes", 512 << 20, 1, 512 << 30);

/// The configs of this domain.
pub const CONFIGS: &[&Config] = &[&TTL, &VERSIONS, &MAX_VALUE_BYTES];

static HITS: Counter = Counter::new();
static MISSES: Counter = Counter::new();
static SETS: Counter = Counter::new();

/// The section of INFO.
pub const INFO: Section = Section {
    name: c"cache",
    fields: &[(c"cache_hits", &HITS), (c"cache_misses", &MISSES), (c"cache_sets", &SETS)],
};

/// ML.CACHEGET key version
fn get(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let key = call.read(key);
    match key.value::<Entry>()?.and_then(|entry| entry.get(version, now_ms)) {
        Some(value) => {
            HITS.increment();
            call.reply.bytes(value);
        }
        None => {
            MISSES.increment();
            call.reply.null();
        }
    }
    Ok(())
}

/// ML.CACHESET key version value [EX s | PX ms | EXAT s | PXAT ms]
fn set(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let value = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let expires_at_ms = expiry(call.args.options(), now_ms)?;
    let longest = MAX_VALUE_BYTES.get_unsigned();
    if value.bytes().len() as u64 > longest {
        return Err(refuse(format!(
            "value must be at most {longest} bytes long (ml.cache-max-value-bytes)"
        )));
    }

    let keep = usize::try_from(VERSIONS.get()).unwrap_or(1);
    let mut open = call.write(key);
    let outlived = open
        .value::<Entry>()?
        .map(|entry| entry.outlived(version, keep, now_ms))
        .unwrap_or_default();
    let dropped = outlived.iter().map(AsRef::as_ref).collect();
    let change = Change { version, expires_at_ms, dropped };
    store(&mut open, &change, value)?;
    drop(open);

    let mut payload = Vec::new();
    codec::encode_change(&change, &mut payload);
    call.replicate(APPLY, key, &payload, Some(value));
    SETS.increment();
    call.reply.ok();
    Ok(())
}

/// ML.APPLYCACHE key change value
fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let payload = call.args.arg()?;
    let value = call.args.arg()?;
    let change = codec::decode_change(payload.bytes())
        .ok_or_else(|| refuse("change is not a change of a cache entry"))?;
    store(&mut call.write(key), &change, value)?;
    call.replicate(APPLY, key, payload.bytes(), Some(value));
    call.reply.ok();
    Ok(())
}

/// Puts the answer into the key, which lives as long as one of its answers.
fn store(key: &mut WriteKey, change: &Change, value: Arg) -> Result<(), Error> {
    const EVENT: &CStr = c"ml.cacheset";
    let answer = Answer::new(change.version, value.bytes(), change.expires_at_ms)
        .ok_or_else(|| refuse("not enough memory for value"))?;
    let full = || refuse(format!("the entry holds {MAX_VERSIONS} versions already"));
    let expires_at_ms = match key.value::<Entry>()? {
        Some(entry) => {
            entry.put(answer, &change.dropped).ok_or_else(full)?;
            entry.expires_at_ms()
        }
        None => {
            let mut entry = Entry::default();
            entry.put(answer, &change.dropped).ok_or_else(full)?;
            key.set(entry)?;
            change.expires_at_ms
        }
    };
    key.expire_at(expires_at_ms);
    key.changed(EVENT);
    Ok(())
}

fn version(version: Arg<'_>) -> Result<&[u8], Error> {
    version.sized("version", 1..=MAX_VERSION_BYTES)
}

/// When an answer written now expires: as its options say, else as
/// `ml.cache-ttl` does.
fn expiry(mut options: Options, now_ms: Millis) -> Result<Millis, Error> {
    const EXPIRIES: &[&str] = &["EX", "PX", "EXAT", "PXAT"];
    let mut expires_at_ms = now_ms.saturating_add(TTL.get_unsigned() * MILLIS_PER_SECOND);
    while let Some(option) = options.next(EXPIRIES)? {
        options.excludes(EXPIRIES, EXPIRIES)?;
        let (unit, from) = match option {
            "EX" => (MILLIS_PER_SECOND, now_ms),
            "PX" => (1, now_ms),
            "EXAT" => (MILLIS_PER_SECOND, 0),
            _ => (1, 0),
        };
        // The largest value whose moment the server can still count.
        let most = MAX_TIME_MS.saturating_sub(from) / unit;
        let count = options.integer(1..=most.cast_signed())?.cast_unsigned();
        expires_at_ms = count.saturating_mul(unit).saturating_add(from);
    }
    Ok(expires_at_ms)
}
