//! Why packets were refused, counted. A refusal is never an error that bubbles: it is a reason and a number.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why the engine refused a packet, a datagram, a handshake or a peer. Each has its own counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of [`Counters::iter`].
            pub const ALL: &[Reason] = &[$(Reason::$variant,)+];

            /// The reason as a metric label, for example `no_permit`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    /// The headers of an IP packet lie or are cut short.
    Malformed = "malformed",
    /// Multicast, broadcast, loopback, link-local, unspecified, mapped or translated address, or a datagram
    /// that came from inside the mesh.
    ForbiddenAddress = "forbidden_address",
    /// A packet from TUN whose source is not our overlay address.
    SourceNotMine = "source_not_mine",
    /// A packet from TUN to an address that no peer we may talk to has.
    NoPeer = "no_peer",
    /// A packet from a peer whose source is not that peer's certified address.
    DishonestSource = "dishonest_source",
    /// A packet from a peer to an address that is not ours.
    NotForMe = "not_for_me",
    /// The policy does not permit this service in this direction.
    NoPermit = "no_permit",
    /// No flow, and nothing that may open one.
    NoFlow = "no_flow",
    /// TCP flags that no honest stack sends.
    BadFlags = "bad_flags",
    /// An ICMP message that is neither echo nor an error about a live flow.
    UnwantedIcmp = "unwanted_icmp",
    /// A fragment without its first, an overlap, or too many.
    Fragment = "fragment",
    /// The flow table, or the part of it that one peer may use, is full.
    FlowLimit = "flow_limit",
    /// A packet larger than the overlay MTU, or than the path to its peer carries.
    TooBig = "too_big",
    /// A packet that the path to its peer may or may not carry: the first probe has not come back yet.
    PathUnknown = "path_unknown",
    /// A packet to or from the port that the engines keep for themselves.
    ReservedPort = "reserved_port",
    /// Too many packets wait for handshakes.
    WaitingLimit = "waiting_limit",
    /// A packet that waited for a handshake until it was worthless.
    WaitedTooLong = "waited_too_long",
    /// No endpoint of the peer is known.
    NoEndpoint = "no_endpoint",
    /// The peer's certificate has ended, or not begun.
    PeerExpired = "peer_expired",
    /// Our own certificate, the policy or the trust document has ended: nothing in, nothing out.
    SelfExpired = "self_expired",
    /// The peer was removed while the packet was on its way.
    PeerRemoved = "peer_removed",
    /// A datagram that is not WireGuard.
    NotWireGuard = "not_wireguard",
    /// A WireGuard message for a session that does not exist.
    UnknownIndex = "unknown_index",
    /// A WireGuard message that did not authenticate.
    Unauthentic = "unauthentic",
    /// An initiation of a peer that is no newer than its last one: a copy that came by another of our addresses, or a
    /// replay.
    RepeatedHandshake = "repeated_handshake",
    /// A message counter that was used already, is too old, or is near the end of its range.
    BadCounter = "bad_counter",
    /// A handshake by a key that no permitted peer has.
    Stranger = "stranger",
    /// Handshakes beyond what one source may send, or one peer may leave unconfirmed.
    HandshakeRate = "handshake_rate",
    /// A source had to prove its address by a cookie first.
    CookieAsked = "cookie_asked",
    /// A handshake message that came while too many waited for their turn.
    HandshakeBacklog = "handshake_backlog",
    /// Congestion, on the way (RFC 6040) or in our host's own queue, around a packet whose transport does not know marks of
    /// it: losing it tells its sender.
    Congested = "congested",
    /// A peer entry whose certificate does not verify.
    RefusedCertificate = "refused_certificate",
    /// A peer entry that shares its name, address or tunnel key with another.
    RefusedDuplicate = "refused_duplicate",
    /// A peer entry that is not a node, has another name than its certificate, is ourselves, or is one too
    /// many.
    RefusedEntry = "refused_entry",
    /// A flow that a change of policy, time or map ended.
    FlowRevoked = "flow_revoked",
    /// An ICMP error to our own host that was over the rate.
    LocalErrorRate = "local_error_rate",
    /// A probe over a limit, or one that was not understood.
    ProbeRefused = "probe_refused",
}

/// The live counters; relaxed, because they order nothing.
#[derive(Debug)]
pub(crate) struct Tally([AtomicU64; Reason::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Tally {
    pub(crate) fn count(&self, reason: Reason) {
        self.add(reason, 1);
    }

    pub(crate) fn add(&self, reason: Reason, times: u64) {
        self.0[reason as usize].fetch_add(times, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        Counters(std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed)))
    }
}

/// The counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([u64; Reason::ALL.len()]);

impl Counters {
    /// How often this happened since the engine started.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|&reason| (reason, self.of(reason)))
    }
}
