//! The packet engine of a node: tunnels, filter, flows, and the change from one map to the next. Pure: bytes
//! and a [`Now`](bulkhead_identity::Now) go in, bytes and decisions come out. No sockets, no tasks, no files;
//! the caller brings the packets and sends what is in [`Output`].
//!
//! # The property
//!
//! A packet reaches our host only if it was authenticated by the tunnel key whose certificate owns its inner
//! source address, and the current policy permits exactly that service, or it belongs to a flow that is so
//! permitted under the current generation. When [`Engine::apply`] has returned, that is so under the new
//! world (the teardown law, in `apply.rs`). A datagram from anyone else is answered by silence.
//!
//! # Following a packet
//!
//! Two files tell the two ways from top to bottom; start there:
//!
//! - `outbound.rs`: TUN -> headers -> source is mine -> peer -> flow or verdict, once for all segments -> cut to the
//!   path -> session -> datagrams;
//! - `inbound.rs`: datagram -> session -> decrypt -> headers -> source is the peer's -> mine -> the run of its flow -> flow
//!   or verdict, once for the run -> TUN.
//!
//! | file | holds |
//! |---|---|
//! | `engine.rs`, `timers.rs`, `apply.rs` | the switchboard; what time does; what a new world does |
//! | `snapshot.rs`, `peer.rs` | who is who; one peer behind its lock |
//! | `session.rs`, `handshake.rs`, `sources.rs`, `waiting.rs`, `path.rs` | WireGuard and what boringtun leaves to us |
//! | `output.rs` | what is to be sent: trains, frames, handshakes for the thread that has time |
//! | `pathmtu.rs`, `discovery.rs` | how large a packet a path carries, found out by probes |
//! | `packet.rs`, `transport.rs`, `address.rs` | strict reading of packets |
//! | `filter.rs`, `flow.rs`, `tcp.rs`, `fragment.rs` | the verdict |
//! | `answer.rs` | what our own host is told in place of a packet |
//! | `offload/` | superpackets: splitting what the kernel hands over, merging what it takes |
//! | `ecn.rs` | marks of congestion, from the outer header to the inner one and back |
//! | `backlog.rs` | when a queue has grown too long |
//! | `probe.rs` | questions from engine to engine, inside the session |
//! | `limits.rs`, `counters.rs` | every bound, and a counter for every refusal |
//!
//! # Threads
//!
//! [`Engine`] is `Sync`. A data thread makes a [`Batch`] per read: that loads the snapshot once, without a
//! lock. What changes per peer is behind that peer's own lock, held for a visit: packets of one peer in
//! a row, at most [`limits::MAX_PACKETS_UNDER_LOCK`]. Exchanges of keys are for another thread ([`Engine::handshake`]). [`Engine::apply`] is
//! called by the one control task and disturbs only the peers that it changes. In steady state nothing is
//! allocated per packet (a new flow, a fragmented datagram and a packet that waits for a handshake do allocate);
//! each thread has its [`Output`].
//!
//! boringtun reads the clock of the machine itself; everything of our own takes `Now`.

pub mod limits;
pub mod offload;

mod address;
mod answer;
mod apply;
mod backlog;
mod bucket;
mod config;
mod counters;
mod discovery;
mod draw;
mod ecn;
mod engine;
mod filter;
mod flow;
mod fragment;
mod handshake;
mod inbound;
mod outbound;
mod output;
mod packet;
mod path;
mod pathmtu;
mod peer;
mod probe;
mod session;
mod snapshot;
mod sources;
mod status;
mod tcp;
#[cfg(test)]
mod tests;
mod timers;
mod transport;
mod waiting;
mod world;

pub use backlog::Backlog;
pub use config::Config;
pub use counters::{Counters, Reason};
pub use ecn::{Congested, Ecn};
pub use engine::{Batch, Datagram, Engine};
pub use output::{Handshake, Merge, Output, PeerIndex, Train};
pub use probe::{PROBE_PORT, Probe, ProbeId, ProbeOutcome, ProbeResult};
pub use status::{Explanation, FlowState, FlowStatus, PeerStatus, Traffic};
pub use world::{Changes, PeerEntry, World};
