//! The conversation between node, coordinator and administrator: numbered wire structs, framing, versions.
//!
//! Pure. Everything here may come from an enemy: every list, text and frame has a named limit that is checked
//! while decoding, before memory is spent on it. Unknown fields are ignored, an unknown variant is an error,
//! numbers are never reused, and no field ever means "same as before" by being absent.

pub mod admin;
mod bounded;
pub mod control;
pub mod enrol;
mod flow;
pub mod frame;
pub mod map;
pub mod offload;
pub mod receipt;
pub mod schema;
pub mod signin;
pub mod token;

/// Version of the control conversation. One integer; a line of history for each.
/// - 1 (2026-11-20): first.
/// - 2 (2026-11-20): nodes tell their live flows; a policy arrives as the slice that concerns the node.
///   Since 2026-11-21 the welcome says which offloads to leave off, a field that older nodes pass over, and a message
///   of its own says when that changes: an older node ends its link over it and hears the welcome again.
///   Welcome and certificate also say when the session of the node's owner ends.
pub const PROTOCOL_VERSION: u32 = 2;
/// ALPN of the control link over QUIC.
pub const ALPN_CONTROL: &[u8] = b"bulkhead-control/1";
