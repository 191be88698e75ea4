//! Hash slots: where a cluster keeps a key, by the CRC16 (XMODEM) of its hash tag.

use crate::namespace::hash_tag;

const SLOTS: u16 = 16_384;

/// The generator of CRC16 (XMODEM), without its highest term.
const GENERATOR: u16 = 0x1021;

/// A hash tag of two bytes in the slot of a key. Every sum is that of two bytes, and a
/// slot has four sums: of one at least no byte is the brace that would end the tag.
pub(super) fn short_tag(key: &[u8]) -> [u8; 2] {
    let first = crc16(hash_tag(key)) % SLOTS;
    let tags = (0..4).map(|nth| bytes_of(first + nth * SLOTS));
    tags.filter(|tag| !tag.contains(&b'}')).min().unwrap_or_default()
}

/// The sum of some bytes.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        // Eight steps at once: the generator has three terms below the highest.
        let out = (crc >> 8) ^ u16::from(*byte);
        let out = out ^ (out >> 4);
        (crc << 8) ^ (out << 12) ^ (out << 5) ^ out
    })
}

/// The two bytes of a sum: its steps taken back.
fn bytes_of(crc: u16) -> [u8; 2] {
    let back = |crc: u16| match crc & 1 {
        0 => crc >> 1,
        _ => ((crc ^ GENERATOR) >> 1) | 0x8000,
    };
    (0..16).fold(crc, |crc, _| back(crc)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn each_slot_has_a_short_tag_that_no_brace_ends() {
        for slot in 0..SLOTS {
            let key = [b"{".as_slice(), &bytes_of(slot), b"}"].concat();
            // What a tag cannot have in it is a key of no tag.
            let key = if bytes_of(slot).contains(&b'}') { &bytes_of(slot) } else { &*key };
            let tag = short_tag(key);
            assert!(!tag.contains(&b'}'), "{slot}");
            assert_eq!(crc16(&tag) % SLOTS, slot);
        }
    }
}
