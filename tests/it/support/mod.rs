//! What the tests stand on: private servers with the module, clients, a look
//! at what is replicated and notified, and hand-made DUMP payloads.
//!
//! Nothing here waits for a fixed time. What takes its time is polled by
//! [`wait_for`], with a deadline.

#![allow(dead_code, unused_imports, unused_macros)]

mod client;
pub mod cluster;
pub mod commands;
pub mod dump;
pub mod fetches;
mod flood;
pub mod history;
pub mod permits;
pub mod queues;
pub mod rates;
mod server;
pub mod vectors;
mod wire;

pub use client::{Answer, Client, Footprint, bulk, nils};
pub use flood::Flood;
pub use server::{Server, Setup, Stop, listed_servers, module, release_module};
pub use wire::{Events, Tap};

use std::time::{Duration, Instant};

/// Calls a command with arguments of any kind that the client crate can write;
/// a collection is as many arguments as it has elements. The answer is the raw
/// one: an error is a value too.
macro_rules! call {
    ($client:expr, $($argument:expr),+ $(,)?) => {{
        let mut command = redis::Cmd::new();
        $(command.arg($argument);)+
        $client.send(&command)
    }};
}
pub(crate) use call;

/// A server whose module clock stands still, and the time by it.
pub fn frozen() -> (Server, Client, u64) {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    (server, client, now)
}

/// What MEMORY USAGE tells of a key that was restored from a dump of this one, and by
/// what `used_memory` grows with it: the mean of many.
pub fn footprint_of(client: &mut Client, key: &str) -> (i64, i64) {
    const COUNT: i64 = 500;
    let payload = call!(client, "DUMP", key).bytes();
    let mut restore = |number: i64| {
        call!(client, "RESTORE", format!("footprint:{number}"), 0, &payload).ok();
        client.info("used_memory").parse::<i64>().unwrap()
    };
    // The first may make room for more.
    let before = restore(0);
    let after = (1..=COUNT).map(&mut restore).last().unwrap();
    let told = client.run("MEMORY USAGE footprint:1").integer();
    (0..=COUNT).for_each(|number| _ = call!(client, "DEL", format!("footprint:{number}")));
    // Some servers free in the background.
    wait_for("the keys to be freed", || client.info("lazyfree_pending_objects") == "0");
    (told, (after - before) / COUNT)
}

/// Polls until the condition holds; fails the test when it does not in time.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A small generator of random numbers (SplitMix64), so that a seed in a
/// test's output is enough to repeat it.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeds for a test to run with: one that is always the same, and one that
    /// never is.
    pub fn seeds() -> [u64; 2] {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seeds = [1, now.as_nanos() as u64];
        println!("seeds: {seeds:?}");
        seeds
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of these.
    pub fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
