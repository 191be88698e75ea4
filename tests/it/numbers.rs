//! Texts as numbers, on every way that a text can take, against exact rationals.
//!
//! MLSERVE_NUMBERS says how many texts (scripts/fuzz makes it a million).

use crate::support::{Answer, Client, Random, Server, call};
use redis::{Cmd, Value};
use std::cmp::Ordering;

/// A natural number of any size: limbs of 32 bits, the lowest first.
#[derive(Clone, Debug, Default)]
struct Natural(Vec<u32>);

impl Natural {
    fn of(mut small: u64) -> Self {
        let mut limbs = Vec::new();
        while small > 0 {
            limbs.push(small as u32);
            small >>= 32;
        }
        Self(limbs)
    }

    fn times_plus(mut self, factor: u32, more: u32) -> Self {
        let mut carry = u64::from(more);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
        self
    }

    fn from_digits(digits: &[u8]) -> Self {
        let digit = |all: Self, digit: &u8| all.times_plus(10, u32::from(digit - b'0'));
        digits.iter().fold(Self::default(), digit)
    }

    fn times_power(mut self, base: u32, mut power: u32) -> Self {
        let (chunk, whole) = match base {
            10 => (9, 1_000_000_000),
            5 => (13, 1_220_703_125),
            _ => panic!("no such base"),
        };
        while power >= chunk {
            self = self.times_plus(whole, 0);
            power -= chunk;
        }
        (0..power).fold(self, |all, _| all.times_plus(base, 0))
    }

    fn shifted(self, bits: u32) -> Self {
        let mut limbs = vec![0; (bits / 32) as usize];
        limbs.extend(self.0);
        Self(limbs).times_plus(1 << (bits % 32), 0).trimmed()
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    fn to_digits(&self) -> String {
        let (mut limbs, mut groups) = (self.clone().trimmed().0, Vec::new());
        while !limbs.is_empty() {
            let mut rest = 0u64;
            for limb in limbs.iter_mut().rev() {
                rest = rest << 32 | u64::from(*limb);
                *limb = (rest / 1_000_000_000) as u32;
                rest %= 1_000_000_000;
            }
            groups.push(rest);
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
        }
        let mut text: String = groups.iter().rev().map(|group| format!("{group:09}")).collect();
        let zeros = text.len() - text.trim_start_matches('0').len();
        text.drain(..zeros);
        if text.is_empty() { "0".into() } else { text }
    }
}

/// A rational of powers of ten: sign, digits, exponent.
struct Exact {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Exact {
    /// By the grammar, spelled out; `None` for what is none.
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let all_digits =
            |part: &str| !part.is_empty() && part.bytes().all(|one| one.is_ascii_digit());
        let (whole, decimals) = match mantissa.split_once('.') {
            Some((whole, decimals)) if all_digits(decimals) => (whole, decimals),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if !all_digits(whole) {
            return None;
        }
        let exponent = match exponent {
            None => 0,
            Some(text) => {
                let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
                if !all_digits(digits) {
                    return None;
                }
                // Beyond a million all are alike, as long as the digits are fewer.
                let size = digits.parse::<i64>().unwrap_or(1_000_000).min(1_000_000);
                if text.starts_with('-') { -size } else { size }
            }
        };
        let digits: Vec<u8> = whole.bytes().chain(decimals.bytes()).collect();
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        let exponent = exponent - decimals.len() as i64 + zeros as i64;
        let digits = &digits[..digits.len() - zeros];
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        Some(Self { negative, digits: digits[zeros..].to_vec(), exponent })
    }

    /// Its size beside `mantissa` × 2^`power`.
    fn cmp_binary(&self, mantissa: u64, power: i64) -> Ordering {
        // What is far from both ends of all types needs no reckoning.
        let magnitude = self.digits.len() as i64 + self.exponent;
        if self.digits.is_empty() || magnitude < -400 {
            return 0.cmp(&mantissa).then(Ordering::Equal);
        }
        if magnitude > 400 || mantissa == 0 {
            return Ordering::Greater;
        }
        let mut own = Natural::from_digits(&self.digits);
        let mut other = Natural::of(mantissa);
        match self.exponent {
            exponent @ 0.. => own = own.times_power(10, exponent as u32),
            exponent => other = other.times_power(10, (-exponent) as u32),
        }
        match power {
            power @ 0.. => other = other.shifted(power as u32),
            power => own = own.shifted((-power) as u32),
        }
        own.trimmed().cmp(&other.trimmed())
    }

    /// Whether a float is the nearest, the even one of two; `None` stands for beyond
    /// the range. `bits` of mantissa, the lowest and the highest power of two.
    fn is_nearest(&self, float: Option<f64>, bits: u32, lowest: i64, highest: i64) -> bool {
        let Some(float) = float else {
            // From the middle to what would be next, which is even.
            return self.cmp_binary((1 << (bits + 1)) - 1, highest - 1) != Ordering::Less;
        };
        if float.is_sign_negative() != self.negative {
            return false;
        }
        let (mantissa, power) = parts(float.abs(), bits, lowest);
        let is_even = mantissa % 2 == 0;
        let within =
            |order: Ordering, side: Ordering| order == side || order == Ordering::Equal && is_even;
        let below = within(self.cmp_binary(2 * mantissa + 1, power - 1), Ordering::Less);
        let above = match mantissa {
            0 => true,
            // Below a power of two the floats lie closer.
            _ if mantissa == 1 << (bits - 1) && power > lowest => {
                within(self.cmp_binary(4 * mantissa - 1, power - 2), Ordering::Greater)
            }
            _ => within(self.cmp_binary(2 * mantissa - 1, power - 1), Ordering::Greater),
        };
        below && above && (mantissa < 1 << bits) && power <= highest
    }

    fn to_i64(&self) -> Option<i64> {
        if self.digits.is_empty() {
            return Some(0);
        }
        // The last digit is not 0.
        if self.exponent < 0 || self.digits.len() as i64 + self.exponent > 30 {
            return None;
        }
        let text: String = self.digits.iter().map(|digit| char::from(*digit)).collect();
        let size: i128 = format!("{text}{}", "0".repeat(self.exponent as usize)).parse().unwrap();
        i64::try_from(if self.negative { -size } else { size }).ok()
    }
}

/// A float as mantissa and power of two, of a format with so many bits and that
/// lowest power.
fn parts(float: f64, bits: u32, lowest: i64) -> (u64, i64) {
    let raw = float.to_bits();
    let (fraction, exponent) = (raw & ((1 << 52) - 1), (raw >> 52) as i64);
    let (mut mantissa, mut power) = match exponent {
        0 => (fraction, -1074),
        _ => (fraction | 1 << 52, exponent - 1075),
    };
    while mantissa > 0 && (power < lowest || mantissa >= 1 << bits) {
        assert_eq!(mantissa % 2, 0, "{float:e} is no float of {bits} bits");
        mantissa /= 2;
        power += 1;
    }
    while mantissa > 0 && mantissa < 1 << (bits - 1) && power > lowest {
        mantissa *= 2;
        power -= 1;
    }
    if mantissa == 0 { (0, lowest) } else { (mantissa, power) }
}

fn is_f64(exact: &Exact, float: Option<f64>) -> bool {
    exact.is_nearest(float, 53, -1074, 971)
}

fn is_f32(exact: &Exact, float: Option<f32>) -> bool {
    exact.is_nearest(float.map(f64::from), 24, -149, 104)
}

/// `mantissa` × 2^`power` in full.
fn in_full(mantissa: u64, power: i64) -> String {
    match power {
        0.. => Natural::of(mantissa).shifted(power as u32).to_digits(),
        _ => {
            let digits = Natural::of(mantissa).times_power(5, (-power) as u32).to_digits();
            format!("{digits}e{power}")
        }
    }
}

/// The middle of two neighbouring singles, or what is next to it, in 19 characters.
fn short_middle(random: &mut Random) -> String {
    let mantissa = 2 * ((1 << 23) + random.below(1 << 23)) + 1;
    let middle = mantissa as f64 * 2f64.powi(random.below(64) as i32 - 28);
    let whole = (middle as u64).to_string().len();
    let decimals = 18usize.saturating_sub(whole);
    let digits = format!("{middle:.decimals$}").replace('.', "");
    let next = digits.parse::<u128>().unwrap() + u128::from(random.below(3)) - 1;
    let mut text = format!("{next:0>width$}", width = decimals + 1);
    if decimals > 0 {
        text.insert(text.len() - decimals, '.');
    }
    text
}

/// Texts that are hard to read.
fn any_text(random: &mut Random) -> String {
    let text = match random.below(14) {
        0 => f64::from_bits(random.next()).to_string(),
        1 => format!("{:?}", f64::from_bits(random.next())),
        2 => format!("{:e}", f32::from_bits(random.next() as u32)),
        3 => format!("{:.*e}", random.below(30) as usize, f64::from_bits(random.next())),
        // The middle of two neighbours, and what is next to it.
        4 | 5 => {
            let (bits, lowest, span) =
                if random.below(2) == 0 { (53, -1075, 2046) } else { (24, -150, 254) };
            let mantissa = match random.below(3) {
                0 => random.below(1 << bits),
                1 => (1 << (bits - 1)) + random.below(4),
                _ => (1 << bits) - 1 - random.below(4),
            };
            let text = in_full(2 * mantissa + 1, lowest + random.below(span) as i64);
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, ""));
            let exponent = if exponent.is_empty() { String::new() } else { format!("e{exponent}") };
            match random.below(4) {
                0 => format!("{digits}.{}1{exponent}", "0".repeat(random.below(30) as usize)),
                1 => format!("{digits}.{}{exponent}", "0".repeat(1 + random.below(30) as usize)),
                2 => {
                    let last = digits.len() - 1;
                    let low = char::from(digits.as_bytes()[last].max(b'1') - 1);
                    format!("{}{low}.{}{exponent}", &digits[..last], "9".repeat(30))
                }
                _ => text.clone(),
            }
        }
        // Integers near the ends, with the point elsewhere.
        6 | 7 => {
            let near = [1i128 << 63, 1 << 53, 1 << 24, 1 << 31, 1 << 64, 10i128.pow(18), 0];
            let integer = near[random.below(7) as usize] + random.below(5) as i128 - 2;
            let integer = if random.below(2) == 0 { integer } else { -integer };
            let text = integer.to_string();
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => ("-", digits),
                None => ("", &text[..]),
            };
            let zeros = "0".repeat(random.below(3) as usize);
            match random.below(5) {
                0 => text.clone(),
                1 => format!("{sign}{zeros}{digits}.0{zeros}"),
                2 if digits.len() > 1 => {
                    let at = 1 + random.below(digits.len() as u64 - 1) as usize;
                    let moved = digits.len() - at;
                    format!("{sign}{}.{}{zeros}e{moved}", &digits[..at], &digits[at..])
                }
                3 => format!("{sign}{digits}{zeros}e-{}", zeros.len()),
                _ => format!("{sign}{digits}.{}1", "0".repeat(random.below(40) as usize)),
            }
        }
        8 => {
            let most = if random.below(20) == 0 { 900 } else { 25 };
            let digits = 1 + random.below(most);
            let digits: String =
                (0..digits).map(|_| char::from(b'0' + random.below(10) as u8)).collect();
            let exponent = random.below(800) as i64 - 400;
            format!("{}.{digits}e{exponent}", random.below(3))
        }
        9 => {
            let edges = [
                "0",
                "-0",
                "0.0",
                "-0.0",
                "0e999999999999999999999",
                "1e-400",
                "1e400",
                "5e-324",
                "2.5e-324",
                "1.7976931348623157e308",
                "1.7976931348623159e308",
                "3.4028235e38",
                "3.4028236e38",
                "1e-46",
                "7e-46",
                "9007199254740993.0",
                "-9223372036854775809",
                "1e3",
                "1.50e1",
                "1e18",
                "1e19",
                "9.2233720368547758e18",
                "0.1",
                "16777217",
                "1e-99999999999999999999",
                "1e99999999999999999999",
                "12.5",
                "84.50",
            ];
            random.of(&edges).to_owned()
        }
        10 => {
            let digits = format!("{:020}", random.next());
            let digits = &digits[random.below(20) as usize..];
            format!("{}.{digits}", random.below(1_000))
        }
        11 => short_middle(random),
        _ => (random.next() as i64 >> random.below(64)).to_string(),
    };
    // FEATURESET takes the words for what is not finite.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return any_text(random);
    }
    // Some of them spoilt.
    if random.below(16) > 0 {
        return text;
    }
    let mut bytes = text.into_bytes();
    let at = random.below(bytes.len() as u64 + 1) as usize;
    bytes.insert(at, b"+-.eE_x n0,"[random.below(11) as usize]);
    String::from_utf8(bytes).unwrap()
}

/// What a tensor of one row is: the values, and which are numbers.
fn tensor(answer: &Value) -> (Vec<u8>, Vec<bool>) {
    let items = answer.items();
    (items[3].bytes(), items[4].bytes().iter().map(|status| *status == 1).collect())
}

struct Checked<'t> {
    texts: &'t [String],
    exact: Vec<Option<Exact>>,
}

impl Checked<'_> {
    /// Whether each number of a tensor is right; 7 stands for what is none.
    fn check(&self, kind: &str, answer: &Value, way: &str) {
        let (data, present) = tensor(answer);
        let size = if kind == "F32" { 4 } else { 8 };
        for (number, (text, exact)) in self.texts.iter().zip(&self.exact).enumerate() {
            let bytes = &data[number * size..(number + 1) * size];
            self.check_one(kind, text, exact.as_ref(), bytes, present[number], way);
        }
    }

    fn check_one(
        &self,
        kind: &str,
        text: &str,
        exact: Option<&Exact>,
        bytes: &[u8],
        present: bool,
        way: &str,
    ) {
        let right = match (exact, kind) {
            (None, _) => !present,
            (Some(exact), "F32") => {
                let single = f32::from_le_bytes(bytes.try_into().unwrap());
                is_f32(exact, present.then_some(single))
            }
            (Some(exact), "F64") => {
                let double = f64::from_le_bytes(bytes.try_into().unwrap());
                is_f64(exact, present.then_some(double))
            }
            (Some(exact), _) => {
                let integer = i64::from_le_bytes(bytes.try_into().unwrap());
                exact.to_i64() == present.then_some(integer)
            }
        };
        assert!(right, "{text:?} {way}: {bytes:?} as {kind}, present: {present}");
    }
}

const KINDS: [&str; 3] = ["F32", "F64", "I64"];

/// A batch of texts on every way.
fn check_all(client: &mut Client, texts: &[String]) {
    let checked = Checked { texts, exact: texts.iter().map(|text| Exact::parse(text)).collect() };
    let fields: Vec<_> = (0..texts.len()).map(|number| format!("f{number}")).collect();
    let pairs: Vec<_> = fields.iter().zip(texts).flat_map(|(field, text)| [field, text]).collect();
    call!(client, "DEL", "h", "text", "auto", "F32", "F64", "I64");
    call!(client, "HSET", "h", &pairs).integer();
    for (key, kind) in [("text", "STRING"), ("auto", "AUTO")] {
        let written =
            call!(client, "ML.FEATURESET", key, "TYPE", kind, "FIELDS", texts.len(), &pairs);
        assert_eq!(written.integer(), 1);
    }
    for kind in KINDS {
        let asked = ("FIELDS", texts.len(), &fields, "AS", "TENSOR", "TYPE", kind);
        for key in ["h", "text", "auto"] {
            let answer = call!(client, "ML.FEATUREGET", 1, key, asked, "DEFAULT", 7);
            checked.check(kind, &answer, key);
        }
        // Written one by one, as that type; what is none is an error.
        let commands: Vec<Cmd> = (fields.iter().zip(texts))
            .map(|(field, text)| {
                let mut command = redis::cmd("ML.FEATURESET");
                command.arg(kind).arg("TYPE").arg(kind).arg("FIELDS").arg(1).arg(field).arg(text);
                command
            })
            .collect();
        let written = client.pipeline(&commands);
        let answer = call!(client, "ML.FEATUREGET", 1, kind, asked, "DEFAULT", 7);
        checked.check(kind, &answer, "written");
        let (_, present) = tensor(&answer);
        for (number, answer) in written.iter().enumerate() {
            assert_eq!(answer.is_error(), !present[number], "{:?} as {kind}", texts[number]);
        }
        // As defaults, all that are numbers at once, and the others one by one.
        let sound: Vec<_> = (0..texts.len()).filter(|number| present[*number]).collect();
        if sound.is_empty() {
            continue;
        }
        let defaults: Vec<_> = sound.iter().map(|number| &texts[*number]).collect();
        let names = vec!["f"; sound.len()];
        let options = ("AS", "TENSOR", "TYPE", kind, "DEFAULTS", sound.len(), &defaults);
        let answer =
            call!(client, "ML.FEATUREGET", 1, "none", "FIELDS", sound.len(), &names, options);
        let data = answer.items()[3].bytes();
        let size = data.len() / sound.len();
        for (bytes, number) in data.chunks(size).zip(&sound) {
            let exact = checked.exact[*number].as_ref();
            checked.check_one(kind, &texts[*number], exact, bytes, true, "as a default");
        }
        let commands: Vec<Cmd> = (0..texts.len())
            .filter(|number| !present[*number])
            .map(|number| {
                let mut command = redis::cmd("ML.FEATUREGET");
                command.arg((1, "none", "FIELDS", 1, "f", "AS", "TENSOR", "TYPE", kind));
                command.arg("DEFAULT").arg(&texts[number]);
                command
            })
            .collect();
        if !commands.is_empty() {
            assert!(client.pipeline(&commands).iter().all(Answer::is_error), "{kind}");
        }
    }
    // What AUTO answers says the very same number: the texts are equal as rationals,
    // or byte for byte.
    let answers = call!(client, "ML.FEATURES", "auto", &fields).texts();
    for ((text, exact), answer) in texts.iter().zip(&checked.exact).zip(&answers) {
        if text != answer {
            let (Some(exact), Some(again)) = (exact, Exact::parse(answer)) else {
                panic!("{text:?} is answered as {answer:?}")
            };
            let same = |one: &Exact| (one.negative, one.digits.clone());
            let power = exact.digits.is_empty() || exact.exponent == again.exponent;
            assert!(power && same(exact) == same(&again), "{text:?} is answered as {answer:?}");
        }
    }
}

#[test]
fn texts_are_the_nearest_numbers_on_every_way() {
    let count: usize = std::env::var("MLSERVE_NUMBERS").map_or(6_000, |text| text.parse().unwrap());
    let server = Server::start();
    let mut client = server.client();
    let [fixed, seed] = Random::seeds();
    for seed in [fixed, seed] {
        let mut random = Random::new(seed);
        let mut done = 0;
        while done < count / 2 {
            let texts: Vec<_> = (0..250).map(|_| any_text(&mut random)).collect();
            check_all(&mut client, &texts);
            done += texts.len();
        }
    }
}

/// The oracle can say no: a neighbour of the nearest is not the nearest.
#[test]
fn a_neighbour_is_not_the_nearest() {
    let mut random = Random::new(3);
    let mut refused = 0;
    for _ in 0..3_000 {
        let text = any_text(&mut random);
        let Some(exact) = Exact::parse(&text) else { continue };
        let double: f64 = text.parse().unwrap();
        let single: f32 = text.parse().unwrap();
        assert!(is_f64(&exact, Some(double).filter(|double| double.is_finite())), "{text}");
        assert!(is_f32(&exact, Some(single).filter(|single| single.is_finite())), "{text}");
        if double.is_finite() && double.abs() < f64::MAX {
            refused += 1;
            assert!(!is_f64(&exact, Some(f64::from_bits(double.to_bits() + 1))), "{text}");
            assert!(!is_f64(&exact, None), "{text}");
        }
        if single.is_finite() && single.abs() < f32::MAX {
            assert!(!is_f32(&exact, Some(f32::from_bits(single.to_bits() + 1))), "{text}");
        }
    }
    assert!(refused > 1_000);
}
