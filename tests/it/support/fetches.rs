//! Callers of ML.CACHEFETCH: what they are answered, taken apart, and crowds of
//! them that wait all at once.

use super::{Answer, Client, Random, Server, call, wait_for};
use redis::Value;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A row: `[status, value|nil, token|nil, ms]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub status: String,
    pub value: Option<String>,
    pub token: Option<String>,
    pub ms: i64,
}

impl Row {
    /// Takes an answer apart. Only a lease has a token, only a hit, a stale
    /// answer and a lease have a value.
    #[track_caller]
    pub fn of(answer: &Value) -> Self {
        let row = answer.items();
        let [status, value, token, ms] = &row[..] else { panic!("not a row: {answer:?}") };
        let text = |field: &Value| (*field != Value::Nil).then(|| field.text());
        let row = Self {
            status: status.text(),
            value: text(value),
            token: text(token),
            ms: ms.integer(),
        };
        let values = match row.status.as_str() {
            "HIT" | "STALE" => 1..=1,
            "LEASE" => 0..=1,
            "BUSY" | "RETIRED" => 0..=0,
            _ => panic!("an unknown status: {row:?}"),
        };
        assert!(values.contains(&usize::from(row.value.is_some())), "{row:?}");
        assert_eq!(row.token.is_some(), row.status == "LEASE", "{row:?}");
        assert!(row.ms >= 0, "{row:?}");
        row
    }

    /// Each row of an answer of ML.CACHEMFETCH.
    #[track_caller]
    pub fn all(answer: &Value) -> Vec<Self> {
        answer.items().iter().map(Self::of).collect()
    }

    /// The status, and the value behind it, if there is one.
    pub fn brief(&self) -> String {
        match &self.value {
            Some(value) => format!("{} {value}", self.status),
            None => self.status.clone(),
        }
    }
}

/// Calls ML.CACHEFETCH with arguments written as one line.
#[track_caller]
pub fn fetch(client: &mut Client, arguments: &str) -> Row {
    Row::of(&client.run(&format!("ML.CACHEFETCH {arguments}")))
}

/// Gets the lease, which must be to be had, on `key version`; its token.
#[track_caller]
pub fn lease(client: &mut Client, place: &str, ms: u64) -> String {
    let row = fetch(client, &format!("{place} LEASE {ms}"));
    row.token.unwrap_or_else(|| panic!("no lease on {place}: {}", row.status))
}

/// Sets `key version value` with a token; whether it was written.
#[track_caller]
pub fn fill(client: &mut Client, answer: &str, token: &str) -> bool {
    match client.run(&format!("ML.CACHESET {answer} TOKEN {token}")) {
        Value::Nil => false,
        answer => answer == Value::Okay || panic!("{answer:?}"),
    }
}

/// Gives `k v` an answer that took at least so long, fresh for a second; what
/// it took.
#[track_caller]
pub fn answer_that_cost(client: &mut Client, at_least_ms: i64) -> i64 {
    let token = lease(client, "k v", 60_000);
    wait_for("time to pass", || lease_ms(client, "k") <= 60_000 - at_least_ms);
    assert!(fill(client, "k v x PX 1000", &token));
    let info = client.run("ML.CACHEINFO k").map();
    let cost_ms = info["versions"].items()[0].map()["cost_ms"].integer();
    assert!((at_least_ms..30_000).contains(&cost_ms), "{cost_ms} ms");
    cost_ms
}

/// Gets a lease and lets it run out.
pub fn late(client: &mut Client, place: &str, ms: u64) -> String {
    let before = total(client, "expired_leases");
    let token = lease(client, place, ms);
    let (key, _) = place.split_once(' ').unwrap();
    // Whatever looks at leases has those run out, and counted, that are over.
    wait_for("the lease to run out", || {
        lease_ms(client, key) == 0 && total(client, "expired_leases") > before
    });
    token
}

/// How many wait for an answer of a key.
#[track_caller]
pub fn waiters(client: &mut Client, key: &str) -> i64 {
    of_info(client, key, "waiters")
}

/// How long the lease on a key lasts still; 0 when there is none.
#[track_caller]
pub fn lease_ms(client: &mut Client, key: &str) -> i64 {
    of_info(client, key, "lease_ms")
}

fn of_info(client: &mut Client, key: &str, field: &str) -> i64 {
    match call!(client, "ML.CACHEINFO", key) {
        Value::Nil => 0,
        info => info.map()[field].integer(),
    }
}

/// A number that INFO tells of the cache.
#[track_caller]
pub fn total(client: &mut Client, field: &str) -> i64 {
    client.info(&format!("ml_cache_{field}")).parse().unwrap()
}

/// What ML.STATS tells of the cache, by namespace.
#[track_caller]
pub fn stats(client: &mut Client) -> HashMap<String, Value> {
    client.run("ML.STATS CACHE").map()["cache"].map()
}

/// The figures of a namespace, by ML.STATS, those that are not 0.
#[track_caller]
pub fn figures(client: &mut Client, namespace: &str) -> Vec<(String, i64)> {
    let stats = call!(client, "ML.STATS", "CACHE", "NAMESPACE", namespace).map()["cache"].map();
    stats.get(namespace).map(counts).unwrap_or_default()
}

/// The counts in a map, those that are not 0.
#[track_caller]
pub fn counts(stats: &Value) -> Vec<(String, i64)> {
    let stats = stats.map();
    let figures = stats.iter().filter(|(name, _)| *name != "versions");
    let figures = figures.map(|(name, count)| (name.clone(), count.integer()));
    let mut figures: Vec<_> = figures.filter(|(_, count)| *count != 0).collect();
    figures.sort_unstable();
    figures
}

/// What ML.CACHEINFO says of each version of a key: all but the version.
#[track_caller]
pub fn version_info(client: &mut Client, key: &str) -> HashMap<String, Vec<(String, i64)>> {
    let info = call!(client, "ML.CACHEINFO", key);
    let versions = if info == Value::Nil { vec![] } else { info.map()["versions"].items() };
    let one = |version: &Value| {
        let mut fields = version.map();
        let name = fields.remove("version").unwrap().text();
        let fields = fields.iter().map(|(name, number)| (name.clone(), number.integer()));
        let mut fields: Vec<_> = fields.collect();
        fields.sort();
        (name, fields)
    };
    versions.iter().map(one).collect()
}

/// How long a version is fresh still, and how long stale after that.
#[track_caller]
pub fn window(client: &mut Client, key: &str, version: &str) -> (i64, i64) {
    let fields: HashMap<_, _> = version_info(client, key)[version].clone().into_iter().collect();
    (fields["ttl_ms"], fields["stale_ms"])
}

/// What FETCH serves of `k`, without keeping the lease that it may get.
#[track_caller]
pub fn served(client: &mut Client, version: &str) -> Option<String> {
    let row = fetch(client, &format!("k {version} LEASE 60000"));
    if let Some(token) = row.token {
        call!(client, "ML.CACHERELEASE", "k", token).integer();
    }
    row.value
}

/// Says that it is over when dropped, also by a test that fails: what runs
/// beside the test until then ends.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Ends the waits of some who wait in a command, or their lives.
pub fn pick_off(client: &mut Client, random: &mut Random, command: &str) {
    let list = client.run("CLIENT LIST").text();
    // FLUSHDB may block its client as well.
    let runs = format!(" cmd={command} ");
    let blocked = list
        .lines()
        .filter(|line| line.contains(" flags=b ") && line.to_lowercase().contains(&runs));
    for one in blocked.filter(|_| random.below(10) == 0).collect::<Vec<_>>() {
        let id = one.split(' ').next().unwrap().strip_prefix("id=").unwrap();
        match random.below(3) {
            0 => client.run(&format!("CLIENT KILL ID {id}")),
            1 => client.run(&format!("CLIENT UNBLOCK {id} ERROR")),
            _ => client.run(&format!("CLIENT UNBLOCK {id} TIMEOUT")),
        };
    }
}

/// A number that scripts/soak sets to make the storm larger.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// One of a crowd.
struct Member {
    /// `None` once it has left, or the server has closed the connection.
    socket: Option<TcpStream>,
    unread: Vec<u8>,
    sent: usize,
    answers: Vec<(Value, Instant)>,
}

/// Many clients at once, none of which is waited for: what they are answered is
/// taken in by [`Crowd::look`], with the time.
pub struct Crowd {
    members: Vec<Member>,
    port: u16,
}

impl Crowd {
    /// So many clients of a server.
    pub fn of(server: &Server, count: usize) -> Self {
        let port = server.port();
        Self { members: (0..count).map(|_| Member::connect(port)).collect(), port }
    }

    /// A crowd that waits for an answer of a key with the same call, `arguments`
    /// of ML.CACHEFETCH, one behind the other: the first has waited longest.
    #[track_caller]
    pub fn waiting(server: &Server, count: usize, arguments: &str) -> Self {
        let mut crowd = Self::of(server, count);
        let (key, _) = arguments.split_once(' ').unwrap();
        let mut client = server.client();
        let before = waiters(&mut client, key);
        for member in 0..count {
            crowd.send(member, &format!("ML.CACHEFETCH {arguments}"));
            super::wait_for("a caller to wait", || {
                waiters(&mut client, key) == before + member as i64 + 1
            });
        }
        crowd
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Has one send a command, written as one line.
    pub fn send(&mut self, member: usize, line: &str) {
        let mut command = redis::Cmd::new();
        line.split(' ').for_each(|word| _ = command.arg(word));
        self.send_command(member, &command);
    }

    /// Has one send a command.
    pub fn send_command(&mut self, member: usize, command: &redis::Cmd) {
        let member = &mut self.members[member];
        member.sent += 1;
        let sent = member.socket.as_mut().unwrap().write_all(&command.get_packed_command());
        // A connection that the server has closed is found to be so later.
        drop(sent);
    }

    /// Has all send a command.
    pub fn send_all(&mut self, line: &str) {
        (0..self.len()).for_each(|member| self.send(member, line));
    }

    /// Has one close its connection.
    pub fn leave(&mut self, member: usize) {
        self.members[member].socket = None;
    }

    /// Gives one a new connection in place of the one it has lost, and forgets
    /// what it was answered on that.
    pub fn come_back(&mut self, member: usize) {
        self.members[member] = Member::connect(self.port);
    }

    /// Takes in what the server has sent since the last time.
    pub fn look(&mut self) {
        self.members.iter_mut().for_each(Member::look);
    }

    /// What one was answered so far, in order.
    pub fn answers(&self, member: usize) -> Vec<Value> {
        self.members[member].answers.iter().map(|(answer, _)| answer.clone()).collect()
    }

    /// Forgets what one was answered, which was all that it had sent.
    pub fn forget(&mut self, member: usize) {
        assert!(self.is_answered(member));
        let Member { sent, answers, .. } = &mut self.members[member];
        *sent = 0;
        answers.clear();
    }

    /// Whether one is still connected.
    pub fn is_connected(&self, member: usize) -> bool {
        self.members[member].socket.is_some()
    }

    /// Whether one has an answer to all that it has sent.
    pub fn is_answered(&self, member: usize) -> bool {
        let Member { sent, answers, .. } = &self.members[member];
        answers.len() == *sent
    }

    /// The members that have an answer to all they have sent.
    pub fn answered(&self) -> Vec<usize> {
        (0..self.len()).filter(|member| self.is_answered(*member)).collect()
    }

    /// The last that one was answered.
    #[track_caller]
    pub fn last(&self, member: usize) -> &Value {
        &self.members[member].answers.last().expect("not answered").0
    }

    /// The same, a row of ML.CACHEFETCH.
    #[track_caller]
    pub fn row(&self, member: usize) -> Row {
        Row::of(self.last(member))
    }

    /// When the last answer came.
    #[track_caller]
    pub fn time(&self, member: usize) -> Instant {
        self.members[member].answers.last().expect("not answered").1
    }

    /// Looks until so many have an answer to all that they have sent.
    #[track_caller]
    pub fn wait_for(&mut self, answered: usize) {
        self.look_until(&format!("{answered} answers"), |crowd| crowd.answered().len() >= answered);
    }

    /// Looks until the condition holds; fails the test when it does not in time.
    #[track_caller]
    pub fn look_until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.look();
            if condition(self) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain for: {what}");
            std::thread::yield_now();
        }
    }

    /// All that are connected and have their answers are in step: a PING is
    /// answered PONG, and nothing else comes.
    #[track_caller]
    pub fn assert_in_step(&mut self) {
        let idle: Vec<_> =
            self.answered().into_iter().filter(|member| self.is_connected(*member)).collect();
        idle.iter().for_each(|member| self.send(*member, "PING"));
        self.look_until("a PONG of each", |crowd| {
            idle.iter().all(|member| crowd.is_answered(*member) || !crowd.is_connected(*member))
        });
        for member in idle {
            assert_eq!(self.answers(member).last().unwrap().text(), "PONG", "member {member}");
            assert!(self.members[member].unread.is_empty(), "member {member} got more");
            // What it was answered before is the last again.
            let member = &mut self.members[member];
            member.sent -= 1;
            member.answers.pop();
        }
    }
}

impl Member {
    fn connect(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket: Some(socket), unread: Vec::new(), sent: 0, answers: Vec::new() }
    }

    fn look(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        let (mut bytes, mut is_open) = ([0; 4096], true);
        loop {
            match socket.read(&mut bytes) {
                Ok(0) => is_open = false,
                Ok(length) => {
                    self.unread.extend(&bytes[..length]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => is_open = false,
            }
            break;
        }
        if !is_open {
            self.socket = None;
        }
        while let Some(length) = length(&self.unread) {
            let answer: Vec<_> = self.unread.drain(..length).collect();
            self.answers.push((redis::parse_redis_value(&answer).unwrap(), Instant::now()));
        }
        assert!(self.answers.len() <= self.sent, "answered twice: {:?}", self.answers);
    }
}

/// How long the answer is that bytes begin with; `None` unless all of it is there.
fn length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).unwrap().parse::<i64>().unwrap();
    let whole = match bytes[0] {
        b'$' => usize::try_from(number()).map_or(end, |length| end + length + 2),
        b'*' => {
            let elements = usize::try_from(number()).unwrap_or(0);
            (0..elements).try_fold(end, |at, _| Some(at + length(&bytes[at..])?))?
        }
        _ => end,
    };
    (whole <= bytes.len()).then_some(whole)
}

/// What lies at this share of some times, in milliseconds.
pub fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
}
