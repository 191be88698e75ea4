//! Which versions are in force, and what is counted of each namespace.

use super::codec;
use super::config::NAMESPACES;
use super::namespaces::{
    Figure, InForce, MAX_IN_FORCE, MAX_NAME_BYTES, MAX_NAMESPACES, Namespace, OTHER,
};
use super::node::{self, Node};
use super::parse::version;
use crate::server::{AuxTable, Call, Error, Lock, Reply, monotonic, new_id, refuse};
use std::ffi::CStr;

/// The command that carries versions in force to replicas and into the AOF.
pub const APPLY_VERSIONS: &CStr = c"ML.APPLYVERSIONS";

/// The versions in force, as they are saved with the data set.
pub static TABLE: AuxTable = AuxTable { load_command: APPLY_VERSIONS, save, load };

fn save(lock: &Lock, out: &mut Vec<u8>) {
    node::with(lock, |node| {
        let mut all = node.namespaces.in_force().peekable();
        if all.peek().is_some() {
            codec::encode_namespaces(all, out);
        }
    });
}

fn load(lock: &Lock, payload: &[u8]) -> Option<()> {
    let all = codec::decode_namespaces(payload)?;
    node::act(lock, |node| all.iter().for_each(|one| put_in_force(node, one)));
    Some(())
}

/// Puts versions in force that were so elsewhere: whatever the config says.
fn put_in_force(node: &mut Node, InForce { namespace, versions }: &InForce) {
    // What no primary could have set changes nothing.
    let _ = node.namespaces.set(namespace, versions, MAX_NAMESPACES);
    let Node { namespaces, flights, .. } = node;
    if let Some(one) = namespaces.named(namespace) {
        flights.retire(namespace, |version| one.admits(version));
    }
}

/// ML.CACHEVERSION namespace [SET version [version ...] | CLEAR]
pub fn cacheversion(call: &mut Call) -> Result<(), Error> {
    let namespace = call.args.arg()?.sized("namespace", 0..=MAX_NAME_BYTES)?;
    if namespace.contains(&b':') {
        return Err(refuse("namespace must be without a ':', which would end it"));
    }
    let lock = call.lock();
    if let Some(word) = call.args.peek() {
        let mut versions = Vec::new();
        if word.one_of("the argument after namespace", &["SET", "CLEAR"])? == 0 {
            call.args.arg()?;
            let all = call.args.remaining();
            if all.len() == 0 {
                return Err(Error::WrongArity);
            }
            for one in all {
                let one = version(one)?;
                if !versions.contains(&one) {
                    versions.push(one);
                }
                if versions.len() > MAX_IN_FORCE {
                    return Err(refuse(format!("at most {MAX_IN_FORCE} versions are in force")));
                }
            }
        } else {
            call.args.arg()?;
            if call.args.left() > 0 {
                return Err(Error::WrongArity);
            }
        }
        set(call, &lock, InForce { namespace, versions })?;
    }
    node::with(&lock, |node| reply_versions(call.reply, node.namespaces.named(namespace)));
    Ok(())
}

fn set(call: &Call, lock: &Lock, wanted: InForce) -> Result<(), Error> {
    let InForce { namespace, versions } = &wanted;
    if *namespace == OTHER {
        return Err(refuse("namespace must not be (other), under which the rest is counted"));
    }
    let most = usize::try_from(NAMESPACES.get()).unwrap_or(0);
    let changed = node::act(lock, |node| {
        let Node { namespaces, flights, .. } = node;
        let held = namespaces.named(namespace);
        let is_so = match held {
            None => versions.is_empty(),
            Some(one) => {
                one.versions().len() == versions.len()
                    && versions
                        .iter()
                        .all(|version| one.versions().iter().any(|held| **held == **version))
            }
        };
        if is_so {
            return Ok(false);
        }
        namespaces.set(namespace, versions, most).map_err(|_| {
            refuse(format!(
                "namespace would be one more than {most} (ml.cache-max-namespaces); \
                 ML.CACHESTATS RESET forgets those with nothing but statistics"
            ))
        })?;
        if let Some(one) = namespaces.named(namespace) {
            flights.retire(namespace, |version| one.admits(version));
        }
        Ok(true)
    })?;
    if changed {
        let mut payload = Vec::new();
        codec::encode_namespaces([wanted].into_iter(), &mut payload);
        call.replicate_keyless(APPLY_VERSIONS, &payload);
    }
    Ok(())
}

fn reply_versions(reply: Reply, namespace: Option<&Namespace>) {
    let versions = namespace.map(Namespace::versions).unwrap_or_default();
    reply.array(versions.len());
    versions.iter().for_each(|version| reply.bytes(version));
}

/// ML.APPLYVERSIONS payload
pub fn apply(call: &mut Call) -> Result<(), Error> {
    let payload = call.args.arg()?.bytes();
    load(&call.lock(), payload).ok_or_else(|| refuse("payload is not one of versions in force"))?;
    call.replicate_keyless(APPLY_VERSIONS, payload);
    call.reply.ok();
    Ok(())
}

/// ML.CACHESTATS [NAMESPACE namespace] [RESET]
pub fn cachestats(call: &mut Call) -> Result<(), Error> {
    let (mut name, mut reset) = (None, false);
    let mut options = call.args.options();
    while let Some(option) = options.next(&["NAMESPACE", "RESET"])? {
        match option {
            "NAMESPACE" => name = Some(options.value()?.bytes()),
            _ => reset = true,
        }
    }
    let (reply, lock) = (call.reply, call.lock());
    // Leases that nobody waits for run out when somebody looks.
    node::act(&lock, |node| node.flights.advance(monotonic(), &mut new_id));
    node::with(&lock, |node| {
        match name {
            Some(name) => reply_figures(reply, node.namespaces.named(name)),
            None => {
                reply.map(node.namespaces.known().count());
                for one in node.namespaces.known() {
                    reply.bytes(one.name());
                    reply_figures(reply, Some(one));
                }
            }
        }
        if reset {
            node.namespaces.reset(name);
        }
    });
    Ok(())
}

fn reply_figures(reply: Reply, namespace: Option<&Namespace>) {
    reply.map(1 + Figure::ALL.len());
    reply.bytes(b"versions");
    reply_versions(reply, namespace);
    for figure in Figure::ALL {
        reply.bytes(figure.name().as_bytes());
        let count = namespace.map_or(0, |one| one.figure(figure));
        reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
