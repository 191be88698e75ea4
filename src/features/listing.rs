//! The fields of a list, as calls ask for them: as arguments, and where they stand in the
//! rows of the layouts that were met last. They are found out once, and not by each call.

use super::form::Form;
use super::resolved::ResolvedFields;
use super::shared_layout::{KnownLayout, SharedLayout};
use crate::server::Strings;
use std::sync::{Arc, Mutex};

/// The fields of a list, as calls ask for them.
#[derive(Debug)]
pub struct Listing {
    strings: Strings,
    /// How long all names are together.
    pub name_bytes: u64,
    /// Whether one value as it is is asked for of each.
    pub are_plain: bool,
    /// Calls are run by one thread, so nobody ever waits; who finds them taken all the same
    /// does without.
    resolved: Mutex<Vec<(KnownLayout, Arc<ResolvedFields>)>>,
}

impl Listing {
    /// As many layouts as the rows mostly have that are asked for the same fields.
    const MOST: usize = 4;

    /// The fields of these names.
    pub fn new<'n>(names: impl Iterator<Item = &'n [u8]>) -> Self {
        let names: Vec<_> = names.collect();
        Self {
            strings: Strings::new(names.iter().copied()),
            name_bytes: names.iter().map(|name| name.len() as u64).sum(),
            are_plain: !names.iter().any(|name| Form::may_cut(name)),
            resolved: Mutex::default(),
        }
    }

    /// The fields, as a call has its arguments.
    pub fn strings(&self) -> &Strings {
        &self.strings
    }

    /// Where they stand in the rows of a layout, as `resolve` finds it if nobody asked
    /// before.
    pub fn resolved(
        &self,
        layout: &SharedLayout,
        resolve: impl FnOnce() -> ResolvedFields,
    ) -> Arc<ResolvedFields> {
        let Ok(mut all) = self.resolved.try_lock() else { return Arc::new(resolve()) };
        if let Some((_, fields)) = all.iter().find(|(known, _)| known.is(layout)) {
            return fields.clone();
        }
        let fields = Arc::new(resolve());
        if all.len() == Self::MOST {
            all.remove(0);
        }
        all.push((layout.known(), fields.clone()));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Layout, ReadName};
    use super::*;

    #[test]
    fn fields_are_resolved_once_for_each_of_the_layouts_met_last() {
        let names = ["l0", "l1", "l2", "l3", "l4"];
        let layouts = names.map(|name| {
            let names = [(&b""[..], &b"f"[..]), (b"", name.as_bytes())];
            SharedLayout::new(Layout::of(names.into_iter()).unwrap())
        });
        let listing = Listing::new(std::iter::empty());
        let ask = |layout: &SharedLayout| {
            let mut is_new = false;
            let fields = listing.resolved(layout, || {
                is_new = true;
                let names = names.iter().map(|name| ReadName::whole(name.as_bytes()));
                ResolvedFields::new(layout, names)
            });
            let place = (0..names.len()).find(|place| fields.field(*place).is_some());
            (is_new, place.unwrap())
        };
        let of = |place: usize| ask(&layouts[place]);
        assert_eq!(
            [0, 1, 0, 2, 3, 0].map(of).map(|(is_new, _)| is_new),
            [true, true, false, true, true, false]
        );
        assert_eq!(of(4), (true, 4));
        // The one that was met first had to go.
        assert_eq!(
            [1, 2, 3, 4, 0].map(of),
            [(false, 1), (false, 2), (false, 3), (false, 4), (true, 0)]
        );
    }

    #[test]
    fn a_layout_that_has_gone_is_not_taken_for_another_one() {
        let layout = |name: &str| {
            SharedLayout::new(Layout::of([(&b""[..], name.as_bytes())].into_iter()).unwrap())
        };
        let listing = Listing::new(std::iter::empty());
        for round in 0..20 {
            let names = [format!("gone {round}"), format!("gone {}", round + 1)];
            let of = |name: &str| {
                let layout = layout(name);
                assert!(layout.is_new(), "a list holds no layout");
                let names = names.iter().map(|name| ReadName::whole(name.as_bytes()));
                listing.resolved(&layout, || ResolvedFields::new(&layout, names)).field(0)
            };
            assert_eq!(of(&names[0]), Some(0));
            assert_eq!(of(&format!("none {round}")), None);
        }
    }
}
