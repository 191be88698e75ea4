//! Windows beside an oracle that keeps every event, and what no chance finds.

use super::testing::*;
use super::*;
use crate::features::value::Value;
use proptest::prelude::*;
use std::collections::BTreeMap;

const MINUTE_US: Micros = 60_000_000;
const MINUTE_MS: Millis = 60_000;

const ALL: [Aggregate; 6] = [
    Aggregate::Count,
    Aggregate::Sum,
    Aggregate::Mean,
    Aggregate::Min,
    Aggregate::Max,
    Aggregate::Std,
];

/// What a read finds, if there are events for it.
type Read = Option<Value<'static>>;

fn hour() -> Spans {
    Spans::new(span(MINUTE_US, 60), None).unwrap()
}

/// An hour by minutes, of events that come as they happen.
fn by_minutes(events: &[(Millis, f64)]) -> Windows {
    let mut windows = Windows::default();
    for (at_ms, amount) in events {
        windows.tally(&hour(), *amount, *at_ms, None, *at_ms);
    }
    windows
}

fn read(windows: &Windows, aggregate: Aggregate, minutes: u64, now_ms: Millis) -> Read {
    find(windows, aggregate, minutes * MINUTE_US, micros(now_ms))
}

/// What an aggregate comes to, of a span that there is.
fn find(windows: &Windows, aggregate: Aggregate, span_us: Micros, now_us: Micros) -> Read {
    windows.summary(span_us, now_us, aggregate == Aggregate::Std).unwrap().read(aggregate)
}

fn double(value: f64) -> Read {
    Some(Value::F64(value))
}

fn count(events: i64) -> Read {
    Some(Value::I64(events))
}

fn value(read: Read) -> f64 {
    let Some(Value::F64(value)) = read else { panic!("{read:?}") };
    value
}

/// Every event, by the ring's tile: when it happened, and its amount, an integer.
#[derive(Default)]
struct Oracle {
    rings: BTreeMap<Micros, (u64, Vec<(Micros, i128)>)>,
    last_seq: Option<u64>,
}

/// By how many tiles an event is older than the clock.
fn age(tile_us: Micros, at_us: Micros, now_us: Micros) -> i128 {
    i128::from(now_us / tile_us) - i128::from(at_us / tile_us)
}

fn is_kept(tile_us: Micros, tiles: u64, at_us: Micros, now_us: Micros) -> bool {
    let tiles = i128::from(tiles);
    (-tiles - 1..tiles).contains(&age(tile_us, at_us, now_us))
}

impl Oracle {
    fn check(&self, spans: &Spans) -> bool {
        let named: Vec<_> = spans.iter().map(|span| span.tile_us).collect();
        let living: Vec<_> = self.rings.keys().copied().collect();
        named.iter().all(|tile| living.contains(tile))
            || living.iter().all(|tile| named.contains(tile))
    }

    /// Takes the event if any ring does.
    fn take(&mut self, call: &Call) -> bool {
        let (at_us, now_us) = (call.at_ms * 1_000, call.now_ms * 1_000);
        let mut tiles: BTreeMap<_, _> =
            self.rings.iter().map(|(tile_us, (tiles, _))| (*tile_us, *tiles)).collect();
        tiles.extend(call.spans.iter().map(|span| (span.tile_us, span.span_us / span.tile_us)));
        let fits = |(tile_us, tiles): (&Micros, &u64)| is_kept(*tile_us, *tiles, at_us, now_us);
        let is_seen = call.seq.is_some_and(|seq| Some(seq) <= self.last_seq);
        if is_seen || !tiles.iter().any(fits) {
            return false;
        }
        for (tile_us, tiles) in tiles {
            let ring = self.rings.entry(tile_us).or_default();
            ring.0 = tiles;
            ring.1.push((at_us, call.amount as i128));
            ring.1.retain(|(at_us, _)| is_kept(tile_us, tiles, *at_us, now_us));
        }
        self.last_seq = call.seq.or(self.last_seq);
        true
    }

    /// The amounts that a read finds, if it finds a ring.
    fn read(&self, span_us: Micros, now_us: Micros) -> Option<Vec<i128>> {
        let fits = |tile_us: &Micros, tiles: u64| {
            span_us >= *tile_us && span_us.is_multiple_of(*tile_us) && span_us / tile_us <= tiles
        };
        let (tile_us, (_, events)) =
            self.rings.iter().find(|(tile_us, (tiles, _))| fits(tile_us, *tiles))?;
        let ages = 0..i128::from(span_us / tile_us);
        let counted = events.iter().filter(|(at, _)| ages.contains(&age(*tile_us, *at, now_us)));
        Some(counted.map(|(_, amount)| *amount).collect())
    }
}

/// Integers that lose nothing as doubles, however many are added, and a sum that
/// squares would lose.
fn integers() -> impl Strategy<Value = f64> {
    let integer = prop_oneof![-5..5i64, (1i64 << 40)..(1 << 40) + 9];
    integer.prop_map(|integer| integer as f64)
}

fn assert_reads(windows: &Windows, amounts: Option<&[i128]>, span_us: Micros, now_us: Micros) {
    for aggregate in ALL {
        let Some(amounts) = amounts else {
            assert!(windows.summary(span_us, now_us, true).is_none());
            continue;
        };
        let read = find(windows, aggregate, span_us, now_us);
        let events = amounts.len() as i128;
        let sum: i128 = amounts.iter().sum();
        let expected = match aggregate {
            Aggregate::Count => count(amounts.len() as i64),
            Aggregate::Sum => double(sum as f64),
            _ if amounts.is_empty() => None,
            Aggregate::Mean => double(sum as f64 / events as f64),
            Aggregate::Min => double(*amounts.iter().min().unwrap() as f64),
            Aggregate::Max => double(*amounts.iter().max().unwrap() as f64),
            Aggregate::Std => {
                let squares: i128 = amounts.iter().map(|amount| amount * amount).sum();
                let exact = ((events * squares - sum * sum) as f64).sqrt() / events as f64;
                let std = value(read);
                assert!((std - exact).abs() <= 1e-3 + exact * 1e-12, "{std} {exact}");
                continue;
            }
        };
        assert_eq!(read, expected, "{aggregate:?} of {amounts:?}");
    }
}

proptest! {
    /// The oracle keeps every event of every ring, and counts those of the right
    /// age. Late events, early ones, those delivered again, gaps longer than the
    /// span, clocks that jump, spans that change.
    #[test]
    fn a_read_finds_the_events_of_its_tiles(
        calls in calls(integers()),
        spans in prop::collection::vec((any::<prop::sample::Index>(), 0..30u64), 4),
    ) {
        let (mut windows, mut replica) = (Windows::default(), Windows::default());
        let mut oracle = Oracle::default();
        let mut newest_ms = 0;
        for call in calls {
            prop_assert_eq!(windows.check(&call.spans).is_ok(), oracle.check(&call.spans));
            if windows.check(&call.spans).is_err() {
                continue;
            }
            let takes = oracle.take(&call);
            prop_assert_eq!(call.would_take(&windows), takes);
            if takes {
                call.make(&mut windows);
                newest_ms = newest_ms.max(call.at_ms);
                // What was saved and loaded goes on alike.
                let mut payload = Vec::new();
                replica.encode(&mut payload);
                replica = Windows::decode(&mut Reader::new(&payload)).unwrap_or_default();
                call.make(&mut replica);
                prop_assert_eq!(&windows, &replica);
            }
            prop_assert_eq!(windows.last_seq(), oracle.last_seq);
            prop_assert_eq!(windows.newest_ms(), newest_ms);
            let rings: Vec<_> = windows.rings().collect();
            let told = rings.iter().map(|ring| (ring.span.tile_us, ring.events));
            let held = oracle.rings.iter();
            let held = held.map(|(tile_us, (_, events))| (*tile_us, events.len() as u64));
            prop_assert!(told.eq(held));
            for ring in &rings {
                prop_assert!(ring.tiles as u64 <= 2 * ring.span.tiles() + 1);
            }
            let now_us = call.now_ms * 1_000;
            for (which, tiles) in &spans {
                let Some(ring) = rings.get(which.index(rings.len().max(1))) else { continue };
                // Within the span, and a little beyond it.
                let tiles = (ring.span.tiles() + 2).min(*tiles);
                let span_us = tiles * ring.span.tile_us;
                let amounts = oracle.read(span_us, now_us);
                assert_reads(&windows, amounts.as_deref(), span_us, now_us);
            }
            let whole = rings.iter().map(|ring| ring.span.span_us);
            for span_us in whole.flat_map(|span_us| [span_us, span_us + 1]) {
                let amounts = oracle.read(span_us, now_us);
                assert_reads(&windows, amounts.as_deref(), span_us, now_us);
            }
        }
    }

    /// A copy has no memos, and finds the same bits.
    #[test]
    fn what_is_read_again_is_what_is_read_at_first(
        calls in calls(amounts()),
        tiles in prop::collection::vec(1..30u64, 3),
    ) {
        let mut windows = Windows::default();
        for call in &calls {
            if call.would_take(&windows) {
                call.make(&mut windows);
            }
            let copy = windows.clone();
            for ring in windows.rings() {
                let spans = tiles.iter().map(|tiles| tiles * ring.span.tile_us);
                for span_us in spans.chain([ring.span.span_us]) {
                    for now_us in [micros(call.now_ms), micros(call.now_ms) + ring.span.tile_us] {
                        let read = |windows: &Windows| {
                            let summary = windows.summary(span_us, now_us, true)?;
                            Some((summary.tiles, ALL.map(|aggregate| summary.read(aggregate))))
                        };
                        prop_assert_eq!(read(&windows), read(&copy.clone()));
                        prop_assert_eq!(read(&windows), read(&copy.clone()));
                    }
                }
            }
            prop_assert_eq!(&windows, &copy);
        }
    }

    /// While the clock goes on, what was let go would not have been counted: the
    /// oracle forgets nothing.
    #[test]
    fn nothing_is_forgotten_that_counts(
        steps in prop::collection::vec((0..9u64, 0..40u64, integers()), 1..80),
        tiles in 1..12u64,
    ) {
        let spans = Spans::new(span(1_000, tiles), None).unwrap();
        let (mut windows, mut events) = (Windows::default(), Vec::new());
        let mut now_ms = 100;
        for (step_ms, late_ms, amount) in steps {
            now_ms += step_ms;
            let at_ms = now_ms - late_ms;
            let takes = windows.would_take(&spans, at_ms, None, now_ms);
            prop_assert_eq!(takes, late_ms < tiles);
            if takes {
                windows.tally(&spans, amount, at_ms, None, now_ms);
                events.push((at_ms, amount as i128));
            }
            let in_span = events.iter().filter(|(at_ms, _)| now_ms - at_ms < tiles);
            let amounts: Vec<_> = in_span.map(|(_, amount)| *amount).collect();
            if !events.is_empty() {
                assert_reads(&windows, Some(&amounts), tiles * 1_000, now_ms * 1_000);
            }
        }
    }

    /// The exact sum is one of integers: amounts are multiples of 2^-40.
    #[test]
    fn sums_do_not_drift(
        amounts in prop::collection::vec((-(1i64 << 20)..1 << 20, 0..80u32, 0..5u64), 1..300),
        twice: bool,
    ) {
        let ulp = |sum: f64| (f64::from_bits(sum.abs().to_bits() + 1) - sum.abs()) * 2.0;
        let mut windows = Windows::default();
        let (mut exact, mut size) = (0i128, 0f64);
        for sign in [1, -1].iter().take(1 + usize::from(twice)) {
            for (digits, shift, minute) in &amounts {
                let scaled = (i128::from(*digits) * sign) << shift;
                let amount = scaled as f64 / (1u64 << 40) as f64;
                let now_ms = 4 * MINUTE_MS;
                windows.tally(&hour(), amount, minute * MINUTE_MS, None, now_ms);
                exact += scaled;
                size += amount.abs();
            }
        }
        let exact = exact as f64 / (1u64 << 40) as f64;
        let sum = value(read(&windows, Aggregate::Sum, 60, 4 * MINUTE_MS));
        // Twice the precision of a double, and the rounding of the result.
        let count = (2 * amounts.len()) as f64;
        let bound = ulp(exact) + (count * f64::EPSILON).powi(2) * size;
        prop_assert!((sum - exact).abs() <= bound, "{} {}", sum, exact);
    }

    #[test]
    fn equal_amounts_do_not_deviate(amount in amounts(), count in 1..50u64) {
        let events: Vec<_> = (0..count).map(|one| (one * 20_000, amount)).collect();
        let std = read(&by_minutes(&events), Aggregate::Std, 60, 49 * 20_000);
        prop_assert_eq!(std, double(0.0));
    }

    /// Whatever is added, what is read is a number, or NaN of two infinite sums,
    /// and extremes are extremes.
    #[test]
    fn nothing_that_is_added_makes_what_cannot_be(calls in calls(amounts())) {
        let windows = tallied(&calls);
        let Some(last) = calls.last() else { return Ok(()) };
        for ring in windows.rings() {
            let now_us = micros(last.now_ms);
            let read = |aggregate| find(&windows, aggregate, ring.span.span_us, now_us);
            if read(Aggregate::Min).is_none() {
                continue;
            }
            let [min, max, mean, std] =
                [Aggregate::Min, Aggregate::Max, Aggregate::Mean, Aggregate::Std]
                    .map(|aggregate| value(read(aggregate)));
            prop_assert!(min <= max && min.is_finite() && max.is_finite());
            prop_assert!(std >= 0.0, "{}", std);
            prop_assert!(std <= (max - min) * (1.0 + 1e-9) || std.is_infinite());
            let slack = 1e-9 * min.abs().max(max.abs());
            let within = min - slack <= mean && mean <= max + slack;
            prop_assert!(within || !mean.is_finite(), "{} {} {}", min, mean, max);
        }
    }
}

#[test]
fn an_extreme_goes_with_its_tile() {
    let windows = by_minutes(&[(30_000, -9.0), (61_000, 2.0), (62_000, 5.0)]);
    let at = |aggregate, minutes, now_ms| read(&windows, aggregate, minutes, now_ms);
    assert_eq!(at(Aggregate::Min, 2, 119_999), double(-9.0));
    assert_eq!(at(Aggregate::Min, 2, 120_000), double(2.0));
    assert_eq!(at(Aggregate::Max, 1, 119_999), double(5.0));
    assert_eq!(at(Aggregate::Max, 1, 120_000), None);
}

#[test]
fn after_a_gap_nothing_is_left_and_the_lifetime_is_not_counted() {
    let mut windows = by_minutes(&[(0, 1.0), (MINUTE_MS, 2.0)]);
    let later_ms = 200 * MINUTE_MS;
    assert_eq!(read(&windows, Aggregate::Count, 60, later_ms), count(0));
    assert_eq!(read(&windows, Aggregate::Sum, 60, later_ms), double(0.0));
    for aggregate in [Aggregate::Mean, Aggregate::Min, Aggregate::Max, Aggregate::Std] {
        assert_eq!(read(&windows, aggregate, 60, later_ms), None);
    }
    windows.tally(&hour(), 4.0, later_ms, None, later_ms);
    assert_eq!(read(&windows, Aggregate::Sum, 60, later_ms), double(4.0));
    assert_eq!(windows.rings().map(|ring| (ring.tiles, ring.events)).next(), Some((1, 1)));
}

#[test]
fn what_is_older_than_the_span_or_was_seen_is_not_taken() {
    let mut windows = Windows::default();
    let now_ms = 100 * MINUTE_MS;
    let takes = |windows: &Windows, at_ms, seq| windows.would_take(&hour(), at_ms, seq, now_ms);
    assert!(takes(&windows, 41 * MINUTE_MS, None));
    assert!(!takes(&windows, 41 * MINUTE_MS - 1, None));
    windows.tally(&hour(), 1.0, now_ms, Some(7), now_ms);
    assert!(!takes(&windows, now_ms, Some(7)) && !takes(&windows, now_ms, Some(6)));
    assert!(takes(&windows, now_ms, Some(8)) && takes(&windows, now_ms, None));
}

#[test]
fn a_tile_ahead_counts_when_the_clock_has_come_to_it() {
    let mut windows = Windows::default();
    windows.tally(&hour(), 3.0, MINUTE_MS, None, 0);
    assert_eq!(read(&windows, Aggregate::Sum, 60, 0), double(0.0));
    assert_eq!(read(&windows, Aggregate::Sum, 1, MINUTE_MS), double(3.0));
    // A clock that was days ahead, for a moment.
    windows.tally(&hour(), 5.0, 9_999 * MINUTE_MS, None, 9_999 * MINUTE_MS);
    windows.tally(&hour(), 7.0, 2 * MINUTE_MS, None, 2 * MINUTE_MS);
    assert_eq!(read(&windows, Aggregate::Sum, 60, 2 * MINUTE_MS), double(7.0));
    assert_eq!(read(&windows, Aggregate::Sum, 60, 9_999 * MINUTE_MS), double(0.0));
}

/// Each time the newest tile goes and an older one is the newest, until they are
/// farther apart than the bits that a tile keeps of its number tell.
#[test]
fn a_clock_that_steps_back_again_and_again_leaves_tiles_their_numbers() {
    let spans = Spans::new(span(1_000, MAX_TILES), None).unwrap();
    let mut windows = Windows::default();
    let mut now_ms = 50 * MAX_TILES;
    for step in 0..40 {
        windows.tally(&spans, f64::from(step), now_ms, None, now_ms);
        let sum = |at_ms| find(&windows, Aggregate::Sum, 1_000, at_ms * 1_000);
        assert_eq!(sum(now_ms), double(step.into()));
        assert_eq!(sum(now_ms + MAX_TILES), double((step - 1).max(0).into()));
        assert_eq!(sum(now_ms + 2 * MAX_TILES), double(0.0));
        now_ms -= MAX_TILES;
    }
}

#[test]
fn the_finest_ring_is_read_that_the_span_fits() {
    let both = Spans::new(span(MINUTE_US * 60, 24), Some(span(MINUTE_US, 60))).unwrap();
    assert_eq!(both[0].tile_us(), MINUTE_US, "the finest is first");
    let mut windows = Windows::default();
    windows.tally(&both, 1.0, 0, None, 0);
    windows.tally(&both, 1.0, 90 * MINUTE_MS, None, 90 * MINUTE_MS);
    // 60 minutes by minutes, which the first has left; two hours by hours.
    for (minutes, events) in [(60, 1), (120, 2), (24 * 60, 2)] {
        let read = read(&windows, Aggregate::Count, minutes, 90 * MINUTE_MS);
        assert_eq!(read, count(events), "{minutes}");
    }
    let has_no = |span_us| windows.summary(span_us, micros(90 * MINUTE_MS), true).is_none();
    for minutes in [0, 61, 90, 25 * 60] {
        assert!(has_no(minutes * MINUTE_US), "{minutes}");
    }
    assert!(has_no(MINUTE_US + 1));
}

#[test]
fn rings_are_known_by_their_tile() {
    let spans = |first, second| Spans::new(first, second).unwrap();
    let mut windows = by_minutes(&[(0, 1.0), (MINUTE_MS, 2.0)]);
    let (minutes, seconds) = (span(MINUTE_US, 60), span(1_000_000, 60));
    let days = span(1_440 * MINUTE_US, 30);
    assert_eq!(windows.check(&spans(seconds, None)), Err(Misfit::AnotherTile));
    assert_eq!(windows.check(&spans(minutes, Some(seconds))), Ok(()));
    assert_eq!(Windows::default().check(&spans(seconds, Some(days))), Ok(()));
    // A new span at the same tile, at once.
    windows.tally(&spans(span(MINUTE_US, 1), None), 4.0, MINUTE_MS, None, MINUTE_MS);
    assert_eq!(read(&windows, Aggregate::Sum, 1, MINUTE_MS), double(6.0));
    assert!(windows.summary(2 * MINUTE_US, micros(MINUTE_MS), false).is_none());
    // A second ring, which takes what a call that does not name it brings.
    windows.tally(&spans(minutes, Some(seconds)), 8.0, MINUTE_MS, None, MINUTE_MS);
    windows.tally(&hour(), 16.0, MINUTE_MS, None, MINUTE_MS);
    let sum = |span_us| find(&windows, Aggregate::Sum, span_us, micros(MINUTE_MS));
    assert_eq!((sum(2 * MINUTE_US), sum(1_000_000)), (double(30.0), double(24.0)));
    assert_eq!(windows.check(&hour()), Ok(()));
    assert_eq!(windows.check(&spans(days, None)), Err(Misfit::AnotherTile));
    assert_eq!(windows.check(&spans(minutes, Some(days))), Err(Misfit::AnotherTile));
}

#[test]
fn spans_are_of_whole_tiles() {
    assert_eq!(Span::new(60, 60).map(Span::tiles), Ok(1));
    assert_eq!(Span::new(4_096 * 7, 7).map(Span::tiles), Ok(4_096));
    assert_eq!(Span::new(4_097 * 7, 7), Err(Misfit::TooManyTiles));
    for (span_us, tile_us) in [(61, 60), (59, 60), (0, 60), (60, 0), (0, 0), (u64::MAX, 1 << 60)] {
        assert_eq!(Span::new(span_us, tile_us), Err(Misfit::NotWhole), "{span_us} {tile_us}");
    }
    let twice = Spans::new(span(60, 1), Some(span(60, 2)));
    assert_eq!(twice, Err(Misfit::SameTile));
}

#[test]
fn a_tile_takes_six_words_and_one_takes_no_more_room() {
    let mut windows = Windows::default();
    assert_eq!((windows.heap_bytes(), windows.blocks()), (0, 0));
    for (minute, room) in [(0, 1), (1, 2), (2, 4), (4, 8), (59, 60), (60, 60), (300, 15)] {
        while windows.newest_ms() < minute * MINUTE_MS {
            let at_ms = match minute {
                300 => 300 * MINUTE_MS,
                _ => windows.newest_ms() + MINUTE_MS,
            };
            windows.tally(&hour(), 1.0, at_ms, None, at_ms);
        }
        windows.tally(&hour(), 1.0, minute * MINUTE_MS, None, minute * MINUTE_MS);
        assert_eq!((windows.heap_bytes(), windows.blocks()), (room * 48, 1), "{minute}");
    }
    let both = Spans::new(span(MINUTE_US, 60), Some(span(1_000, 60))).unwrap();
    windows.tally(&both, 1.0, 300 * MINUTE_MS, None, 300 * MINUTE_MS);
    assert_eq!(windows.blocks(), 3);
}

#[test]
fn what_closed_tiles_come_to_is_kept_until_one_changes() {
    let minutes: Vec<_> = (0..60).map(|minute| (minute * MINUTE_MS, 1.0)).collect();
    let mut windows = by_minutes(&minutes);
    let kept = |windows: &Windows| (windows.heap_bytes() - 60 * 48, windows.blocks() - 1);
    let sum = |windows: &Windows, minutes| read(windows, Aggregate::Sum, minutes, 59 * MINUTE_MS);
    assert_eq!(kept(&windows), (0, 0));
    for _ in 0..2 {
        assert_eq!(sum(&windows, 60), double(60.0));
        assert_eq!(kept(&windows), (72, 1));
    }
    for minutes in [10, 20, 30, 40, 50] {
        assert_eq!(sum(&windows, minutes), double(minutes as f64));
    }
    assert_eq!(kept(&windows), (4 * 72, 1), "no more than four");
    assert_eq!((kept(&windows.clone()), &windows.clone()), ((0, 0), &windows), "a copy has none");
    // The running tile is in none.
    windows.tally(&hour(), 5.0, 59 * MINUTE_MS, None, 59 * MINUTE_MS);
    assert_eq!((sum(&windows, 60), kept(&windows)), (double(65.0), (4 * 72, 1)));
    windows.tally(&hour(), 7.0, 58 * MINUTE_MS, None, 59 * MINUTE_MS);
    assert_eq!(kept(&windows), (0, 0), "late");
    assert_eq!((sum(&windows, 60), sum(&windows, 10)), (double(72.0), double(22.0)));
    assert_eq!(kept(&windows), (2 * 72, 1));
    // A minute later they are others, of which one has lost its first tile.
    let later = |minutes| read(&windows, Aggregate::Sum, minutes, 60 * MINUTE_MS);
    assert_eq!((later(60), kept(&windows)), (double(71.0), (72, 1)));
    windows.tally(&hour(), 1.0, 60 * MINUTE_MS, None, 60 * MINUTE_MS);
    assert_eq!(kept(&windows), (0, 0), "the first has gone");
    assert_eq!(read(&windows, Aggregate::Sum, 60, 60 * MINUTE_MS), double(72.0));
    windows.relocate(|_| {});
    assert_eq!(kept(&windows), (0, 0), "nothing but tiles is left to be moved");
}

#[test]
fn a_sum_that_has_overflown_stays_infinite() {
    let minute = |amounts: &[f64]| {
        by_minutes(&amounts.iter().map(|amount| (7, *amount)).collect::<Vec<_>>())
    };
    let windows = minute(&[f64::MAX, f64::MAX, f64::MIN, f64::MIN]);
    let at = |aggregate| read(&windows, aggregate, 1, 7);
    assert_eq!(at(Aggregate::Sum), double(f64::INFINITY));
    assert_eq!(at(Aggregate::Mean), double(f64::INFINITY));
    assert_eq!(at(Aggregate::Std), double(f64::INFINITY));
    assert_eq!(at(Aggregate::Min), double(f64::MIN));
    let windows = minute(&[f64::MAX, f64::MIN, 1.0]);
    assert_eq!(read(&windows, Aggregate::Sum, 1, 7), double(1.0));
    // Two tiles that overflow both ways have no sum: one NaN on every processor.
    let (one, other) = (f64::MAX, f64::MIN);
    let windows = by_minutes(&[(0, one), (0, one), (MINUTE_MS, other), (MINUTE_MS, other)]);
    let sum = value(read(&windows, Aggregate::Sum, 2, MINUTE_MS));
    assert_eq!(sum.to_bits(), f64::NAN.to_bits());
    assert_eq!(read(&windows, Aggregate::Std, 2, MINUTE_MS), double(f64::INFINITY));
}

#[test]
fn an_aggregate_has_a_name() {
    let names = [&b"count"[..], b"sum", b"mean", b"min", b"max", b"std"];
    assert_eq!(names.map(Aggregate::from_name), ALL.map(Some));
    for name in [&b""[..], b"SUM", b"su", b"sums", b"avg"] {
        assert_eq!(Aggregate::from_name(name), None);
    }
}

#[test]
fn an_amount_that_is_not_finite_is_loud() {
    for amount in [f64::NAN, f64::INFINITY] {
        std::panic::catch_unwind(|| by_minutes(&[(0, amount)])).unwrap_err();
    }
}
