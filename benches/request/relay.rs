//! A relay to a server on this machine that is slower by some time each round trip: what a
//! client sends is passed on so much later, what the server sends at once. However much is on
//! its way, each piece is as late as the others. usage: relay PORT MICROSECONDS; prints the
//! port it listens on.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<u64> =
        std::env::args().skip(1).map(|word| word.parse()).collect::<Result<_, _>>()?;
    let &[port, microseconds] = arguments.as_slice() else {
        return Err("usage: relay PORT MICROSECONDS".into());
    };
    let port = u16::try_from(port)?;
    // As exact as the system's timers are; threads have it of who starts them.
    fs::write("/proc/self/timerslack_ns", "1")?;
    let later = Duration::from_micros(microseconds);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    for client in listener.incoming() {
        relay(client?, TcpStream::connect(("127.0.0.1", port))?, later)?;
    }
    Ok(())
}

/// Begins to relay between two connections, until either is closed.
fn relay(client: TcpStream, server: TcpStream, later: Duration) -> Result<(), Box<dyn Error>> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let (mut to_client, from_server) = (client, server);
    let (pieces, due) = channel();
    thread::spawn(move || {
        read_all(from_client, |piece| pieces.send((Instant::now() + later, piece)).is_ok())
    });
    thread::spawn(move || {
        for (at, piece) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to_server.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        read_all(from_server, |piece| to_client.write_all(&piece).is_ok());
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Hands on what comes, until nothing comes or it is not taken.
fn read_all(mut from: TcpStream, mut taken: impl FnMut(Vec<u8>) -> bool) {
    let mut buffer = [0; 1 << 16];
    while let Ok(length) = from.read(&mut buffer) {
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else { break };
        if !taken(piece.to_vec()) {
            break;
        }
    }
}
