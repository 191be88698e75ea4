//! Looking over the server's shoulder: what it replicates, what it notifies.

use super::{Answer, Client, Server, call};
use redis::{Connection, Value};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The channel of the marks up to which to read, each with a number of its own.
const MARK: &str = "mark";

/// Publishes a mark behind all that the server has done so far.
fn mark(client: &mut Client) -> String {
    static MARKS: AtomicU64 = AtomicU64::new(0);
    let mark = MARKS.fetch_add(1, Relaxed).to_string();
    call!(client, "PUBLISH", MARK, &mark).integer();
    mark
}

/// A replica that keeps nothing, and shows each command as it is replicated.
pub struct Tap {
    stream: BufReader<TcpStream>,
    parser: redis::Parser,
}

impl Tap {
    /// Taps a server; what it replicates from now on is seen.
    pub fn on(server: &Server) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.write_all(b"PSYNC ? -1\r\n").unwrap();
        let mut stream = BufReader::new(socket);
        // First +FULLRESYNC, then an RDB file as a bulk without an end of line.
        // Empty lines before either say that the server is still at it.
        let mut line = || loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if !line.trim().is_empty() {
                return line.trim().to_owned();
            }
        };
        assert!(line().starts_with("+FULLRESYNC"));
        let length = line().strip_prefix('$').unwrap().parse().unwrap();
        std::io::copy(&mut (&mut stream).take(length), &mut std::io::sink()).unwrap();
        let mut tap = Self { stream, parser: redis::Parser::new() };
        // The first mark comes with the SELECT of database 0.
        tap.replicated(&mut server.client());
        tap
    }

    /// The commands replicated since the last time, each with its arguments.
    pub fn replicated(&mut self, client: &mut Client) -> Vec<Vec<Vec<u8>>> {
        let mark = mark(client);
        let mut commands = Vec::new();
        loop {
            let command = self.parser.parse_value(&mut self.stream).unwrap();
            let command: Vec<_> = command.items().iter().map(Answer::bytes).collect();
            match &command[..] {
                [_, channel, number] if channel == MARK.as_bytes() => {
                    if number == mark.as_bytes() {
                        return commands;
                    }
                }
                _ => commands.push(command),
            }
        }
    }

    /// The names of the commands replicated since the last time.
    pub fn names(&mut self, client: &mut Client) -> Vec<String> {
        let commands = self.replicated(client);
        commands.iter().map(|words| String::from_utf8_lossy(&words[0]).to_uppercase()).collect()
    }
}

/// A subscriber to every keyspace notification.
pub struct Events {
    connection: Connection,
}

impl Events {
    /// Subscribes; what the server notifies from now on is seen.
    pub fn of(server: &Server) -> Self {
        server.client().run("CONFIG SET notify-keyspace-events KEA").ok();
        let url = format!("redis://127.0.0.1:{}/", server.port());
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        for (kind, channel) in [("PSUBSCRIBE", "__keyevent@*__:*"), ("SUBSCRIBE", MARK)] {
            let subscribe = redis::cmd(kind).arg(channel).get_packed_command();
            connection.send_packed_command(&subscribe).unwrap();
            connection.recv_response().unwrap();
        }
        Self { connection }
    }

    /// The events since the last time, each with its key.
    pub fn notified(&mut self, client: &mut Client) -> Vec<(String, String)> {
        let mark = mark(client);
        let mut events = Vec::new();
        loop {
            let message = self.connection.recv_response().unwrap();
            let Value::Array(message) = message else { panic!("not a message: {message:?}") };
            match &message[..] {
                [_, _, number] if number.text() == mark => return events,
                [_, _, _] => {}
                [_, _, channel, key] => {
                    let channel = channel.text();
                    let (_, event) = channel.split_once(':').unwrap();
                    events.push((event.to_owned(), key.text()));
                }
                _ => panic!("not a notification: {message:?}"),
            }
        }
    }
}
