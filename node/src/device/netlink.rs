//! The kernel's addresses and routes, by netlink.
//!
//! Property: clear text for the mesh never leaves by another interface (A13). Beside each route to the tunnel stands
//! a blackhole of the same prefix with a worse metric, owned by no interface: when the tunnel is down, by a stop or
//! by kill -9, the kernel drops what was meant for it. Only leaving the mesh removes it. Everything is set by
//! replacing, so that the next start owns and repairs what an earlier one left (E9).

use bulkhead_identity::Trust;
use bulkhead_node_engine::limits;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Marks our routes, so that anyone can tell whose they are (`ip route show proto 166`).
const ROUTE_PROTOCOL: u8 = 166;
/// Of the routes into the tunnel.
const TUNNEL_METRIC: u32 = 50;
/// Of the leak stop: worse than the tunnel's, better than any default route, which is less specific anyway.
const LEAK_STOP_METRIC: u32 = 4_000_000;
/// More addresses than this on one host are not looked at.
const MAX_ADDRESSES: usize = 4096;
/// The kernel's number for "no such thing".
const ENODEV: i32 = 19;
const ESRCH: i32 = 3;

/// Segments that the host may put into one superpacket, so that it leaves as one train.
fn segments_of_a_train(mtu: u16) -> u32 {
    let datagram = usize::from(mtu) + limits::DATA_OVERHEAD;
    (limits::MAX_TRAIN_BYTES / datagram).clamp(1, limits::MAX_TRAIN_DATAGRAMS) as u32
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Its first address.
    pub(crate) address: IpAddr,
    /// Its length in bits.
    pub(crate) bits: u8,
}

/// Why the kernel's configuration could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub(crate) struct NetlinkError {
    what: String,
    source: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Netlink(#[from] rtnetlink::Error),
}

/// A conversation with the kernel. Made within an async runtime, on which it lives.
pub(crate) struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| NetlinkError { what: "open a netlink socket".into(), source: error.into() })?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// The index of an interface; `None` when there is none of that name.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn index_of(&self, interface: &str) -> Result<Option<u32>, NetlinkError> {
        let mut links = Box::pin(self.handle.link().get().match_name(interface).execute());
        match links.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) if is_errno(&error, ENODEV) => Ok(None),
            Err(error) => Err(failed(format!("look up interface {interface}"), error)),
        }
    }

    /// Brings an interface up with an MTU, and without the link-local address that the kernel would give it:
    /// the mesh carries no link-local traffic.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn bring_up(&self, index: u32, mtu: u16) -> Result<(), NetlinkError> {
        let no_link_local =
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                In6AddrGenMode::None,
            )])]);
        let quiet = LinkUnspec::new_with_index(index).append_extra_attribute(no_link_local).build();
        if let Err(error) = self.handle.link().set(quiet).execute().await {
            // A kernel without IPv6, for example; what the address would send, the engine drops.
            tracing::debug!(%error, "link-local address stays");
        }
        let segments = LinkAttribute::GsoMaxSegs(segments_of_a_train(mtu));
        let whole = LinkUnspec::new_with_index(index).append_extra_attribute(segments).build();
        if let Err(error) = self.handle.link().set(whole).execute().await {
            tracing::debug!(%error, "superpackets are cut into more than one train");
        }
        let up = LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).up().build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(|error| failed("bring the interface up".into(), error))
    }

    /// Adds an exact address.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn add_address(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let mut request = self.handle.address().add(index, address, bits).replace();
        // Nobody else can have it, and a route cannot prefer an address that is still being probed for duplicates.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.map_err(|error| failed(format!("add address {address}"), error))
    }

    /// Routes a prefix into the tunnel, from `source`.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn route_into(
        &self,
        index: u32,
        prefix: Prefix,
        source: IpAddr,
    ) -> Result<(), NetlinkError> {
        let mut message = route(prefix, TUNNEL_METRIC, RouteType::Unicast);
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Oif(index));
        attributes.push(RouteAttribute::PrefSource(source.into()));
        let request = self.handle.route().add(message).replace();
        request.execute().await.map_err(|error| failed(format!("route {prefix}"), error))
    }

    /// Drops what no tunnel takes.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn stop_leaks(&self, prefix: Prefix) -> Result<(), NetlinkError> {
        let message = route(prefix, LEAK_STOP_METRIC, RouteType::BlackHole);
        let request = self.handle.route().add(message).replace();
        request.execute().await.map_err(|error| failed(format!("blackhole {prefix}"), error))
    }

    /// Removes the leak stop. None there is none to remove, which is as well.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn allow_leaks(&self, prefix: Prefix) -> Result<(), NetlinkError> {
        let message = route(prefix, LEAK_STOP_METRIC, RouteType::BlackHole);
        match self.handle.route().del(message).execute().await {
            Err(error) if !is_errno(&error, ESRCH) => {
                Err(failed(format!("remove blackhole {prefix}"), error))
            }
            _ => Ok(()),
        }
    }

    /// Removes an interface; one that is not there is removed already.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn remove_interface(&self, index: u32) -> Result<(), NetlinkError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !is_errno(&error, ENODEV) => Err(failed("remove the interface".into(), error)),
            _ => Ok(()),
        }
    }

    /// All addresses of all interfaces but `except`.
    ///
    /// # Errors
    /// See [`NetlinkError`].
    pub(crate) async fn addresses(&self, except: Option<u32>) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let mut found = BTreeSet::new();
        let mut messages = Box::pin(self.handle.address().get().execute());
        while let Some(message) =
            messages.try_next().await.map_err(|error| failed("list addresses".into(), error))?
        {
            if Some(message.header.index) == except || found.len() >= MAX_ADDRESSES {
                continue;
            }
            // IFA_LOCAL is ours and IFA_ADDRESS the peer's on a point-to-point link; IPv6 has only the latter.
            let local = message.attributes.iter().find_map(own_address);
            let shown = message.attributes.iter().find_map(shown_address);
            found.extend(local.or(shown));
        }
        Ok(found)
    }
}

impl Prefix {
    /// The mesh's two prefixes.
    pub(crate) fn overlay(trust: &Trust) -> [Self; 2] {
        let ((v6, v6_bits), (v4, v4_bits)) = (trust.document().overlay_v6, trust.document().overlay_v4);
        [Self { address: v4.into(), bits: v4_bits }, Self { address: v6.into(), bits: v6_bits }]
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn route(prefix: Prefix, metric: u32, kind: RouteType) -> RouteMessage {
    let protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    match prefix.address {
        IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, prefix.bits)
            .priority(metric)
            .protocol(protocol)
            .kind(kind)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(address, prefix.bits)
            .priority(metric)
            .protocol(protocol)
            .kind(kind)
            .build(),
    }
}

fn own_address(attribute: &AddressAttribute) -> Option<IpAddr> {
    if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None }
}

fn shown_address(attribute: &AddressAttribute) -> Option<IpAddr> {
    if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
}

fn failed(what: String, source: rtnetlink::Error) -> NetlinkError {
    NetlinkError { what, source: source.into() }
}

fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}
