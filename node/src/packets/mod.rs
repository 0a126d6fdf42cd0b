//! The packets' way between TUN, engine and UDP: plain threads, no queue and no await between read and write.

pub(crate) mod door;
pub(crate) mod frames;
pub(crate) mod intake;
pub(crate) mod offload;
pub(crate) mod sieve;
pub(crate) mod socket;
pub(crate) mod steering;
pub(crate) mod threads;
pub(crate) mod transmit;
pub(crate) mod watch;
pub(crate) mod worker;
