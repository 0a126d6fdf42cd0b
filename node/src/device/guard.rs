//! Keeps mesh addresses off every interface but the tunnel (A12).
//!
//! Property: Linux takes a packet for any of its addresses from any interface. Without this guard a neighbour on the
//! local network could reach a node's mesh address in clear text, past tunnel and policy, or speak to the host as if
//! it were a mesh address. The guard drops both before routing. It stays while the daemon is stopped, as part of the
//! leak stop, and goes when the node leaves.

use crate::device::netlink::Prefix;
use crate::device::nft::{self, Expression};
use std::io;
use std::net::IpAddr;

/// Our own table, so that nothing of anybody else's is touched.
const TABLE: &str = "bulkhead";
const LOOPBACK: &str = "lo";
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// RFC 791 and RFC 8200: where source and destination stand in the header.
const V4_FIELDS: [u32; 2] = [12, 16];
const V6_FIELDS: [u32; 2] = [8, 24];

/// Puts the guard in place, or replaces what an earlier process left.
///
/// # Errors
/// The kernel's, for example when it has no nftables.
pub(crate) fn raise(interface: &str, prefixes: [Prefix; 2]) -> io::Result<()> {
    let rules: Vec<_> = prefixes.iter().flat_map(|prefix| rules(interface, *prefix)).collect();
    nft::replace_table(TABLE, &rules)
}

/// Takes it away.
///
/// # Errors
/// The kernel's.
pub(crate) fn lower() -> io::Result<()> {
    nft::remove_table(TABLE)
}

fn rules(interface: &str, prefix: Prefix) -> [Vec<Expression>; 2] {
    let (version, fields, bytes) = match prefix.address {
        IpAddr::V4(v4) => (AF_INET, V4_FIELDS, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, V6_FIELDS, v6.octets().to_vec()),
    };
    fields.map(|offset| {
        vec![
            // First what costs least, and is decided for every packet of this host.
            Expression::Version(version),
            Expression::Header { offset, prefix: bytes.clone(), bits: prefix.bits },
            Expression::NotFrom(interface.into()),
            // What a host sends to its own addresses travels by loopback.
            Expression::NotFrom(LOOPBACK.into()),
            Expression::Count,
            Expression::Drop,
        ]
    })
}
