//! DUMP payloads made by hand: what the server would refuse for its checksum
//! alone gets a right one, so that it reaches the module.
//!
//!     data · RDB version u16 · CRC-64 u64, both little-endian

/// The bytes behind the data.
pub const FOOTER: usize = 10;

/// CRC-64 as the server computes it: Jones' polynomial, reflected, from zero.
pub fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| {
            let carry = if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            (crc >> 1) ^ carry
        })
    })
}

/// What stands in a payload before its footer.
pub fn data(payload: &[u8]) -> &[u8] {
    &payload[..payload.len() - FOOTER]
}

/// The data with the footer of `like`, its checksum made right.
pub fn sealed(data: &[u8], like: &[u8]) -> Vec<u8> {
    let version = &like[like.len() - FOOTER..like.len() - 8];
    let mut payload = [data, version].concat();
    payload.extend(crc64(&payload).to_le_bytes());
    payload
}

/// The one string that a module's value consists of, short enough for a length of 14
/// bits.
pub fn module_string(payload: &[u8]) -> Vec<u8> {
    // The type of the value, the module's id in nine bytes, what kind of element
    // follows: a string (5). Then its length and bytes; behind it, the end (0).
    let (head, rest) = payload.split_at(11);
    assert_eq!((head[0], head[10]), (7, 5), "a string of a module");
    let (length, rest) = match rest[0] >> 6 {
        0 => (usize::from(rest[0]), &rest[1..]),
        1 => (usize::from(rest[0] & 0x3f) << 8 | usize::from(rest[1]), &rest[2..]),
        kind => panic!("a length of another kind: {kind}"),
    };
    rest[..length].to_vec()
}
