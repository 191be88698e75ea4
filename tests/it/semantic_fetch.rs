//! Single flight of the semantic cache, as its callers see it: of all who ask nearly the
//! same one computes, and each is told by its own measure of what is near.

use crate::support::fetches::Crowd;
use crate::support::vectors::{DIM, bytes, random};
use crate::support::{Answer, Client, Random, Server, bulk, call, wait_for};
use redis::{Cmd, Value};
use std::time::Instant;

/// A question: a direction in a plane, in degrees.
fn at(degrees: f64) -> Vec<u8> {
    let mut vector = [0.0; DIM];
    (vector[0], vector[1]) = (degrees.to_radians().cos() as f32, degrees.to_radians().sin() as f32);
    bytes(&vector)
}

fn near(one: f64, other: f64) -> f64 {
    (one - other).to_radians().cos()
}

/// A row: `[status, entries, token|nil, ms]`; of an entry its id, similarity and value.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    status: String,
    entries: Vec<(String, f64, String)>,
    token: Option<String>,
    ms: i64,
}

impl Row {
    #[track_caller]
    fn of(answer: &Value) -> Self {
        let row = answer.items();
        let [status, entries, token, ms] = &row[..] else { panic!("not a row: {answer:?}") };
        let entry = |entry: &Value| {
            let entry = entry.items();
            (entry[0].text(), entry[1].text().parse().unwrap(), entry[2].text())
        };
        let row = Self {
            status: status.text(),
            entries: entries.items().iter().map(entry).collect(),
            token: (*token != Value::Nil).then(|| token.text()),
            ms: ms.integer(),
        };
        let (most, leased) = match row.status.as_str() {
            "HIT" | "STALE" => (64, false),
            "MAYBE" => (64, row.token.is_some()),
            "LEASE" => (64, true),
            "BUSY" | "RETIRED" => (0, false),
            _ => panic!("an unknown status: {row:?}"),
        };
        assert!(row.entries.len() <= most && row.token.is_some() == leased, "{row:?}");
        let has_entries = ["HIT", "STALE", "MAYBE"].contains(&row.status.as_str());
        assert!(!has_entries || !row.entries.is_empty(), "{row:?}");
        row
    }

    /// The status, and the values behind it, if there are some.
    fn brief(&self) -> String {
        let values = self.entries.iter().map(|(_, _, value)| format!(" {value}"));
        self.status.clone() + &values.collect::<String>()
    }
}

fn command(name: &str, key: &str, degrees: f64, more: &str) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key).arg("v").arg(at(degrees));
    more.split_whitespace().for_each(|word| _ = command.arg(word));
    command
}

/// Calls ML.SEMFETCH on `k`.
#[track_caller]
fn fetch(client: &mut Client, degrees: f64, more: &str) -> Row {
    Row::of(&client.send(&command("ML.SEMFETCH", "k", degrees, more)))
}

/// Gets the lease on a question, which must be to be had; its token.
#[track_caller]
fn lease(client: &mut Client, degrees: f64, more: &str) -> String {
    let row = fetch(client, degrees, more);
    row.token.clone().unwrap_or_else(|| panic!("no lease: {row:?}"))
}

/// Sets an answer; its id, if it was written.
#[track_caller]
fn set(client: &mut Client, degrees: f64, value_and_more: &str) -> Option<String> {
    match client.send(&command("ML.SEMSET", "k", degrees, value_and_more)) {
        Value::Nil => None,
        id => Some(id.text()),
    }
}

#[track_caller]
fn alias(client: &mut Client, degrees: f64, id: &str, token: &str) -> i64 {
    let more = format!("{id} TOKEN {token}");
    client.send(&command("ML.SEMALIAS", "k", degrees, &more)).integer()
}

/// A number that INFO tells of the semantic cache.
fn total(client: &mut Client, field: &str) -> i64 {
    client.info(&format!("ml_semantic_{field}")).parse().unwrap()
}

/// A crowd that waits for what is near to directions.
#[track_caller]
fn waiting(server: &Server, all: &[f64], more: &str) -> Crowd {
    let mut crowd = Crowd::of(server, all.len());
    let mut client = server.client();
    let before = total(&mut client, "waiters");
    for (member, degrees) in all.iter().enumerate() {
        crowd.send_command(member, &command("ML.SEMFETCH", "k", *degrees, more));
        wait_for("a caller to wait", || {
            total(&mut client, "waiters") == before + member as i64 + 1
        });
    }
    crowd
}

fn row(crowd: &Crowd, member: usize) -> Row {
    Row::of(crowd.last(member))
}

/// The same without waiting.
const SHORT: &str = "HIT 0.95 LEASE 60000";

const LONG: &str = "HIT 0.95 LEASE 60000 WAIT 60000";

#[test]
fn a_thousand_near_callers_share_one_computation() {
    const CALLERS: usize = 1_000;
    let server = Server::start();
    let mut client = server.client();
    let mut crowd = Crowd::of(&server, CALLERS);
    for member in 0..CALLERS {
        let degrees = member as f64 * 0.01;
        crowd.send_command(member, &command("ML.SEMFETCH", "k", degrees, LONG));
    }
    wait_for("all but one to wait", || total(&mut client, "waiters") == CALLERS as i64 - 1);
    crowd.wait_for(1);
    let [holder] = crowd.answered()[..] else { panic!("{:?} were answered", crowd.answered()) };
    let leased = row(&crowd, holder);
    assert_eq!((leased.brief().as_str(), leased.ms), ("LEASE", 60_000));
    let info = call!(client, "ML.SEMINFO", "k").map();
    assert_eq!([info["leases"].integer(), info["waiters"].integer()], [1, 999]);
    let set = format!("x PX 90000 TOKEN {}", leased.token.unwrap());
    crowd.send_command(holder, &command("ML.SEMSET", "k", holder as f64 * 0.01, &set));
    crowd.wait_for(CALLERS);
    for member in (0..CALLERS).filter(|member| *member != holder) {
        let row = row(&crowd, member);
        assert_eq!(row.brief(), "HIT x", "member {member}");
        assert!((1..=90_000).contains(&row.ms), "{row:?}");
        let exact = near(member as f64 * 0.01, holder as f64 * 0.01);
        assert!((row.entries[0].1 - exact).abs() < 0.001, "{row:?}");
    }
    let counts = ["misses", "leases", "waits", "coalesced", "entries_written", "hits"];
    assert_eq!(counts.map(|count| total(&mut client, count)), [1_000, 1, 999, 999, 1, 0]);
    assert_eq!(total(&mut client, "open_leases"), 0);
    crowd.assert_in_step();
}

#[test]
fn one_judgement_answers_a_thousand_callers() {
    const CALLERS: usize = 1_000;
    let server = Server::start();
    let mut client = server.client();
    let id = set(&mut client, 24.0, "known PX 90000").unwrap();
    let mut crowd = Crowd::of(&server, CALLERS);
    for member in 0..CALLERS {
        let degrees = member as f64 * 0.005;
        let more = format!("{LONG} MAYBE 0.9");
        crowd.send_command(member, &command("ML.SEMFETCH", "k", degrees, &more));
    }
    wait_for("all but one to wait", || total(&mut client, "waiters") == CALLERS as i64 - 1);
    crowd.wait_for(1);
    let [judge] = crowd.answered()[..] else { panic!("{:?} were answered", crowd.answered()) };
    let asked = row(&crowd, judge);
    assert_eq!((asked.brief().as_str(), asked.ms), ("MAYBE known", 60_000));
    let unheld = fetch(&mut client, 2.0, "HIT 0.95 LEASE 60000 MAYBE 0.9");
    assert_eq!((unheld.brief().as_str(), unheld.token), ("MAYBE known", None), "another judges");
    let token = asked.token.unwrap();
    let degrees = judge as f64 * 0.005;
    assert_eq!(alias(&mut client, degrees, &id, &token), 1);
    crowd.wait_for(CALLERS);
    for member in (0..CALLERS).filter(|member| *member != judge) {
        let row = row(&crowd, member);
        assert_eq!((row.brief().as_str(), &row.entries[0].0), ("HIT known", &id), "{member}");
    }
    assert_eq!(fetch(&mut client, 1.0, LONG).brief(), "HIT known", "and so is the next");
    assert_eq!(alias(&mut client, degrees, &id, &token), 1, "the answer may have been lost");
    assert_eq!(alias(&mut client, degrees + 1.0, &id, &token), 0, "but that is another one");
    let counts = ["leases", "waits", "coalesced", "entries_written", "aliases"];
    assert_eq!(counts.map(|count| total(&mut client, count)), [1, 999, 999, 1, 1]);
    crowd.assert_in_step();
}

#[test]
fn when_the_lease_of_a_near_question_ends_exactly_one_near_waiter_has_it() {
    let server = Server::start();
    let mut client = server.client();
    for end in ["its time", "a release", "a drop", "its holder's end"] {
        client.run("FLUSHALL").ok();
        let holder = match end {
            "its time" => {
                lease(&mut client, 0.0, "HIT 0.95 LEASE 3000");
                None
            }
            "its holder's end" => {
                let leased = fetch(&mut server.client(), 0.0, "HIT 0.95 LEASE 3000");
                assert_eq!(leased.status, "LEASE");
                None
            }
            _ => Some(lease(&mut client, 0.0, LONG)),
        };
        let mut crowd = waiting(&server, &[1.0, 2.0, 3.0, 4.0], LONG);
        match (end, &holder) {
            ("a release", Some(token)) => {
                assert_eq!(call!(client, "ML.SEMRELEASE", "k", token).integer(), 1);
            }
            ("a drop", _) => {
                assert_eq!(call!(client, "ML.SEMDROP", "k", "VERSION", "v").integer(), 0);
            }
            _ => {}
        }
        crowd.wait_for(1);
        assert_eq!(crowd.answered(), [0], "the one that has waited longest: {end}");
        let leased = row(&crowd, 0);
        assert_eq!((leased.brief().as_str(), leased.ms), ("LEASE", 60_000), "{end}");
        let token = leased.token.unwrap();
        wait_for("the others to wait", || total(&mut client, "waiters") == 3);
        assert_eq!(total(&mut client, "open_leases"), 1, "{end}");
        if let Some(old) = holder {
            assert_eq!(set(&mut client, 0.0, &format!("late TOKEN {old}")), None, "{end}");
        }
        assert!(set(&mut client, 1.0, &format!("x TOKEN {token}")).is_some());
        crowd.wait_for(4);
        assert!((1..4).all(|member| row(&crowd, member).brief() == "HIT x"), "{end}");
    }
}

#[test]
fn two_questions_are_two_leases_and_each_caller_says_what_is_near() {
    let server = Server::start();
    let mut client = server.client();
    let first = lease(&mut client, 0.0, "HIT 0.95 LEASE 60000");
    let second = lease(&mut client, 90.0, "HIT 0.95 LEASE 60000");
    assert_ne!(first, second);
    // 10 degrees are 0.985.
    assert_eq!(fetch(&mut client, 10.0, "HIT 0.98 LEASE 60000").status, "BUSY");
    let third = lease(&mut client, 10.0, "HIT 0.99 LEASE 60000");
    assert_eq!(fetch(&mut client, 10.0, "HIT 0.98 LEASE 9 DIGEST d").status, "BUSY");
    let other =
        Row::of(&call!(client, "ML.SEMFETCH", "k", "w", at(0.0), "HIT", 0, "LEASE", 60_000));
    assert_eq!(other.status, "LEASE", "of another version");
    assert_eq!(total(&mut client, "open_leases"), 4);
    // Equal digests are one question, whatever their vectors.
    let fourth = lease(&mut client, 180.0, "HIT 0.95 LEASE 60000 DIGEST d");
    assert_eq!(fetch(&mut client, 270.0, "HIT 1 LEASE 60000 DIGEST d").status, "BUSY");
    assert_eq!(fetch(&mut client, 270.0, "HIT 1 LEASE 60000 DIGEST e").status, "LEASE");
    for token in [first, second, third, fourth] {
        assert_eq!(call!(client, "ML.SEMRENEW", "k", &token, 60_000).integer(), 1);
        assert_eq!(call!(client, "ML.SEMRELEASE", "k", &token).integer(), 1);
        assert_eq!(call!(client, "ML.SEMRENEW", "k", &token, 60_000).integer(), 0);
    }
}

#[test]
fn who_is_not_near_enough_to_what_was_set_is_decided_anew() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, 0.0, LONG);
    // 15 degrees are 0.966, 16 are 0.961: near the lease, by their own HIT.
    let mut crowd = waiting(&server, &[15.0, 10.0, 16.0, -15.0], LONG);
    let mut strict = waiting(&server, &[0.5], "HIT 0.999 LEASE 60000 WAIT 60000");
    // What comes is at 5 degrees: 10 and 15 are near that, and 16, but neither -15 nor the
    // one that asked for 0.999.
    assert!(set(&mut client, 5.0, &format!("x TOKEN {token}")).is_some());
    crowd.wait_for(4);
    strict.wait_for(1);
    assert!([0, 1, 2].iter().all(|member| row(&crowd, *member).brief() == "HIT x"));
    assert_eq!(row(&crowd, 3).brief(), "LEASE");
    assert_eq!(row(&strict, 0).brief(), "LEASE", "by its own HIT it is another question");
    // An entry's own threshold counts, and what another sets answers who waits for it.
    client.run("FLUSHALL").ok();
    lease(&mut client, 0.0, LONG);
    let mut crowd = waiting(&server, &[1.0, 2.0], LONG);
    let id = set(&mut client, 30.0, "y DIGEST d").unwrap();
    assert_eq!(call!(client, "ML.SEMTHRESHOLD", "k", &id, "0.9997").integer(), 1);
    assert_eq!(set(&mut client, 0.5, "y DIGEST d"), Some(id.clone()));
    crowd.wait_for(1);
    assert_eq!(crowd.answered(), [0], "of one degree the cosine is 0.9998");
    assert_eq!(call!(client, "ML.SEMTHRESHOLD", "k", &id, "0.99").integer(), 1);
    crowd.wait_for(2);
    assert_eq!(row(&crowd, 1).brief(), "HIT y");
    assert_eq!(total(&mut client, "open_leases"), 1, "the lease is its holder's still");
}

#[test]
fn further_vectors_count_and_push_out_what_was_hit_longest_ago() {
    let server = Server::start();
    let replica = server.replica("");
    let mut client = server.client();
    let most = 65_536;
    call!(client, "CONFIG", "SET", "ml.semantic-max-bytes", most).ok();
    // Of what a vector and an entry of DIM dimensions count for.
    let (vector, beside) = (64 + DIM.next_multiple_of(32) as i64 * 13 / 8, 150);
    let bytes = |client: &mut Client| call!(client, "ML.SEMINFO", "k").map()["bytes"].integer();
    let set_one = |number: i64| set(&mut client, number as f64 * 0.1, "x").unwrap();
    let ids: Vec<_> = (0..most / (vector + beside + 1)).map(set_one).collect();
    // The one led to was hit longest ago itself: the next ones go, as many as must.
    for step in 1..=20 {
        let degrees = 90.0 + f64::from(step) * 4.0;
        let token = lease(&mut client, degrees, "HIT 0.999 LEASE 60000");
        assert_eq!(alias(&mut client, degrees, &ids[0], &token), 1, "step {step}");
        assert!(bytes(&mut client) <= most, "step {step}: {}", bytes(&mut client));
        assert_eq!(fetch(&mut client, degrees, "HIT 0.999 LEASE 60000").entries[0].0, ids[0]);
    }
    let gone = total(&mut client, "entries_evicted");
    let needed = 20 * vector / (vector + beside + 1);
    assert!((needed..=needed + 1).contains(&gone), "{gone} for {needed}");
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());
    for (number, id) in ids.iter().enumerate() {
        let is_left = number == 0 || number as i64 > gone;
        let dropped = call!(client, "ML.SEMDROP", "k", "ID", id).integer();
        assert_eq!(dropped, i64::from(is_left), "{number}, where {gone} went");
    }
    // What would be too much by itself is refused, and the lease stays.
    let id = set(&mut client, 0.0, "x DIGEST d").unwrap();
    let token = lease(&mut client, 90.0, "HIT 0.999 LEASE 60000");
    assert_eq!(alias(&mut client, 90.0, &id, &token), 1);
    let large = |bytes: i64| "x".repeat((most - vector - beside - bytes) as usize) + " DIGEST d";
    let error = client.send(&command("ML.SEMSET", "k", 0.0, &large(vector))).error();
    assert!(error.contains("value") && error.contains("ml.semantic-max-bytes"), "{error}");
    assert_eq!(set(&mut client, 0.0, &large(vector + 1)), Some(id.clone()));
    let token = lease(&mut client, 120.0, "HIT 0.999 LEASE 60000");
    for _ in 0..2 {
        let more = format!("{id} TOKEN {token}");
        let error = client.send(&command("ML.SEMALIAS", "k", 120.0, &more)).error();
        assert!(error.contains("vector") && error.contains("ml.semantic-max-bytes"), "{error}");
    }
    assert_eq!(fetch(&mut client, 120.0, "HIT 0.999 LEASE 60000").brief(), "BUSY");
}

#[test]
fn what_is_stale_is_served_while_one_computes() {
    let server = Server::start();
    let mut client = server.client();
    set(&mut client, 0.0, "old PX 1 STALE 600000").unwrap();
    wait_for("it to be stale", || {
        call!(client, "ML.SEMGET", "k", "v", at(0.0), "HIT", 0).items()[0] == bulk("MISS")
    });
    let leased = fetch(&mut client, 1.0, "HIT 0.95 LEASE 60000 WAIT 60000");
    assert_eq!(leased.brief(), "LEASE old", "to serve meanwhile");
    let served = fetch(&mut client, 2.0, LONG);
    assert_eq!(served.brief(), "STALE old");
    assert!((1..=600_000).contains(&served.ms), "{served:?}");
    assert_eq!(fetch(&mut client, 90.0, "HIT 0.95 LEASE 9").brief(), "LEASE");
    let token = leased.token.unwrap();
    assert!(set(&mut client, 1.0, &format!("new TOKEN {token}")).is_some());
    assert_eq!(fetch(&mut client, 1.0, LONG).brief(), "HIT new");
    assert_eq!(total(&mut client, "stale"), 1);
}

#[test]
fn a_token_may_ask_again_and_set_once() {
    const OWN: &str = "0123456789abcdef0123456789abcdef";
    let server = Server::start();
    let mut client = server.client();
    let call = format!("HIT 0.95 LEASE 60000 TOKEN {OWN}");
    assert_eq!(lease(&mut client, 0.0, &call), OWN);
    assert_eq!(lease(&mut client, 0.0, &call), OWN, "the answer may have been lost");
    assert_eq!(total(&mut client, "open_leases"), 1);
    wait_for("time to pass", || fetch(&mut client, 0.0, &call).ms < 60_000);
    let id = set(&mut client, 0.0, &format!("x TOKEN {OWN}")).unwrap();
    let answer = call!(client, "ML.SEMGET", "k", "v", at(0.0), "HIT", "0.9").items();
    assert_eq!(answer[1].items()[0].items()[0].text(), id);
    let cost = call!(client, "ML.SEMINFO", "k").map()["saved_ms"].integer();
    assert!(cost > 0, "what computing took is known: {cost}");
    assert_eq!(set(&mut client, 0.0, &format!("y TOKEN {OWN}")), Some(id.clone()), "it is set");
    assert_eq!(fetch(&mut client, 0.0, LONG).brief(), "HIT x", "once");
    call!(client, "ML.SEMDROP", "k", "ID", &id).integer();
    assert_eq!(set(&mut client, 0.0, &format!("z TOKEN {OWN}")), None, "it was dropped since");
    let never = "f".repeat(32);
    assert_eq!(set(&mut client, 0.0, &format!("z TOKEN {never}")), None);
    assert_eq!(set(&mut client, 0.0, "z TOKEN nonsense"), None);
    assert_eq!(total(&mut client, "refused_sets"), 3);
    assert_eq!(call!(client, "EXISTS", "k").integer(), 0, "nothing was written");
}

#[test]
fn a_late_holder_is_taken_until_another_has_the_lease() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, 0.0, "HIT 0.95 LEASE 2000");
    wait_for("it to be over", || {
        total(&mut client, "expired_leases") == 1 || {
            call!(client, "ML.SEMINFO", "k");
            false
        }
    });
    assert_eq!(call!(client, "ML.SEMRENEW", "k", &token, 2_000).integer(), 1);
    wait_for("it to be over", || {
        total(&mut client, "expired_leases") == 2 || {
            call!(client, "ML.SEMINFO", "k");
            false
        }
    });
    assert!(set(&mut client, 0.0, &format!("x TOKEN {token}")).is_some());
    assert_eq!(total(&mut client, "late_sets"), 1);
}

#[test]
fn a_backoff_keeps_those_near_out_and_nobody_else() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, 0.0, LONG);
    let mut crowd = waiting(&server, &[1.0, 2.0], LONG);
    assert_eq!(call!(client, "ML.SEMRELEASE", "k", &token, "BACKOFF", 60_000).integer(), 1);
    crowd.wait_for(2);
    for member in 0..2 {
        let row = row(&crowd, member);
        assert_eq!(row.brief(), "BUSY");
        assert!((59_000..=60_000).contains(&row.ms), "{row:?}");
    }
    assert_eq!(fetch(&mut client, 3.0, LONG).brief(), "BUSY", "nobody to wait for");
    assert_eq!(fetch(&mut client, 90.0, LONG).brief(), "LEASE");
}

#[test]
fn many_who_are_told_of_a_backoff_are_in_turns_and_in_order() {
    const CALLERS: usize = 300;
    let server = Server::start();
    let mut client = server.client();
    let mut chance = Random::new(1);
    for _ in 0..3_000 {
        call!(client, "ML.SEMSET", "k", "v", bytes(&random(&mut chance)), "x").text();
    }
    let token = lease(&mut client, 0.0, "HIT 0.99 LEASE 60000");
    // Each has all of these looked at once more, for what may be an answer.
    let more = "HIT 0.99 MAYBE 0.98 LEASE 60000 WAIT 60000";
    let mut crowd = waiting(&server, &[1.0; CALLERS], more);
    let mut release = redis::cmd("ML.SEMRELEASE");
    release.arg("k").arg(token).arg("BACKOFF").arg(60_000);
    let mut info = redis::cmd("INFO");
    info.arg("everything");
    let [released, info] = &client.pipeline(&[release, info])[..] else { panic!() };
    assert_eq!(released.integer(), 1);
    let info = info.text();
    let left = info.lines().find_map(|line| line.strip_prefix("ml_semantic_waiters:"));
    let left: usize = left.unwrap().parse().unwrap();
    assert!((1..CALLERS).contains(&left), "{left} wait still when others have their turn");
    crowd.wait_for(CALLERS);
    let rows: Vec<_> = (0..CALLERS).map(|member| row(&crowd, member)).collect();
    assert!(rows.iter().all(|row| row.brief() == "BUSY"));
    assert!(rows.is_sorted_by(|one, other| one.ms >= other.ms), "by arrival");
    assert_eq!(total(&mut client, "waiters"), 0);
    crowd.assert_in_step();
}

#[test]
fn a_caller_that_comes_again_with_its_token_waits_and_the_one_before_does_not() {
    const OWN: &str = "0123456789abcdef0123456789abcdef";
    let server = Server::start();
    let mut client = server.client();
    let released = |client: &mut Client, token| {
        assert_eq!(call!(client, "ML.SEMRELEASE", "k", token).integer(), 1);
    };
    let own = format!("HIT 0.97 LEASE 60000 WAIT 60000 TOKEN {OWN}");
    let wait = |degrees| {
        let mut crowd = Crowd::of(&server, 1);
        crowd.send_command(0, &command("ML.SEMFETCH", "k", degrees, &own));
        crowd
    };
    let waits = |client: &mut Client| total(client, "waits");
    // The same question, once what is nearest to it has changed.
    let first = lease(&mut client, 0.0, "HIT 0.97 LEASE 60000");
    let mut before = wait(8.0);
    wait_for("the first to wait", || waits(&mut client) == 1);
    let nearer = lease(&mut client, 15.0, "HIT 0.97 LEASE 60000");
    let mut again = wait(8.0);
    wait_for("the second to wait", || waits(&mut client) == 2);
    before.wait_for(1);
    let told = row(&before, 0);
    assert_eq!(told.brief(), "BUSY");
    assert!((1..=60_000).contains(&told.ms), "{told:?}");
    released(&mut client, first);
    set(&mut client, 15.0, &format!("x TOKEN {nearer}")).unwrap();
    again.wait_for(1);
    assert_eq!(row(&again, 0).brief(), "HIT x");
    client.run("FLUSHALL").ok();
    // Another question: the one before is decided anew, and finds it in its place.
    let first = lease(&mut client, -5.0, "HIT 0.97 LEASE 60000");
    let mut before = wait(0.0);
    wait_for("the first to wait", || waits(&mut client) == 3);
    let nearer = lease(&mut client, 10.0, "HIT 0.97 LEASE 60000");
    let mut again = wait(20.0);
    wait_for("the second to wait", || waits(&mut client) == 4);
    released(&mut client, first);
    before.wait_for(1);
    assert_eq!(row(&before, 0).brief(), "BUSY");
    set(&mut client, 10.0, &format!("y TOKEN {nearer}")).unwrap();
    again.wait_for(1);
    assert_eq!(row(&again, 0).brief(), "HIT y");
    assert_eq!(total(&mut client, "waiters"), 0);
}

#[test]
fn a_token_has_a_lease_for_each_question_and_acts_on_that_of_its_vector() {
    const OWN: &str = "0123456789abcdef0123456789abcdef";
    let server = Server::start();
    let mut client = server.client();
    let call = format!("{SHORT} TOKEN {OWN}");
    let open = |client: &mut Client| total(client, "open_leases");
    for round in 0..2 {
        for degrees in [0.0, 90.0, 180.0] {
            assert_eq!(lease(&mut client, degrees, &call), OWN, "{degrees}, round {round}");
        }
        assert_eq!(open(&mut client), 3);
    }
    let mut crowd = waiting(&server, &[1.0, 91.0, 181.0], LONG);
    let own = |value: &str| format!("{value} TOKEN {OWN}");
    let second = set(&mut client, 90.0, &own("second")).unwrap();
    crowd.wait_for(1);
    assert_eq!((crowd.answered(), row(&crowd, 1).brief()), (vec![1], "HIT second".into()));
    assert_eq!(open(&mut client), 2);
    let first = set(&mut client, 0.0, &own("first")).unwrap();
    crowd.wait_for(2);
    assert_eq!((crowd.answered(), row(&crowd, 0).brief()), (vec![0, 1], "HIT first".into()));
    // Again, as if the answers had been lost.
    assert_eq!(set(&mut client, 90.0, &own("second")), Some(second.clone()));
    assert_eq!(set(&mut client, 0.0, &own("first")), Some(first));
    assert_eq!(total(&mut client, "entries_written"), 2);
    assert_eq!(alias(&mut client, 180.0, &second, OWN), 1);
    crowd.wait_for(3);
    assert_eq!((row(&crowd, 2).brief().as_str(), open(&mut client)), ("HIT second", 0));
    assert_eq!(alias(&mut client, 180.0, &second, OWN), 1, "again");
    // One that is late, beside one that is not: renewed and released is all that it has.
    lease(&mut client, 270.0, &format!("HIT 0.95 LEASE 100 TOKEN {OWN}"));
    lease(&mut client, 45.0, &call);
    wait_for("one to be over", || call!(client, "ML.SEMINFO", "k").map()["leases"].integer() == 1);
    if call!(client, "ML.SEMRENEW", "k", OWN, 60_000).integer() == 1 && open(&mut client) == 2 {
        assert!(set(&mut client, 270.0, &own("late")).is_some());
        assert_eq!(fetch(&mut client, 46.0, SHORT).brief(), "BUSY", "the other lease is open");
    }
    assert_eq!(call!(client, "ML.SEMRELEASE", "k", OWN).integer(), 1);
    assert_eq!(open(&mut client), 0);
}

#[test]
fn a_late_holder_is_remembered_whatever_others_set_at_its_key() {
    let server = Server::start();
    let mut client = server.client();
    for lease_ms in [500, 5_000, 50_000] {
        let counts = ["expired_leases", "late_sets", "entries_written"];
        let [expired, late, written] = counts.map(|count| total(&mut client, count));
        let token = lease(&mut client, 200.0, &format!("HIT 1 LEASE {lease_ms}"));
        let before = Instant::now();
        wait_for("it to be over", || {
            total(&mut client, "expired_leases") > expired || {
                call!(client, "ML.SEMINFO", "k");
                false
            }
        });
        let calls = (0..600).flat_map(|number| {
            let (degrees, own) = (f64::from(number) * 0.25, format!("{number:032x}"));
            let fetch = format!("HIT 1 LEASE 60000 TOKEN {own}");
            let set = format!("x TOKEN {own}");
            [command("ML.SEMFETCH", "k", degrees, &fetch), command("ML.SEMSET", "k", degrees, &set)]
        });
        client.pipeline(&calls.collect::<Vec<_>>());
        let is_set = set(&mut client, 200.0, &format!("x TOKEN {token}")).is_some();
        // It is remembered for as long again as it was for.
        if before.elapsed().as_millis() < 2 * lease_ms {
            assert!(is_set);
            assert_eq!(total(&mut client, "late_sets"), late + 1);
            // Some were taken for the same question.
            assert!(total(&mut client, "entries_written") > written + 300);
            return;
        }
        client.run("FLUSHALL").ok();
    }
}

#[test]
fn what_takes_answers_away_ends_leases_and_nobody_waits_for_nothing() {
    let server = Server::start();
    let mut client = server.client();
    for end in ["DEL k", "FLUSHALL", "RENAME k l", "SET k x", "SWAPDB 0 1", "UNLINK k", "MOVE k 1"]
    {
        client.run("FLUSHALL").ok();
        set(&mut client, 90.0, "other").unwrap();
        let token = lease(&mut client, 0.0, LONG);
        let mut crowd = waiting(&server, &[1.0, 2.0], LONG);
        assert!(!client.run(end).is_error(), "{end}");
        crowd.wait_for(1);
        let late = client.send(&command("ML.SEMSET", "k", 0.0, &format!("late TOKEN {token}")));
        if end == "SET k x" {
            // It is a string now: nobody has an answer there, and nobody ever will.
            assert!(late.error().starts_with("WRONGTYPE"), "{end}");
        } else {
            assert_eq!(late, Value::Nil, "{end}");
        }
        assert_eq!(row(&crowd, 0).brief(), "LEASE", "{end}");
        assert_eq!(total(&mut client, "waiters"), 1, "{end}");
        let next = row(&crowd, 0).token.unwrap();
        if end != "SET k x" {
            assert!(set(&mut client, 1.0, &format!("x TOKEN {next}")).is_some(), "{end}");
            crowd.wait_for(2);
            assert_eq!(row(&crowd, 1).brief(), "HIT x", "{end}");
        }
    }
    // What comes another way is had at once.
    client.run("FLUSHALL").ok();
    call!(client, "ML.SEMSET", "from", "v", at(0.0), "moved").text();
    lease(&mut client, 0.0, LONG);
    let mut crowd = waiting(&server, &[1.0, 17.0], LONG);
    client.run("RENAME from k").ok();
    crowd.wait_for(1);
    assert_eq!((crowd.answered(), row(&crowd, 0).brief()), (vec![0, 1], "HIT moved".into()));
}

#[test]
fn a_dropped_answer_ends_the_leases_on_what_it_answered() {
    let server = Server::start();
    let mut client = server.client();
    let id = set(&mut client, 0.0, "old PX 1 STALE 600000").unwrap();
    wait_for("it to be stale", || {
        call!(client, "ML.SEMGET", "k", "v", at(0.0), "HIT", 0).items()[0] == bulk("MISS")
    });
    let refresh = lease(&mut client, 1.0, LONG);
    let other = lease(&mut client, 60.0, LONG);
    assert_eq!(call!(client, "ML.SEMDROP", "k", "ID", &id).integer(), 1);
    assert_eq!(set(&mut client, 1.0, &format!("late TOKEN {refresh}")), None);
    assert!(set(&mut client, 60.0, &format!("kept TOKEN {other}")).is_some());
}

#[test]
fn a_judge_whose_candidate_is_gone_computes() {
    let server = Server::start();
    let mut client = server.client();
    let id = set(&mut client, 20.0, "known").unwrap();
    let asked = fetch(&mut client, 0.0, &format!("{LONG} MAYBE 0.9"));
    assert_eq!(asked.brief(), "MAYBE known");
    let token = asked.token.unwrap();
    assert_eq!(alias(&mut client, 0.0, &"f".repeat(32), &token), 0, "there is none such");
    call!(client, "ML.SEMSET", "k", "w", at(20.0), "of another version").text();
    assert_eq!(call!(client, "ML.SEMDROP", "k", "ID", &id).integer(), 1);
    assert_eq!(alias(&mut client, 0.0, &id, &token), 0);
    assert!(set(&mut client, 0.0, &format!("x TOKEN {token}")).is_some());
    let other = set(&mut client, 90.0, "other").unwrap();
    assert_eq!(alias(&mut client, 0.0, &other, &"f".repeat(32)), 0, "no lease, no alias");
}

#[test]
fn those_who_wait_for_a_retired_version_are_told() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, 0.0, LONG);
    let mut crowd = waiting(&server, &[1.0], LONG);
    client.run("ML.CACHEVERSIONSET k v2").ok();
    assert_eq!(fetch(&mut client, 0.0, SHORT).status, "BUSY", "that is another namespace");
    call!(client, "ML.CACHEVERSIONSET", "", "v2").ok();
    crowd.wait_for(1);
    assert_eq!(row(&crowd, 0).brief(), "RETIRED");
    assert_eq!(fetch(&mut client, 0.0, LONG).brief(), "RETIRED");
    assert_eq!(set(&mut client, 0.0, &format!("x TOKEN {token}")), None);
    assert_eq!(total(&mut client, "open_leases"), 0);
}

#[test]
fn a_replica_grants_nothing_and_a_failover_leaves_nobody_behind() {
    let server = Server::start();
    let mut client = server.client();
    let id = set(&mut client, 20.0, "known").unwrap();
    let replica = server.replica("");
    let mut other = replica.client();
    let refused = other.send(&command("ML.SEMFETCH", "k", 0.0, LONG)).error();
    assert!(refused.starts_with("READONLY"), "{refused}");
    // An alias is replicated by its effect.
    let token = fetch(&mut client, 0.0, &format!("{LONG} MAYBE 0.9")).token.unwrap();
    assert_eq!(alias(&mut client, 0.0, &id, &token), 1);
    replica.catch_up(&server);
    let found = call!(other, "ML.SEMGET", "k", "v", at(0.0), "HIT", "0.95").items();
    assert_eq!(found[0], bulk("HIT"));
    for degrees in 4..24 {
        lease(&mut client, f64::from(degrees) * 10.0, "HIT 0.999 LEASE 60000");
    }
    let all: Vec<_> = (4..24).map(|degrees| f64::from(degrees) * 10.0 + 0.5).collect();
    let mut crowd = waiting(&server, &all, "HIT 0.999 LEASE 60000 WAIT 60000");
    call!(client, "FAILOVER", "TIMEOUT", 60_000).ok();
    wait_for("the replica to be the primary", || other.info("role") == "master");
    crowd.look_until("an end of each wait", |crowd| {
        (0..20).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    for answer in (0..20).flat_map(|member| crowd.answers(member)) {
        if answer.is_error() {
            assert!(answer.error().starts_with("UNBLOCKED"), "{answer:?}");
        } else {
            assert_eq!(Row::of(&answer).brief(), "BUSY");
        }
    }
    wait_for("the old primary to follow", || server.client().info("master_link_status") == "up");
    assert_eq!(total(&mut server.client(), "waiters"), 0);
    assert_eq!(total(&mut server.client(), "open_leases"), 0);
    assert_eq!(fetch(&mut other, 40.0, LONG).status, "LEASE");
}

#[test]
fn the_first_lease_fixes_dimensions_and_embedder() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, 0.0, &format!("{LONG} EMBEDDER one"));
    let other = bytes(&[1.0; 8]);
    for name in ["ML.SEMFETCH", "ML.SEMSET"] {
        let more: &[&str] =
            if name == "ML.SEMFETCH" { &["HIT", "0.9", "LEASE", "9"] } else { &["x"] };
        let error = call!(client, name, "k", "v", &other, more).error();
        assert!(error.contains("48 dimensions"), "{name}: {error}");
        let error = call!(client, name, "k", "v", at(9.0), more, "EMBEDDER", "two").error();
        assert!(error.contains("EMBEDDER"), "{name}: {error}");
    }
    let error = call!(client, "ML.SEMALIAS", "k", "v", &other, &token, "TOKEN", &token).error();
    assert!(error.contains("48 dimensions"), "{error}");
    assert_eq!(call!(client, "ML.SEMRELEASE", "k", &token).integer(), 1);
    assert_eq!(
        Row::of(&call!(client, "ML.SEMFETCH", "k", "v", &other, "HIT", 1, "LEASE", 9)).status,
        "LEASE"
    );
}

#[test]
fn leases_and_those_who_wait_are_bounded_with_their_vectors() {
    let server = Server::start();
    let mut client = server.client();
    // Of one key 256 are leased at once.
    for lease in 0..256 {
        let row = fetch(&mut client, f64::from(lease), "HIT 1 LEASE 60000");
        assert_eq!(row.status, "LEASE", "{lease}");
    }
    assert_eq!(fetch(&mut client, 300.0, "HIT 1 LEASE 60000 WAIT 9").brief(), "BUSY");
    client.run("FLUSHALL").ok();
    let bytes_of = |client: &mut Client| total(client, "lease_bytes");
    assert_eq!(bytes_of(&mut client), 0);
    lease(&mut client, 0.0, LONG);
    let of_lease = bytes_of(&mut client);
    assert!(of_lease > 512 + DIM as i64 * 3 / 2, "{of_lease}");
    let crowd = waiting(&server, &[1.0], LONG);
    let of_waiter = bytes_of(&mut client) - of_lease;
    assert!(of_waiter > DIM as i64 * 4 + 256, "{of_waiter}");
    let most = of_lease + 100 * of_waiter + of_waiter / 2;
    call!(client, "CONFIG", "SET", "ml.semantic-max-lease-bytes", most.max(65_536)).ok();
    let fit = (most.max(65_536) - of_lease) / of_waiter;
    let all = vec![1.0; fit as usize - 1];
    let others = waiting(&server, &all, LONG);
    assert_eq!(fetch(&mut client, 1.0, LONG).brief(), "BUSY", "no room to wait");
    assert_eq!(fetch(&mut client, 90.0, LONG).brief(), "BUSY", "nor for a lease");
    drop((crowd, others));
    wait_for("all to be gone", || total(&mut client, "waiters") == 0);
    assert_eq!(bytes_of(&mut client), of_lease);
    let error = client.send(&command("ML.SEMFETCH", "k", 0.0, "HIT 1 LEASE 3600001")).error();
    assert!(error.contains("ml.semantic-max-lease"), "{error}");
}

#[test]
fn who_waits_is_decided_by_its_rights_of_then_and_the_servers_state() {
    let server = Server::with("maxmemory-policy noeviction");
    let mut client = server.client();
    client.run("ACL SETUSER ann on nopass allkeys +@all").ok();
    let token = lease(&mut client, 0.0, LONG);
    let mut crowd = Crowd::of(&server, 2);
    for member in 0..2 {
        crowd.send(member, "AUTH ann x");
        crowd.look_until("an answer", |crowd| crowd.is_answered(member));
        assert_eq!(crowd.last(member), &Value::Okay);
        crowd.forget(member);
        crowd.send_command(member, &command("ML.SEMFETCH", "k", 1.0, LONG));
        wait_for("a caller to wait", || total(&mut client, "waiters") == member as i64 + 1);
    }
    client.run("ACL SETUSER ann -ml.semfetch").ok();
    assert!(set(&mut client, 0.0, &format!("x TOKEN {token}")).is_some());
    crowd.wait_for(2);
    for member in 0..2 {
        assert!(crowd.last(member).error().starts_with("NOPERM"), "{:?}", crowd.last(member));
    }
    // Over maxmemory no lease is granted to anybody, and what is there is served.
    client.run("FLUSHALL").ok();
    let token = lease(&mut client, 0.0, LONG);
    set(&mut client, 90.0, "known").unwrap();
    let mut crowd = waiting(&server, &[1.0, 2.0], LONG);
    client.run("CONFIG SET maxmemory 1").ok();
    assert_eq!(fetch(&mut client, 90.0, LONG).brief(), "HIT known");
    assert_eq!(fetch(&mut client, 45.0, LONG).brief(), "BUSY");
    assert_eq!(fetch(&mut client, 70.0, &format!("{LONG} MAYBE 0.5")).brief(), "MAYBE known");
    assert_eq!(call!(client, "ML.SEMRELEASE", "k", &token).integer(), 1);
    crowd.wait_for(2);
    assert!((0..2).all(|member| row(&crowd, member).brief() == "BUSY"));
}

#[test]
fn a_wait_ends_in_one_way_and_leaves_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let id = set(&mut client, 24.0, "known").unwrap();
    lease(&mut client, 0.0, LONG);
    let mut crowd = waiting(&server, &[1.0, 2.0], "HIT 0.95 LEASE 9 WAIT 3000");
    crowd.wait_for(2);
    assert!((0..2).all(|member| row(&crowd, member).brief() == "BUSY"));
    assert!((0..2).all(|member| row(&crowd, member).ms > 9), "as long as the other's lease");
    let mut crowd = waiting(&server, &[1.0], "HIT 0.95 LEASE 9 WAIT 3000 MAYBE 0.9");
    crowd.wait_for(1);
    let told = row(&crowd, 0);
    assert_eq!((told.brief().as_str(), &told.entries[0].0), ("MAYBE known", &id));
    assert_eq!(told.token, None);
    // Within a transaction nobody waits.
    client.run("MULTI").ok();
    client.send(&command("ML.SEMFETCH", "k", 1.0, LONG)).text();
    let answers = client.run("EXEC").items();
    assert_eq!(Row::of(&answers[0]).brief(), "BUSY");
    assert_eq!(total(&mut client, "waiters"), 0);
}

#[test]
fn what_becomes_of_questions_is_counted_by_namespace() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, 0.0, LONG);
    set(&mut client, 0.0, &format!("x TOKEN {token}")).unwrap();
    fetch(&mut client, 1.0, LONG);
    for key in ["a:k", "a:l"] {
        Row::of(&client.send(&command("ML.SEMFETCH", key, 0.0, SHORT)));
        client.send(&command("ML.SEMGET", key, 0.0, "HIT 1")).items();
    }
    let figures = |client: &mut Client, call: &str| {
        let told = client.run(call).map()["semantic"].map();
        let counts = |(name, counts): (&String, &Value)| {
            let counts = counts.map();
            let counts = counts.iter().map(|(name, count)| (name.clone(), count.integer()));
            let mut counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
            counts.sort_unstable();
            (name.clone(), counts)
        };
        let mut all: Vec<_> = told.iter().map(counts).collect();
        all.sort_unstable();
        all
    };
    let owned = |counts: &[(&str, i64)]| -> Vec<_> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    let of_a = ("a".to_owned(), owned(&[("leases", 2), ("misses", 4)]));
    let mut told = figures(&mut client, "ML.STATS SEMANTIC");
    assert_eq!((told.len(), told.remove(1)), (2, of_a.clone()));
    let (name, mut of_k) = told.remove(0);
    assert_eq!(name, "", "a key without a colon");
    // How long computing took is the clock's to say.
    of_k.retain(|(name, _)| name != "saved_ms");
    assert_eq!(of_k, owned(&[("entries_written", 1), ("hits", 1), ("leases", 1), ("misses", 1)]));
    assert_eq!(figures(&mut client, "ML.STATS SEMANTIC NAMESPACE a RESET"), [of_a]);
    assert_eq!(figures(&mut client, "ML.STATS SEMANTIC NAMESPACE a"), []);
    assert_eq!(figures(&mut client, "ML.STATS").len(), 1);
}

/// What the cache should do, plainly: who waits where, in order.
#[derive(Clone, Default)]
struct Oracle {
    entries: Vec<Entry>,
    flights: Vec<Flight>,
    /// What members are to be told.
    told: Vec<(usize, String)>,
}

#[derive(Clone)]
struct Entry {
    value: String,
    degrees: Vec<f64>,
}

#[derive(Clone)]
struct Flight {
    holder: usize,
    degrees: f64,
    waiting: Vec<Asked>,
}

#[derive(Clone, Copy)]
struct Asked {
    member: usize,
    degrees: f64,
    hit: f64,
    maybe: f64,
}

/// Why a case says nothing: two things are as near.
struct Tie;

impl Oracle {
    /// The one that is nearest, if it is near enough.
    fn nearest(all: impl Iterator<Item = (usize, f64)>, least: f64) -> Result<Option<usize>, Tie> {
        let mut all: Vec<_> = all.filter(|(_, near)| *near >= least).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        match all[..] {
            [(_, one), (_, other), ..] if one - other < 0.003 => Err(Tie),
            [(first, _), ..] => Ok(Some(first)),
            [] => Ok(None),
        }
    }

    fn entry(&self, asked: Asked, least: f64) -> Result<Option<usize>, Tie> {
        let best = |entry: &Entry| {
            let all = entry.degrees.iter().map(|one| near(*one, asked.degrees));
            all.fold(-1.0, f64::max)
        };
        Self::nearest(self.entries.iter().map(best).enumerate(), least)
    }

    fn flight(&self, asked: Asked) -> Result<Option<usize>, Tie> {
        let all = self.flights.iter().map(|flight| near(flight.degrees, asked.degrees));
        Self::nearest(all.enumerate(), asked.hit)
    }

    fn fetch(&mut self, asked: Asked) -> Result<(), Tie> {
        if let Some(entry) = self.entry(asked, asked.hit)? {
            self.told.push((asked.member, format!("HIT {}", self.entries[entry].value)));
            return Ok(());
        }
        if let Some(flight) = self.flight(asked)? {
            self.flights[flight].waiting.push(asked);
            return Ok(());
        }
        let told = match self.entry(asked, asked.maybe)? {
            Some(entry) => format!("MAYBE {}", self.entries[entry].value),
            None => "LEASE".to_owned(),
        };
        self.told.push((asked.member, told));
        let Asked { member: holder, degrees, .. } = asked;
        self.flights.push(Flight { holder, degrees, waiting: Vec::new() });
        Ok(())
    }

    /// All who wait, of whatever flight, have an entry that is near them.
    fn offer(&mut self, entry: usize) {
        let Entry { value, degrees } = &self.entries[entry];
        for flight in &mut self.flights {
            let (served, waiting) = flight.waiting.iter().partition(|asked: &&Asked| {
                degrees.iter().any(|one| near(*one, asked.degrees) >= asked.hit)
            });
            let served: Vec<Asked> = served;
            self.told.extend(served.iter().map(|one| (one.member, format!("HIT {value}"))));
            flight.waiting = waiting;
        }
    }

    /// A flight is over: who waits in it is decided anew, in order.
    fn end(&mut self, holder: usize) -> Result<(), Tie> {
        let at = self.flights.iter().position(|flight| flight.holder == holder).unwrap();
        let flight = self.flights.remove(at);
        flight.waiting.into_iter().try_for_each(|asked| self.fetch(asked))
    }
}

#[test]
fn whoever_asks_and_waits_is_told_what_a_plain_list_of_all_says() {
    const MEMBERS: usize = 24;
    let server = Server::start();
    let mut client = server.client();
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for seed in Random::seeds().into_iter().flat_map(|seed| (0..25).map(move |n| seed + n)) {
        client.run("FLUSHALL").ok();
        let mut random = Random::new(seed);
        let mut crowd = Crowd::of(&server, MEMBERS);
        let mut oracle = Oracle::default();
        let mut tokens = vec![String::new(); MEMBERS];
        let mut ids = Vec::new();
        let mut free: Vec<_> = (0..MEMBERS).collect();
        for step in 0..60 {
            let holders: Vec<_> = oracle.flights.iter().map(|flight| flight.holder).collect();
            let degrees = random.below(24) as f64 * 5.0;
            // A step at which two things would be as near says nothing: it is left out.
            let mut next = oracle.clone();
            match random.below(6) {
                0..3 if !free.is_empty() => {
                    let member = free[random.below(free.len() as u64) as usize];
                    // Nothing is nearer to these than 0.001 at steps of 5 degrees.
                    let hit = [0.99, 0.95, 0.85][random.below(3) as usize];
                    let maybe = [0.72, hit][random.below(2) as usize];
                    if next.fetch(Asked { member, degrees, hit, maybe }).is_err() {
                        continue;
                    }
                    let more = format!("HIT {hit} MAYBE {maybe} LEASE 60000 WAIT 60000");
                    crowd.send_command(member, &command("ML.SEMFETCH", "k", degrees, &more));
                }
                3 if !holders.is_empty() => {
                    let holder = holders[random.below(holders.len() as u64) as usize];
                    let value = format!("e{step}");
                    next.entries.push(Entry { value, degrees: vec![degrees] });
                    next.offer(next.entries.len() - 1);
                    if next.end(holder).is_err() {
                        continue;
                    }
                    let more = format!("e{step} TOKEN {}", tokens[holder]);
                    ids.push(set(&mut client, degrees, &more).expect("the lease is held"));
                }
                4 if !holders.is_empty() && !ids.is_empty() => {
                    let holder = holders[random.below(holders.len() as u64) as usize];
                    let entry = random.below(ids.len() as u64) as usize;
                    next.entries[entry].degrees.push(degrees);
                    next.offer(entry);
                    if next.end(holder).is_err() {
                        continue;
                    }
                    assert_eq!(alias(&mut client, degrees, &ids[entry], &tokens[holder]), 1);
                }
                5 if !holders.is_empty() => {
                    let holder = holders[random.below(holders.len() as u64) as usize];
                    if next.end(holder).is_err() {
                        continue;
                    }
                    let released = call!(client, "ML.SEMRELEASE", "k", &tokens[holder]);
                    assert_eq!(released.integer(), 1);
                }
                _ => continue,
            }
            oracle = next;
            for (member, expected) in std::mem::take(&mut oracle.told) {
                crowd.look_until(&format!("{expected} of {member}, {seed}"), |crowd| {
                    crowd.is_answered(member)
                });
                let row = row(&crowd, member);
                assert_eq!(row.brief(), expected, "seed {seed}, step {step}, member {member}");
                *kinds.entry(row.status.clone()).or_default() += 1;
                if let Some(token) = row.token {
                    tokens[member] = token;
                }
                crowd.forget(member);
            }
            let waits = oracle.flights.iter().map(|flight| flight.waiting.len()).sum::<usize>();
            // In a flight, and not to be decided anew: until then others may overtake them.
            wait_for("all others to wait", || {
                let info = call!(client, "ML.SEMINFO", "k");
                let at_the_key =
                    if info == Value::Nil { 0 } else { info.map()["waiters"].integer() };
                [total(&mut client, "waiters"), at_the_key] == [waits as i64; 2]
            });
            let busy = |member: &usize| {
                oracle.flights.iter().any(|flight| {
                    flight.holder == *member
                        || flight.waiting.iter().any(|asked| asked.member == *member)
                })
            };
            free = (0..MEMBERS).filter(|member| !busy(member)).collect();
        }
        drop(crowd);
        wait_for("all to be gone", || total(&mut client, "waiters") == 0);
    }
    println!("{kinds:?}");
    assert!(["HIT", "MAYBE", "LEASE"].iter().all(|kind| kinds[*kind] > 50), "{kinds:?}");
    assert!(total(&mut client, "coalesced") > 10, "{}", total(&mut client, "coalesced"));
}
