//! The payload of a limiter: what RDB files, DUMP and replication carry.
//!
//! ```text
//! version u8 = 1 · limit u64 · window_us u64 · opened_us u64 · used u64
//! ```

use super::fixed::Fixed;
use super::limiter::Limiter;
use super::policy::{MAX_AMOUNT, MAX_WINDOW_US, MIN_WINDOW_US, Policy};
use crate::wire::Reader;

const VERSION: u8 = 1;

/// The latest moment a payload may name, so that no sum with a window wraps:
/// some 146,000 years from now.
const MAX_TIME_US: u64 = 1 << 62;

/// Appends the payload.
pub fn encode(limiter: &Limiter, out: &mut Vec<u8>) {
    let Limiter { policy, window } = limiter;
    out.push(VERSION);
    for field in [policy.limit, policy.window_us, window.opened_us, window.used] {
        out.extend(field.to_le_bytes());
    }
}

/// Reads a payload; `None` unless every field is one that a limiter can have.
pub fn decode(payload: &[u8]) -> Option<Limiter> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return None;
    }
    let policy = Policy { limit: reader.u64()?, window_us: reader.u64()? };
    let window = Fixed { opened_us: reader.u64()?, used: reader.u64()? };
    reader.end()?;
    let sound = policy.limit <= MAX_AMOUNT
        && (MIN_WINDOW_US..=MAX_WINDOW_US).contains(&policy.window_us)
        && window.opened_us <= MAX_TIME_US;
    sound.then_some(Limiter { policy, window })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(limiter: &Limiter) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(limiter, &mut payload);
        payload
    }

    proptest! {
        #[test]
        fn comes_back_as_it_went(
            limit in 0..=MAX_AMOUNT,
            window_us in MIN_WINDOW_US..=MAX_WINDOW_US,
            opened_us in 0..=MAX_TIME_US,
            used: u64,
        ) {
            let policy = Policy { limit, window_us };
            let limiter = Limiter { policy, window: Fixed { opened_us, used } };
            let payload = encoded(&limiter);
            for end in 0..payload.len() {
                prop_assert_eq!(decode(&payload[..end]), None, "cut at {}", end);
            }
            prop_assert_eq!(decode(&[payload.as_slice(), b"x"].concat()), None);
            prop_assert_eq!(decode(&payload), Some(limiter));
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(limiter) = decode(&payload) {
                prop_assert_eq!(encoded(&limiter), payload);
            }
        }
    }

    #[test]
    fn a_limiter_that_nobody_has_charged_comes_back() {
        assert_eq!(decode(&encoded(&Limiter::default())), Some(Limiter::default()));
    }

    #[test]
    fn refuses_what_no_limiter_has() {
        let policy = Policy { limit: 1, window_us: 1_000 };
        let sound = Limiter { policy, window: Fixed::default() };
        assert_eq!(decode(&encoded(&sound)), Some(sound.clone()));
        let with_policy = |limit, window_us| {
            encoded(&Limiter { policy: Policy { limit, window_us }, ..sound.clone() })
        };
        assert_eq!(decode(&with_policy(MAX_AMOUNT + 1, 1_000)), None);
        assert_eq!(decode(&with_policy(1, 999)), None);
        assert_eq!(decode(&with_policy(1, MAX_WINDOW_US + 1)), None);
        let late = Fixed { opened_us: MAX_TIME_US + 1, used: 0 };
        assert_eq!(decode(&encoded(&Limiter { window: late, ..sound.clone() })), None);
        let mut unknown = encoded(&sound);
        unknown[0] = VERSION + 1;
        assert_eq!(decode(&unknown), None);
    }
}
