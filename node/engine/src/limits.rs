//! Every bound of the engine in one place. Nothing that a peer, the network or a local process sends makes
//! the engine hold more than these say; when a bound is hit a counter moves and something is refused. Only a
//! peer's own oldest waiting packet and its own oldest half-seen datagram, and the oldest probe result, make room
//! for a newer one.

use std::time::Duration;

/// The smallest overlay MTU: what IPv6 asks of every link (RFC 8200, section 5).
pub const MIN_MTU: u16 = 1280;
/// The largest overlay MTU: what fits into 65,535 bytes of IPv4 datagram with our overhead, rounded down to
/// 16.
pub const MAX_MTU: u16 = 65_440;
/// Bytes that a WireGuard data message adds: 16 of header, 16 of tag (whitepaper, section 5.4.6).
pub const DATA_OVERHEAD: usize = 32;
/// WireGuard pads plaintext to a multiple of this (whitepaper, section 5.4.6).
pub const PADDING: usize = 16;
/// The largest WireGuard control message, a handshake initiation.
pub const HANDSHAKE_BYTES: usize = 148;

/// Datagrams that one send may carry (the kernel's `UDP_MAX_SEGMENTS` before Linux 6.10).
pub const MAX_TRAIN_DATAGRAMS: usize = 64;
/// Bytes that one send may carry: the payload of the largest IPv4 datagram.
pub const MAX_TRAIN_BYTES: usize = 65_507;
/// Bytes of output whose memory is kept from batch to batch, datagrams and packets each: more than a full batch of a
/// data thread makes.
pub const MAX_KEPT_BYTES: usize = 2 * 1024 * 1024;
/// Trains, and frames, for which memory is kept.
pub const MAX_KEPT_ENTRIES: usize = 4096;
/// Packets handled before the lock of a peer is let go, for those who wait for it.
pub const MAX_PACKETS_UNDER_LOCK: usize = 64;

/// Counters at or above are refused both ways (whitepaper, section 6.1: 2^64 - 2^13 - 1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// From this counter on a sender asks for new keys (whitepaper, section 6.1: 2^60).
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Handshake initiations that are answered in one second, over all sources; for more a cookie is asked for.
pub const HANDSHAKES_PER_SECOND: u64 = 200;
/// Cookies counted at one place in [`COOKIE_INTERVAL`]; an address that has not proved to be the sender's has two places.
pub const COOKIES_PER_SOURCE: u8 = 1;
/// As often as WireGuard tries again (whitepaper, section 6.1). A cookie is good for two minutes at most.
pub const COOKIE_INTERVAL: Duration = Duration::from_secs(5);
/// Where cookies are counted, one byte each: a flood from 10,000 addresses uses up both counters of less than one in two
/// thousand others, and of other ones in the next interval.
pub const COOKIE_COUNTERS: usize = 1 << 20;
/// Parts of that table, each of which begins its interval at another time.
pub const COOKIE_PARTS: u32 = 64;
/// How long a source counts in the same part.
pub const COOKIE_REDRAW: Duration = Duration::from_secs(120);
/// Cookies given in one second beyond that, to whoever comes first: a peer whose address others write on theirs depends
/// on these.
pub const COOKIES_PER_SECOND: u64 = 2000;
/// Handshake messages one source may send at once before it has to wait.
pub const SOURCE_BURST: u32 = 20;
/// How fast one source earns them back.
pub const SOURCE_REFILL: Duration = Duration::from_millis(100);
/// Buckets of the table of sources that proved their addresses; sources share one when they collide.
pub const SOURCE_BUCKETS: usize = 8192;
/// Handshake initiations of one peer that may be answered before it has confirmed one with data.
pub const UNCONFIRMED_BURST: u32 = 4;
/// How fast a peer earns the right to one more unconfirmed handshake: WireGuard's own retry interval.
pub const UNCONFIRMED_REFILL: Duration = Duration::from_secs(5);
/// While packets wait, an initiation that was not answered is sent again after this: the peer may have
/// learned of us only now. (boringtun alone waits five seconds.)
pub const INITIATION_RETRY: Duration = Duration::from_secs(1);
/// New peers that one change of the map greets with a handshake.
pub const MAX_GREETINGS: usize = 64;
/// Peers: boringtun leaves 24 bits to number them.
pub const MAX_PEERS: usize = 1 << 20;

/// Candidate endpoints kept for one peer.
pub const MAX_ENDPOINTS: usize = 16;
/// Packets of one peer that wait for a handshake.
pub const MAX_WAITING_PACKETS: usize = 8;
/// Bytes of all waiting packets together.
pub const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// A packet that waited longer is not worth sending.
pub const WAITING_MAX_AGE: Duration = Duration::from_secs(15);

/// Flows of all peers together, beyond which a peer gets only its reserve.
pub const MAX_FLOWS: usize = 1 << 20;
/// Flows with one peer in one direction.
pub const MAX_FLOWS_PER_PEER: usize = 8192;
/// Flows every peer may have in one direction even when the whole table is full.
pub const RESERVED_FLOWS_PER_PEER: usize = 64;
/// How often the flow table of one peer is swept when it is full, at most.
pub const SWEEP_AT_MOST: Duration = Duration::from_secs(1);
/// How often it is swept anyway.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A TCP flow that has not been answered and confirmed.
pub const TCP_OPENING: Duration = Duration::from_secs(60);
/// An established TCP flow (RFC 5382, REQ-5: not less than 2 h 4 min).
pub const TCP_ESTABLISHED: Duration = Duration::from_secs(2 * 3600 + 4 * 60);
/// A TCP flow after a reset or both FINs.
pub const TCP_CLOSING: Duration = Duration::from_secs(60);
/// A UDP (or SCTP, or unknown protocol's) flow that nobody answered.
pub const UDP_UNANSWERED: Duration = Duration::from_secs(30);
/// The same once answered.
pub const UDP_ANSWERED: Duration = Duration::from_secs(180);
/// An ICMP echo flow.
pub const ECHO: Duration = Duration::from_secs(30);

/// Fragmented datagrams followed for one peer at a time, both directions.
pub const MAX_FRAGMENTED: usize = 64;
/// Separate byte ranges remembered for one fragmented datagram; more gaps poison it.
pub const MAX_RANGES: usize = 64;
/// How long the first fragment's verdict serves the others.
pub const FRAGMENT_LIFETIME: Duration = Duration::from_secs(30);
/// IPv6 extension headers walked in one packet.
pub const MAX_EXTENSION_HEADERS: usize = 8;
/// The smallest path MTU an ICMPv4 error may announce (RFC 791: every host takes 576 bytes).
pub const MIN_ANNOUNCED_MTU_V4: u16 = 576;

/// Bytes of all headers of a packet that is cut: 40 of IPv6 and 60 of TCP, and more extension headers than anyone
/// sends; IPv4 takes at most 120.
pub const MAX_SPLIT_HEADERS: usize = 256;
/// Segments of one superpacket, cut or merged: what 65,535 bytes give at the least that Linux sends
/// (`TCP_MIN_GSO_SIZE` of include/net/tcp.h: 8 bytes).
pub const MAX_SEGMENTS: usize = 8192;
/// Bytes of a merged packet: what the length field of IPv4 can say.
pub const MAX_MERGED_BYTES: usize = 65_535;
/// UDP datagrams in a merged packet: `UDP_MAX_SEGMENTS` of Linux before 6.10 (include/linux/udp.h).
pub const MAX_MERGED_DATAGRAMS: usize = 64;

/// ICMP errors told to our own host at once.
pub const LOCAL_ERROR_BURST: u32 = 100;
/// How fast the right to tell one more comes back.
pub const LOCAL_ERROR_REFILL: Duration = Duration::from_millis(10);
/// ICMP errors told to our own host about the flows with one peer that one change ends (resets of TCP flows are
/// not limited).
pub const MAX_ERRORS_PER_CHANGE: usize = 1024;

/// Probes on their way at one time.
pub const MAX_PROBES: usize = 256;
/// Finished probes that nobody has fetched.
pub const MAX_PROBE_RESULTS: usize = 256;
/// A probe without an answer ends after this.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Probes of one peer answered at once.
pub const PROBE_BURST: u32 = 20;
/// How fast a peer earns the answer to one more.
pub const PROBE_REFILL: Duration = Duration::from_millis(50);

/// Probes of one size that have to be lost before the path does not carry it (RFC 8899, section 5.1.2,
/// MAX_PROBES).
pub const MTU_PROBES: u8 = 3;
/// How long the answer to such a probe may take, at first, and the least time between two of them (RFC 8899,
/// section 5.1.1, PROBE_TIMER: not less than a second).
pub const MTU_PROBE_TIMER: Duration = Duration::from_secs(1);
/// How often the size that was found is confirmed while packets flow (RFC 8899, section 5.1.1,
/// CONFIRMATION_TIMER).
pub const MTU_CONFIRMATION_TIMER: Duration = Duration::from_secs(60);
/// A peer that receives data answers by a keepalive after ten seconds, if by nothing else (whitepaper, section
/// 6.5). One that is silent for longer although packets flow may not receive them.
pub const MTU_SILENCE: Duration = Duration::from_secs(12);
/// How long a path keeps the size that was found before larger ones are tried again (RFC 8899, section 5.1.1,
/// PMTU_RAISE_TIMER).
pub const MTU_RAISE_TIMER: Duration = Duration::from_secs(600);

/// How often `handle_timeout` wants to be called.
pub const TICK: Duration = Duration::from_millis(250);
/// The pause between handshake attempts that only keepalive asks for.
pub const KEEPALIVE_RETRY: Duration = Duration::from_secs(30);

/// What may have waited in the queue of the interface before a stream is told: ten superpackets, about a millisecond
/// of sealing.
pub const BACKLOG_BYTES: usize = 10 * 65_536;
/// Between one packet that is told and the next: as long as most round trips, so that the sender has heard (CoDel's
/// interval, RFC 8289, section 4.3).
pub const BACKLOG_INTERVAL: Duration = Duration::from_millis(100);
/// Data of a stream below this fills no packet: its sender is not the one that fills the queue.
pub const BULK_BYTES: usize = 1000;
