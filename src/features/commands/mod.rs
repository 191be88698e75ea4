//! The commands of the features, a file each.

mod answers;
mod applyfieldlists;
mod applyrow;
mod entity;
mod event_options;
mod featuredel;
mod featureget;
mod featuregetall;
mod featureinfo;
mod featuremset;
mod featurepush;
mod features;
mod featureset;
mod featuretally;
mod fieldlist;
mod fieldlists;
mod fields;
mod hash;
mod listed;
mod store;
mod write_options;

pub use featureget::{ARGUMENTS, Request};
pub use listed::Listed;

use super::row::Row;
use crate::server::{Command, TypeSpec, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Row>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    features::COMMAND,
    featureget::COMMAND,
    featuregetall::COMMAND,
    featureset::COMMAND,
    featuremset::COMMAND,
    featurepush::COMMAND,
    featuretally::COMMAND,
    featuredel::COMMAND,
    featureinfo::COMMAND,
    fieldlist::COMMAND,
    fieldlists::COMMAND,
    applyrow::COMMAND,
    applyfieldlists::COMMAND,
    load_command::<Row>(),
];
