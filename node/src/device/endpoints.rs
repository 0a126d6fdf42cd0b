//! Where peers on the same networks may find this node: its interface addresses and the configured ones.
//!
//! Property: what is announced is reachable by someone else, at least in principle. Loopback, link-local, multicast
//! and mesh addresses never are, and the list is never longer than the protocol allows.

use crate::device::netlink::{Netlink, NetlinkError};
use crate::state::held::Held;
use bulkhead_protocol::control::{Endpoint, MAX_ENDPOINTS};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Looks at the interfaces now. `overlay` is our own interface's index.
///
/// # Errors
/// See [`NetlinkError`].
pub(crate) async fn discover(
    netlink: &Netlink,
    overlay: u32,
    port: u16,
    configured: &[SocketAddr],
    held: &Held,
) -> Result<Vec<Endpoint>, NetlinkError> {
    let addresses = netlink.addresses(Some(overlay)).await?;
    Ok(select(addresses, port, configured, held))
}

fn select(addresses: BTreeSet<IpAddr>, port: u16, configured: &[SocketAddr], held: &Held) -> Vec<Endpoint> {
    let found = addresses.into_iter().filter(|ip| !is_link_local(*ip)).map(|ip| SocketAddr::new(ip, port));
    let mut endpoints = Vec::new();
    // Configured ones first: they are there because the others do not suffice.
    for endpoint in configured.iter().copied().chain(found) {
        if held.is_outer(endpoint)
            && endpoints.len() < MAX_ENDPOINTS
            && !endpoints.contains(&Endpoint(endpoint))
        {
            endpoints.push(Endpoint(endpoint));
        }
    }
    endpoints
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
