//! What is asserted of every parser of foreign bytes: fuzzed on nightly (`tests/fuzz`), and run over its corpus
//! with quick mutations on stable (`tests/corpus.rs`).
//!
//! A target panics when a law is broken. Not to panic is the least of them: what is accepted means one thing,
//! survives being written and read again, and nothing that our keys did not sign is believed.
// A law that cannot be checked any further is a broken law.
#![allow(clippy::unwrap_used)]

mod bundle;
mod claims;
mod conversation;
mod deployment;
mod ip;
mod offload;
mod packets;
mod policy;
mod seeds;
mod signed;
mod wire;

pub use bundle::{bundle, slice};
pub use claims::claims;
pub use conversation::conversation;
pub use offload::{merge, split};
pub use packets::{datagram, host_packet, packet};
pub use policy::{hours, policy_text, ports, selector};
pub use seeds::{Seed, seeds};
pub use signed::{certificate, chain, name, request, revocations, seal, trust};
pub use wire::{api_body, frame, map, receipt, to_coordinator, to_node, token};

/// A target; answers whether the bytes were taken for what they are meant to be, so that a corpus of which
/// nothing is accepted any more is noticed.
pub type Target = fn(&[u8]) -> bool;

/// Every target, by the name of its binary in `tests/fuzz` and of its corpus.
pub const ALL: &[(&str, Target)] = &[
    ("api_body", api_body),
    ("bundle", bundle),
    ("certificate", certificate),
    ("chain", chain),
    ("claims", claims),
    ("conversation", conversation),
    ("datagram", datagram),
    ("frame", frame),
    ("host_packet", host_packet),
    ("hours", hours),
    ("map", map),
    ("merge", merge),
    ("name", name),
    ("packet", packet),
    ("policy_text", policy_text),
    ("ports", ports),
    ("receipt", receipt),
    ("request", request),
    ("revocations", revocations),
    ("seal", seal),
    ("selector", selector),
    ("slice", slice),
    ("split", split),
    ("to_coordinator", to_coordinator),
    ("to_node", to_node),
    ("token", token),
    ("trust", trust),
];
