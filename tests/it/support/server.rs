//! Private servers: own directory, own port on the loopback, gone when dropped.

use super::{Answer, Client, call, wait_for};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What every server of the tests is started with. Replication sends nothing
/// by the clock, so that an offset moves only when something is replicated.
const CONFIG: &str = "
bind 127.0.0.1
logfile server.log
save \"\"
enable-debug-command yes
enable-module-command yes
repl-diskless-sync no
repl-ping-replica-period 1000000
repl-timeout 2000000
";

/// How a server is to be started.
#[derive(Default)]
pub struct Setup<'a> {
    /// Further lines of redis.conf.
    pub config: &'a str,
    /// The server's binary, where it is not the one under test.
    pub binary: Option<&'a Path>,
    /// Whether the module is left out.
    pub without_module: bool,
    /// Whether it is a node of a cluster, and has a port for that.
    pub cluster: bool,
    /// An RDB file to start from.
    pub dump: Option<&'a Path>,
}

/// How a server is ended before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SHUTDOWN SAVE.
    Save,
    /// SHUTDOWN NOSAVE.
    NoSave,
    /// kill -9.
    Kill,
}

/// A running server.
pub struct Server {
    binary: PathBuf,
    directory: TempDir,
    process: Child,
    port: u16,
    bus_port: Option<u16>,
}

impl Setup<'_> {
    /// Starts the server and waits until it answers.
    pub fn start(self) -> Server {
        let directory = tempfile::Builder::new().prefix("mlserve-test-").tempdir().unwrap();
        let mut config = format!("{CONFIG}{}\n", self.config);
        if !self.without_module {
            config.push_str(&format!("loadmodule {}\n", module()));
        }
        fs::write(directory.path().join("redis.conf"), config).unwrap();
        if let Some(dump) = self.dump {
            fs::copy(dump, directory.path().join("dump.rdb")).unwrap();
        }
        let binary = self.binary.map(Path::to_path_buf).unwrap_or_else(|| {
            std::env::var_os("MLSERVE_SERVER").unwrap_or_else(|| "redis-server".into()).into()
        });
        let (process, port, bus_port) = launch(&binary, directory.path(), self.cluster);
        Server { binary, directory, process, port, bus_port }
    }
}

impl Server {
    /// A server with the module, as it comes.
    pub fn start() -> Self {
        Setup::default().start()
    }

    /// A server with the module and further lines of redis.conf.
    pub fn with(config: &str) -> Self {
        Setup { config, ..Setup::default() }.start()
    }

    /// A server whose snapshots fail, as on a disk that is full, which MISCONF is answered
    /// for while `stop-writes-on-bgsave-error` is on; it is not at first.
    pub fn that_cannot_save() -> Self {
        let config = "save 900 1\nstop-writes-on-bgsave-error no\ndbfilename taken";
        let server = Self::with(config);
        // The file's name is a directory's.
        fs::create_dir(server.directory().join("taken")).unwrap();
        let mut client = server.client();
        client.run("BGSAVE");
        wait_for("it to fail", || client.info("rdb_last_bgsave_status") == "err");
        server
    }

    /// A new client that speaks RESP2.
    pub fn client(&self) -> Client {
        Client::connect(self.port, redis::ProtocolVersion::RESP2)
    }

    /// A new client that speaks RESP3.
    pub fn client3(&self) -> Client {
        Client::connect(self.port, redis::ProtocolVersion::RESP3)
    }

    /// The port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that the nodes of a cluster talk to it by.
    pub fn bus_port(&self) -> Option<u16> {
        self.bus_port
    }

    /// Makes this server a replica and waits until it has caught up.
    pub fn follow(&self, primary: &Self) {
        call!(self.client(), "REPLICAOF", "127.0.0.1", primary.port).ok();
        self.catch_up(primary);
    }

    /// A new replica of this server, in sync, on the same kind of server.
    pub fn replica(&self, config: &str) -> Self {
        let replica = Setup { config, binary: Some(&self.binary), ..Setup::default() }.start();
        replica.follow(self);
        replica
    }

    /// Waits until this replica has all that the primary has replicated.
    pub fn catch_up(&self, primary: &Self) {
        let (mut source, mut own) = (primary.client(), self.client());
        wait_for("the replica to catch up", || {
            own.info("master_link_status") == "up" && own.offset() == source.offset()
        });
    }

    /// Ends the server and starts it again on what it left on disk.
    pub fn restart(&mut self, how: Stop) {
        match how {
            Stop::Kill => self.process.kill().unwrap(),
            Stop::Save => self.shut_down("SAVE"),
            Stop::NoSave => self.shut_down("NOSAVE"),
        }
        self.process.wait().unwrap();
        let is_in_cluster = self.bus_port.is_some();
        (self.process, self.port, self.bus_port) =
            launch(&self.binary, self.directory.path(), is_in_cluster);
    }

    /// Ends the server for good, as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SHUTDOWN, which closes the connection in place of an answer.
    fn shut_down(&self, how: &str) {
        let answer = self.client().try_run(&format!("SHUTDOWN {how}"));
        assert!(answer.is_err(), "SHUTDOWN {how} answered {answer:?}");
    }

    /// The server's binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The server's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the server has logged, and printed.
    pub fn log(&self) -> String {
        log(self.directory.path())
    }

    /// Whether the process still runs: the very one that was started.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Who looks for leaks wants a server to come to its end by itself.
        if std::env::var_os("MLSERVE_GENTLE_END").is_some() && self.is_running() {
            let _ = self.client().try_run("SHUTDOWN NOSAVE");
            let _ = self.process.wait();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("--- the end of the log of the server on port {}:", self.port);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Starts the binary in the directory, on a port that is free, and in a cluster on one
/// for its bus. Another process may be quicker to take them: then on others.
fn launch(binary: &Path, directory: &Path, is_in_cluster: bool) -> (Child, u16, Option<u16>) {
    for _ in 0..10 {
        let (port, bus_port) = (free_port(), is_in_cluster.then(free_port));
        let bus = bus_port.map(|port| ["--cluster-port".to_owned(), port.to_string()]);
        let output =
            File::options().create(true).append(true).open(directory.join("output")).unwrap();
        let mut process = Command::new(binary)
            .args(["redis.conf", "--port", &port.to_string()])
            .args(bus.into_iter().flatten())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
        wait_for("the server to answer", || {
            process.try_wait().unwrap().is_some() || Client::answers(port, process.id())
        });
        // A stranger on a port has ours end.
        if process.try_wait().unwrap().is_none() {
            return (process, port, bus_port);
        }
        let log = log(directory);
        assert!(log.contains("Address already in use"), "the server ended at once:\n{log}");
    }
    panic!("no free port in ten attempts");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn log(directory: &Path) -> String {
    let read = |name| fs::read(directory.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&[read("server.log"), read("output")].concat()).into_owned()
}

/// The module under test: the one given, or the one built for these tests.
pub fn module() -> String {
    let built = || {
        let tests = std::env::current_exe().unwrap();
        // target/debug/deps/<test>, and the library beside it or one up.
        let deps = tests.parent().unwrap();
        let places = [deps, deps.parent().unwrap()].map(|place| place.join("libmlserve.so"));
        let found = places.iter().find(|place| place.exists());
        found.unwrap_or_else(|| panic!("the module is not built: none of {places:?}")).clone()
    };
    let path = std::env::var_os("MLSERVE_MODULE").map_or_else(built, PathBuf::from);
    std::path::absolute(path).unwrap().display().to_string()
}

/// The folder that cargo builds into.
fn target() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(own, PathBuf::from)
}

/// The module as it is released, if it has been built.
pub fn release_module() -> Option<String> {
    let module = std::path::absolute(target().join("release/libmlserve.so")).unwrap();
    module.exists().then(|| module.display().to_string())
}

/// The servers that `scripts/servers` has gathered: name, and the binary or why
/// there is none. `None` when it has not run.
pub fn listed_servers() -> Option<Vec<(String, Result<PathBuf, String>)>> {
    let list = fs::read_to_string(target().join("servers/list")).ok()?;
    let entry = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        let [name, version, rest] = fields[..] else { panic!("not a line of the list: {line:?}") };
        match version {
            "skipped" => (name.to_owned(), Err(rest.to_owned())),
            _ => (format!("{name} ({version})"), Ok(PathBuf::from(rest))),
        }
    };
    Some(list.lines().map(entry).collect())
}
