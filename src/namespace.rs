//! Namespaces: what the first parts of a key, apart by `:`, name.
//!
//! Keys `pred:en:x` and `pred:de:y` are both in the namespace `pred`. A key's last
//! part belongs to no namespace, and a key of one part is in the empty one. The
//! braces of a hash tag, which say where a cluster keeps a key and nothing of what
//! it is, stand aside: `{pred:a}` and `pred:a` are in the same.

use crate::bug;
use std::borrow::Cow;

/// What stands between the parts of a key.
pub const SEPARATOR: u8 = b':';

/// Where the braces of the hash tag stand, as a cluster reads it: the first `{`
/// and the first `}` behind it, with something in between.
fn braces(key: &[u8]) -> Option<(usize, usize)> {
    let open = find(key, b'{')?;
    let inside = find(key.get(open + 1..)?, b'}').filter(|length| *length > 0)?;
    Some((open, open + 1 + inside))
}

/// What of a key says where a cluster keeps it: what stands between its braces, or all of
/// it.
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let inside = braces(key).and_then(|(open, close)| key.get(open + 1..close));
    inside.unwrap_or(key)
}

fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

/// A key, or a namespace as an operator writes it, without the braces of its hash
/// tag.
pub fn bare(key: &[u8]) -> Cow<'_, [u8]> {
    match braces(key) {
        None => Cow::Borrowed(key),
        Some(braces) => Cow::Owned(without(key, braces)),
    }
}

/// The first part of a key, the shortest of its namespaces; empty where the key
/// has one part only.
pub fn first_part(key: &[u8]) -> Cow<'_, [u8]> {
    let end = find(key, SEPARATOR).unwrap_or(0);
    let part = key.get(..end).unwrap_or_else(|| bug("a part outside of its key"));
    let braces = find(part, b'{').and_then(|_| braces(key));
    match (braces, part) {
        (None, _) => Cow::Borrowed(part),
        // A tag that is the whole part, or begins with it, is cut out by its ends.
        (Some((0, close)), [_, inside @ .., _]) if close + 1 == end => Cow::Borrowed(inside),
        (Some((0, close)), [_, inside @ ..]) if close > end => Cow::Borrowed(inside),
        (Some(braces), _) => Cow::Owned(without(part, braces)),
    }
}

/// Whether the first part of a key is one without any brace: where it is not found at
/// once, no.
pub fn is_first_part(part: &[u8], key: &[u8]) -> bool {
    if let Some([SEPARATOR, ..]) = key.strip_prefix(part) {
        return true;
    }
    let inside = key.strip_prefix(b"{").and_then(|rest| rest.strip_prefix(part));
    match inside {
        Some([b'}', SEPARATOR, ..]) => !part.is_empty(),
        Some([SEPARATOR, rest @ ..]) => find(rest, b'}').is_some(),
        _ => false,
    }
}

/// What a key begins with, where all keys that begin with that are in the same
/// first part: the part and the separator, with no brace to stand aside.
pub fn literal_start(key: &[u8]) -> Option<&[u8]> {
    let start = key.get(..=find(key, SEPARATOR)?)?;
    find(start, b'{').is_none().then_some(start)
}

/// All bytes but those in two places.
fn without(bytes: &[u8], (one, other): (usize, usize)) -> Vec<u8> {
    let kept = bytes.iter().enumerate().filter(|(place, _)| *place != one && *place != other);
    kept.map(|(_, byte)| *byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_namespace_begins_with_the_first_part_and_the_braces_of_a_hash_tag_stand_aside() {
        for (key, without_braces, first) in [
            ("a:b", "a:b", "a"),
            ("a:b:c", "a:b:c", "a"),
            (":b", ":b", ""),
            ("ab", "ab", ""),
            ("", "", ""),
            ("{pred}:x", "pred:x", "pred"),
            ("{pred:a}", "pred:a", "pred"),
            ("{pred:a}:x", "pred:a:x", "pred"),
            ("pred:{a}:x", "pred:a:x", "pred"),
            ("pred:{a}", "pred:a", "pred"),
            ("pre{d}:x", "pred:x", "pred"),
            ("{p}red:x", "pred:x", "pred"),
            ("p{re}d:x", "pred:x", "pred"),
            ("p{red:x}", "pred:x", "pred"),
            ("{a}:{b}:x", "a:{b}:x", "a"),
            ("{a}{b}:x", "a{b}:x", "a{b}"),
            ("{{a}}:x", "{a}:x", "{a}"),
            ("{}a:x", "{}a:x", "{}a"),
            ("{}{a}:x", "{}{a}:x", "{}{a}"),
            ("{a:x", "{a:x", "{a"),
            ("a}:x", "a}:x", "a}"),
            ("}{a}:x", "}a:x", "}a"),
            ("{:}x", ":x", ""),
            ("{a}", "a", ""),
        ] {
            assert_eq!(bare(key.as_bytes()), without_braces.as_bytes(), "{key}");
            assert_eq!(first_part(key.as_bytes()), first.as_bytes(), "{key}");
        }
    }

    #[test]
    fn a_first_part_is_found_at_once_where_braces_stand_around_it_or_behind_it() {
        for key in ["ab:c", "ab:{c}", "{ab}:c", "{ab:c}", "{ab:c}:d"] {
            assert!(is_first_part(b"ab", key.as_bytes()), "{key}");
        }
        for key in ["", "a", "ab", "{ab}", "abc:d", "{ab:c", "a:b", "{abc}:d"] {
            assert!(!is_first_part(b"ab", key.as_bytes()), "{key}");
        }
        assert!(!is_first_part(b"", b"{}:a"));
    }

    proptest! {
        #[test]
        fn the_first_part_is_that_of_the_bare_key(key in "[a{}:]{0,9}") {
            let whole = bare(key.as_bytes()).into_owned();
            let end = whole.iter().position(|byte| *byte == b':').unwrap_or(0);
            prop_assert_eq!(&first_part(key.as_bytes())[..], &whole[..end]);
        }

        #[test]
        fn what_is_found_at_once_is_the_first_part(
            part in "a{0,2}", key in "[{]?[a:]{0,3}[a{}:]{0,4}",
        ) {
            let is_found = is_first_part(part.as_bytes(), key.as_bytes());
            prop_assert!(!is_found || first_part(key.as_bytes()) == part.as_bytes());
        }

        #[test]
        fn keys_that_begin_alike_have_the_same_first_part(
            key in "[a{}:]{0,6}", other in "[a{}:]{0,6}",
        ) {
            if let Some(start) = literal_start(key.as_bytes()) {
                let other = [start, other.as_bytes()].concat();
                prop_assert_eq!(first_part(&other), first_part(key.as_bytes()));
            }
        }
    }
}
