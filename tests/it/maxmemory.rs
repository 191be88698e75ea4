//! Nothing past `maxmemory`: what may need memory is refused there and has changed
//! nothing, all else takes none, and what the module keeps beside the keys stays
//! within its own configs.

use crate::fuzz::{GRAMMAR, Maker, remember};
use crate::support::{Answer, Client, Random, Server, call, commands};
use redis::{Cmd, Value};

/// What the module may keep beside the keys: leases of each kind and who waits for them, and of
/// 16 namespaces in each section of ML.STATS what was counted and the keys denied
/// most, and their versions in force.
const CONFIG: &str = "ml.cache-max-lease-bytes 65536\nml.semantic-max-lease-bytes 65536\n\
                      ml.stats-max-namespaces 16\n\
                      ml.cache-max-namespaces 16\nmaxmemory-eviction-tenacity 100";
const LEASE_BYTES: i64 = 64 << 10;
/// Of a sketch 64 keys of 128 bytes each, of the rest some hundred bytes.
const BESIDE: i64 = 2 * LEASE_BYTES + 16 * (16 << 10);

/// What calls that need no memory may take all the same, many of them together: of
/// the figures of namespaces, whose names are up to 255 bytes long.
const GROWTH: i64 = 32 << 10;

/// What one call takes while it runs, clients' buffers, and what the server notes.
const SLACK: i64 = 64 << 10;

/// Calls at random of the lines of the grammar that are the command's, or of any of
/// the module's that clients call; of so many names, and endlessly many namespaces.
fn calls(
    random: &mut Random,
    ids: &[Vec<u8>],
    names: u64,
    name: Option<&str>,
    count: usize,
) -> Vec<Cmd> {
    let internal: Vec<_> =
        commands::all().filter(|one| commands::is_internal(one)).map(commands::name).collect();
    let is_meant = |line: &&&str| {
        let head = line.split(' ').next().unwrap();
        match name {
            Some(name) => head == name,
            None => head.starts_with("ML.") && !internal.contains(&head),
        }
    };
    let lines: Vec<_> = GRAMMAR.iter().filter(is_meant).collect();
    let mut call = |number: usize| {
        let mut maker = Maker::new(random, ids);
        (maker.longest, maker.names) = (2_001, names);
        let mut words = maker.words(lines[number % lines.len()]);
        for word in words.iter_mut().filter(|word| word.starts_with(b"ns:")) {
            *word = format!("{}{}:k", "n".repeat(200), random.below(1 << 20)).into();
        }
        let mut command = Cmd::new();
        words.iter().for_each(|word| _ = command.arg(word));
        command
    };
    (0..count).map(&mut call).collect()
}

/// Bytes that the module has, of whatever kind.
fn held(client: &mut Client) -> i64 {
    client.run("ML.DEBUG WORK DONE").items()[3].integer()
}

fn is_oom(answer: &Value) -> bool {
    answer.is_error() && answer.error().starts_with("OOM ")
}

fn used(client: &mut Client) -> i64 {
    client.info("used_memory").parse().unwrap()
}

fn start(more: &str) -> Option<(Server, Client)> {
    let server = Server::with(&format!("{CONFIG}\n{more}"));
    let mut client = server.client();
    // What the server does beside the calls would count as theirs.
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    if client.knows("ML.DEBUG") {
        return Some((server, client));
    }
    println!("not applicable: a release build counts nothing");
    None
}

#[test]
fn over_maxmemory_what_may_need_memory_is_refused_and_all_else_takes_none() {
    let Some((_server, mut client)) = start("maxmemory-policy noeviction") else { return };
    let [_, seed] = Random::seeds();
    let (mut random, mut ids) = (Random::new(seed), Vec::new());
    for answer in client.pipeline(&calls(&mut random, &ids, 100, None, 2_000)) {
        remember(&answer, &mut ids);
    }
    // Rows that share their names.
    let fields: Vec<_> = (0..2_000).map(|field| format!("f{field}")).collect();
    for key in (0..100).map(|key| format!("f{key}")) {
        call!(client, "DEL", &key).integer();
        let blob = vec![0_u8; 4 * fields.len()];
        let names = ("FIELDS", fields.len(), &fields);
        call!(client, "ML.FEATUREMSET", 1, key, blob, "TYPE", "F32", names).items();
    }
    client.run("CONFIG SET maxmemory 1").ok();
    let leases = client.info("ml_cache_leases");
    let start = held(&mut client);
    for command in commands::all().filter(|command| !commands::is_internal(command)) {
        let name = commands::name(command);
        let calls = calls(&mut random, &ids, 100, Some(name), 300);
        if commands::has_flag(command, "denyoom") {
            let before = (client.footprint(), held(&mut client));
            let answers = client.pipeline(&calls);
            let refused = answers.iter().filter(|answer| is_oom(answer)).count();
            assert!(refused > 250, "{name}: {refused} of 300 refused, seed {seed}");
            assert!(answers.iter().all(Answer::is_error), "{name}, seed {seed}");
            let after = (client.footprint(), held(&mut client));
            assert_eq!(after, before, "{name}, seed {seed}");
        } else {
            let before = held(&mut client);
            let answers = client.pipeline(&calls);
            let taken = answers.iter().filter(|answer| !answer.is_error()).count();
            let grown = held(&mut client) - before;
            println!("{grown} bytes by {name}, {taken} of 300 taken");
            assert!(taken > 0, "{name}, seed {seed}");
            assert!(grown <= GROWTH, "{name}: {grown} bytes more, seed {seed}");
        }
    }
    let grown = held(&mut client) - start;
    assert!(grown <= GROWTH, "{grown} bytes more, seed {seed}");
    assert_eq!(client.info("ml_cache_leases"), leases, "none is granted, seed {seed}");
}

#[test]
fn calls_fill_the_memory_that_there_is_and_no_more() {
    for policy in ["noeviction", "allkeys-lru"] {
        let Some((_server, mut client)) = start(&format!("maxmemory-policy {policy}")) else {
            return;
        };
        let [_, seed] = Random::seeds();
        let (mut random, mut ids) = (Random::new(seed), Vec::new());
        // What is allocated once, is then.
        client.pipeline(&calls(&mut random, &ids, 20_000, None, 1_000));
        client.run("FLUSHALL SYNC").ok();
        let empty = held(&mut client);
        let most = used(&mut client) + (512 << 10);
        client.run(&format!("CONFIG SET maxmemory {most}")).ok();
        let (mut full, mut beyond) = (0, 0);
        for _ in 0..1_000 {
            let mut refused = 0;
            for answer in client.pipeline(&calls(&mut random, &ids, 20_000, None, 50)) {
                remember(&answer, &mut ids);
                refused += u32::from(is_oom(&answer));
            }
            let used = used(&mut client);
            beyond = beyond.max(used - most);
            assert!(beyond <= SLACK, "{policy}: {beyond} bytes beyond, seed {seed}");
            for field in ["ml_cache_lease_bytes", "ml_semantic_lease_bytes"] {
                let leases: i64 = client.info(field).parse().unwrap();
                assert!(leases <= LEASE_BYTES, "{policy}: {field} {leases}, seed {seed}");
            }
            full += u32::from(refused > 0 || client.info("evicted_keys") != "0");
            if full == 200 {
                break;
            }
        }
        assert_eq!(full, 200, "{policy}: it was hardly ever full, seed {seed}");
        // Without the keys there is left what is beside them.
        for key in client.run("KEYS *").items() {
            call!(client, "DEL", key.bytes()).integer();
        }
        let beside = held(&mut client) - empty;
        println!("{policy}: {beyond} bytes beyond, {beside} beside the keys");
        assert!(beside <= BESIDE, "{policy}: {beside} bytes beside the keys, seed {seed}");
    }
}
