//! The messages of Feast's protocol, `feast/types/Value.proto` of Feast 0.67, and
//! protobuf's own `Timestamp`. Lists and sets of one type are one message.

use prost::{Message, Oneof};

/// A value of a feature.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(
        oneof = "Val",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, \
            27, 28, 29, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48"
    )]
    pub val: Option<Val>,
}

/// What it is.
#[derive(Clone, PartialEq, Oneof)]
pub enum Val {
    #[prost(bytes = "vec", tag = "1")]
    Bytes(Vec<u8>),
    #[prost(string, tag = "2")]
    String(String),
    #[prost(int32, tag = "3")]
    Int32(i32),
    #[prost(int64, tag = "4")]
    Int64(i64),
    #[prost(double, tag = "5")]
    Double(f64),
    #[prost(float, tag = "6")]
    Float(f32),
    #[prost(bool, tag = "7")]
    Bool(bool),
    #[prost(int64, tag = "8")]
    UnixTimestamp(i64),
    #[prost(message, tag = "11")]
    BytesList(Blobs),
    #[prost(message, tag = "12")]
    StringList(Texts),
    #[prost(message, tag = "13")]
    Int32List(Int32s),
    #[prost(message, tag = "14")]
    Int64List(Int64s),
    #[prost(message, tag = "15")]
    DoubleList(Doubles),
    #[prost(message, tag = "16")]
    FloatList(Floats),
    #[prost(message, tag = "17")]
    BoolList(Bools),
    #[prost(message, tag = "18")]
    UnixTimestampList(Int64s),
    #[prost(int32, tag = "19")]
    Null(i32),
    #[prost(message, tag = "20")]
    Map(Map),
    #[prost(message, tag = "21")]
    MapList(Maps),
    #[prost(message, tag = "22")]
    BytesSet(Blobs),
    #[prost(message, tag = "23")]
    StringSet(Texts),
    #[prost(message, tag = "24")]
    Int32Set(Int32s),
    #[prost(message, tag = "25")]
    Int64Set(Int64s),
    #[prost(message, tag = "26")]
    DoubleSet(Doubles),
    #[prost(message, tag = "27")]
    FloatSet(Floats),
    #[prost(message, tag = "28")]
    BoolSet(Bools),
    #[prost(message, tag = "29")]
    UnixTimestampSet(Int64s),
    #[prost(string, tag = "32")]
    Json(String),
    #[prost(message, tag = "33")]
    JsonList(Texts),
    #[prost(message, tag = "34")]
    Struct(Map),
    #[prost(message, tag = "35")]
    StructList(Maps),
    #[prost(string, tag = "36")]
    Uuid(String),
    #[prost(string, tag = "37")]
    TimeUuid(String),
    #[prost(message, tag = "38")]
    UuidList(Texts),
    #[prost(message, tag = "39")]
    TimeUuidList(Texts),
    #[prost(message, tag = "40")]
    UuidSet(Texts),
    #[prost(message, tag = "41")]
    TimeUuidSet(Texts),
    #[prost(message, tag = "42")]
    List(Values),
    #[prost(message, tag = "43")]
    Set(Values),
    #[prost(string, tag = "44")]
    Decimal(String),
    #[prost(message, tag = "45")]
    DecimalList(Texts),
    #[prost(message, tag = "46")]
    DecimalSet(Texts),
    #[prost(message, tag = "47")]
    ScalarMap(ScalarMap),
    #[prost(message, tag = "48")]
    ZonedTimestamp(ZonedTimestamp),
}

/// Texts.
#[derive(Clone, PartialEq, Message)]
pub struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub val: Vec<String>,
}

/// Bytes.
#[derive(Clone, PartialEq, Message)]
pub struct Blobs {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub val: Vec<Vec<u8>>,
}

/// Integers of 32 bits.
#[derive(Clone, PartialEq, Message)]
pub struct Int32s {
    #[prost(int32, repeated, tag = "1")]
    pub val: Vec<i32>,
}

/// Integers of 64 bits.
#[derive(Clone, PartialEq, Message)]
pub struct Int64s {
    #[prost(int64, repeated, tag = "1")]
    pub val: Vec<i64>,
}

/// Doubles.
#[derive(Clone, PartialEq, Message)]
pub struct Doubles {
    #[prost(double, repeated, tag = "1")]
    pub val: Vec<f64>,
}

/// Singles.
#[derive(Clone, PartialEq, Message)]
pub struct Floats {
    #[prost(float, repeated, tag = "1")]
    pub val: Vec<f32>,
}

/// Booleans.
#[derive(Clone, PartialEq, Message)]
pub struct Bools {
    #[prost(bool, repeated, tag = "1")]
    pub val: Vec<bool>,
}

/// Values of any type.
#[derive(Clone, PartialEq, Message)]
pub struct Values {
    #[prost(message, repeated, tag = "1")]
    pub val: Vec<Value>,
}

/// Maps.
#[derive(Clone, PartialEq, Message)]
pub struct Maps {
    #[prost(message, repeated, tag = "1")]
    pub val: Vec<Map>,
}

/// Values by name, as pairs: in the order in which they were written.
#[derive(Clone, PartialEq, Message)]
pub struct Map {
    #[prost(message, repeated, tag = "1")]
    pub val: Vec<Entry>,
}

/// A pair of a map.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, tag = "2")]
    pub value: Option<Value>,
}

/// Values by what is a single value itself.
#[derive(Clone, PartialEq, Message)]
pub struct ScalarMap {
    #[prost(message, repeated, tag = "1")]
    pub val: Vec<ScalarEntry>,
}

/// A pair of such a map.
#[derive(Clone, PartialEq, Message)]
pub struct ScalarEntry {
    #[prost(message, tag = "1")]
    pub key: Option<MapKey>,
    #[prost(message, tag = "2")]
    pub value: Option<Value>,
}

/// What a value is looked up by.
#[derive(Clone, PartialEq, Message)]
pub struct MapKey {
    #[prost(oneof = "Key", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub key: Option<Key>,
}

/// What it is.
#[derive(Clone, PartialEq, Oneof)]
pub enum Key {
    #[prost(int32, tag = "1")]
    Int32(i32),
    #[prost(int64, tag = "2")]
    Int64(i64),
    #[prost(float, tag = "3")]
    Float(f32),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(bool, tag = "5")]
    Bool(bool),
    #[prost(int64, tag = "6")]
    UnixTimestamp(i64),
    #[prost(bytes = "vec", tag = "7")]
    Bytes(Vec<u8>),
    #[prost(string, tag = "8")]
    Uuid(String),
    #[prost(string, tag = "9")]
    TimeUuid(String),
    #[prost(string, tag = "10")]
    Decimal(String),
}

/// A moment in the time of a zone.
#[derive(Clone, PartialEq, Message)]
pub struct ZonedTimestamp {
    #[prost(int64, tag = "1")]
    pub unix_timestamp: i64,
    #[prost(string, tag = "2")]
    pub zone: String,
}

/// A moment, `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
