//! Holds of callers good and bad, against sums.

use crate::support::permits;
use crate::support::rates::{ALGORITHMS, Admission, Info, Row, open_holds};
use crate::support::{Answer, Client, Random, Server, Stop, call, wait_for};
use std::collections::BTreeMap;

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// What one id holds: the cost at each key, and until when, in microseconds.
#[derive(Clone, Default)]
struct Taken {
    costs: BTreeMap<String, i64>,
    until: u64,
}

/// What callers hold, and what the keys say: the oracle of a plain sum, for windows so
/// long that nothing leaves them. Keys of permits begin with a `p`.
#[derive(Default)]
struct Book {
    taken: BTreeMap<String, Taken>,
    /// Settled in full, or ended.
    over: Vec<(String, String)>,
    used: BTreeMap<String, i64>,
}

impl Book {
    const LIMIT: i64 = 4_000;
    const MAX: i64 = 60;

    fn in_use(&self, key: &str, now: u64) -> i64 {
        let open = self.taken.values().filter(|taken| taken.until > now);
        open.filter_map(|taken| taken.costs.get(key)).sum()
    }

    fn fits(&self, key: &str, cost: i64, now: u64) -> bool {
        cost == 0
            || match key.starts_with('p') {
                true => self.in_use(key, now) + cost <= Self::MAX,
                false => self.used.get(key).copied().unwrap_or(0) + cost <= Self::LIMIT,
            }
    }

    /// Takes what a call asks for that was let in.
    fn take(&mut self, id: &str, costs: &[(String, i64)], until: u64) {
        for (key, cost) in costs.iter().filter(|(key, _)| !key.starts_with('p')) {
            *self.used.entry(key.clone()).or_default() += cost;
        }
        let taken = Taken { costs: costs.iter().cloned().collect(), until };
        assert!(self.taken.insert(id.to_owned(), taken).is_none(), "an id twice");
    }

    /// One of the ids, the same for the same number.
    fn some(&self, random: &mut Random) -> Option<(String, Taken)> {
        let place = random.below(self.taken.len().max(1) as u64) as usize;
        self.taken.iter().nth(place).map(|(id, taken)| (id.clone(), taken.clone()))
    }

    /// The keys say what the sums do.
    fn check(&self, client: &mut Client, now: u64, context: &str) {
        for (key, sum) in &self.used {
            let used = Info::of(client, key).map_or(vec![0], |info| info.used());
            assert_eq!(used, [*sum], "{key}, {context}");
        }
        for key in ["p0", "p1", "p2"] {
            let in_use = permits::info(client, key).map_or(0, |(in_use, _)| in_use);
            assert_eq!(in_use, self.in_use(key, now), "{key}, {context}");
        }
    }
}

#[test]
fn ten_thousand_holds_of_callers_good_and_bad_come_to_what_a_sum_says() {
    const WINDOW: u64 = 31_622_400;
    let mut server = Server::with("appendonly yes\nappendfsync no");
    let replica = server.replica("ml.limit-max-holds 1\nml.ratelimit-algorithm GCRA");
    let mut client = server.client();
    let start = client.freeze_ahead();
    let (mut made, mut restarts) = (0, 0);
    for algorithm in ALGORITHMS {
        let seed = Random::seeds()[1];
        // The clock starts anew: what ended by the later one is not to be seen by it.
        client.run("DEL p0 p1 p2").integer();
        let (mut random, mut book, mut now_us) = (Random::new(seed), Book::default(), start);
        // A bucket that refills one token in a year: none, for the test.
        let policy = match algorithm {
            "GCRA" => format!("1 {WINDOW} ALGORITHM GCRA BURST {}", Book::LIMIT),
            other => format!("{} {WINDOW} ALGORITHM {other}", Book::LIMIT),
        };
        let of_algorithm = made;
        let mut next_restart = made + 1_700;
        while made < of_algorithm + 3_400 {
            now_us += random.below(3) * random.below(40 * MILLI);
            client.freeze(now_us);
            let now = now_us;
            let key = format!("{algorithm}:{}", random.below(20));
            let ttl_ms = 200 + random.below(20_000);
            let until = now + ttl_ms * MILLI;
            let context = format!("{algorithm}, {made} made, seed {seed}");
            match random.below(20) {
                0..=4 => {
                    let cost = random.below(40) as i64;
                    let force = random.below(10) == 0;
                    let mode = if force { "FORCE " } else { "" };
                    let call = format!("{key} {policy} COST {cost} {mode}HOLD {ttl_ms}");
                    let row = Row::of(&client.run(&format!("ML.RATELIMIT {call}")));
                    let admitted = force || book.fits(&key, cost, now);
                    assert_eq!(row.id.is_some(), admitted, "{context}");
                    if let Some(id) = row.id {
                        book.take(&id, &[(key, cost)], until);
                        made += 1;
                    }
                }
                5..=9 => {
                    let costs: BTreeMap<_, _> = [
                        (key, random.below(40) as i64),
                        (format!("{algorithm}:{}", random.below(20)), random.below(40) as i64),
                        (format!("p{}", random.below(3)), random.below(4) as i64),
                    ]
                    .into();
                    let costs: Vec<_> = costs.into_iter().collect();
                    let keys: Vec<_> = costs.iter().map(|(key, _)| &key[..]).collect();
                    let items: Vec<_> = costs
                        .iter()
                        .map(|(key, cost)| match key.starts_with('p') {
                            true => format!("PERMIT {} COST {cost}", Book::MAX),
                            false => format!("LIMIT {policy} COST {cost}"),
                        })
                        .collect();
                    let mut call = format!(
                        "{} {} {} HOLD {ttl_ms}",
                        keys.len(),
                        keys.join(" "),
                        items.join(" ")
                    );
                    // Its own id, by which it is asked for twice.
                    let own = (random.below(2) == 0).then(|| format!("{:032x}", random.next()));
                    if let Some(id) = &own {
                        call += &format!(" ID {id}");
                    }
                    let admission = Admission::ask(&mut client, &call);
                    let fits = costs.iter().all(|(key, cost)| book.fits(key, *cost, now));
                    assert_eq!(admission.admitted, fits, "{context}");
                    if let Some(id) = admission.id {
                        book.take(&id, &costs, until);
                        made += 1;
                        if own.is_some() {
                            let again = Admission::ask(&mut client, &call);
                            assert_eq!(again.id, Some(id), "{context}");
                        }
                    }
                }
                // Somebody settles, here or there: below, as or above the estimate, or
                // too late.
                10..=15 => {
                    let Some((id, taken)) = book.some(&mut random) else { continue };
                    let in_time = now < taken.until;
                    let mut keys: Vec<_> = taken.costs.keys().cloned().collect();
                    keys.retain(|_| random.below(8) > 0);
                    if keys.is_empty() {
                        continue;
                    }
                    let mut actuals = Vec::new();
                    for key in &keys {
                        let estimate = taken.costs[key];
                        let most = 1 + 3 * random.below(estimate as u64 + 1);
                        let actual = random.below(most) as i64;
                        let stands = key.starts_with('p') || random.below(4) == 0;
                        actuals.push(if stands { "-".to_owned() } else { actual.to_string() });
                        if in_time && !stands {
                            *book.used.get_mut(key).unwrap() += actual - estimate;
                        }
                        book.taken.get_mut(&id).unwrap().costs.remove(key);
                        book.over.push((key.clone(), id.clone()));
                    }
                    if book.taken[&id].costs.is_empty() {
                        book.taken.remove(&id);
                    }
                    let settled =
                        call!(client, "ML.SETTLE", keys.len(), &keys, &id, "ACTUAL", actuals);
                    let all = vec![i64::from(in_time); keys.len()];
                    assert_eq!(settled.integers(), all, "{context}");
                }
                // Somebody settles again, or what is another key's.
                16 => {
                    let place = random.below(book.over.len().max(1) as u64) as usize;
                    let Some((key, id)) = book.over.get(place) else { continue };
                    let settled = call!(client, "ML.SETTLE", 1, key, id).integers();
                    assert_eq!(settled, [0], "twice: {context}");
                    let Some((id, taken)) = book.some(&mut random) else { continue };
                    if !taken.costs.contains_key(&key[..]) {
                        let settled = call!(client, "ML.SETTLE", 1, key, id).integers();
                        assert_eq!(settled, [0], "another key's: {context}");
                    }
                }
                17 => {
                    let Some((id, taken)) = book.some(&mut random) else { continue };
                    let keys: Vec<_> = taken.costs.keys().collect();
                    let renewed = call!(client, "ML.RENEW", keys.len(), &keys, &id, ttl_ms);
                    let in_time = now < taken.until;
                    let all = vec![i64::from(in_time); keys.len()];
                    assert_eq!(renewed.integers(), all, "{context}");
                    if in_time {
                        book.taken.get_mut(&id).unwrap().until = until;
                    }
                }
                // The holder crashes: nobody ever settles this one.
                18 => {
                    let Some((id, taken)) = book.some(&mut random) else { continue };
                    if now >= taken.until {
                        book.taken.remove(&id);
                    }
                }
                _ if made >= next_restart => {
                    next_restart += 100_000;
                    restarts += 1;
                    book.check(&mut client, now, &context);
                    let digest = client.digest();
                    replica.catch_up(&server);
                    assert_eq!(replica.client().digest(), digest, "on the replica: {context}");
                    server.restart(Stop::Kill);
                    client = server.client();
                    client.freeze(now_us);
                    assert_eq!(client.digest(), digest, "from the AOF: {context}");
                    book.check(&mut client, now, &context);
                    replica.follow(&server);
                }
                _ => {}
            }
        }
        let context = format!("{algorithm}, seed {seed}");
        book.check(&mut client, now_us, &context);
        now_us += 60 * SECOND;
        client.freeze(now_us);
        book.check(&mut client, now_us, &format!("after all ends, {context}"));
        for key in book.used.keys() {
            let held = Info::of(&mut client, key).map_or(0, |info| info.holds.len());
            assert_eq!(held, 0, "{key}: after all ends, {context}");
        }
        replica.catch_up(&server);
        assert_eq!(replica.client().digest(), client.digest(), "{context}");
        if algorithm != "GCRA" {
            client.freeze(now_us + (WINDOW + 1) * SECOND);
            for key in book.used.keys() {
                let used = Info::of(&mut client, key).map_or(vec![0], |info| info.used());
                assert_eq!(used, [0], "{key}: after its window, {context}");
            }
        }
    }
    println!("{made} holds");
    assert!(made >= 10_000 && restarts == 3, "{made}, {restarts} restarts");
    client.freeze(start);
    client.run("FLUSHALL SYNC").ok();
    wait_for("no hold to be left", || open_holds(&mut client) == 0);
}
