//! Random rows, types and values, written in every way and read by every path,
//! beside a model of what they must hold.

use crate::support::{Answer, Client, Random, Server, call};
use redis::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// A value, as the model holds it.
#[derive(Clone, Debug)]
enum Held {
    Text(Vec<u8>),
    /// Written as one: a string in JSON whatever it says.
    String(Vec<u8>),
    Integer(i64),
    Single(f32),
    Double(f64),
}

/// A view: its event time, when it expires, its fields.
#[derive(Clone, Debug, Default)]
struct View {
    at_ms: u64,
    expires_at_ms: Option<u64>,
    fields: BTreeMap<String, Held>,
}

type Row = BTreeMap<String, View>;

#[derive(Default)]
struct Model {
    rows: BTreeMap<String, Row>,
    now_ms: u64,
}

const KEYS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];
const VIEWS: [&str; 3] = ["", "v", "w"];
const FIELDS: [&str; 7] = ["a", "b", "c", "v:a", "w:b:c", "", "b:c"];

impl Model {
    fn forget(&mut self) {
        let now_ms = self.now_ms;
        for row in self.rows.values_mut() {
            row.retain(|_, view| {
                view.expires_at_ms.is_none_or(|at_ms| now_ms < at_ms) && !view.fields.is_empty()
            });
        }
        self.rows.retain(|_, row| !row.is_empty());
    }

    /// Writes, and says whether it did.
    fn write(&mut self, key: &str, write: &Write, values: &[Held]) -> bool {
        self.forget();
        let now_ms = self.now_ms;
        let view = self.rows.entry(key.into()).or_default().entry(write.view.into()).or_default();
        let at_ms = write.at_ms.unwrap_or(now_ms.max(view.at_ms));
        let written = at_ms >= view.at_ms;
        if written {
            view.at_ms = at_ms;
            view.expires_at_ms = write.expires_at_ms.or(view.expires_at_ms);
            view.fields.extend(
                write.fields.iter().map(|name| name.to_string()).zip(values.iter().cloned()),
            );
        }
        self.forget();
        written
    }

    /// The view and the field that a name stands for.
    fn find(&self, key: &str, name: &str) -> Option<(String, String)> {
        let row = self.rows.get(key)?;
        let has = |view: &str, field: &str| {
            row.get(view).is_some_and(|view| view.fields.contains_key(field))
        };
        if has("", name) {
            return Some((String::new(), name.into()));
        }
        let (view, field) = name.split_once(':').filter(|(view, _)| !view.is_empty())?;
        has(view, field).then(|| (view.into(), field.into()))
    }

    /// What a name stands for, and how old it is.
    fn get(&self, key: &str, name: &str) -> Option<(&Held, u64)> {
        let (view, field) = self.find(key, name)?;
        let view = &self.rows[key][&view];
        Some((&view.fields[&field], self.now_ms.saturating_sub(view.at_ms)))
    }

    fn delete(&mut self, key: &str, names: &[&str]) -> usize {
        self.forget();
        // All are looked up before any is removed.
        let mut found: Vec<_> = names.iter().filter_map(|name| self.find(key, name)).collect();
        found.sort();
        found.dedup();
        for (view, field) in &found {
            let view = self.rows.get_mut(key).unwrap().get_mut(view).unwrap();
            view.fields.remove(field);
        }
        self.forget();
        found.len()
    }
}

/// What a call writes.
struct Write {
    view: &'static str,
    at_ms: Option<u64>,
    expires_at_ms: Option<u64>,
    fields: Vec<&'static str>,
    options: Vec<String>,
}

impl Write {
    fn random(random: &mut Random, now_ms: u64) -> Self {
        let view = VIEWS[random.below(3) as usize];
        let mut options = vec!["VIEW".to_owned(), view.to_owned()];
        let mut option = |name: &str, value: u64| options.extend([name.into(), value.to_string()]);
        let at_ms = match random.below(3) {
            0 => None,
            1 => Some(now_ms - random.below(50)),
            _ => Some(now_ms + random.below(50)),
        };
        at_ms.into_iter().for_each(|at_ms| option("AT", at_ms));
        let (ttl, long) = (1 + random.below(60), 1 + random.below(900));
        let expires_at_ms = match random.below(6) {
            0 => {
                option("PX", ttl);
                Some(now_ms + ttl)
            }
            1 => {
                option("EX", long);
                Some(now_ms + long * 1000)
            }
            2 if random.below(4) == 0 => {
                option("PXAT", now_ms - 1);
                Some(now_ms - 1)
            }
            3 => {
                option("PXAT", now_ms + ttl);
                Some(now_ms + ttl)
            }
            _ => None,
        };
        let mut fields = FIELDS.to_vec();
        for last in (1..fields.len()).rev() {
            fields.swap(last, random.below(last as u64 + 1) as usize);
        }
        fields.truncate(1 + random.below(4) as usize);
        Self { view, at_ms, expires_at_ms, fields, options }
    }
}

fn any_double(random: &mut Random) -> f64 {
    let edges = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX, 1e16];
    match random.below(3) {
        0 => edges[random.below(8) as usize],
        1 => random.below(1_000) as f64 / 8.0,
        // Of a signaling NaN the processor may make a quiet one.
        _ => Some(f64::from_bits(random.next())).filter(|any| !any.is_nan()).unwrap_or(f64::NAN),
    }
}

fn any_single(random: &mut Random) -> f32 {
    match random.below(2) {
        0 => any_double(random) as f32,
        _ => Some(f32::from_bits(random.next() as u32)).filter(|any| !any.is_nan()).unwrap_or(1.5),
    }
}

fn any_integer(random: &mut Random) -> i64 {
    let edges = [0, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, 1 << 31, -1];
    match random.below(3) {
        0 => edges[random.below(8) as usize],
        1 => random.below(2_000) as i64 - 1_000,
        _ => random.next() as i64,
    }
}

fn any_text(random: &mut Random) -> Vec<u8> {
    let edges = [
        "",
        "gold",
        "84.50",
        "007",
        "-0",
        "1e5",
        "1e400",
        "nan",
        "inf",
        "0x10",
        " 1",
        "1_000",
        ".5",
        "18446744073709551615",
        "é",
        "\"quoted\"\n",
        "9007199254740993",
        "-12.0",
        "+1",
    ];
    match random.below(3) {
        0 => edges[random.below(edges.len() as u64) as usize].into(),
        1 => any_double(random).to_string().into_bytes(),
        _ => vec![b'a' + random.below(26) as u8; random.below(300) as usize],
    }
}

/// The text that a number is written as: of doubles, as programs print them.
fn written(random: &mut Random, double: f64, shortest: String) -> String {
    match (double.is_nan(), random.below(2)) {
        (true, _) => "NaN".into(),
        (_, 0) => format!("{double:?}"),
        _ => shortest,
    }
}

/// A value of a type, with the text to write it as.
fn any(random: &mut Random, kind: &str) -> (Held, Vec<u8>) {
    match kind {
        "I64" => {
            let integer = any_integer(random);
            (Held::Integer(integer), integer.to_string().into())
        }
        "F32" => {
            let single = any_single(random);
            let text = if single.is_nan() { "nan".into() } else { format!("{single:?}") };
            (Held::Single(single), text.into())
        }
        "F64" => {
            let double = any_double(random);
            let text = written(random, double, double.to_string());
            (Held::Double(double), text.into())
        }
        "STRING" => {
            let text = any_text(random);
            (Held::String(text.clone()), text)
        }
        _ => {
            let text = any_text(random);
            (auto(&text), text)
        }
    }
}

/// The number that a text is exactly, as tensors read it: the oracle goes by the
/// grammar, spelled out.
fn number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let sound = match mantissa.split_once('.') {
        Some((whole, decimals)) => all_digits(whole) && all_digits(decimals),
        None => all_digits(mantissa),
    };
    let sound =
        sound && exponent.is_none_or(|text| all_digits(text.trim_start_matches(['+', '-'])));
    let number: f64 = sound.then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

impl Held {
    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Text(text) | Self::String(text) => number(text),
            Self::Integer(integer) => Some(*integer as f64),
            Self::Single(single) => Some((*single).into()),
            Self::Double(double) => Some(*double),
        }
    }

    fn as_f32(&self) -> Option<f32> {
        match self {
            Self::Integer(integer) => Some(*integer as f32),
            Self::Single(single) => Some(*single),
            Self::Text(text) | Self::String(text) => {
                number(text)?;
                let single: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
                Some(single).filter(|single| single.is_finite())
            }
            _ => {
                let double = self.as_f64()?;
                let single = double as f32;
                (single.is_finite() || !double.is_finite()).then_some(single)
            }
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Text(text) | Self::String(text)
                if text.iter().all(|byte| b"-0123456789".contains(byte)) =>
            {
                let integer: Result<i64, _> = std::str::from_utf8(text).unwrap().parse();
                integer.ok()
            }
            _ => {
                let double = self.as_f64()?;
                let whole = double.is_finite() && double == double.trunc();
                // i64::MAX itself is no double.
                let fits = double >= i64::MIN as f64 && double < i64::MAX as f64;
                (whole && fits).then_some(double as i64)
            }
        }
    }

    /// Whether an answer of RESP2 is this value: of numbers, a text that reads back
    /// as it.
    fn is_text(&self, answer: &[u8]) -> bool {
        let text = || std::str::from_utf8(answer).unwrap();
        match self {
            Self::Text(held) | Self::String(held) => held == answer,
            Self::Integer(integer) => integer.to_string().as_bytes() == answer,
            Self::Single(single) if single.is_nan() => answer == b"nan",
            Self::Double(double) if double.is_nan() => answer == b"nan",
            Self::Single(single) => text().parse::<f32>().unwrap().to_bits() == single.to_bits(),
            Self::Double(double) => text().parse::<f64>().unwrap().to_bits() == double.to_bits(),
        }
    }

    /// Whether an answer of RESP3 is.
    fn is_value(&self, answer: &Value) -> bool {
        let same = |one: f64, other: f64| {
            one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan()
        };
        match (self, answer) {
            (Self::Text(held) | Self::String(held), Value::BulkString(answer)) => held == answer,
            (Self::Integer(integer), Value::Int(answer)) => integer == answer,
            (Self::Single(single), Value::Double(answer)) => {
                // What a shortest text of it says.
                let is_short = answer.to_string().len() <= single.to_string().len();
                same((*answer as f32).into(), (*single).into()) && is_short
            }
            (Self::Double(double), Value::Double(answer)) => same(*double, *answer),
            _ => false,
        }
    }

    /// Whether a value of JSON, as it stands there, is this value.
    fn is_json(&self, answer: &str) -> bool {
        match self {
            // Digit for digit.
            Self::Text(text) if is_json_number(text) => answer.as_bytes() == text,
            Self::Text(text) | Self::String(text) => {
                serde_json::from_str::<String>(answer).is_ok_and(|read| read.as_bytes() == text)
            }
            Self::Single(single) if !single.is_finite() => answer == "null",
            Self::Double(double) if !double.is_finite() => answer == "null",
            number => is_json_number(answer.as_bytes()) && number.is_text(answer.as_bytes()),
        }
    }
}

fn is_json_number(text: &[u8]) -> bool {
    number(text).is_some() && serde_json::from_slice::<&RawValue>(text).is_ok()
}

/// Writes something at random, to server and model.
fn step(client: &mut Client, random: &mut Random, model: &mut Model) {
    let key = KEYS[random.below(5) as usize];
    match random.below(12) {
        0 => {
            model.now_ms += random.below(30);
            client.freeze(model.now_ms * 1000);
        }
        1 => {
            let names = [0; 3].map(|_| name(random));
            let removed = call!(client, "ML.FEATUREDEL", key, "FIELDS", 3, &names).integer();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            assert_eq!(removed as usize, model.delete(key, &names), "{key} {names:?}");
        }
        2 if random.below(3) == 0 => {
            let view = VIEWS[random.below(3) as usize];
            let removed = call!(client, "ML.FEATUREDEL", key, "VIEW", view).integer();
            model.forget();
            let held = model.rows.get_mut(key).and_then(|row| row.remove(view));
            assert_eq!(removed as usize, held.map_or(0, |view| view.fields.len()));
        }
        3..=6 => {
            let write = Write::random(random, model.now_ms);
            let kind = random.of(&["F32", "F64", "I64"]);
            let keys = [key, KEYS[random.below(5) as usize], KEYS[random.below(5) as usize]];
            let mut blob = Vec::new();
            let rows = keys.map(|_| {
                let values = write.fields.iter().map(|_| any(random, kind).0);
                values.collect::<Vec<_>>()
            });
            for value in rows.iter().flatten() {
                match value {
                    Held::Text(_) | Held::String(_) => unreachable!(),
                    Held::Integer(integer) => blob.extend(integer.to_le_bytes()),
                    Held::Single(single) => blob.extend(single.to_le_bytes()),
                    Held::Double(double) => blob.extend(double.to_le_bytes()),
                }
            }
            let fields = ("FIELDS", write.fields.len(), &write.fields);
            let written = call!(
                client,
                "ML.FEATUREMSET",
                3,
                &keys,
                blob,
                "TYPE",
                kind,
                fields,
                &write.options
            );
            let expected =
                keys.iter().zip(&rows).map(|(key, row)| i64::from(model.write(key, &write, row)));
            assert_eq!(written.integers(), expected.collect::<Vec<_>>(), "{:?}", write.options);
        }
        _ => {
            let write = Write::random(random, model.now_ms);
            let kind = random.of(&["AUTO", "F32", "F64", "I64", "STRING"]);
            let mut pairs: Vec<Vec<u8>> = Vec::new();
            let values = write.fields.iter().map(|field| {
                let (value, text) = any(random, kind);
                pairs.extend([field.as_bytes().to_vec(), text]);
                value
            });
            let values: Vec<_> = values.collect();
            let fields = ("FIELDS", write.fields.len(), &pairs);
            let written = call!(client, "ML.FEATURESET", key, &write.options, "TYPE", kind, fields);
            let expected = model.write(key, &write, &values);
            assert_eq!(written.integer(), i64::from(expected), "{:?}", write.options);
        }
    }
}

/// What AUTO makes of a text: a number where it is one of the texts that programs
/// print the number as.
fn auto(text: &[u8]) -> Held {
    let Ok(read) = std::str::from_utf8(text) else { return Held::Text(text.to_vec()) };
    if let Some(integer) = read.parse::<i64>().ok().filter(|integer| integer.to_string() == read) {
        return Held::Integer(integer);
    }
    let held = Held::Text(text.to_vec());
    match number(text).filter(|double| printed(*double).iter().any(|text| text == read)) {
        Some(double) if Held::Double(double).as_f32() == held.as_f32() => Held::Double(double),
        _ => held,
    }
}

/// The texts that programs print a double as, those of two as short that the module
/// prints.
fn printed(double: f64) -> Vec<String> {
    let plain = double.to_string();
    let digits = |text: &str| {
        let mantissa = text.split('e').next().unwrap().replace(['.', '-'], "");
        mantissa.trim_matches('0').to_owned()
    };
    if digits(&plain) != digits(zmij::Buffer::new().format(double)) {
        return Vec::new();
    }
    let mut all = vec![plain.clone()];
    if !plain.contains('.') {
        all.push(plain + ".0");
    }
    let shortest = format!("{double:e}");
    let (mantissa, exponent) = shortest.split_once('e').unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    if !(-3..6).contains(&exponent) {
        let whole = (!mantissa.contains('.')).then(|| format!("{mantissa}.0"));
        for mantissa in [Some(mantissa.to_owned()), whole].into_iter().flatten() {
            for sign in if exponent < 0 { &["-"][..] } else { &["", "+"] } {
                for width in 1..=3 {
                    let digits = format!("{:0width$}", exponent.abs());
                    all.extend(["e", "E"].map(|e| format!("{mantissa}{e}{sign}{digits}")));
                }
            }
        }
    }
    all
}

fn name(random: &mut Random) -> String {
    let field = FIELDS[random.below(7) as usize];
    match random.below(2) {
        0 => field.to_owned(),
        _ => format!("{}:{field}", VIEWS[random.below(3) as usize]),
    }
}

/// Reads all there is, and things that are not, by every path, and compares.
fn compare(clients: &mut [Client; 2], random: &mut Random, model: &mut Model, context: &str) {
    model.forget();
    let mut names: Vec<String> = FIELDS.map(str::to_owned).to_vec();
    for view in VIEWS {
        names.extend(FIELDS.map(|field| format!("{view}:{field}")));
    }
    for last in (1..names.len()).rev() {
        names.swap(last, random.below(last as u64 + 1) as usize);
    }
    names.truncate(1 + random.below(names.len() as u64) as usize);
    let (n, m) = (KEYS.len(), names.len());
    let asked = |model: &Model| -> Vec<Option<(Held, u64)>> {
        let cells = KEYS.iter().flat_map(|key| names.iter().map(move |name| (key, name)));
        cells
            .map(|(key, name)| model.get(key, name).map(|(held, age)| (held.clone(), age)))
            .collect()
    };
    let expected = asked(model);
    let max_age = 1 + random.below(60);
    let [two, three] = clients;
    for (client, is) in [
        (
            &mut *two,
            (|held: &Held, answer: &Value| held.is_text(&answer.bytes()))
                as fn(&Held, &Value) -> bool,
        ),
        (three, Held::is_value),
    ] {
        let get = call!(client, "ML.FEATUREGET", n, &KEYS, "FIELDS", m, &names).items();
        let each = KEYS.map(|key| call!(client, "ML.FEATURES", key, &names));
        assert_eq!(
            get.iter().map(|row| format!("{row:?}")).collect::<Vec<_>>(),
            each.map(|row| format!("{row:?}"))
        );
        let answers: Vec<_> = get.iter().flat_map(Answer::items).collect();
        for (place, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
            let right = match expected {
                None => *answer == Value::Nil,
                Some((held, _)) => *answer != Value::Nil && is(held, answer),
            };
            let (key, name) = (KEYS[place / m], &names[place % m]);
            assert!(right, "{key} {name:?}: {answer:?} for {expected:?}, {context}");
        }
    }
    for kind in ["F32", "F64", "I64"] {
        let options =
            ["AS", "TENSOR", "TYPE", kind, "DEFAULT", "7", "MAXAGE", &max_age.to_string()];
        let answer = call!(two, "ML.FEATUREGET", n, &KEYS, "FIELDS", m, &names, &options).items();
        let (mut data, mut status) = (Vec::new(), Vec::new());
        for expected in &expected {
            let fresh = expected.as_ref().filter(|(_, age)| *age <= max_age);
            let held = fresh.map(|(held, _)| held);
            let present = match kind {
                "F32" => {
                    let single = held.and_then(Held::as_f32);
                    data.extend(single.unwrap_or(7.0).to_le_bytes());
                    single.is_some()
                }
                "F64" => {
                    let double = held.and_then(Held::as_f64);
                    data.extend(double.unwrap_or(7.0).to_le_bytes());
                    double.is_some()
                }
                _ => {
                    let integer = held.and_then(Held::as_i64);
                    data.extend(integer.unwrap_or(7).to_le_bytes());
                    integer.is_some()
                }
            };
            status.push(match (expected, fresh) {
                (None, _) => 3,
                (_, None) => 4,
                (_, Some(_)) => u8::from(present),
            });
        }
        assert_eq!(answer[4].bytes(), status, "{kind}, {names:?}, {context}");
        assert!(same_numbers(&answer[3].bytes(), &data, kind), "{kind}, {names:?}, {context}");
    }
    let json = call!(two, "ML.FEATUREGET", n, &KEYS, "FIELDS", m, &names, "AS", "JSON").text();
    let rows: Vec<HashMap<String, Box<RawValue>>> = serde_json::from_str(&json).unwrap();
    for (place, expected) in expected.iter().enumerate() {
        let answer = rows[place / m][&names[place % m]].get();
        let right = match expected {
            None => answer == "null",
            Some((held, _)) => held.is_json(answer),
        };
        assert!(right, "{answer:?} for {expected:?}, {context}");
    }
}

/// The same bits, but for those of a NaN.
fn same_numbers(one: &[u8], other: &[u8], kind: &str) -> bool {
    let doubles = |bytes: &[u8]| match kind {
        "F32" => bytes
            .chunks(4)
            .map(|bits| f64::from(f32::from_le_bytes(bits.try_into().unwrap())))
            .collect::<Vec<_>>(),
        "F64" => bytes.chunks(8).map(|bits| f64::from_le_bytes(bits.try_into().unwrap())).collect(),
        _ => Vec::new(),
    };
    if kind == "I64" {
        return one == other;
    }
    let pairs = doubles(one).into_iter().zip(doubles(other));
    one.len() == other.len()
        && pairs
            .into_iter()
            .all(|(one, other)| one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan())
}

#[test]
fn random_rows_are_what_the_model_holds_by_every_path() {
    let server = Server::with("appendonly yes\nappendfsync no\naof-use-rdb-preamble no");
    let replica = server.replica("ml.features-max-skew 0");
    for seed in Random::seeds() {
        let (mut random, mut model) = (Random::new(seed), Model::default());
        let mut clients = [server.client(), server.client3()];
        clients[0].run("FLUSHALL").ok();
        model.now_ms = clients[0].freeze_ahead() / 1000;
        for round in 0..120 {
            (0..8).for_each(|_| step(&mut clients[0], &mut random, &mut model));
            let context = format!("round {round}, seed {seed}");
            compare(&mut clients, &mut random, &mut model, &context);
            if round % 30 == 29 {
                clients[0].run("DEBUG RELOAD").ok();
                compare(&mut clients, &mut random, &mut model, &format!("reloaded, {context}"));
                clients[0].run("DEBUG LOADAOF").ok();
                compare(&mut clients, &mut random, &mut model, &format!("from AOF, {context}"));
                // That of an earlier round may be under way still.
                clients[0].wait_for_rewrite();
                clients[0].run("BGREWRITEAOF").text();
                for key in KEYS {
                    if let Value::BulkString(payload) = call!(clients[0], "DUMP", key) {
                        let ttl = call!(clients[0], "PEXPIRETIME", key).integer().max(0);
                        let options = ["REPLACE", "ABSTTL"];
                        call!(clients[0], "RESTORE", key, ttl, payload, &options).ok();
                    }
                }
                compare(&mut clients, &mut random, &mut model, &format!("restored, {context}"));
                replica.catch_up(&server);
                let mut followers = [replica.client(), replica.client3()];
                followers[0].freeze(model.now_ms * 1000);
                compare(&mut followers, &mut random, &mut model, &format!("replica, {context}"));
            }
        }
        assert!(model.rows.len() > 1, "seed {seed}: nothing to compare");
    }
}
