//! Makes round trips on several connections, each connection one after another, all as fast as
//! the server takes them. Reads them from stdin: the number of the connection, how many replies
//! come, and how many bytes are sent, in a line, then these bytes. Prints the seconds from the
//! first to the last. usage: trips PORT < TRIPS

use std::collections::VecDeque;
use std::error::Error;
use std::io::{Read, Write, stdin};
use std::net::TcpStream;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Trip {
    replies: usize,
    sent: Vec<u8>,
}

struct Line {
    stream: TcpStream,
    trips: VecDeque<Trip>,
    received: Vec<u8>,
}

fn main() -> Outcome<()> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: trips PORT < TRIPS")?.parse()?;
    let mut input = Vec::new();
    stdin().read_to_end(&mut input)?;
    let mut lines = read(&input, port)?;
    let begun = Instant::now();
    for line in &mut lines {
        line.send()?;
    }
    // While one is waited for, the server has the others' to do.
    while lines.iter().any(|line| !line.trips.is_empty()) {
        for line in &mut lines {
            line.receive()?;
            line.send()?;
        }
    }
    println!("{}", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The connections, and what is to be sent on each.
fn read(mut input: &[u8], port: u16) -> Outcome<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
        let (head, rest) = input.split_at(end + 1);
        let numbers: Vec<usize> =
            str::from_utf8(head)?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let &[number, replies, length] = numbers.as_slice() else { return Err("no trip".into()) };
        let (sent, rest) = rest.split_at_checked(length).ok_or("a trip is cut short")?;
        while lines.len() <= number {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            lines.push(Line { stream, trips: VecDeque::new(), received: Vec::new() });
        }
        let line = lines.get_mut(number).ok_or("no connection")?;
        line.trips.push_back(Trip { replies, sent: sent.to_vec() });
        input = rest;
    }
    Ok(lines)
}

impl Line {
    /// The first of its trips, if there is one.
    fn send(&mut self) -> Outcome<()> {
        if let Some(trip) = self.trips.front() {
            self.stream.write_all(&trip.sent)?;
        }
        Ok(())
    }

    /// All replies of the trip that was sent, which is over then.
    fn receive(&mut self) -> Outcome<()> {
        let Some(trip) = self.trips.pop_front() else { return Ok(()) };
        self.received.clear();
        let mut buffer = [0; 1 << 14];
        while after(&self.received, 0, trip.replies)?.is_none() {
            let length = self.stream.read(&mut buffer)?;
            let piece = buffer.get(..length).filter(|piece| !piece.is_empty());
            self.received.extend_from_slice(piece.ok_or("the server has closed a connection")?);
        }
        Ok(())
    }
}

/// Where so many replies, from `start` on, end; None while they are not all there.
fn after(text: &[u8], mut start: usize, replies: usize) -> Outcome<Option<usize>> {
    for _ in 0..replies {
        let rest = text.get(start..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = str::from_utf8(rest.get(..end).unwrap_or_default())?.trim_end();
        let number = line.get(1..).unwrap_or_default();
        start += end + 1;
        match line.as_bytes().first() {
            Some(b'-') => return Err(line.into()),
            Some(b'$') if number != "-1" => start += number.parse::<usize>()? + 2,
            Some(b'*') if number != "-1" => match after(text, start, number.parse()?)? {
                Some(end) => start = end,
                None => return Ok(None),
            },
            _ => {}
        }
    }
    Ok((start <= text.len()).then_some(start))
}
