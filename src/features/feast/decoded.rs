//! What serialized messages of Feast say.

use super::message::{
    Blobs, Entry, Key, Map, MapKey, ScalarEntry, Texts, Timestamp, Val, Value as Message,
    ZonedTimestamp,
};
use crate::features::dtype::Dtype;
use crate::features::found::Found;
use crate::features::nested::Nested;
use crate::features::value::Value;
use prost::{Message as _, decode_length_delimiter};
use std::sync::Arc;

/// What the bytes of a feature say.
pub enum Decoded {
    /// Null, which is what is missing.
    Null,
    /// A number; of a boolean 1 or 0, of a moment its seconds since 1970.
    Number(Value<'static>),
    /// Text, or bytes.
    Text(Vec<u8>),
    /// Numbers of one type, in order.
    Vector(Dtype, Vec<u8>),
    /// Other lists, sets, and maps.
    Nested(Arc<Nested>),
    /// They are no value, or of a type that nobody knows yet.
    Spoilt,
}

impl Decoded {
    /// What bytes say.
    pub fn of(bytes: &[u8]) -> Self {
        match Message::decode(bytes) {
            Ok(Message { val: Some(val) }) => val.into(),
            Ok(Message { val: None }) if bytes.is_empty() => Self::Null,
            _ => Self::Spoilt,
        }
    }

    /// The same, as what is read of an entity.
    pub fn found(&self) -> Found<'_> {
        match self {
            Self::Null => Found::Nothing,
            Self::Number(number) => Found::Value(*number),
            Self::Text(text) => Found::Value(Value::String(text)),
            Self::Vector(dtype, bytes) => Found::Value(Value::Vector(*dtype, bytes)),
            Self::Nested(nested) => Found::Nested(nested),
            Self::Spoilt => Found::Spoilt,
        }
    }
}

/// Whether bytes are text and nothing else, which takes no more than they do.
pub fn is_text(mut bytes: &[u8]) -> bool {
    /// What fields of texts begin with: their number, and that a length comes.
    const TEXTS: [usize; 6] = [0x0a, 0x12, 0x102, 0x122, 0x12a, 0x162];
    // A tag and a length are of one form.
    let mut number = || decode_length_delimiter(&mut bytes);
    let (tag, length) = (number(), number());
    tag.is_ok_and(|tag| TEXTS.contains(&tag)) && length == Ok(bytes.len())
}

/// The milliseconds since 1970 of a serialized moment; `None` where it is none, or before.
pub fn moment(bytes: &[u8]) -> Option<i64> {
    let Timestamp { seconds, nanos } = Timestamp::decode(bytes).ok()?;
    let (seconds, nanos) = (u64::try_from(seconds).ok()?, u64::try_from(nanos).ok()?);
    let at_ms = seconds.checked_mul(1_000)?.checked_add(nanos / 1_000_000)?;
    i64::try_from(at_ms).ok()
}

impl From<Val> for Decoded {
    fn from(val: Val) -> Self {
        match val {
            Val::Null(_) => Self::Null,
            Val::Int32List(list) => integers(list.val),
            Val::Int64List(list) | Val::UnixTimestampList(list) => integers(list.val),
            Val::BoolList(list) => integers(list.val),
            Val::FloatList(list) => Self::Vector(Dtype::F32, packed(list.val, f32::to_le_bytes)),
            Val::DoubleList(list) => Self::Vector(Dtype::F64, packed(list.val, f64::to_le_bytes)),
            val => match val.into() {
                Nested::Null => Self::Null,
                Nested::Number(number) => Self::Number(number),
                Nested::Text(text) => Self::Text(text),
                nested => Self::Nested(Arc::new(nested)),
            },
        }
    }
}

fn integers<T: Into<i64>>(numbers: Vec<T>) -> Decoded {
    Decoded::Vector(Dtype::I64, packed(numbers, |number| number.into().to_le_bytes()))
}

fn packed<T, const N: usize>(numbers: Vec<T>, bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.into_iter().flat_map(bytes).collect()
}

impl From<Val> for Nested {
    fn from(val: Val) -> Self {
        match val {
            Val::Null(_) => Self::Null,
            Val::Bytes(bytes) => Self::Text(bytes),
            Val::String(text)
            | Val::Json(text)
            | Val::Uuid(text)
            | Val::TimeUuid(text)
            | Val::Decimal(text) => text.into(),
            Val::Int32(integer) => integer.into(),
            Val::Int64(integer) | Val::UnixTimestamp(integer) => integer.into(),
            Val::Double(double) => double.into(),
            Val::Float(single) => single.into(),
            Val::Bool(bool) => bool.into(),
            Val::BytesList(Blobs { val }) | Val::BytesSet(Blobs { val }) => list(val),
            Val::StringList(Texts { val })
            | Val::StringSet(Texts { val })
            | Val::JsonList(Texts { val })
            | Val::UuidList(Texts { val })
            | Val::UuidSet(Texts { val })
            | Val::TimeUuidList(Texts { val })
            | Val::TimeUuidSet(Texts { val })
            | Val::DecimalList(Texts { val })
            | Val::DecimalSet(Texts { val }) => list(val),
            Val::Int32List(several) | Val::Int32Set(several) => list(several.val),
            Val::Int64List(several)
            | Val::Int64Set(several)
            | Val::UnixTimestampList(several)
            | Val::UnixTimestampSet(several) => list(several.val),
            Val::DoubleList(several) | Val::DoubleSet(several) => list(several.val),
            Val::FloatList(several) | Val::FloatSet(several) => list(several.val),
            Val::BoolList(several) | Val::BoolSet(several) => list(several.val),
            Val::Map(map) | Val::Struct(map) => map.into(),
            Val::MapList(several) | Val::StructList(several) => list(several.val),
            Val::List(several) | Val::Set(several) => list(several.val),
            Val::ScalarMap(map) => Self::Map(map.val.into_iter().map(scalar_pair).collect()),
            Val::ZonedTimestamp(ZonedTimestamp { unix_timestamp, zone }) => {
                let named = |name: &str| name.to_owned().into();
                Self::Map(vec![
                    (named("unix_timestamp"), unix_timestamp.into()),
                    (named("zone"), zone.into()),
                ])
            }
        }
    }
}

fn list<T: Into<Nested>>(items: Vec<T>) -> Nested {
    Nested::List(items.into_iter().map(Into::into).collect())
}

fn scalar_pair(ScalarEntry { key, value }: ScalarEntry) -> (Nested, Nested) {
    (key.and_then(|MapKey { key }| key).into(), value.into())
}

impl From<Option<Key>> for Nested {
    fn from(key: Option<Key>) -> Self {
        match key {
            // As protobuf writes what is not set.
            None => Self::Text(Vec::new()),
            Some(Key::Int32(integer)) => integer.into(),
            Some(Key::Int64(integer) | Key::UnixTimestamp(integer)) => integer.into(),
            Some(Key::Float(single)) => single.into(),
            Some(Key::Double(double)) => double.into(),
            Some(Key::Bool(bool)) => bool.into(),
            Some(Key::Bytes(bytes)) => Self::Text(bytes),
            Some(Key::Uuid(text) | Key::TimeUuid(text) | Key::Decimal(text)) => text.into(),
        }
    }
}

impl From<Option<Message>> for Nested {
    fn from(value: Option<Message>) -> Self {
        value.and_then(|Message { val }| val).map_or(Self::Null, Into::into)
    }
}

impl From<Message> for Nested {
    fn from(value: Message) -> Self {
        Some(value).into()
    }
}

impl From<Map> for Nested {
    fn from(Map { val }: Map) -> Self {
        let pair = |Entry { key, value }| (Self::from(key), Self::from(value));
        Self::Map(val.into_iter().map(pair).collect())
    }
}

impl From<String> for Nested {
    fn from(text: String) -> Self {
        Self::Text(text.into_bytes())
    }
}

impl From<Vec<u8>> for Nested {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Text(bytes)
    }
}

impl From<bool> for Nested {
    fn from(bool: bool) -> Self {
        i64::from(bool).into()
    }
}

impl From<i32> for Nested {
    fn from(integer: i32) -> Self {
        i64::from(integer).into()
    }
}

impl From<i64> for Nested {
    fn from(integer: i64) -> Self {
        Self::Number(Value::I64(integer))
    }
}

impl From<f32> for Nested {
    fn from(single: f32) -> Self {
        Self::Number(Value::F32(single))
    }
}

impl From<f64> for Nested {
    fn from(double: f64) -> Self {
        Self::Number(Value::F64(double))
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Bools, Doubles, Floats, Int32s, Int64s, Maps, ScalarMap, Values};
    use super::*;
    use proptest::prelude::*;

    fn bytes(val: Val) -> Vec<u8> {
        Message { val: Some(val) }.encode_to_vec()
    }

    fn message(val: Val) -> Message {
        Message { val: Some(val) }
    }

    /// Whether a value is read as this one.
    fn is(val: Val, value: Value) -> bool {
        matches!(Decoded::of(&bytes(val)).found(), Found::Value(found) if found == value)
    }

    /// What a value has in it.
    fn nested(val: Val) -> Nested {
        match Decoded::of(&bytes(val)) {
            Decoded::Nested(nested) => nested.as_ref().clone(),
            _ => panic!("it is a single value"),
        }
    }

    #[test]
    fn single_values_are_numbers_and_texts() {
        for (val, integer) in [
            (Val::Int32(-1), -1),
            (Val::Int64(i64::MIN), i64::MIN),
            (Val::Bool(true), 1),
            (Val::Bool(false), 0),
            (Val::UnixTimestamp(1_700_000_000), 1_700_000_000),
            (Val::Int32(0), 0),
        ] {
            assert!(is(val.clone(), Value::I64(integer)), "{val:?}");
        }
        assert!(is(Val::Float(0.1), Value::F32(0.1)));
        assert!(is(Val::Float(f32::NAN), Value::F32(f32::NAN)));
        assert!(is(Val::Double(-0.0), Value::F64(-0.0)));
        assert!(is(Val::Bytes(vec![0, 255]), Value::String(&[0, 255])));
        assert!(is(Val::String(String::new()), Value::String(b"")));
        let texts = [Val::String, Val::Json, Val::Uuid, Val::TimeUuid, Val::Decimal];
        for text in texts {
            assert!(is(text("12.50".into()), Value::String(b"12.50")));
        }
        for null in [vec![], bytes(Val::Null(0))] {
            assert!(matches!(Decoded::of(&null).found(), Found::Nothing));
        }
        // As Feast 0.67 writes a float of 0.5 and a string.
        assert!(matches!(Decoded::of(b"\x35\0\0\0\x3f").found(), Found::Value(Value::F32(0.5))));
        assert!(matches!(Decoded::of(b"\x12\x01x").found(), Found::Value(Value::String(b"x"))));
    }

    #[test]
    fn lists_of_numbers_are_vectors_of_any_length() {
        let singles = [0.5f32, f32::NAN, -0.0];
        let vector = |dtype, bytes| Value::Vector(dtype, bytes);
        let all = singles.map(f32::to_le_bytes).concat();
        assert!(is(Val::FloatList(Floats { val: singles.into() }), vector(Dtype::F32, &all)));
        let all = 0.1f64.to_le_bytes();
        assert!(is(Val::DoubleList(Doubles { val: vec![0.1] }), vector(Dtype::F64, &all)));
        let all = [-1i64, 2].map(i64::to_le_bytes).concat();
        let integers = Int64s { val: vec![-1, 2] };
        for val in [
            Val::Int32List(Int32s { val: vec![-1, 2] }),
            Val::Int64List(integers.clone()),
            Val::UnixTimestampList(integers),
        ] {
            assert!(is(val.clone(), vector(Dtype::I64, &all)), "{val:?}");
        }
        let all = [1i64, 0].map(i64::to_le_bytes).concat();
        assert!(is(Val::BoolList(Bools { val: vec![true, false] }), vector(Dtype::I64, &all)));
        assert!(is(Val::FloatList(Floats::default()), vector(Dtype::F32, b"")));
        let many = vec![7; 70_000];
        let all = 7i64.to_le_bytes().repeat(many.len());
        assert!(is(Val::Int64List(Int64s { val: many }), vector(Dtype::I64, &all)));
    }

    #[test]
    fn all_else_has_values_in_it() {
        let texts = Texts { val: vec!["a".into(), String::new()] };
        let of_texts = Nested::List(vec![Nested::Text(b"a".into()), Nested::Text(b"".into())]);
        let lists = [
            Val::StringList,
            Val::StringSet,
            Val::JsonList,
            Val::UuidList,
            Val::UuidSet,
            Val::TimeUuidList,
            Val::TimeUuidSet,
            Val::DecimalList,
            Val::DecimalSet,
        ];
        for list in lists {
            assert_eq!(nested(list(texts.clone())), of_texts);
        }
        let blobs = Blobs { val: vec![b"a".into(), b"".into()] };
        assert_eq!(nested(Val::BytesList(blobs.clone())), of_texts);
        assert_eq!(nested(Val::BytesSet(blobs)), of_texts);
        let number = |number| Nested::Number(number);
        let ones = Nested::List(vec![number(Value::I64(1))]);
        for set in [
            Val::Int32Set(Int32s { val: vec![1] }),
            Val::Int64Set(Int64s { val: vec![1] }),
            Val::UnixTimestampSet(Int64s { val: vec![1] }),
            Val::BoolSet(Bools { val: vec![true] }),
        ] {
            assert_eq!(nested(set), ones);
        }
        let floats = Nested::List(vec![number(Value::F32(0.1))]);
        assert_eq!(nested(Val::FloatSet(Floats { val: vec![0.1] })), floats);
        let doubles = Nested::List(vec![number(Value::F64(0.1))]);
        assert_eq!(nested(Val::DoubleSet(Doubles { val: vec![0.1] })), doubles);

        let pair =
            |key: &str, val: Option<Val>| Entry { key: key.into(), value: Some(Message { val }) };
        let list = Val::FloatList(Floats { val: vec![0.1] });
        let map = Map { val: vec![pair("l", Some(list)), pair("n", None)] };
        let of_map = Nested::Map(vec![
            (Nested::Text(b"l".into()), floats),
            (Nested::Text(b"n".into()), Nested::Null),
        ]);
        assert_eq!(nested(Val::Map(map.clone())), of_map);
        assert_eq!(nested(Val::Struct(map.clone())), of_map);
        let maps = Maps { val: vec![map] };
        let of_maps = Nested::List(vec![of_map]);
        assert_eq!(nested(Val::MapList(maps.clone())), of_maps);
        assert_eq!(nested(Val::StructList(maps.clone())), of_maps);
        let values = Values { val: vec![message(Val::MapList(maps)), Message { val: None }] };
        let of_values = Nested::List(vec![of_maps, Nested::Null]);
        assert_eq!(nested(Val::List(values.clone())), of_values);
        assert_eq!(nested(Val::Set(values)), of_values);

        let keys = [
            (Some(Key::Int32(-1)), number(Value::I64(-1))),
            (Some(Key::Int64(1)), number(Value::I64(1))),
            (Some(Key::UnixTimestamp(1)), number(Value::I64(1))),
            (Some(Key::Bool(true)), number(Value::I64(1))),
            (Some(Key::Float(0.5)), number(Value::F32(0.5))),
            (Some(Key::Double(0.5)), number(Value::F64(0.5))),
            (Some(Key::Bytes(vec![255])), Nested::Text(vec![255])),
            (Some(Key::Uuid("u".into())), Nested::Text(b"u".into())),
            (Some(Key::TimeUuid("u".into())), Nested::Text(b"u".into())),
            (Some(Key::Decimal("1".into())), Nested::Text(b"1".into())),
            (None, Nested::Text(vec![])),
        ];
        for (key, of_key) in keys {
            let value = Some(message(Val::Int32(7)));
            let entry = ScalarEntry { key: Some(MapKey { key }), value };
            let map = nested(Val::ScalarMap(ScalarMap { val: vec![entry] }));
            assert_eq!(map, Nested::Map(vec![(of_key, number(Value::I64(7)))]));
        }
        let zoned = ZonedTimestamp { unix_timestamp: 5, zone: "Europe/Berlin".into() };
        let of_zoned = Nested::Map(vec![
            (Nested::Text(b"unix_timestamp".into()), number(Value::I64(5))),
            (Nested::Text(b"zone".into()), Nested::Text(b"Europe/Berlin".into())),
        ]);
        assert_eq!(nested(Val::ZonedTimestamp(zoned)), of_zoned);
        assert_eq!(of_texts.bytes(), 3 * 32 + 1);
        assert_eq!(of_zoned.bytes(), 5 * 32 + "unix_timestampzoneEurope/Berlin".len());
    }

    #[test]
    fn what_is_no_value_is_spoilt() {
        let mut deep = Val::Int32(1);
        for _ in 0..1_000 {
            deep = Val::List(Values { val: vec![message(deep)] });
        }
        let many_texts = [b"\x62\xff\xff\xff\xff\x0f".as_slice(), &[b'\x0a'; 64]].concat();
        for spoilt in [
            b"\xff".as_slice(),
            // Cut short; longer than what there is; another wire type; no UTF-8; a type
            // that nobody knows.
            b"\x35\0\0\0",
            b"\x12\xff\xff\xff\xff\x0f",
            b"\x12\x05abc",
            b"\x30\x01",
            b"\x12\x02\xff\xfe",
            b"\x9a\x06\x01x",
            b"1.5",
            &many_texts,
            &bytes(deep),
        ] {
            assert!(matches!(Decoded::of(spoilt).found(), Found::Spoilt), "{spoilt:?}");
        }
    }

    #[test]
    fn texts_are_told_from_what_may_take_more() {
        let text = |tag: fn(String) -> Val, length| bytes(tag("x".repeat(length)));
        for length in [0, 1, 127, 128, 20_000] {
            for tag in [Val::String, Val::Json, Val::Uuid, Val::TimeUuid, Val::Decimal] {
                assert!(is_text(&text(tag, length)));
            }
            assert!(is_text(&bytes(Val::Bytes(vec![7; length]))));
        }
        let list = bytes(Val::List(Values::default()));
        for other in [
            b"".as_slice(),
            b"\x12",
            b"\x12\x05x",
            b"\xff",
            &bytes(Val::Int32(1)),
            &list,
            // The last of several counts.
            &[text(Val::String, 3), list.clone()].concat(),
        ] {
            assert!(!is_text(other), "{other:?}");
        }
    }

    #[test]
    fn moments_are_milliseconds() {
        let of = |seconds, nanos| moment(&Timestamp { seconds, nanos }.encode_to_vec());
        assert_eq!(of(1_700_000_000, 123_999_999), Some(1_700_000_000_123));
        assert_eq!(moment(b""), Some(0));
        assert_eq!(of(-1, 0), None);
        assert_eq!(of(1, -1), None);
        assert_eq!(of(i64::MAX, 0), None);
        assert_eq!(moment(b"\x08"), None);
        assert_eq!(moment(b"\x12\x01x"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            tag in 0u8..49,
        ) {
            let framed = [&[tag << 3 | 2, bytes.len() as u8], bytes.as_slice()].concat();
            for bytes in [bytes.as_slice(), &framed] {
                let _ = moment(bytes);
                // A value takes two bytes at least.
                if let Decoded::Nested(nested) = Decoded::of(bytes) {
                    prop_assert!(nested.bytes() <= 64 * (bytes.len() + 2));
                }
            }
        }

        #[test]
        fn numbers_are_kept_bit_by_bit(integer: i64, double: f64, text in "\\PC{0,9}") {
            prop_assert!(is(Val::Int64(integer), Value::I64(integer)));
            prop_assert!(is(Val::Double(double), Value::F64(double)));
            prop_assert!(is(Val::String(text.clone()), Value::String(text.as_bytes())));
        }
    }
}
