//! A client, and the ways to look at an answer.

use super::{call, wait_for};
use redis::{Cmd, Connection, ConnectionLike, IntoConnectionInfo, ProtocolVersion, Value};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A connection to a server.
pub struct Client {
    connection: Connection,
    pushes: Receiver<redis::PushInfo>,
}

/// What a refused call must leave as it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint {
    /// DBSIZE.
    pub keys: i64,
    /// DEBUG DIGEST.
    pub digest: String,
    /// The replication offset; it moves only while there is a backlog, such as
    /// a [`super::Tap`] brings about.
    pub offset: i64,
}

impl Client {
    pub(super) fn connect(port: u16, protocol: ProtocolVersion) -> Self {
        let mut connection = open(port, protocol).unwrap();
        let (sender, pushes) = channel();
        connection.set_push_sender(sender);
        Self { connection, pushes }
    }

    /// A client of a server that may be gone.
    pub fn try_connect(port: u16) -> Option<Self> {
        let connection = open(port, ProtocolVersion::RESP2).ok()?;
        Some(Self { connection, pushes: channel().1 })
    }

    /// Whether the server on the port answers, and is this process: another may have been
    /// quicker to take the port.
    pub(super) fn answers(port: u16, process: u32) -> bool {
        let own = format!("process_id:{process}\r\n");
        open(port, ProtocolVersion::RESP2).is_ok_and(|mut connection| {
            // PING is an error while it loads.
            let is_loaded = redis::cmd("PING").query::<String>(&mut connection).is_ok();
            let info = redis::cmd("INFO").arg("server").query::<String>(&mut connection);
            is_loaded && info.is_ok_and(|info| info.contains(&own))
        })
    }

    /// Sends a command; the answer may be an error, which is a value like any
    /// other. A lost connection fails the test.
    #[track_caller]
    pub fn send(&mut self, command: &Cmd) -> Value {
        self.connection
            .req_command(command)
            .unwrap_or_else(|error| panic!("{} got no answer: {error}", name(command)))
    }

    /// Calls a command written as one line, its words apart by spaces.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Value {
        self.send(&command(line))
    }

    /// Sends commands in one go; their answers, in order.
    #[track_caller]
    pub fn pipeline(&mut self, commands: &[Cmd]) -> Vec<Value> {
        let packed: Vec<_> = commands.iter().flat_map(Cmd::get_packed_command).collect();
        self.connection.req_packed_commands(&packed, 0, commands.len()).unwrap()
    }

    /// Sends a command, written as one line, and does not wait for its answer: the
    /// connection is good for nothing after that.
    #[track_caller]
    pub fn send_only(&mut self, line: &str) {
        let command = command(line).get_packed_command();
        self.connection.req_packed_commands(&command, 0, 0).unwrap();
    }

    /// Subscribes to a channel (RESP3), of which the server says so by a push.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) {
        let command = redis::cmd("SUBSCRIBE").arg(channel).get_packed_command();
        self.connection.req_packed_commands(&command, 0, 0).unwrap();
        assert_eq!(self.pushes().len(), 1);
    }

    /// As [`Self::pipeline`], of commands written as lines.
    #[track_caller]
    pub fn run_all(&mut self, lines: &[impl AsRef<str>]) -> Vec<Value> {
        let commands: Vec<_> = lines.iter().map(|line| command(line.as_ref())).collect();
        self.pipeline(&commands)
    }

    /// As [`Self::send`], of a server that may be gone.
    pub fn try_send(&mut self, command: &Cmd) -> redis::RedisResult<Value> {
        self.connection.req_command(command)
    }

    /// As [`Self::run`], of a server that may be gone.
    pub fn try_run(&mut self, line: &str) -> redis::RedisResult<Value> {
        self.connection.req_command(&command(line))
    }

    /// One field of INFO.
    #[track_caller]
    pub fn info(&mut self, field: &str) -> String {
        let info = self.run("INFO everything").text();
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {field}")).to_owned()
    }

    /// Has the AOF rewritten, and waits until it is.
    #[track_caller]
    pub fn rewrite_aof(&mut self) {
        self.run("BGREWRITEAOF").text();
        self.wait_for_rewrite();
        assert_eq!(self.info("aof_last_bgrewrite_status"), "ok");
    }

    /// Waits until no rewrite of the AOF is to come or under way. What is scheduled is in
    /// progress before it is done: in this order none begins between two looks.
    #[track_caller]
    pub fn wait_for_rewrite(&mut self) {
        wait_for("the AOF to be rewritten", || {
            self.info("aof_rewrite_scheduled") == "0" && self.info("aof_rewrite_in_progress") == "0"
        });
    }

    /// DEBUG DIGEST: a sum over all keys and what they hold.
    pub fn digest(&mut self) -> String {
        self.run("DEBUG DIGEST").text()
    }

    /// DEBUG DIGEST-VALUE: a sum over what one key holds.
    pub fn digest_of(&mut self, key: &str) -> String {
        call!(self, "DEBUG", "DIGEST-VALUE", key).items()[0].text()
    }

    /// The replication offset.
    pub fn offset(&mut self) -> i64 {
        self.info("master_repl_offset").parse().unwrap()
    }

    /// What a refused call must leave as it was.
    pub fn footprint(&mut self) -> Footprint {
        let keys = self.run("DBSIZE").integer();
        Footprint { keys, digest: self.digest(), offset: self.offset() }
    }

    /// Stops the module's clock at `now_us`. The server's own keeps running, and
    /// removes a key whose time is over by it: see [`Self::freeze_ahead`].
    pub fn freeze(&mut self, now_us: u64) {
        call!(self, "ML.DEBUG", "CLOCK", now_us).ok();
    }

    /// Stops the module's clock a day ahead, where no key's expiry is over by
    /// the server's own clock, and returns the time, in microseconds.
    pub fn freeze_ahead(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + DAY;
        // To the millisecond, so that expectations come out even.
        let now_us = now.as_millis() as u64 * 1000;
        self.freeze(now_us);
        now_us
    }

    /// Whether the server has a command.
    pub fn knows(&mut self, command: &str) -> bool {
        self.run(&format!("COMMAND INFO {command}")).items()[0] != Value::Nil
    }

    /// What the server has pushed to this client (RESP3) before it answered a
    /// PING sent now.
    pub fn pushes(&mut self) -> Vec<redis::PushInfo> {
        self.run("PING");
        self.pushes.try_iter().collect()
    }
}

const DAY: Duration = Duration::from_secs(86_400);

fn open(port: u16, protocol: ProtocolVersion) -> redis::RedisResult<Connection> {
    let settings =
        redis::RedisConnectionInfo::default().set_protocol(protocol).set_skip_set_lib_name();
    let address = ("127.0.0.1", port).into_connection_info()?.set_redis_settings(settings);
    let connection = redis::Client::open(address)?.get_connection()?;
    // Longer than anything here takes: a server that hangs fails the test.
    connection.set_read_timeout(Some(Duration::from_secs(120)))?;
    Ok(connection)
}

fn command(line: &str) -> Cmd {
    let mut command = Cmd::new();
    line.split(' ').for_each(|word| {
        command.arg(word);
    });
    command
}

fn name(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => "a command".to_owned(),
    }
}

/// An answer, taken as what the test expects; anything else fails the test.
pub trait Answer {
    /// `OK`.
    fn ok(&self);
    /// An integer.
    fn integer(&self) -> i64;
    /// An array of integers.
    fn integers(&self) -> Vec<i64>;
    /// A string's bytes.
    fn bytes(&self) -> Vec<u8>;
    /// A string's text.
    fn text(&self) -> String;
    /// The elements of an array or a set.
    fn items(&self) -> Vec<Value>;
    /// The elements, each a string's text.
    fn texts(&self) -> Vec<String>;
    /// A map, or a flat array of pairs.
    fn map(&self) -> HashMap<String, Value>;
    /// An error, as it stands on the wire.
    fn error(&self) -> String;
    /// Whether it is an error.
    fn is_error(&self) -> bool;
}

impl Answer for Value {
    #[track_caller]
    fn ok(&self) {
        assert_eq!(*self, Self::Okay);
    }

    #[track_caller]
    fn integer(&self) -> i64 {
        let Self::Int(integer) = self else { panic!("not an integer: {self:?}") };
        *integer
    }

    #[track_caller]
    fn integers(&self) -> Vec<i64> {
        self.items().iter().map(Answer::integer).collect()
    }

    #[track_caller]
    fn bytes(&self) -> Vec<u8> {
        let Self::BulkString(bytes) = self else { panic!("not a bulk string: {self:?}") };
        bytes.clone()
    }

    #[track_caller]
    fn text(&self) -> String {
        match self {
            Self::Okay => "OK".to_owned(),
            Self::SimpleString(text) | Self::VerbatimString { text, .. } => text.clone(),
            Self::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => panic!("not a string: {self:?}"),
        }
    }

    #[track_caller]
    fn items(&self) -> Vec<Value> {
        let (Self::Array(items) | Self::Set(items)) = self else {
            panic!("not an array: {self:?}")
        };
        items.clone()
    }

    #[track_caller]
    fn texts(&self) -> Vec<String> {
        self.items().iter().map(Answer::text).collect()
    }

    #[track_caller]
    fn map(&self) -> HashMap<String, Value> {
        let pairs = self.as_map_iter().unwrap_or_else(|| panic!("not a map: {self:?}"));
        pairs.map(|(name, value)| (name.text(), value.clone())).collect()
    }

    #[track_caller]
    fn error(&self) -> String {
        let Self::ServerError(error) = self else { panic!("not an error: {self:?}") };
        format!("{} {}", error.code(), error.details().unwrap_or_default())
    }

    fn is_error(&self) -> bool {
        matches!(self, Self::ServerError(_))
    }
}

/// The answer that is these bytes.
pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::BulkString(bytes.as_ref().to_vec())
}

/// The answer that is as many nils.
pub fn nils(count: usize) -> Value {
    Value::Array(vec![Value::Nil; count])
}
