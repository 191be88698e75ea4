//! Probabilistic early recomputation: A. Vattani, F. Chierichetti, K. Lowenstein,
//! "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015, the algorithm
//! the paper calls XFetch.
//!
//! Each reader of an answer that is still true decides on its own whether to
//! compute it anew, the sooner before its expiry the likelier: when
//! `now − δ·β·ln(u)` is past the expiry, where δ is what computing it took, and
//! u is drawn evenly from (0, 1]. With β = 1 this keeps the expected size of a
//! stampede constant whatever the rate of reads; more recomputes earlier.

use crate::lifetime::Lifetime;
use crate::time::Millis;

/// Whether to compute a fresh answer anew already. `fraction` is drawn evenly
/// from [0, 1). An answer whose cost nobody measured is never early.
pub fn is_early(lifetime: &Lifetime, beta: f64, fraction: f64, now_ms: Millis) -> bool {
    let left_ms = lifetime.expires_at_ms.saturating_sub(now_ms) as f64;
    // 1 − fraction is in (0, 1]: its logarithm is finite and not positive.
    let ahead_ms = -f64::from(lifetime.cost_ms) * beta * (1.0 - fraction).ln();
    ahead_ms > 0.0 && ahead_ms >= left_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime(cost_ms: u32) -> Lifetime {
        Lifetime { expires_at_ms: 10_000, stale_until_ms: 10_000, written_at_ms: 0, cost_ms }
    }

    /// The share of early reads is exp(−left / (δ·β)): what the rule says when
    /// it is solved for u.
    #[test]
    fn early_is_as_likely_as_the_paper_says() {
        const DRAWS: u32 = 200_000;
        for (cost_ms, beta, left_ms) in [
            (100, 1.0, 50),
            (100, 1.0, 100),
            (100, 1.0, 300),
            (100, 2.0, 300),
            (100, 0.5, 100),
            (7, 1.0, 14),
            (1_000, 1.5, 1),
        ] {
            let now_ms = 10_000 - left_ms;
            let draws = (0..DRAWS).map(|draw| f64::from(draw) / f64::from(DRAWS));
            let early = draws.filter(|u| is_early(&lifetime(cost_ms), beta, *u, now_ms)).count();
            let share = early as f64 / f64::from(DRAWS);
            let expected = (-(left_ms as f64) / (f64::from(cost_ms) * beta)).exp();
            assert!(
                (share - expected).abs() < 1e-4,
                "{cost_ms} {beta} {left_ms}: {share} {expected}"
            );
        }
    }

    #[test]
    fn an_answer_of_unknown_cost_and_a_reader_of_no_luck_are_never_early() {
        assert!(!is_early(&lifetime(0), 1_000.0, 0.999_999, 9_999));
        assert!(!is_early(&lifetime(1_000), 1.0, 0.0, 9_999));
        assert!(is_early(&lifetime(1_000), 1.0, 0.5, 9_999));
        assert!(!is_early(&lifetime(u32::MAX), 0.000_001, 0.5, 0));
    }
}
