//! Admissions of many clients at once over sets of keys, limits and permits mixed, while
//! two servers change places in the midst of it: what all of them were told is a history in
//! which no limit was ever exceeded, and nothing charged where a call was denied.
//!
//! MLSERVE_ADMISSIONS says how many are let in (scripts/soak makes it a million).

use crate::support::fetches::setting;
use crate::support::history::{
    Span, Taken, least_bucket, most_charged, most_held_at_once, most_in_a_fixed_window,
    most_in_any_window, now, total,
};
use crate::support::queues::waiting;
use crate::support::rates::{ALGORITHMS, Admission, Info, open_holds};
use crate::support::{Answer, Client, Random, Server, call, wait_for};
use redis::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 64;

/// Longer than any test.
const LONG_MS: u64 = 3_600_000;

/// How a key is asked, and what the history must show of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A limit by one of the algorithms, in a year: what is used of it is a sum.
    Budget(&'static str),
    Fixed,
    Sliding,
    Bucket,
    Permit,
}

#[derive(Debug)]
struct Key {
    name: String,
    kind: Kind,
    /// The limit, the burst or the maximum.
    most: i64,
    window_ms: u64,
}

/// Keys that are the same all along, with the most of them, and the window in milliseconds.
const LASTING: [(&str, Kind, i64, u64); 16] = [
    ("p0", Kind::Permit, 3, 0),
    ("p1", Kind::Permit, 9, 0),
    ("p2", Kind::Permit, 9, 0),
    ("p3", Kind::Permit, 20, 0),
    ("p4", Kind::Permit, 20, 0),
    ("p5", Kind::Permit, 50, 0),
    ("f0", Kind::Fixed, 9, 300),
    ("f1", Kind::Fixed, 99, 300),
    ("f2", Kind::Fixed, 250, 600),
    ("s0", Kind::Sliding, 9, 300),
    ("s1", Kind::Sliding, 60, 300),
    ("s2", Kind::Sliding, 150, 300),
    ("s3", Kind::Sliding, 250, 600),
    ("g0", Kind::Bucket, 9, 100),
    ("g1", Kind::Bucket, 30, 200),
    ("g2", Kind::Bucket, 90, 300),
];

/// After how many admissions there are new budgets, as the ones before are used up; and how
/// many.
const BUDGETS_LAST: u64 = 3_000;
const BUDGETS: usize = 6;

impl Key {
    /// One by its number.
    fn of(number: usize) -> Self {
        const YEAR_MS: u64 = 31_622_400_000;
        if let Some((name, kind, most, window_ms)) = LASTING.get(number).copied() {
            return Self { name: name.to_owned(), kind, most, window_ms };
        }
        let number = number - LASTING.len();
        let algorithm = ALGORITHMS[number % 3];
        let most = if number.is_multiple_of(2) { 40 } else { 400 };
        let name = format!("{algorithm}:{number}");
        Self { name, kind: Kind::Budget(algorithm), most, window_ms: YEAR_MS }
    }

    /// What a call asks of it but for the cost.
    fn item(&self) -> String {
        let Self { kind, most, window_ms, .. } = self;
        let seconds = *window_ms as f64 / 1_000.0;
        match kind {
            Kind::Permit => format!("PERMIT {most}"),
            Kind::Budget("GCRA") => format!("LIMIT 1 {seconds} ALGORITHM GCRA BURST {most}"),
            Kind::Bucket => format!("LIMIT {most} {seconds} ALGORITHM GCRA BURST {most}"),
            Kind::Budget(algorithm) => format!("LIMIT {most} {seconds} ALGORITHM {algorithm}"),
            Kind::Fixed => format!("LIMIT {most} {seconds} ALGORITHM FIXED"),
            Kind::Sliding => format!("LIMIT {most} {seconds} ALGORITHM SLIDING"),
        }
    }

    /// By what a hold is settled that was opened with a cost; `None` as estimated.
    fn actual(&self, cost: i64, random: &mut Random) -> Option<i64> {
        match self.kind {
            Kind::Permit => None,
            // Most of it comes back, that it may be taken again.
            Kind::Budget(_) if random.below(8) > 0 => Some(0),
            // A window that comes back at full opens anew, and cannot be told apart.
            Kind::Fixed => (random.below(4) == 0).then_some(cost + 1),
            _ => (random.below(2) == 0).then(|| random.below(cost as u64 + 2) as i64),
        }
    }

    /// The most that was certainly used of it at once.
    fn most_used(&self, all: &[Taken]) -> i64 {
        let window_us = self.window_ms * 1_000;
        match self.kind {
            Kind::Budget(_) => most_charged(all),
            Kind::Fixed => most_in_a_fixed_window(all, window_us),
            Kind::Sliding => most_in_any_window(all, window_us),
            Kind::Bucket => least_bucket(all, self.most, window_us),
            Kind::Permit => most_held_at_once(all),
        }
    }
}

/// What all clients share.
struct World {
    ports: [u16; 2],
    admitted: AtomicU64,
    enough: u64,
}

impl World {
    /// A client of the server that is the primary now.
    fn primary(&self) -> Client {
        let mut found = None;
        wait_for("a primary", || {
            found = self.ports.iter().find_map(|port| {
                let mut client = Client::try_connect(*port)?;
                let info = client.try_run("INFO replication").ok()?.text();
                info.contains("role:master").then_some(client)
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// The numbers of the keys that are in use.
    fn keys(&self) -> impl Iterator<Item = usize> + use<> {
        let round = (self.admitted.load(Relaxed) / BUDGETS_LAST) as usize;
        (0..LASTING.len() + BUDGETS).map(move |one| match one < LASTING.len() {
            true => one,
            false => one + BUDGETS * round,
        })
    }
}

/// A hold, with what of it is not settled yet: the numbers of the keys, and what was taken.
struct Hold {
    id: String,
    /// By which it was asked for.
    call: String,
    taken: Vec<(usize, Taken)>,
    ttl_ms: u64,
    is_whole: bool,
}

impl Hold {
    fn names(&self) -> Vec<String> {
        self.taken.iter().map(|(number, _)| Key::of(*number).name).collect()
    }

    /// Until when all of it is certainly open.
    fn open_until(&self) -> u64 {
        self.taken.iter().map(|(_, taken)| taken.open_until).min().unwrap_or(0)
    }
}

/// One client, what it holds and what it has taken.
struct Worker<'w> {
    world: &'w World,
    client: Client,
    random: Random,
    held: Vec<Hold>,
    taken: Vec<(usize, Taken)>,
    counts: BTreeMap<&'static str, u64>,
}

impl<'w> Worker<'w> {
    fn new(world: &'w World, seed: u64) -> Self {
        Self {
            world,
            client: world.primary(),
            random: Random::new(seed),
            held: Vec::new(),
            taken: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Has a call answered by whichever server is the primary; since when it may have been
    /// carried out, and whether an answer to it was lost. `None` where that was so of one
    /// that is not to be repeated.
    fn ask(&mut self, call: &str, repeats: bool) -> Option<(Value, Span, bool)> {
        let (mut sent, mut lost) = (now(), false);
        loop {
            let answer = self.client.try_run(call);
            let told = now();
            match answer {
                Ok(answer) if !answer.is_error() => {
                    return Some((answer, Span { sent, told }, lost));
                }
                // Nothing was carried out.
                Ok(error) => {
                    let error = error.error();
                    let moved = ["READONLY", "UNBLOCKED", "MASTERDOWN", "LOADING"];
                    let is_moved = moved.iter().any(|moved| error.starts_with(moved));
                    assert!(is_moved, "{call}: {error}");
                    self.count("sent to the other server");
                    sent = if lost { sent } else { now() };
                }
                Err(_) => {
                    self.count("answers lost");
                    lost = true;
                }
            }
            self.client = self.world.primary();
            if lost && !repeats {
                return None;
            }
        }
    }

    /// Keys at random, from one to five, with a cost each.
    fn items(&mut self) -> Vec<(usize, i64)> {
        let mut keys: Vec<_> = self.world.keys().collect();
        let count = 1 + self.random.below(5);
        let mut items = Vec::new();
        for _ in 0..count {
            let key = keys.swap_remove(self.random.below(keys.len() as u64) as usize);
            items.push((key, self.random.below(4) as i64));
        }
        items
    }

    /// Asks for what it does not hold yet.
    fn admit(&mut self) {
        let items = self.items();
        let keys: Vec<_> = items.iter().map(|(number, _)| Key::of(*number)).collect();
        let names: Vec<_> = keys.iter().map(|key| &*key.name).collect();
        let asked: Vec<_> = keys
            .iter()
            .zip(&items)
            .map(|(key, (_, cost))| format!("{} COST {cost}", key.item()))
            .collect();
        let mut call = format!("ML.ADMIT {} {} {}", keys.len(), names.join(" "), asked.join(" "));
        let holds = keys.iter().any(|key| key.kind == Kind::Permit) || self.random.below(4) > 0;
        let loses = holds && self.random.below(40) == 0;
        let own = loses || self.random.below(3) > 0;
        let ttl_ms = match self.random.below(3) {
            // What is not known to be held is found again.
            _ if loses => LONG_MS,
            // What nobody knows the id of may be lost.
            kind if kind == 0 || !own => 20 + self.random.below(500),
            _ => LONG_MS,
        };
        if holds {
            call += &format!(" HOLD {ttl_ms}");
            if own {
                let id = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
                call += &format!(" ID {id:032x}");
            }
        }
        if self.random.below(10) == 0 {
            let priority = self.random.below(3);
            call += &format!(" WAIT {} PRIORITY {priority}", 1 + self.random.below(60));
            self.count("that may wait");
        }
        let sent = now();
        if loses {
            self.client.send_only(&call);
            self.client = self.world.primary();
            self.count("repeated after the connection broke");
        }
        let earlier = loses.then_some(sent);
        self.ask_for(call, &items, holds.then_some(ttl_ms), holds && own, earlier);
    }

    /// Makes a call, which may have been sent before, and keeps what it is granted.
    fn ask_for(
        &mut self,
        call: String,
        items: &[(usize, i64)],
        ttl_ms: Option<u64>,
        repeats: bool,
        earlier: Option<u64>,
    ) {
        let sent = now();
        let uncertain = |(number, cost): &(usize, i64)| {
            let at = Span { sent, told: now() };
            (*number, Taken { is_uncertain: true, ..Taken::of(*cost, at) })
        };
        let Some((answer, mut at, _)) = self.ask(&call, repeats) else {
            self.taken.extend(items.iter().map(uncertain));
            return;
        };
        at.sent = earlier.unwrap_or(at.sent);
        let admission = Admission::of(&answer);
        self.count(if admission.admitted { "admitted" } else { "denied" });
        if !admission.admitted {
            return;
        }
        self.world.admitted.fetch_add(1, Relaxed);
        assert_eq!(admission.id.is_some(), ttl_ms.is_some(), "{call}");
        let taken = items.iter().zip(&admission.rows).map(|((number, cost), row)| {
            assert_eq!(row.granted, *cost, "{call}: {row:?}");
            assert!(row.remaining >= 0, "{call}: {row:?}");
            let open_until = at.sent + ttl_ms.unwrap_or(0) * 1_000;
            (*number, Taken { reset_ms: row.reset_ms, open_until, ..Taken::of(*cost, at) })
        });
        let taken: Vec<_> = taken.collect();
        match (admission.id, ttl_ms) {
            (Some(id), Some(ttl_ms)) => {
                self.held.push(Hold { id, call, taken, ttl_ms, is_whole: true });
            }
            _ => self.taken.extend(taken),
        }
    }

    fn some_hold(&mut self) -> Option<Hold> {
        let place = self.random.below(self.held.len().max(1) as u64) as usize;
        (!self.held.is_empty()).then(|| self.held.swap_remove(place))
    }

    /// Settles a hold, or a part of it.
    fn settle(&mut self, mut hold: Hold, whole: bool) {
        let mut rest = Vec::new();
        while !whole && hold.taken.len() > 1 && self.random.below(4) == 0 {
            rest.extend(hold.taken.pop());
        }
        let mut actuals = Vec::new();
        for (number, taken) in &hold.taken {
            actuals.push(Key::of(*number).actual(taken.cost, &mut self.random));
        }
        let words = actuals.iter().map(|actual| match actual {
            Some(actual) => actual.to_string(),
            None => "-".to_owned(),
        });
        let words = words.collect::<Vec<_>>().join(" ");
        let (count, names, id) = (hold.taken.len(), hold.names().join(" "), &hold.id);
        let call = format!("ML.SETTLE {count} {names} {id} ACTUAL {words}");
        let Some((answer, at, lost)) = self.ask(&call, true) else { panic!("not repeated") };
        self.count("settlements");
        for ((outcome, actual), (number, taken)) in
            answer.integers().into_iter().zip(actuals).zip(&mut hold.taken)
        {
            let settled = (at, actual.unwrap_or(taken.cost));
            match outcome {
                1 => taken.settled = Some(settled),
                _ if lost => {
                    (taken.settled, taken.is_uncertain) = (Some(settled), true);
                }
                _ => assert!(at.told >= taken.open_until, "lost: {:?}", (number, taken)),
            }
        }
        self.taken.append(&mut hold.taken);
        if !rest.is_empty() {
            self.held.push(Hold { taken: rest, is_whole: false, ..hold });
        }
    }

    fn renew(&mut self, mut hold: Hold) {
        let ttl_ms = [50, 500, LONG_MS][self.random.below(3) as usize];
        let (count, names) = (hold.taken.len(), hold.names().join(" "));
        let call = format!("ML.RENEW {count} {names} {} {ttl_ms}", hold.id);
        let Some((answer, at, lost)) = self.ask(&call, true) else { panic!("not repeated") };
        self.count("renewals");
        for (outcome, (number, taken)) in answer.integers().iter().zip(&mut hold.taken) {
            match outcome {
                1 => taken.open_until = at.sent + ttl_ms * 1_000,
                _ if lost => taken.open_until = taken.open_until.min(at.sent),
                _ => assert!(at.told >= taken.open_until, "lost: {:?}", (number, taken)),
            }
        }
        self.held.push(hold);
    }

    /// Asks again by the same id: nothing more is taken where it is open.
    fn ask_again(&mut self, hold: Hold) {
        const A_WHILE_US: u64 = 60_000_000;
        if !hold.is_whole || hold.open_until() < now() + A_WHILE_US {
            return self.held.push(hold);
        }
        let call = format!("{} ID {}", hold.call.split(" ID ").next().unwrap(), hold.id);
        let Some((answer, at, _)) = self.ask(&call, true) else { panic!("not repeated") };
        assert!(at.told < hold.open_until(), "a machine that stood still for a minute");
        let again = Admission::of(&answer);
        assert_eq!(again.id.as_ref(), Some(&hold.id), "{call}: {again:?}");
        self.count("repeated");
        self.held.push(hold);
    }

    /// A hold that is over is not remembered: its call is a new one.
    fn ask_after_the_end(&mut self, hold: Hold) {
        if !hold.is_whole || !hold.call.contains(" ID ") {
            return self.held.push(hold);
        }
        let items: Vec<_> =
            hold.taken.iter().map(|(number, taken)| (*number, taken.cost)).collect();
        let (call, ttl_ms) = (hold.call.clone(), hold.ttl_ms);
        self.settle(hold, true);
        self.count("repeated after the end");
        self.ask_for(call, &items, Some(ttl_ms), true, None);
    }

    fn step(&mut self) {
        let most_held = 4;
        if self.held.len() < most_held && self.random.below(8) < 5 {
            return self.admit();
        }
        let Some(hold) = self.some_hold() else { return self.admit() };
        match self.random.below(20) {
            0 | 1 => self.renew(hold),
            2 | 3 => self.ask_again(hold),
            4 => self.ask_after_the_end(hold),
            // Its holder crashes.
            5 if hold.open_until() < now() + 1_000_000 => {
                self.count("crashed");
                self.taken.extend(hold.taken);
            }
            _ => self.settle(hold, false),
        }
    }

    /// Works until enough are let in, and gives all back.
    fn work(mut self) -> (Vec<(usize, Taken)>, BTreeMap<&'static str, u64>) {
        while self.world.admitted.load(Relaxed) < self.world.enough {
            self.step();
        }
        while let Some(hold) = self.held.pop() {
            self.settle(hold, true);
        }
        (self.taken, self.counts)
    }
}

/// Has two servers change their places.
fn fail_over(primary: &Server, replica: &Server) {
    let mut client = replica.client();
    call!(primary.client(), "FAILOVER", "TIMEOUT", 60_000).ok();
    wait_for("the replica to be the primary", || client.info("role") == "master");
    wait_for("the other to follow", || primary.client().info("master_link_status") == "up");
}

#[test]
fn in_what_many_clients_are_told_no_limit_is_ever_exceeded() {
    let enough = setting("MLSERVE_ADMISSIONS", 10_000);
    let one = Server::start();
    let other = one.replica("");
    let world = World { ports: [one.port(), other.port()], admitted: AtomicU64::new(0), enough };
    let [_, seed] = Random::seeds();
    let mut taken: BTreeMap<usize, Vec<Taken>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let world = &world;
        let worker = |number| scope.spawn(move || Worker::new(world, seed ^ number).work());
        let workers: Vec<_> = (0..CLIENTS).map(worker).collect();
        for (failover, (primary, replica)) in
            [(&one, &other), (&other, &one), (&one, &other)].into_iter().enumerate()
        {
            let due = (failover as u64 + 1) * enough / 4;
            while world.admitted.load(Relaxed) < due && !workers.iter().any(|one| one.is_finished())
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            fail_over(primary, replica);
        }
        for worker in workers {
            let (of_worker, counted) = worker.join().unwrap();
            of_worker.into_iter().for_each(|(key, one)| taken.entry(key).or_default().push(one));
            counted.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
        }
    });
    println!("{:?}: {counts:?}", start.elapsed());
    let mut client = world.primary();
    check(&mut client, &taken, seed);
    // Nothing is left: what is held ends, and so do the windows but for the budgets.
    let names = LASTING.map(|(name, ..)| name);
    wait_for("what is held to end", || call!(client, "EXISTS", &names).integer() == 0);
    assert_eq!((waiting(&mut client), client.info("ml_permit_held")), (0, "0".to_owned()));
    for number in taken.keys().filter(|number| **number >= LASTING.len()) {
        let key = Key::of(*number);
        // The next write of a key takes out what is over.
        client.run(&format!("ML.ADMIT 1 {} {} FORCE", key.name, key.item())).items();
    }
    assert_eq!(open_holds(&mut client), 0);
    one.catch_up(&other);
    assert_eq!(one.client().digest(), other.client().digest(), "seed {seed}");
}

/// No limit was exceeded, and what the budgets say is used is what was granted.
fn check(client: &mut Client, taken: &BTreeMap<usize, Vec<Taken>>, seed: u64) {
    let (mut full, mut budgets) = (Vec::new(), 0);
    for (number, all) in taken {
        let key = Key::of(*number);
        let most = key.most_used(all);
        assert!(most <= key.most, "{most} at once, seed {seed}: {key:?}");
        if let Kind::Budget(_) = key.kind {
            let used = Info::of(client, &key.name).map_or(0, |info| info.used()[0]);
            let (least, at_most) = total(all);
            assert!((least..=at_most).contains(&used), "{used}, seed {seed}: {key:?} {least}");
            budgets += i32::from(least == at_most);
        } else {
            full.push(format!("{} {most}/{}", key.name, key.most));
        }
    }
    println!("certainly at once: {}; {budgets} budgets are exact", full.join(", "));
}
