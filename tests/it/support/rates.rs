//! What the rate limits answer, by name.

use super::{Answer, Client, Server, call};
use redis::Value;
use std::collections::HashMap;

/// The algorithms.
pub const ALGORITHMS: [&str; 3] = ["FIXED", "SLIDING", "GCRA"];

/// A server whose module clock stands still, and the time by it.
pub fn frozen() -> (Server, Client, u64) {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    (server, client, now)
}

/// What a call on one key answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub granted: i64,
    pub limit: i64,
    pub remaining: i64,
    pub retry_ms: i64,
    pub reset_ms: i64,
    /// With RESERVE: the reservation, or none where the call was denied.
    pub id: Option<String>,
}

impl Row {
    /// Reads the answer of ML.RATELIMIT, or a row of that of ML.RATEMULTI.
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

    /// Reads the answer of ML.RATEMULTI.
    #[track_caller]
    pub fn all(answer: &Value) -> Vec<Self> {
        answer.items().iter().map(Self::of).collect()
    }
}

/// What ML.RATEINFO says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub algorithm: String,
    pub reservations: i64,
    pub windows: Vec<HashMap<String, i64>>,
}

impl Info {
    /// Asks for it; `None` if there is no such key.
    #[track_caller]
    pub fn of(client: &mut Client, key: &str) -> Option<Self> {
        let answer = call!(client, "ML.RATEINFO", key);
        if answer == Value::Nil {
            return None;
        }
        let info = answer.map();
        let numbers = |window: &Value| {
            let fields = window.map();
            fields.iter().map(|(name, number)| (name.clone(), number.integer())).collect()
        };
        Some(Self {
            algorithm: info["algorithm"].text(),
            reservations: info["reservations"].integer(),
            windows: info["windows"].items().iter().map(numbers).collect(),
        })
    }

    /// What is used of each of its windows.
    pub fn used(&self) -> Vec<i64> {
        self.windows.iter().map(|window| window["used"]).collect()
    }
}

/// How many reservations are open, by INFO.
pub fn open_reservations(client: &mut Client) -> i64 {
    client.info("ml_ratelimit_open_reservations").parse().unwrap()
}
