//! ML.CACHEVERSION: the versions in force in a namespace.

use super::arguments::{VERSION, version};
use crate::cache::codec;
use crate::cache::config::NAMESPACES;
use crate::cache::namespaces::{InForce, MAX_IN_FORCE, MAX_NAME_BYTES, Namespace, OTHER};
use crate::cache::state::{self, State};
use crate::cache::versions::APPLY_VERSIONS;
use crate::server::{Argument, Call, Command, Error, Lock, Reply, handler, refuse};

/// ML.CACHEVERSION
pub const COMMAND: Command = Command {
    name: c"ML.CACHEVERSION",
    run: handler(cacheversion),
    flags: c"write admin",
    categories: c"write admin dangerous",
    arity: -2,
    keys: None,
    arguments: &[
        Argument::string(c"namespace"),
        Argument::one_of(
            c"change",
            &[VERSION.after(c"SET").repeated(), Argument::token(c"clear", c"CLEAR")],
        )
        .optional(),
    ],
    summary: c"Returns or sets the versions that are in force in a namespace.",
    complexity: c"O(1) in the number of entries; O(N) where N is the number of open leases.",
    since: c"0.1.0",
};

/// ML.CACHEVERSION namespace [SET version [version ...] | CLEAR]
fn cacheversion(call: &mut Call) -> Result<(), Error> {
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
    state::with(&lock, |state| reply_versions(call.reply, state.namespaces.named(namespace)));
    Ok(())
}

fn set(call: &Call, lock: &Lock, wanted: InForce) -> Result<(), Error> {
    let InForce { namespace, versions } = &wanted;
    if *namespace == OTHER {
        return Err(refuse("namespace must not be (other), under which the rest is counted"));
    }
    let most = usize::try_from(NAMESPACES.get()).unwrap_or(0);
    let changed = state::act(lock, |state| {
        let State { namespaces, flights, .. } = state;
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

/// Answers the versions in force.
pub fn reply_versions(reply: Reply, namespace: Option<&Namespace>) {
    let versions = namespace.map(Namespace::versions).unwrap_or_default();
    reply.array(versions.len());
    versions.iter().for_each(|version| reply.bytes(version));
}
