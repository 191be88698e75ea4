//! Many clients at once, each with the same call over and over.

use super::Server;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

/// Many clients at once.
pub struct Flood<'a> {
    /// The server they call.
    pub server: &'a Server,
    /// How many they are.
    pub clients: usize,
    /// How many calls each sends before it reads the answers.
    pub pipeline: usize,
    /// How often each does.
    pub rounds: usize,
}

impl Flood<'_> {
    /// How many calls there are in all.
    pub fn calls(&self) -> usize {
        self.clients * self.pipeline * self.rounds
    }

    /// Has all clients start at once on the call, written as one line. Answers
    /// have as many lines as `lines`; the integers on those at `places` are
    /// added up, each for itself.
    pub fn pour(&self, call: &str, lines: usize, places: &[usize]) -> Vec<u64> {
        let mut command = redis::Cmd::new();
        call.split(' ').for_each(|word| _ = command.arg(word));
        let batch = command.get_packed_command().repeat(self.pipeline);
        let start = Barrier::new(self.clients);
        let pour = || {
            let mut socket = TcpStream::connect(("127.0.0.1", self.server.port())).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
            let mut answers = BufReader::new(socket.try_clone().unwrap());
            let (mut sums, mut line) = (vec![0; places.len()], String::new());
            start.wait();
            for _ in 0..self.rounds {
                socket.write_all(&batch).unwrap();
                for number in 0..self.pipeline * lines {
                    line.clear();
                    answers.read_line(&mut line).unwrap();
                    assert!(!line.starts_with('-') && !line.is_empty(), "{call}: {line:?}");
                    if let Some(place) = places.iter().position(|place| *place == number % lines) {
                        let integer = line.trim_end().strip_prefix(':').unwrap();
                        sums[place] += integer.parse::<u64>().unwrap();
                    }
                }
            }
            sums
        };
        let add = |sums: Vec<u64>, more: Vec<u64>| {
            sums.iter().zip(more).map(|(sum, more)| sum + more).collect()
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(pour)).collect();
            let sums = clients.into_iter().map(|client| client.join().unwrap());
            sums.fold(vec![0; places.len()], add)
        })
    }
}
