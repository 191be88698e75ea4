//! What the rate limits answer, by name.

use super::{Answer, Client, Server, call};
use redis::Value;
use std::collections::HashMap;

/// The algorithms.
pub const ALGORITHMS: [&str; 3] = ["FIXED", "SLIDING", "GCRA"];

/// What a call on one key answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub granted: i64,
    pub limit: i64,
    pub remaining: i64,
    pub retry_ms: i64,
    pub reset_ms: i64,
    /// Of ML.RATELIMIT with HOLD: the hold, or none where the call was denied.
    pub id: Option<String>,
}

impl Row {
    /// Reads the answer of ML.RATELIMIT, or a row of that of ML.ADMIT.
    #[track_caller]
    pub fn of(answer: &Value) -> Self {
        let items = answer.items();
        let id = items.get(5).filter(|id| **id != Value::Nil).map(Answer::text);
        let numbers: Vec<_> = items.iter().take(5).map(Answer::integer).collect();
        let [granted, limit, remaining, retry_ms, reset_ms] = numbers[..] else {
            panic!("not five integers: {answer:?}")
        };
        Self { granted, limit, remaining, retry_ms, reset_ms, id }
    }

    /// `granted limit remaining retry_after_ms reset_after_ms`
    pub fn figures(&self) -> [i64; 5] {
        [self.granted, self.limit, self.remaining, self.retry_ms, self.reset_ms]
    }
}

/// What ML.ADMIT answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub admitted: bool,
    pub id: Option<String>,
    pub retry_ms: i64,
    pub binding: Option<i64>,
    pub rows: Vec<Row>,
}

impl Admission {
    /// Reads the answer, and finds it to be of one piece.
    #[track_caller]
    pub fn of(answer: &Value) -> Self {
        let [admitted, id, retry_ms, binding, rows] = &answer.items()[..] else {
            panic!("not five elements: {answer:?}")
        };
        let admission = Self {
            admitted: match admitted.integer() {
                0 => false,
                1 => true,
                other => panic!("neither 1 nor 0: {other}"),
            },
            id: (*id != Value::Nil).then(|| id.text()),
            retry_ms: retry_ms.integer(),
            binding: (*binding != Value::Nil).then(|| binding.integer()),
            rows: rows.items().iter().map(Row::of).collect(),
        };
        admission.check();
        admission
    }

    /// What every answer is: the wait is the longest of the rows, and of who is
    /// denied nothing is granted.
    #[track_caller]
    fn check(&self) {
        assert_eq!(self.binding.is_none(), self.admitted, "{self:?}");
        let Some(binding) = self.binding else {
            assert_eq!(self.retry_ms, 0, "{self:?}");
            return;
        };
        let endless = |wait_ms: i64| if wait_ms < 0 { i64::MAX } else { wait_ms };
        let waits = self.rows.iter().map(|row| endless(row.retry_ms));
        assert_eq!(Some(endless(self.retry_ms)), waits.max(), "{self:?}");
        assert_eq!(self.rows[binding as usize].retry_ms, self.retry_ms, "{self:?}");
        assert!(self.retry_ms != 0 && self.id.is_none(), "{self:?}");
        assert!(self.rows.iter().all(|row| row.granted == 0), "{self:?}");
    }

    /// Calls it by the words after its name.
    #[track_caller]
    pub fn ask(client: &mut Client, arguments: &str) -> Self {
        let answer = client.run(&format!("ML.ADMIT {arguments}"));
        assert!(!answer.is_error(), "{arguments}: {answer:?}");
        Self::of(&answer)
    }
}

/// A hold that is open, by ML.LIMITINFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The first digits of its id.
    pub id: String,
    pub cost: i64,
    pub ttl_ms: i64,
}

/// What ML.LIMITINFO says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Of a limiter, as its windows; empty of permits.
    pub algorithm: String,
    pub windows: Vec<HashMap<String, i64>>,
    /// Of permits.
    pub in_use: Option<i64>,
    /// Of both.
    pub holds: Vec<Held>,
}

impl Info {
    /// Asks for it; `None` if there is no such key.
    #[track_caller]
    pub fn of(client: &mut Client, key: &str) -> Option<Self> {
        let answer = call!(client, "ML.LIMITINFO", key);
        if answer == Value::Nil {
            return None;
        }
        let info = answer.map();
        let numbers = |window: &Value| {
            // All of them but the word of a window that closes at a moment.
            let fields = window.map().into_iter().filter(|(name, _)| name != "window");
            fields.map(|(name, number)| (name, number.integer())).collect()
        };
        let held = |hold: &Value| {
            let hold = hold.map();
            Held {
                id: hold["id"].text(),
                cost: hold["cost"].integer(),
                ttl_ms: hold["ttl_ms"].integer(),
            }
        };
        let windows = info.get("windows").map(Answer::items).unwrap_or_default();
        Some(Self {
            algorithm: info.get("algorithm").map(Answer::text).unwrap_or_default(),
            windows: windows.iter().map(numbers).collect(),
            in_use: info.get("in_use").map(Answer::integer),
            holds: info["holds"].items().iter().map(held).collect(),
        })
    }

    /// What is used of each of its windows.
    pub fn used(&self) -> Vec<i64> {
        self.windows.iter().map(|window| window["used"]).collect()
    }
}

/// How many holds of limits are open, by INFO.
pub fn open_holds(client: &mut Client) -> i64 {
    client.info("ml_ratelimit_open_holds").parse().unwrap()
}

/// Settles a hold on a key by what it really cost: 1 or 0.
#[track_caller]
pub fn settle(client: &mut Client, key: &str, id: &str, actual: i64) -> i64 {
    call!(client, "ML.SETTLE", 1, key, id, "ACTUAL", actual).integers()[0]
}

/// Holds something by a call of ML.RATELIMIT, granted.
#[track_caller]
pub fn hold(client: &mut Client, call: &str) -> String {
    let row = Row::of(&client.run(&format!("ML.RATELIMIT {call}")));
    row.id.unwrap_or_else(|| panic!("denied: {call}"))
}

/// What is used of each window of a limiter.
#[track_caller]
pub fn used(client: &mut Client, key: &str) -> Vec<i64> {
    Info::of(client, key).unwrap().used()
}
