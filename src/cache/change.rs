//! A change of the answers of a key: decided once, on the primary, from the
//! answers as they are; applied there and on replicas by the same code, which
//! decides nothing.

use super::answer::{Answer, Head, MAX_VERSIONS};
use crate::bug;
use crate::lifetime::Lifetime;
use crate::time::Millis;
use std::borrow::Cow;

/// What a write changes in a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// The versions that go.
    pub dropped: Vec<Cow<'a, [u8]>>,
    /// The versions that get another lifetime.
    pub retimed: Vec<(Cow<'a, [u8]>, Lifetime)>,
    /// The version that an answer is put in of, and its lifetime; the value
    /// travels beside the change.
    pub put: Option<(Cow<'a, [u8]>, Lifetime)>,
}

/// Where answers are kept: a key.
pub trait Holder {
    /// Why it cannot be changed.
    type Error;

    /// The answer written last, if it holds one: what can be changed in place of it, and its
    /// bytes.
    fn newest(&mut self) -> Result<Option<(&mut Head, &mut [u8])>, Self::Error>;

    /// Puts in what it is to hold, and gives back what it held.
    fn replace(&mut self, answers: Answer) -> Result<Option<Answer>, Self::Error>;
}

impl Change<'_> {
    /// Whether a key that holds `answers` would hold more than it may. No primary
    /// decides so.
    pub fn is_too_much_for(&self, answers: Option<&Answer>) -> bool {
        let stays = |held: &&Answer| !self.drops(held.version()) && !self.puts(held.version());
        self.put.is_some()
            && answers.into_iter().flat_map(Answer::answers).filter(stays).count() >= MAX_VERSIONS
    }

    fn puts(&self, version: &[u8]) -> bool {
        self.put.as_ref().is_some_and(|(put, _)| **put == *version)
    }

    fn drops(&self, version: &[u8]) -> bool {
        self.dropped.iter().any(|dropped| **dropped == *version)
    }

    /// Changes what a key holds. `answer` is the one to be put in, if one is.
    /// Until when the key lives then; `None` when nothing is left in it.
    pub fn apply<H: Holder>(
        &self,
        key: &mut H,
        answer: Option<Answer>,
    ) -> Result<Option<Millis>, H::Error> {
        let put = answer.as_ref().map(|answer| answer.lifetime().stale_until_ms);
        let goes = |held: &[u8]| self.drops(held) || self.puts(held);
        // Without an answer to put in, what the key holds meanwhile is empty.
        let before = key.replace(answer.unwrap_or_default())?;
        let mut others = before.and_then(|before| before.without(goes));
        if let Some(others) = &mut others {
            self.retimed.iter().for_each(|(version, to)| others.retime(version, *to));
        }
        let others_ms = others.as_ref().map(Answer::expires_at_ms);
        match (put, others) {
            (None, None) => return Ok(None),
            (None, Some(others)) => _ = key.replace(others)?,
            (Some(_), None) => {}
            (Some(_), others) => {
                let newest = key.newest()?;
                let (head, _) = newest.unwrap_or_else(|| bug("an answer just put in is gone"));
                head.set_older(others);
            }
        }
        Ok(put.max(others_ms))
    }

    /// Writes the answer that is put in over the only one that a key holds, of the same
    /// version and as long: what [`apply`](Self::apply) comes to, without another block.
    /// Until when the key lives then; `None` where that cannot be.
    pub fn overwrite<H: Holder>(
        &self,
        key: &mut H,
        value: &[u8],
    ) -> Result<Option<Millis>, H::Error> {
        let Self { dropped, retimed, put: Some((version, lifetime)) } = self else {
            return Ok(None);
        };
        let others = dropped.len() + retimed.len();
        let newest = key.newest()?.filter(|_| others == 0);
        let is_over =
            newest.is_some_and(|(head, bytes)| head.overwrite(bytes, (version, value), *lifetime));
        Ok(is_over.then_some(lifetime.stale_until_ms))
    }
}

/// Decides what else a write of `version` changes: of the versions that would be
/// one too many among `keep`, those go that can be served no more, then those not
/// in force, then those written longest ago.
pub fn decide_put<'v>(
    answers: Option<&Answer>,
    (version, lifetime): (&'v [u8], Lifetime),
    keep: usize,
    is_in_force: impl Fn(&[u8]) -> bool,
    now_ms: Millis,
) -> Change<'v> {
    let others = answers.into_iter().flat_map(Answer::answers);
    let others = others.filter(|answer| answer.version() != version);
    let put = Some((Cow::Borrowed(version), lifetime));
    // Most keys hold one answer.
    if others.clone().next().is_none() {
        return Change { put, ..Change::default() };
    }
    let (alive, dead): (Vec<_>, Vec<_>) =
        others.partition(|answer| answer.lifetime().is_alive(now_ms));
    let too_many = (alive.len() + 1).saturating_sub(keep.max(1));
    let (in_force, retired): (Vec<_>, Vec<_>) =
        alive.into_iter().rev().partition(|answer| is_in_force(answer.version()));
    let pushed_out = retired.into_iter().chain(in_force).take(too_many);
    let dropped = dead.into_iter().chain(pushed_out);
    Change {
        dropped: dropped.map(|answer| Cow::Owned(answer.version().to_vec())).collect(),
        retimed: Vec::new(),
        put,
    }
}

/// Decides what a drop changes, of one version or of all: they go, or are made
/// `stale`; and how many answers that concerns. `None` where nothing changes.
/// What can be served no more goes too, so that a key that holds nothing else does
/// not stay for ever when its expiry was taken off.
pub fn decide_drop(
    answers: Option<&Answer>,
    version: Option<&[u8]>,
    stale: bool,
    now_ms: Millis,
) -> (usize, Option<Change<'static>>) {
    let Some(answers) = answers else { return (0, None) };
    let mut change = Change::default();
    let (mut concerned, mut left) = (0, 0);
    for answer in answers.answers() {
        let lifetime = answer.lifetime();
        let serves = if stale { lifetime.is_fresh(now_ms) } else { lifetime.is_alive(now_ms) };
        let is_asked = serves && version.is_none_or(|version| answer.version() == version);
        let then = match (is_asked, stale) {
            (true, false) => None,
            (true, true) => Some(lifetime.made_stale(now_ms)),
            (false, _) => Some(lifetime),
        };
        let name = Cow::Owned(answer.version().to_vec());
        match then.filter(|then| then.is_alive(now_ms)) {
            None => change.dropped.push(name),
            Some(then) => {
                left += 1;
                if is_asked {
                    change.retimed.push((name, then));
                }
            }
        }
        concerned += usize::from(is_asked);
    }
    (concerned, (concerned > 0 || left == 0).then_some(change))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    impl Holder for Option<Answer> {
        type Error = Infallible;

        fn newest(&mut self) -> Result<Option<(&mut Head, &mut [u8])>, Infallible> {
            Ok(self.as_mut().map(Answer::parts_mut))
        }

        fn replace(&mut self, answers: Answer) -> Result<Option<Answer>, Infallible> {
            Ok(self.replace(answers))
        }
    }

    fn until(expires_at_ms: Millis) -> Lifetime {
        Lifetime { expires_at_ms, stale_until_ms: expires_at_ms, ..Lifetime::default() }
    }

    /// What a command does: decides, and applies; the change goes over the wire.
    fn commit(key: &mut Option<Answer>, change: &Change, value: Option<&[u8]>) {
        let mut payload = Vec::new();
        crate::cache::codec::encode_change(change, &mut payload);
        let change = crate::cache::codec::decode_change(&payload).unwrap();
        assert!(!change.is_too_much_for(key.as_ref()));
        let put = change.put.as_ref();
        // Written over, it is what it is put in anew.
        let mut over = key.as_ref().map(|key| key.duplicate().unwrap());
        let over_ms = value.and_then(|value| change.overwrite(&mut over, value).unwrap());
        let is_alone = key.as_ref().is_some_and(|key| key.answers().count() == 1);
        let is_like = |held: &Answer| {
            put.is_some_and(|(version, _)| held.version() == &**version)
                && value.is_some_and(|value| held.value().len() == value.len())
        };
        assert_eq!(over_ms.is_some(), is_alone && key.as_ref().is_some_and(is_like));
        let answer = put.map(|(version, at)| Answer::of(version, value.unwrap(), *at).unwrap());
        let expires_ms = change.apply(key, answer).unwrap();
        if expires_ms.is_none() {
            *key = None;
        }
        assert_eq!(expires_ms, key.as_ref().map(Answer::expires_at_ms));
        if over_ms.is_some() {
            assert_eq!((over_ms, encoded(&over)), (expires_ms, encoded(key)));
        }
    }

    fn encoded(key: &Option<Answer>) -> Vec<u8> {
        let mut payload = Vec::new();
        key.iter().for_each(|key| crate::cache::codec::encode(key, &mut payload));
        payload
    }

    fn put(key: &mut Option<Answer>, version: &str, value: &str, lifetime: Lifetime, now: Millis) {
        put_among(key, version, value, lifetime, now, 2, &[]);
    }

    fn put_among(
        key: &mut Option<Answer>,
        version: &str,
        value: &str,
        lifetime: Lifetime,
        now: Millis,
        keep: usize,
        retired: &[&str],
    ) {
        let in_force = |version: &[u8]| !retired.iter().any(|one| one.as_bytes() == version);
        let put = (version.as_bytes(), lifetime);
        let change = decide_put(key.as_ref(), put, keep, in_force, now);
        commit(key, &change, Some(value.as_bytes()));
    }

    fn versions(key: &Option<Answer>) -> String {
        let answers = key.iter().flat_map(Answer::answers);
        let versions = answers.map(|answer| String::from_utf8(answer.version().into()).unwrap());
        versions.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_further_version_pushes_out_the_one_written_longest_ago() {
        let mut key = None;
        for (at, version) in ["v1", "v2", "v1", "v3"].into_iter().enumerate() {
            put(&mut key, version, "x", until(100), at as u64);
        }
        assert_eq!(versions(&key), "v3 v1");
    }

    #[test]
    fn what_expired_goes_first_then_what_is_retired_then_the_oldest() {
        let filled = || {
            let mut key = None;
            for (version, end) in [("a", 100), ("b", 100), ("c", 10), ("d", 100), ("e", 100)] {
                put_among(&mut key, version, "x", until(end), 1, 9, &[]);
            }
            key
        };
        for (now, keep, retired, left) in [
            (1, 6, &[][..], "new e d c b a"),
            (10, 6, &[], "new e d b a"),
            (10, 5, &[], "new e d b a"),
            (10, 4, &[], "new e d b"),
            (10, 5, &["d"], "new e d b a"),
            (10, 4, &["d"], "new e b a"),
            (10, 4, &["d", "e"], "new e b a"),
            (10, 3, &["d", "e"], "new b a"),
            (10, 2, &["d", "e"], "new b"),
            (1, 5, &["d"], "new e c b a"),
            (10, 1, &["a"], "new"),
            (10, 0, &[], "new"),
        ] {
            let mut key = filled();
            put_among(&mut key, "new", "x", until(100), now, keep, retired);
            assert_eq!(versions(&key), left, "{keep} kept at {now}, retired: {retired:?}");
        }
    }

    #[test]
    fn a_drop_takes_what_is_asked_and_what_can_be_served_no_more() {
        let filled = || {
            let mut key = None;
            put_among(&mut key, "dead", "x", until(10), 1, 9, &[]);
            put_among(
                &mut key,
                "stale",
                "x",
                Lifetime { stale_until_ms: 90, ..until(20) },
                1,
                9,
                &[],
            );
            put_among(&mut key, "brief", "x", until(100), 1, 9, &[]);
            put_among(
                &mut key,
                "long",
                "x",
                Lifetime { stale_until_ms: 99, ..until(50) },
                1,
                9,
                &[],
            );
            key
        };
        for (version, stale, concerned, left) in [
            (None, false, 3, ""),
            (Some("brief"), false, 1, "long stale"),
            (Some("dead"), false, 0, "long brief stale dead"),
            (Some("other"), true, 0, "long brief stale dead"),
            (None, true, 2, "long stale"),
            (Some("long"), true, 1, "long brief stale"),
            (Some("brief"), true, 1, "long stale"),
            (Some("stale"), true, 0, "long brief stale dead"),
        ] {
            let mut key = filled();
            let version = version.map(str::as_bytes);
            let (count, change) = decide_drop(key.as_ref(), version, stale, 30);
            if let Some(change) = &change {
                commit(&mut key, change, None);
            }
            assert_eq!((count, versions(&key).as_str()), (concerned, left), "{version:?} {stale}");
            assert_eq!(change.is_some(), left != "long brief stale dead");
            if let Some(long) = key.as_ref().and_then(|key| key.answer(b"long")).filter(|_| stale) {
                let end = if count > 0 && version != Some(b"brief") { 79 } else { 99 };
                assert_eq!(long.lifetime().stale_until_ms, end);
            }
        }
        // What holds nothing that can be served goes, whatever is asked.
        for mut key in [filled(), Some(Answer::default())] {
            let (count, change) = decide_drop(key.as_ref(), Some(b"other"), true, 100);
            commit(&mut key, &change.unwrap(), None);
            assert!(count == 0 && key.is_none());
        }
        assert_eq!(decide_drop(None, None, false, 1), (0, None));
    }

    #[test]
    fn a_key_is_not_made_to_hold_more_than_it_may() {
        let names: Vec<_> = (0..MAX_VERSIONS).map(|version| format!("v{version}")).collect();
        let mut key = None;
        names.iter().for_each(|name| put_among(&mut key, name, "x", until(9), 1, 16, &[]));
        let put = |version: &'static [u8]| Some((Cow::Borrowed(version), until(9)));
        let dropped = || vec![Cow::Borrowed(&b"v3"[..])];
        for (change, is_too_much) in [
            (Change { put: put(b"v1"), ..Change::default() }, false),
            (Change { put: put(b"new"), ..Change::default() }, true),
            (Change { put: put(b"new"), dropped: dropped(), ..Change::default() }, false),
            (Change { dropped: dropped(), ..Change::default() }, false),
        ] {
            assert_eq!(change.is_too_much_for(key.as_ref()), is_too_much, "{change:?}");
        }
    }

    proptest! {
        /// The oracle: a list of every write, the last ones of the last two
        /// versions that were alive when something was written.
        #[test]
        fn never_answers_what_another_version_wrote(
            writes in prop::collection::vec(
                (0u8..5, prop::collection::vec(any::<u8>(), 0..3), 1u64..50, 0u64..20, 0u64..20),
                1..60,
            ),
        ) {
            let mut key = None;
            let mut oracle: Vec<(u8, Vec<u8>, Lifetime)> = Vec::new();
            let mut now = 1_000;
            for (version, value, ttl, stale, step) in writes {
                now += step;
                let lifetime = Lifetime { stale_until_ms: now + ttl + stale, ..until(now + ttl) };
                let put = (&[version][..], lifetime);
                let change = decide_put(key.as_ref(), put, 2, |_| true, now);
                commit(&mut key, &change, Some(&value));
                oracle.retain(|(held, _, held_until)| {
                    *held != version && held_until.stale_until_ms > now
                });
                oracle.insert(0, (version, value, lifetime));
                oracle.truncate(2);
                for at in [now, now + 5] {
                    for version in 0..5 {
                        let expected = oracle
                            .iter()
                            .find(|(held, _, end)| *held == version && end.expires_at_ms > at)
                            .map(|(_, value, _)| value.clone());
                        let found = key.as_ref().and_then(|key| key.get(&[version], at));
                        let found = found.map(|answer| answer.value().to_vec());
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }
}
