//! A cluster on the loopback: three primaries, each with a replica.

use super::{Answer, Client, Server, Setup, call, wait_for};
use redis::{Cmd, Value};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

const CONFIG: &str = "
cluster-enabled yes
cluster-node-timeout 1500
cluster-require-full-coverage no
cluster-allow-replica-migration no
cluster-replica-no-failover yes
repl-ping-replica-period 1
repl-timeout 60
";

const PRIMARIES: usize = 3;

/// A running cluster.
pub struct Cluster {
    /// The primaries of the beginning, then the replica of each.
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts a cluster, and waits until every node knows it to be whole.
    pub fn start() -> Self {
        let start = |_| Setup { config: CONFIG, cluster: true, ..Setup::default() }.start();
        let cluster = Self { nodes: (0..2 * PRIMARIES).map(start).collect() };
        let ids: Vec<_> = cluster.nodes.iter().map(id).collect();
        for (place, node) in cluster.nodes.iter().enumerate() {
            call!(node.client(), "CLUSTER", "SET-CONFIG-EPOCH", place + 1).ok();
        }
        let slots = |place: usize| place * 16_384 / PRIMARIES;
        for (place, node) in cluster.nodes.iter().take(PRIMARIES).enumerate() {
            let (first, last) = (slots(place), slots(place + 1) - 1);
            call!(node.client(), "CLUSTER", "ADDSLOTSRANGE", first, last).ok();
        }
        let mut first = cluster.nodes[0].client();
        for node in &cluster.nodes {
            wait_for("the nodes to know each other", || {
                let known = |client: &mut Client| client.run("CLUSTER NODES").text();
                let met = known(&mut first);
                // A handshake is given up after a while, on a machine that is busy.
                for (id, node) in ids.iter().zip(&cluster.nodes) {
                    if !met.contains(id) && !met.contains("handshake") {
                        let bus = node.bus_port().unwrap();
                        call!(first, "CLUSTER", "MEET", "127.0.0.1", node.port(), bus).ok();
                    }
                }
                let known = known(&mut node.client());
                ids.iter().all(|id| known.contains(id)) && !known.contains("handshake")
            });
        }
        for (place, replica) in cluster.nodes.iter().skip(PRIMARIES).enumerate() {
            call!(replica.client(), "CLUSTER", "REPLICATE", &ids[place]).ok();
        }
        for node in &cluster.nodes {
            wait_for("the cluster to be whole", || {
                let mut client = node.client();
                let info = client.run("CLUSTER INFO").text();
                let shards = client.run("CLUSTER NODES").text();
                let linked =
                    client.info("role") == "master" || client.info("master_link_status") == "up";
                info.contains("cluster_state:ok")
                    && info.contains("cluster_slots_assigned:16384")
                    && shards.matches("slave").count() == PRIMARIES
                    && linked
            });
        }
        for primary in &cluster.nodes[..PRIMARIES] {
            wait_for("the replica", || primary.client().info("connected_slaves") == "1");
        }
        cluster
    }

    /// Tells the primaries that a slot is another's now. That one first: until it claims
    /// the slot, others may give it back to the one that had it.
    pub fn assign(&self, slot: u16, to: usize) {
        let id = id(&self.nodes[to]);
        let others = (0..PRIMARIES).filter(|place| *place != to);
        for place in std::iter::once(to).chain(others) {
            call!(self.nodes[place].client(), "CLUSTER", "SETSLOT", slot, "NODE", &id).ok();
        }
    }

    /// A client of the whole cluster.
    pub fn client(&self) -> ClusterClient {
        let ports = self.nodes.iter().map(Server::port).collect();
        ClusterClient { ports, owners: HashMap::new(), clients: HashMap::new() }
    }

    /// The place among the nodes of the one that answers for a key.
    pub fn owner(&self, key: &str) -> usize {
        let port = self.client().owner(key);
        self.nodes.iter().position(|node| node.port() == port).unwrap()
    }
}

/// The id of a node.
pub fn id(node: &Server) -> String {
    node.client().run("CLUSTER MYID").text()
}

/// A client that goes to the node of each key, by what it is told, and tries again
/// while the cluster changes.
pub struct ClusterClient {
    ports: Vec<u16>,
    /// By slot, the port of the node that answered for it last.
    owners: HashMap<i64, u16>,
    clients: HashMap<u16, Client>,
}

impl ClusterClient {
    /// Calls a command of one key's slot. Also whether it may have been done more
    /// than once: sent again after the connection was lost.
    pub fn send(&mut self, key: &str, command: &Cmd) -> (Value, bool) {
        let slot = i64::from(slot_of(key.as_bytes()));
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut lost, mut asking, mut turn) = (false, None, 0);
        loop {
            assert!(Instant::now() < deadline, "no node answers for {key}");
            let known = self.owners.get(&slot).copied();
            let port = asking.or(known).unwrap_or_else(|| self.ports[turn % self.ports.len()]);
            turn += 1;
            match self.ask(port, command, asking.take().is_some()) {
                None => {
                    lost |= known == Some(port);
                    self.clients.remove(&port);
                    self.owners.remove(&slot);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Some(answer) => {
                    let error = if answer.is_error() { answer.error() } else { String::new() };
                    let to = || error.rsplit(':').next().and_then(|port| port.parse().ok());
                    match error.split(' ').next().unwrap_or_default() {
                        "MOVED" => _ = self.owners.insert(slot, to().unwrap()),
                        "ASK" => asking = to(),
                        "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY" => {
                            self.owners.remove(&slot);
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        _ => {
                            self.owners.entry(slot).or_insert(port);
                            return (answer, lost);
                        }
                    }
                }
            }
        }
    }

    /// As [`Self::send`], where it does not matter whether it was done twice.
    pub fn run(&mut self, key: &str, line: &str) -> Value {
        let mut command = Cmd::new();
        line.split(' ').for_each(|word| _ = command.arg(word));
        self.send(key, &command).0
    }

    /// The port of the node that answers for a key.
    pub fn owner(&mut self, key: &str) -> u16 {
        self.run(key, &format!("TYPE {key}"));
        self.owners[&i64::from(slot_of(key.as_bytes()))]
    }

    fn ask(&mut self, port: u16, command: &Cmd, asking: bool) -> Option<Value> {
        let client = match self.clients.entry(port) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Client::try_connect(port)?),
        };
        if asking {
            client.try_send(redis::Cmd::new().arg("ASKING")).ok()?;
        }
        client.try_send(command).ok()
    }
}

/// The slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    let crc = tag.unwrap_or(key).iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    });
    crc % 16_384
}
