//! What callers are told of flights.

use super::FlightKey;
use crate::id::Id;
use crate::time::Monotonic;

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Leases: open, backed off, and over but remembered.
    pub leases: usize,
    /// Bytes of all of these, and of those who wait.
    pub bytes: usize,
}

/// How it ended for a caller that waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitOutcome<A> {
    /// The thing was computed: here it is.
    Completed(A),
    /// The caller computes.
    Granted {
        /// What it completes the flight with.
        token: Id,
        /// How long it has.
        lease_us: Monotonic,
    },
    /// The holder gave up: nobody is to compute for so long.
    BackedOff {
        /// How long.
        left_us: Monotonic,
    },
    /// Another caller with its token has its place; the flight goes on.
    Replaced {
        /// How long the lease lasts still.
        left_us: Monotonic,
    },
    /// The thing is not wanted any more.
    Withdrawn,
    /// The flight is over, and nothing came of it.
    Closed,
}

/// A caller that waits no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Woken<W, A, Q = ()> {
    /// Who.
    pub waiter: W,
    /// For what.
    pub key: FlightKey<Q>,
    /// How it ended.
    pub outcome: WaitOutcome<A>,
}

/// Why a lease is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody computes, and has so long still.
    Leased(Monotonic),
    /// A holder gave up: nobody is to compute for so long.
    BackedOff(Monotonic),
    /// There is no room for another.
    Full,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is completed, renewed and released by.
    pub token: Id,
    /// How long it lasts still.
    pub left_us: Monotonic,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds the lease: it completes the flight.
    Holder {
        /// Since when it has computed.
        since: Monotonic,
        /// Whether the time of its lease is over.
        is_late: bool,
    },
    /// It has completed the flight, and nothing has changed since.
    Completed,
    /// Nothing.
    Nobody,
}
