//! The TUN interface: made at the start, gone with the process.
//!
//! Property: what the interface owns in the kernel (addresses, routes into the tunnel) ends with it, however the
//! process ends, because the device is not persistent; what must outlive it is the leak stop of [`crate::device::netlink`].

pub(crate) mod endpoints;
pub(crate) mod guard;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod queue;

use crate::device::netlink::{Netlink, NetlinkError, Prefix};
use crate::device::queue::Queue;
use bulkhead_identity::{OverlayAddrs, Trust};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The local resolver's IPv4 address, in the last /24 of the overlay range, which no node is given.
const RESOLVER_V4_SUFFIX: u32 = 0x003f_ff35;
/// The host part of the resolver's IPv6 address.
const RESOLVER_V6_SUFFIX: u128 = 0xffff_0000_0000_0000_0053;

/// The open device.
pub(crate) struct Device {
    /// One for each data thread.
    pub(crate) queues: Vec<Arc<Queue>>,
    /// Its number in the kernel.
    pub(crate) index: u32,
}

/// What the interface is to look like.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Interface name.
    pub(crate) name: String,
    /// Interface MTU.
    pub(crate) mtu: u16,
    /// The node's own addresses.
    pub(crate) own: OverlayAddrs,
    /// The local resolver's addresses, on this interface only.
    pub(crate) resolver: OverlayAddrs,
    /// The overlay prefixes.
    pub(crate) prefixes: [Prefix; 2],
}

/// Why there is no interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// The device could not be opened.
    #[error("cannot make interface {name}: {why}")]
    Open {
        /// Its name.
        name: String,
        /// Why, with the remedy where there is one.
        why: String,
    },
    /// It was opened and cannot be set up.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl Layout {
    /// From the trust document's ranges and this node's certified addresses.
    pub(crate) fn new(name: &str, mtu: u16, trust: &Trust, own: OverlayAddrs) -> Self {
        let document = trust.document();
        let ((v6, _), (v4, v4_bits)) = (document.overlay_v6, document.overlay_v4);
        let resolver = OverlayAddrs {
            v6: Ipv6Addr::from(u128::from(v6) | RESOLVER_V6_SUFFIX),
            v4: Ipv4Addr::from(u32::from(v4) | RESOLVER_V4_SUFFIX & u32::MAX.unbounded_shr(v4_bits.into())),
        };
        Self { name: name.into(), mtu, own, resolver, prefixes: Prefix::overlay(trust) }
    }

    /// Sets the leak stop, before there is anything that could leak.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn stop_leaks(&self, netlink: &Netlink) -> Result<(), NetlinkError> {
        for prefix in self.prefixes {
            netlink.stop_leaks(prefix).await?;
        }
        Ok(())
    }

    /// Takes the leak stop away, for a node that leaves.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn allow_leaks(&self, netlink: &Netlink) -> Result<(), NetlinkError> {
        for prefix in self.prefixes {
            netlink.allow_leaks(prefix).await?;
        }
        Ok(())
    }

    /// Makes the interface of `queues` queues with its addresses, and routes the mesh into it.
    ///
    /// # Errors
    /// See [`DeviceError`]; nothing of it is left then but the leak stop.
    pub(crate) async fn create(&self, netlink: &Netlink, queues: usize) -> Result<Device, DeviceError> {
        let queues = self.open_queues(queues)?;
        let index = netlink.index_of(&self.name).await?.ok_or_else(|| DeviceError::Open {
            name: self.name.clone(),
            why: "it vanished as soon as it was made".into(),
        })?;
        netlink.bring_up(index, self.mtu).await?;
        for addresses in [self.own, self.resolver] {
            netlink.add_address(index, addresses.v4.into()).await?;
            netlink.add_address(index, addresses.v6.into()).await?;
        }
        for prefix in self.prefixes {
            let source = match prefix.address {
                IpAddr::V4(_) => self.own.v4.into(),
                IpAddr::V6(_) => self.own.v6.into(),
            };
            netlink.route_into(index, prefix, source).await?;
        }
        Ok(Device { queues, index })
    }

    fn open_queues(&self, count: usize) -> Result<Vec<Arc<Queue>>, DeviceError> {
        let failed = |error: tun::Error| DeviceError::Open {
            name: self.name.clone(),
            why: explain(&error.to_string()),
        };
        (0..count).map(|_| Queue::open(&self.name, count > 1).map(Arc::new).map_err(failed)).collect()
    }
}

fn explain(error: &str) -> String {
    let remedy = if error.contains("No such file") {
        "; /dev/net/tun is missing: load the tun module, or give it to the container"
    } else if error.contains("not permitted") || error.contains("denied") {
        "; run as root, or with CAP_NET_ADMIN"
    } else if error.contains("busy") {
        "; another process has an interface of that name: stop it, or choose another with --interface"
    } else {
        ""
    };
    format!("{error}{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_at_the_documented_addresses() {
        let v4 = u32::from(Ipv4Addr::new(100, 64, 0, 0)) | RESOLVER_V4_SUFFIX;
        assert_eq!(Ipv4Addr::from(v4), Ipv4Addr::new(100, 127, 255, 53));
        let v6 = u128::from(Ipv6Addr::new(0xfd5a, 1, 2, 0, 0, 0, 0, 0)) | RESOLVER_V6_SUFFIX;
        assert_eq!(Ipv6Addr::from(v6).to_string(), "fd5a:1:2:ffff::53");
    }
}
