//! The table of the semantic cache beside an oracle that keeps everything plainly.

use super::super::vector::tests::{bytes, cosine, random};
use super::super::vector::{MAX_DEVIATION, OwnedCode, Unit};
use super::*;
use crate::lifetime::Lifetime;
use proptest::prelude::*;
use std::collections::BTreeMap;

const DIM: usize = 24;

/// An entry as the oracle has it: plain.
#[derive(Clone, Debug)]
struct Plain {
    version: u8,
    vector: Vec<f32>,
    aliases: Vec<Vec<f32>>,
    digest: Option<u8>,
    value: Vec<u8>,
    until_ms: Millis,
    threshold: u32,
    hit: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Put { id: u8, version: u8, seed: u8, digest: Option<u8>, until_ms: u8, value: u8 },
    Alias { id: u8, seed: u8 },
    Drop { ids: Vec<u8> },
    DropVersion { version: u8 },
    Threshold { id: u8, threshold: u32 },
    Touch { id: u8 },
    Nearest { seed: u8, far: f32, version: u8, threshold: f64, most: usize, now_ms: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (id, version, seed) = (0u8..60, 0u8..3, 0u8..20);
    let put =
        (id.clone(), version.clone(), seed.clone(), prop::option::of(0u8..20), 1u8..100, 0u8..9)
            .prop_map(|(id, version, seed, digest, until_ms, value)| Step::Put {
                id,
                version,
                seed,
                digest,
                until_ms,
                value,
            });
    let alias = (id.clone(), seed.clone()).prop_map(|(id, seed)| Step::Alias { id, seed });
    let nearest = (seed, 0.0f32..1.0, version.clone(), -1.0..1.0, 1usize..9, 0u8..100).prop_map(
        |(seed, far, version, threshold, most, now_ms)| Step::Nearest {
            seed,
            far,
            version,
            threshold,
            most,
            now_ms,
        },
    );
    let step = prop_oneof![
        8 => put,
        2 => alias,
        1 => prop::collection::vec(id.clone(), 1..8).prop_map(|ids| Step::Drop { ids }),
        1 => version.prop_map(|version| Step::DropVersion { version }),
        1 => (id.clone(), 0..=MILLION).prop_map(|(id, threshold)| Step::Threshold { id, threshold }),
        2 => id.prop_map(|id| Step::Touch { id }),
        3 => nearest,
    ];
    prop::collection::vec(step, 1..150)
}

fn id(number: u8) -> Id {
    Id([number; 16])
}

fn vector(seed: u8) -> Vec<f32> {
    random(u64::from(seed) << 32, DIM)
}

fn code(vector: &[f32]) -> OwnedCode {
    OwnedCode::of(&Unit::read(&bytes(vector)).unwrap())
}

fn put<'a>(
    id: Id,
    version: &'a [u8],
    vector: &[f32],
    value: &'a [u8],
    digest: Option<&'a [u8]>,
    until_ms: Millis,
) -> Put<'a> {
    let lifetime =
        Lifetime { expires_at_ms: until_ms, stale_until_ms: until_ms, ..Lifetime::default() };
    Put { id, version, embedder: None, code: code(vector), lifetime, value, prompt: None, digest }
}

fn apply(table: &mut Table, change: &Change) {
    let put = change.put.as_ref();
    let texts = put.map(|put| Texts::new(put.value, put.prompt, put.digest).unwrap());
    table.apply(change, texts);
}

/// Takes the steps on a table and on a plain list of its entries: they hold the same.
fn check_steps(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut table = Table::default();
    let mut plain: BTreeMap<u8, Plain> = BTreeMap::new();
    for (hit, step) in steps.into_iter().enumerate() {
        match step {
            Step::Put { id: number, version, seed, digest, until_ms, value } => {
                let value = vec![b'v'; value.into()];
                // One that is told by the same goes, as a command sees to.
                let name = [version];
                let told = digest.map(|digest| [digest]);
                let told = told.as_ref().map(|digest| &digest[..]);
                let same = told.and_then(|digest| table.by_digest(&name, digest));
                let same = same.map(|entry| entry.id).filter(|same| *same != id(number));
                let expected = plain.iter().find(|(other, one)| {
                    **other != number
                        && digest.is_some()
                        && (one.version, one.digest) == (version, digest)
                });
                prop_assert_eq!(same, expected.map(|(other, _)| id(*other)));
                if let Some(same) = same {
                    plain.remove(&same.0[0]);
                }
                let vector = vector(seed);
                let put = put(id(number), &name, &vector, &value, told, until_ms.into());
                let change = Change {
                    dropped: same.into_iter().collect(),
                    put: Some(put),
                    ..Change::default()
                };
                apply(&mut table, &change);
                let before = plain.remove(&number);
                let (aliases, threshold) =
                    before.map_or((vec![], 0), |one| (one.aliases, one.threshold));
                plain.insert(
                    number,
                    Plain {
                        version,
                        vector,
                        aliases,
                        digest,
                        value,
                        until_ms: until_ms.into(),
                        threshold,
                        hit,
                    },
                );
            }
            Step::Alias { id: number, seed } => {
                let code = code(&vector(seed));
                apply(&mut table, &Change { alias: Some((id(number), code)), ..Change::default() });
                if let Some(one) = plain.get_mut(&number) {
                    one.aliases.push(vector(seed));
                }
            }
            Step::Drop { ids } => {
                let dropped = ids.iter().map(|number| id(*number)).collect();
                apply(&mut table, &Change { dropped, ..Change::default() });
                plain.retain(|number, _| !ids.contains(number));
            }
            Step::DropVersion { version } => {
                let dropped = table.of_version(&[version]);
                apply(&mut table, &Change { dropped, ..Change::default() });
                plain.retain(|_, one| one.version != version);
            }
            Step::Threshold { id: number, threshold } => {
                apply(
                    &mut table,
                    &Change { threshold: Some((id(number), threshold)), ..Change::default() },
                );
                if let Some(one) = plain.get_mut(&number) {
                    one.threshold = threshold;
                }
            }
            Step::Touch { id: number } => {
                table.touch(id(number));
                if let Some(one) = plain.get_mut(&number) {
                    one.hit = hit;
                }
            }
            Step::Nearest { seed, far, version, threshold, most, now_ms } => {
                let pairs = vector(seed).into_iter().zip(vector(99));
                let asked: Vec<_> = pairs.map(|(one, other)| one + other * far).collect();
                let query = Query::new(&Unit::read(&bytes(&asked)).unwrap());
                let now_ms = u64::from(now_ms);
                let mut best = Best::new(most, threshold, Some(threshold));
                table.find(&query, &[version], |lifetime| lifetime.is_fresh(now_ms), &mut best);
                let alive =
                    plain.iter().filter(|(_, one)| one.version == version && now_ms < one.until_ms);
                let similar: Vec<_> = alive
                    .map(|(number, one)| {
                        let vectors = one.aliases.iter().chain([&one.vector]);
                        let best =
                            vectors.map(|vector| cosine(&asked, vector)).fold(-1.0, f64::max);
                        (best, id(*number), f64::from(one.threshold) / 1e6)
                    })
                    .collect();
                let (hits, maybes) = (best.hits(), best.maybes());
                // In order, each as similar as it is, and none left out but for a hair.
                for (found, are_hits) in [(hits, true), (maybes, false)] {
                    prop_assert!(found.len() <= most);
                    prop_assert!(found.is_sorted_by(|one, other| one.0 >= other.0));
                    for (similarity, id) in found {
                        let (exact, _, own) =
                            similar.iter().find(|(_, other, _)| other == id).unwrap();
                        // An alias that is a hit may leave a lesser one a maybe.
                        prop_assert!(!are_hits || (exact - similarity).abs() <= MAX_DEVIATION);
                        prop_assert!(*similarity >= threshold && (*similarity >= *own) == are_hits);
                    }
                    let least = if found.len() == most { found[most - 1].0 } else { threshold };
                    for (exact, id, own) in &similar {
                        let near_own = (exact - own).abs() <= MAX_DEVIATION;
                        if near_own || (exact > own) != are_hits || !are_hits && !hits.is_empty() {
                            continue;
                        }
                        let is_found = found.iter().any(|(_, other)| other == id);
                        prop_assert!(
                            is_found || *exact <= least + MAX_DEVIATION,
                            "{} {}",
                            exact,
                            least
                        );
                    }
                }
            }
        }
        // What is there.
        prop_assert_eq!(table.len(), plain.len());
        let mut order: Vec<_> = plain.iter().map(|(number, one)| (one.hit, *number)).collect();
        order.sort_unstable();
        let order: Vec<_> = order.into_iter().map(|(_, number)| id(number)).collect();
        prop_assert_eq!(table.entries().map(|entry| entry.id).collect::<Vec<_>>(), order);
        let mut cost = 0;
        for (number, one) in &plain {
            let entry = table.get(id(*number)).unwrap();
            let digest = one.digest.map(|digest| vec![digest]);
            prop_assert_eq!(entry.texts.value(), &one.value[..]);
            prop_assert_eq!(entry.texts.digest(), digest.as_deref());
            prop_assert_eq!(table.version(entry), &[one.version]);
            prop_assert_eq!(
                (entry.threshold, entry.lifetime.expires_at_ms),
                (one.threshold, one.until_ms)
            );
            let codes: Vec<_> = table.codes(entry).map(|code| code.to_owned(DIM)).collect();
            let vectors = std::iter::once(&one.vector).chain(&one.aliases);
            prop_assert_eq!(codes, vectors.map(|vector| code(vector)).collect::<Vec<_>>());
            cost += ENTRY_BYTES
                + (1 + one.aliases.len()) * vector_cost(DIM)
                + one.value.len()
                + usize::from(one.digest.is_some());
        }
        prop_assert_eq!(table.bytes(), cost);
    }
    Ok(())
}

/// What goes for another entry: what is over among the first eight, and then as many of
/// those hit longest ago as must.
fn check_room(
    held: &[(u8, bool)],
    touched: &[u8],
    most: usize,
    most_bytes: usize,
    (replaces, is_alias): (Option<u8>, bool),
) -> Result<(), TestCaseError> {
    let mut table = Table::default();
    let aliases = |number: usize| if number.is_multiple_of(3) { number % 5 } else { 0 };
    for (number, (value, is_over)) in held.iter().enumerate() {
        let value = vec![b'v'; usize::from(*value) * 20];
        let until_ms = if *is_over { 5 } else { 100 };
        let put = put(id(number as u8), b"v", &vector(number as u8), &value, None, until_ms);
        apply(&mut table, &Change { put: Some(put), ..Change::default() });
        for _ in 0..aliases(number) {
            let alias = Some((id(number as u8), code(&vector(98))));
            apply(&mut table, &Change { alias, ..Change::default() });
        }
    }
    touched.iter().for_each(|number| table.touch(id(*number)));
    let order: Vec<_> = table.entries().map(|entry| entry.id).collect();
    let put = put(id(replaces.unwrap_or(99)), b"w", &vector(99), b"new", None, 100);
    let bounds = Bounds { entries: most, bytes: most_bytes };
    let aliased = table.get(put.id).filter(|_| is_alias);
    let cost = match aliased {
        Some(entry) => table.cost_of_aliased(entry),
        None => table.cost_of_put(&put),
    };
    let dropped = table.decide_room(put.id, cost, bounds, 10);
    prop_assert!(!dropped.contains(&put.id));
    let over = |id: &Id| !table.get(*id).unwrap().lifetime.is_alive(10);
    let first_eight = |id: &Id| over(id) && id.0[0] < LOOKS as u8 && *id != put.id;
    prop_assert!(order.iter().filter(|id| first_eight(id)).all(|id| dropped.contains(id)));
    let pushed_out: Vec<_> = dropped.iter().filter(|id| !first_eight(id)).collect();
    let others: Vec<_> = order.iter().filter(|id| **id != put.id && !first_eight(id)).collect();
    prop_assert_eq!(&pushed_out[..], &others[..pushed_out.len()]);
    let change = match aliased.is_some() {
        true => Change { alias: Some((put.id, code(&vector(99)))), ..Change::default() },
        false => Change { put: Some(put.clone()), ..Change::default() },
    };
    apply(&mut table, &Change { dropped: dropped.clone(), ..change });
    prop_assert_eq!(table.cost_of(table.get(put.id).unwrap()), cost);
    prop_assert!(table.len() <= most.max(1));
    prop_assert!(table.bytes() <= most_bytes.max(cost));
    // Not one more than need be.
    if let Some(last) = pushed_out.last() {
        let last = usize::from(last.0[0]);
        let vectors = (1 + aliases(last)) * vector_cost(DIM);
        let cost = ENTRY_BYTES + vectors + usize::from(held[last].0) * 20;
        prop_assert!(table.len() + 1 > most || table.bytes() + cost > most_bytes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_table_is_what_a_plain_list_is(steps in steps()) {
        check_steps(steps)?;
    }

    #[test]
    fn room_is_made_by_those_hit_longest_ago(
        held in prop::collection::vec((0u8..9, any::<bool>()), 0..40),
        touched in prop::collection::vec(0u8..40, 0..10),
        most in 1usize..45, most_bytes in 0usize..12_000,
        replaces in prop::option::of(0u8..40), is_alias: bool,
    ) {
        check_room(&held, &touched, most, most_bytes, (replaces, is_alias))?;
    }
}

#[test]
fn a_key_of_one_answer_takes_about_what_is_in_it() {
    for dim in [8_usize, 384, 1_536, 4_096] {
        let code = OwnedCode::of(&Unit::read(&bytes(&random(1, dim))).unwrap());
        let put = Put { code, ..put(id(1), b"v", &vector(1), b"value", None, 9) };
        let mut table = Table::default();
        apply(&mut table, &Change { put: Some(put), ..Change::default() });
        // Its signs stand among those of 32.
        let most = 1_500 + vector_cost(dim) + padded(dim) * 4;
        assert!(table.heap_bytes() <= most, "{dim}: {} > {most}", table.heap_bytes());
    }
}

#[test]
fn what_was_over_goes_by_and_by_without_any_bound() {
    let mut table = Table::default();
    let none = Bounds { entries: usize::MAX, bytes: usize::MAX };
    for number in 0..200_u8 {
        let put = put(id(number), b"v", &vector(number), b"value", None, 50 + u64::from(number));
        let dropped = table.decide_room(put.id, cost(&put), none, number.into());
        apply(&mut table, &Change { dropped, put: Some(put), ..Change::default() });
    }
    // All that are over at 250 and later, twice around.
    for round in 0..50_u8 {
        let put = put(id(250), b"v", &vector(round), b"value", None, 1_000);
        let dropped = table.decide_room(put.id, cost(&put), none, 260);
        apply(&mut table, &Change { dropped, put: Some(put), ..Change::default() });
    }
    assert_eq!(table.len(), 1);
    assert_eq!(table.until_ms(), 1_000);
}

#[test]
fn no_vector_is_put_beside_others_that_it_cannot_be_compared_with() {
    let mut table = Table::default();
    assert_eq!((table.dim(), table.check(9, Some(b"any"))), (None, Ok(())));
    let mut first = put(id(1), b"v", &vector(1), b"", None, 9);
    first.embedder = Some(b"model-a");
    apply(&mut table, &Change { put: Some(first), ..Change::default() });
    assert_eq!((table.dim(), table.embedder()), (Some(DIM), Some(&b"model-a"[..])));
    assert_eq!(table.check(DIM, None), Ok(()));
    assert_eq!(table.check(DIM, Some(b"model-a")), Ok(()));
    assert_eq!(table.check(DIM, Some(b"model-b")), Err(Misfit::Embedder));
    assert_eq!(table.check(DIM + 1, None), Err(Misfit::Dimensions(DIM)));
    for version in 1..MAX_VERSIONS as u8 {
        assert_eq!(table.check_version(&[version]), Ok(()));
        let name = [version];
        let put = put(id(version + 1), &name, &vector(1), b"", None, 9);
        apply(&mut table, &Change { put: Some(put), ..Change::default() });
    }
    assert_eq!(table.check_version(b"new"), Err(Misfit::Versions));
    assert_eq!(table.check_version(b"v"), Ok(()));
    apply(&mut table, &Change { dropped: vec![id(1)], ..Change::default() });
    assert_eq!(table.check_version(b"new"), Ok(()));
    let mut best = Best::new(9, -1.0, None);
    let query = Query::new(&Unit::read(&bytes(&vector(1))).unwrap());
    table.find(&query, b"v", |_| true, &mut best);
    assert_eq!(best.hits(), [], "its last entry is gone");
    table.find(&query, &[1], |_| true, &mut best);
    assert_eq!(best.hits().len(), 1);
}

#[test]
fn a_further_vector_too_many_pushes_out_the_first() {
    let mut table = Table::default();
    let put = put(id(1), b"v", &vector(0), b"", None, 9);
    apply(&mut table, &Change { put: Some(put), ..Change::default() });
    for seed in 1..=MAX_ALIASES as u8 + 1 {
        let alias = Some((id(1), code(&vector(seed))));
        apply(&mut table, &Change { alias, ..Change::default() });
    }
    let codes: Vec<_> =
        table.codes(table.get(id(1)).unwrap()).map(|code| code.to_owned(DIM)).collect();
    assert_eq!(codes.len(), 1 + MAX_ALIASES);
    assert_eq!((&codes[0], &codes[1]), (&code(&vector(0)), &code(&vector(2))));
}
