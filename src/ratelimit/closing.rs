//! Windows that close at a moment: the end of the day, the week or the month, in UTC,
//! or one that the caller names.
//!
//! What was charged before the close counts until then. A window is known by its
//! word, not by its length: a charge keeps what is used and moves the close to the
//! one that it names.

use super::meter::{Meter, Position, Settlement};
use super::policy::{Cost, MAX_WINDOW_US, Policy};
use super::quota::Quota;
use crate::bug;
use crate::time::{MICROS_PER_SECOND, Micros};

/// When a window closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// At midnight.
    Day,
    /// At the midnight before Monday.
    Week,
    /// At the midnight before the first.
    Month,
    /// When the caller says.
    Until,
}

const DAY_US: Micros = 86_400 * MICROS_PER_SECOND;

impl Close {
    /// All of them; the index of each is its number in payloads.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Until];

    /// The keyword that names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "DAY",
            Self::Week => "WEEK",
            Self::Month => "MONTH",
            Self::Until => "UNTIL",
        }
    }

    /// The next close after `now_us`; the latest one that a caller may name.
    pub fn next(self, now_us: Micros) -> Micros {
        let today = now_us / DAY_US;
        match self {
            Self::Day => (today + 1) * DAY_US,
            // The epoch was a Thursday.
            Self::Week => (today + 7 - (today + 3) % 7) * DAY_US,
            Self::Month => next_month(today) * DAY_US,
            Self::Until => now_us + MAX_WINDOW_US,
        }
    }
}

/// The first day of the month after that of a day, both since the epoch, by the
/// calendar of Gregory, which repeats itself every 400 years.
fn next_month(day: u64) -> u64 {
    // Counted from the first of March 2000, so that a leap day is the last of its
    // year: "chrono-compatible low-level date algorithms" (Hinnant, 2013).
    const ERA_DAYS: u64 = 146_097;
    const MARCH_2000: u64 = 11_017;
    // Some eras before, as a day of the epoch's years has to be after it.
    let since = day + ERA_DAYS - MARCH_2000;
    let (era, day_of_era) = (since / ERA_DAYS, since % ERA_DAYS);
    let year =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / (ERA_DAYS - 1)) / 365;
    let first_of_year = |year: u64| 365 * year + year / 4 - year / 100 + year / 400;
    let day_of_year = day_of_era - first_of_year(year);
    let month = (5 * day_of_year + 2) / 153;
    let first_of_next = match month {
        11 => first_of_year(year + 1),
        _ => first_of_year(year) + (153 * (month + 1) + 2) / 5,
    };
    era * ERA_DAYS + first_of_next + MARCH_2000 - ERA_DAYS
}

/// What is used of a window that closes at a moment. The default is one that has
/// closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// When it closes.
    pub closes_us: Micros,
    /// What has been charged since it opened.
    pub used: u64,
    /// How many opened before it: the position of all charges in it.
    pub opened: u64,
}

impl Closing {
    /// The close, as it is to be seen at `now_us`: after the clock stepped back, the
    /// latest that a call could name now.
    fn closes_us(&self, policy: &Policy, now_us: Micros) -> Micros {
        self.closes_us.min(latest_us(policy, now_us))
    }
}

/// The latest close that a call could name now.
fn latest_us(policy: &Policy, now_us: Micros) -> Micros {
    match policy.close() {
        Some(close) => close.next(now_us),
        None => bug("a window that closes at a moment, but at none"),
    }
}

impl Meter for Closing {
    fn is_ahead(&self, policy: &Policy, now_us: Micros) -> bool {
        self.closes_us(policy, now_us) != self.closes_us
    }

    fn rewind_to<'p>(
        &mut self,
        policy: &Policy,
        _: impl Iterator<Item = &'p mut Position>,
        now_us: Micros,
    ) {
        self.closes_us = self.closes_us(policy, now_us);
    }

    fn used(&self, policy: &Policy, now_us: Micros) -> u64 {
        if now_us < self.closes_us(policy, now_us) { self.used } else { 0 }
    }

    fn quota(&self, policy: &Policy, capacity: u64, cost: Cost, now_us: Micros) -> Quota {
        let used = self.used(policy, now_us);
        let closes_after_us = match used {
            0 => 0,
            _ => self.closes_us(policy, now_us) - now_us,
        };
        Quota::counted(capacity, used, cost, closes_after_us)
    }

    /// The policy is the caller's, with the close that it names; what is charged late,
    /// under one that is over, is charged to the day, week or month of now.
    fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Position {
        if now_us >= self.closes_us(policy, now_us) {
            self.used = 0;
            self.opened = self.opened.wrapping_add(1);
        }
        self.closes_us = match (policy.close(), policy.closes_us()) {
            (Some(Close::Day | Close::Week | Close::Month), Some(over_us)) if over_us <= now_us => {
                latest_us(policy, now_us)
            }
            (_, Some(closes_us)) => closes_us,
            (_, None) => bug("a window that closes at a moment, but at none"),
        };
        self.used = self.used.saturating_add(cost);
        Position(self.opened)
    }

    /// A window that has closed since is left alone.
    fn settle(&mut self, policy: &Policy, settlement: &Settlement, now_us: Micros) -> Cost {
        if settlement.position == Position(self.opened) && self.used(policy, now_us) > 0 {
            self.used = settlement.correct(self.used);
        }
        0
    }

    fn reset_at(&self, _: &Policy) -> Micros {
        if self.used == 0 { 0 } else { self.closes_us }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, no_positions};
    use super::*;
    use crate::bounds::{MAX_AMOUNT, MAX_TIME_US};
    use proptest::prelude::*;

    /// A moment of the calendar, in microseconds since the epoch: every day since is
    /// counted one by one.
    fn at(year: u64, month: usize, day: u64, second: u64) -> Micros {
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let days_of = |year, month: usize| match month {
            2 if is_leap(year) => 29,
            month => [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1],
        };
        let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
        let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
        (years + months + day - 1) * DAY_US + second * MICROS_PER_SECOND
    }

    #[test]
    fn a_month_closes_in_its_last_second_and_february_in_a_leap_year_on_the_29th() {
        for (now_us, next_us) in [
            (at(2026, 11, 30, 86_399), at(2026, 12, 1, 0)),
            (at(2026, 12, 1, 0), at(2027, 1, 1, 0)),
            (at(2026, 12, 31, 86_399), at(2027, 1, 1, 0)),
            (at(2024, 2, 28, 86_399), at(2024, 3, 1, 0)),
            (at(2024, 2, 29, 0), at(2024, 3, 1, 0)),
            (at(2023, 2, 28, 86_399), at(2023, 3, 1, 0)),
            (at(2000, 2, 28, 86_399), at(2000, 3, 1, 0)),
            (at(2100, 2, 28, 86_399), at(2100, 3, 1, 0)),
            (at(1970, 1, 1, 0), at(1970, 2, 1, 0)),
        ] {
            assert_eq!(Close::Month.next(now_us), next_us, "after {now_us}");
        }
    }

    #[test]
    fn each_month_of_a_thousand_years_closes_where_the_next_begins() {
        let months = (1970..2970).flat_map(|year| (1..=12).map(move |month| (year, month)));
        let firsts: Vec<_> = months.map(|(year, month)| at(year, month, 1, 0)).collect();
        for pair in firsts.windows(2) {
            for now_us in [pair[0], pair[0] + 1, pair[1] - 1] {
                assert_eq!(Close::Month.next(now_us), pair[1]);
            }
        }
    }

    #[test]
    fn a_week_goes_from_monday_to_monday_over_new_year_too() {
        // The first of January 2026 was a Thursday.
        for (now_us, next_us) in [
            (at(2025, 12, 29, 0), at(2026, 1, 5, 0)),
            (at(2025, 12, 31, 86_399), at(2026, 1, 5, 0)),
            (at(2026, 1, 4, 86_399), at(2026, 1, 5, 0)),
            (at(2026, 1, 5, 0), at(2026, 1, 12, 0)),
            (at(1970, 1, 1, 0), at(1970, 1, 5, 0)),
        ] {
            assert_eq!(Close::Week.next(now_us), next_us, "after {now_us}");
        }
        assert_eq!(Close::Day.next(at(2026, 1, 5, 0)), at(2026, 1, 6, 0));
        assert_eq!(Close::Day.next(at(2026, 1, 5, 86_399)), at(2026, 1, 6, 0));
    }

    #[test]
    fn until_may_be_moved_forth_and_back_and_what_is_used_stays() {
        let mut window = Closing::default();
        let until = |closes_us| Policy::until(10, Close::Until, closes_us);
        window.charge(&until(1_000), 4, 0);
        window.charge(&until(2_000), 3, 10);
        assert_eq!(check(&window, &until(2_000), 10, 4, 20).retry_after_us, Some(1_980));
        // Only a charge moves it: who names another close is told of the one in force.
        let denied = check(&window, &until(500), 10, 4, 20);
        assert_eq!((denied.used, denied.retry_after_us), (7, Some(1_980)));
        window.charge(&until(500), 1, 20);
        assert_eq!(check(&window, &until(500), 10, 4, 30).retry_after_us, Some(470));
        assert_eq!(check(&window, &until(900), 10, 4, 500).used, 0);
    }

    #[test]
    fn a_clock_that_steps_back_over_midnight_keeps_what_is_used_until_midnight() {
        let midnight_us = at(2026, 11, 27, 0);
        let day = |now_us| Policy::until(10, Close::Day, Close::Day.next(now_us));
        let mut window = Closing::default();
        window.charge(&day(midnight_us + 5), 10, midnight_us + 5);
        let back_us = midnight_us - 20;
        assert!(window.is_ahead(&day(back_us), back_us));
        let quota = window.quota(&day(back_us), 10, 1, back_us);
        assert_eq!(quota.retry_after_us, Some(20), "as it is once it is rewound");
        window.rewind_to(&day(back_us), no_positions(), back_us);
        assert!(!window.is_ahead(&day(back_us), back_us));
        assert_eq!(check(&window, &day(back_us), 10, 1, back_us).retry_after_us, Some(20));
        // A clock that was wrong by years locks nobody out for them.
        let mut window = Closing::default();
        let year_2100 = at(2100, 1, 1, 0);
        window.charge(&day(year_2100), 10, year_2100);
        window.rewind_to(&day(back_us), no_positions(), back_us);
        assert_eq!(check(&window, &day(back_us), 10, 1, back_us).retry_after_us, Some(20));
    }

    #[test]
    fn a_settlement_counts_in_the_window_it_was_charged_in_and_in_no_later_one() {
        let policy = |closes_us| Policy::until(10, Close::Until, closes_us);
        let mut window = Closing::default();
        let position = window.charge(&policy(100), 8, 0);
        let settlement = Settlement { position, estimate: 8, actual: 3 };
        window.charge(&policy(200), 1, 50);
        window.settle(&policy(200), &settlement, 150);
        assert_eq!(window.used(&policy(200), 150), 4);
        window.charge(&policy(300), 9, 200);
        window.settle(&policy(300), &settlement, 210);
        assert_eq!(window.used(&policy(300), 210), 9);
    }

    proptest! {
        /// Against every charge, with the close that the last one named.
        #[test]
        fn decides_as_a_list_of_every_charge_does(
            calls in prop::collection::vec((0u64..400, 1u64..6, 1u64..900), 1..80),
        ) {
            let mut window = Closing::default();
            let (mut list, mut closes_us, mut now_us) = (Vec::new(), 0, 0);
            for (step_us, cost, ahead_us) in calls {
                now_us += step_us;
                let policy = Policy::until(12, Close::Until, now_us + ahead_us);
                if now_us >= closes_us {
                    list.clear();
                }
                let used: u64 = list.iter().sum();
                let quota = check(&window, &policy, 12, cost, now_us);
                prop_assert_eq!(quota.used, used);
                let wait_us = if used + cost <= 12 { 0 } else { closes_us - now_us };
                prop_assert_eq!(quota.retry_after_us, Some(wait_us));
                if wait_us == 0 {
                    window.charge(&policy, cost, now_us);
                    list.push(cost);
                    closes_us = now_us + ahead_us;
                }
            }
        }

        #[test]
        fn no_state_makes_anything_wrap(
            closes_us in 0..=MAX_TIME_US + MAX_WINDOW_US,
            used: u64,
            opened: u64,
            now_us in 0..=MAX_TIME_US,
            close in prop::sample::select(&Close::ALL[..]),
            limit in 0..=MAX_AMOUNT,
        ) {
            let policy = Policy::until(limit, close, close.next(now_us));
            let mut window = Closing { closes_us, used, opened };
            let ahead = window.quota(&policy, limit, 1, now_us);
            window.rewind_to(&policy, no_positions(), now_us);
            prop_assert_eq!(check(&window, &policy, limit, 1, now_us), ahead);
            let settlement = Settlement { position: Position(opened), estimate: 9, actual: 3 };
            window.settle(&policy, &settlement, now_us);
            window.charge(&policy, MAX_AMOUNT, now_us);
            prop_assert!(window.used(&policy, now_us) >= MAX_AMOUNT);
            check(&window, &policy, limit, 1, now_us);
        }
    }
}
