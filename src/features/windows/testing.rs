//! Windows at random, for tests.

use super::super::row::MAX_TIME_MS;
use super::*;
use proptest::prelude::*;

/// A call, and the clock.
#[derive(Clone, Debug)]
pub struct Call {
    /// The spans it names.
    pub spans: Spans,
    /// What it adds.
    pub amount: f64,
    /// When it happened.
    pub at_ms: Millis,
    /// Its number, if it has one.
    pub seq: Option<u64>,
    /// What the clock says.
    pub now_ms: Millis,
}

impl Call {
    /// Whether it would be let through, and taken.
    pub fn would_take(&self, windows: &Windows) -> bool {
        windows.check(&self.spans).is_ok()
            && windows.would_take(&self.spans, self.at_ms, self.seq, self.now_ms)
    }

    /// Makes the call.
    pub fn make(&self, windows: &mut Windows) {
        windows.tally(&self.spans, self.amount, self.at_ms, self.seq, self.now_ms);
    }
}

/// A span of so many tiles.
pub fn span(tile_us: Micros, tiles: u64) -> Span {
    Span::new(tile_us * tiles, tile_us).unwrap()
}

/// Spans that may follow each other, or not.
fn spans() -> impl Strategy<Value = Vec<Spans>> {
    let tile_us = prop::sample::select(vec![1, 7_777, 250_000, 1_000_000, 60_000_000]);
    let tiles = || prop_oneof![1..4u64, 1..20u64, Just(MAX_TILES)];
    (tile_us, 2..5u64, tiles(), tiles(), tiles()).prop_map(|(tile_us, times, a, b, c)| {
        let (one, other) = (span(tile_us, a), span(tile_us, b));
        let coarse = span(tile_us * times, c);
        let third = span(tile_us * 7, c);
        [(one, None), (one, None), (other, None), (one, Some(coarse)), (coarse, Some(third))]
            .map(|(first, second)| Spans::new(first, second).unwrap())
            .into()
    })
}

/// Calls with these amounts. Events come late, early and twice; the clock stands,
/// goes on, and now and then jumps, both ways.
pub fn calls(amount: impl Strategy<Value = f64>) -> impl Strategy<Value = Vec<Call>> {
    let quarters = prop_oneof![
        6 => 0..3i64,
        3 => 0..20i64,
        1 => -300..300i64,
        1 => -40_000..40_000i64,
    ];
    let late = prop_oneof![4 => Just(0i64), 4 => 0..12i64, 2 => -9..90i64, 1 => -400..400i64];
    let seq = prop::option::of(0..60u64);
    let start_ms = prop_oneof![Just(0u64), Just(1_800_000_000_123u64), Just(MAX_TIME_MS)];
    let call = (quarters, late, amount, seq, any::<prop::sample::Index>());
    let calls = prop::collection::vec(call, 1..40);
    (spans(), start_ms, calls).prop_map(|(spans, mut now_ms, calls)| {
        let quarter_ms = (spans[0][0].tile_us / 4_000).max(1);
        let moved = |moment: Millis, quarters: i64| {
            let step_ms = quarters * i64::try_from(quarter_ms).unwrap();
            moment.saturating_add_signed(step_ms).min(MAX_TIME_MS)
        };
        let call = |(quarters, late, amount, seq, which): (_, i64, _, _, _)| {
            now_ms = moved(now_ms, quarters);
            let which: prop::sample::Index = which;
            let spans = spans[which.index(spans.len())].clone();
            Call { spans, amount, at_ms: moved(now_ms, -late), seq, now_ms }
        };
        calls.into_iter().map(call).collect()
    })
}

/// Amounts of all kinds.
pub fn amounts() -> impl Strategy<Value = f64> {
    let any = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |one| one.is_finite());
    let extremes = vec![0.0, -0.0, f64::MAX, f64::MIN, 5e-324, 1.0, -1.0, 0.1];
    prop_oneof![any, prop::sample::select(extremes)]
}

/// The windows that calls lead to.
pub fn tallied(calls: &[Call]) -> Windows {
    let mut windows = Windows::default();
    for call in calls {
        if call.would_take(&windows) {
            call.make(&mut windows);
        }
    }
    windows
}
