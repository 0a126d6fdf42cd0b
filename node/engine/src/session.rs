//! The WireGuard session with one peer. The only file that names boringtun, and the place for what it leaves
//! to us.
//!
//! The property: no datagram makes a session, an answer or an endpoint unless its sender proved to hold the
//! tunnel key of a currently permitted peer. In detail, around each `Tunn`:
//!
//! - plaintext is padded to 16 bytes, never beyond the MTU (whitepaper, section 5.4.6); on the way in
//!   boringtun cuts the packet to its IP length, and [`crate::packet::parse`] refuses every length that lies;
//! - counters near the end of their range are refused before boringtun, whose arithmetic would overflow, sees
//!   them;
//! - its handshake limiter, which is one for all sources, is used for its hashes only. Under load, by our own
//!   count, an initiation has to bear a cookie, and only a source that so proved its address is charged for it
//!   ([`crate::sources`]), because anyone can write any source address on garbage. A cookie is answered with an
//!   initiation at once: boringtun would wait for its next retry, five seconds later;
//! - an initiation is answered only after its static key was found among the permitted peers: a stranger
//!   hears nothing. (Under load a cookie is asked for before that; only someone who knows our public key can get
//!   so far.);
//! - an endpoint is learned from a handshake response and from data, never from an initiation, which may be a
//!   replay after a restart, and never from a cookie reply;
//! - data is sealed only when there is a session. boringtun's own queue (256 packets per peer, unbounded over
//!   all peers) stays empty; ours is [`crate::waiting`];
//! - a `Tunn` is made on the first packet or handshake and kept while the peer stands, because it remembers
//!   the newest initiation, which makes older ones replays. It reads its own clock: [`Session::tick`] brings
//!   that up to date before a handshake is put into a `Tunn` that was asleep.

use crate::Reason;
use crate::bucket::{Bucket, Rate};
use crate::limits::{
    COOKIES_PER_SECOND, DATA_OVERHEAD, HANDSHAKE_BYTES, HANDSHAKES_PER_SECOND, INITIATION_RETRY, PADDING,
    REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES, UNCONFIRMED_BURST, UNCONFIRMED_REFILL,
};
use crate::sources::{Claims, Sources};
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet as Message, Tunn, TunnResult};
use boringtun::x25519::PublicKey;
use bulkhead_identity::{TunnelKey, TunnelPublicKey};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const UNCONFIRMED: Rate = Rate { burst: UNCONFIRMED_BURST, refill: UNCONFIRMED_REFILL };
/// boringtun keeps the lower eight bits of an index for itself.
const INDEX_SHIFT: u32 = 8;
/// A `Tunn` not ticked for longer than this may think that it is long ago.
const STALE_CLOCK: Duration = Duration::from_secs(1);

/// What a datagram claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Initiation,
    /// An answer to our initiation, or a cookie for it.
    Answer {
        peer: u32,
    },
    Data {
        peer: u32,
        counter: u64,
    },
}

/// Reads the kind of a WireGuard message and whom of ours it is for.
pub(crate) fn classify(datagram: &[u8]) -> Option<Kind> {
    match Tunn::parse_incoming_packet(datagram).ok()? {
        Message::HandshakeInit(_) => Some(Kind::Initiation),
        Message::HandshakeResponse(response) => {
            Some(Kind::Answer { peer: response.receiver_idx >> INDEX_SHIFT })
        }
        Message::PacketCookieReply(cookie) => Some(Kind::Answer { peer: cookie.receiver_idx >> INDEX_SHIFT }),
        Message::PacketData(data) => {
            let counter = datagram.get(8..16)?.try_into().map(u64::from_le_bytes).ok()?;
            Some(Kind::Data { peer: data.receiver_idx >> INDEX_SHIFT, counter })
        }
    }
}

/// Our side of every handshake: the key and the limits that all sessions share.
pub(crate) struct Door {
    key: TunnelKey,
    public: PublicKey,
    /// Never under load: looks at the mark that needs our public key (mac1, whitepaper, section 5.4.4). Every
    /// `Tunn` has this one, because what reaches it has been admitted.
    marks: Arc<RateLimiter>,
    /// Always under load: asks for the cookie (mac2, section 5.4.7).
    cookies: RateLimiter,
    load: Load,
    /// Cookies for sources that had used up their own.
    spare: Load,
    /// Sources that have proved their addresses.
    proven: Mutex<Sources>,
    /// Sources that ask for cookies.
    claimed: Mutex<Claims>,
}

fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the field for the cookie's mark (mac2) is left zero, as it is by whoever has none.
fn bears_no_cookie(initiation: &[u8]) -> bool {
    initiation.last_chunk().is_none_or(|mac2: &[u8; 16]| *mac2 == [0; 16])
}

/// How often something happened in this second.
#[derive(Debug, Default)]
struct Load {
    second: AtomicU64,
    count: AtomicU64,
}

impl Load {
    /// Whether one more is within `limit`.
    fn admits(&self, mono: Duration, limit: u64) -> bool {
        // Threads may disagree for a moment about which second it is: a few more are admitted, or fewer.
        if self.second.swap(mono.as_secs(), Ordering::Relaxed) != mono.as_secs() {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < limit
    }

    /// Whether one more would be.
    fn would_admit(&self, mono: Duration, limit: u64) -> bool {
        self.second.load(Ordering::Relaxed) != mono.as_secs() || self.count.load(Ordering::Relaxed) < limit
    }
}

/// Whether a handshake message is worth the cryptography.
#[derive(Debug)]
pub(crate) enum Admission {
    Granted,
    /// We are under load; the first bytes of the buffer are a cookie reply.
    Cookie(usize),
    Refused(Reason),
}

impl Door {
    pub(crate) fn new(key: TunnelKey) -> Self {
        let public = PublicKey::from(key.secret());
        Self {
            key,
            public,
            marks: Arc::new(RateLimiter::new(&public, u64::MAX)),
            cookies: RateLimiter::new(&public, 0),
            load: Load::default(),
            spare: Load::default(),
            proven: Mutex::new(Sources::new()),
            claimed: Mutex::new(Claims::new()),
        }
    }

    pub(crate) fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// Whether an initiation from `source` is worth the cryptography: it bears our mark, and, under load, it also
    /// bears the cookie that proves its source address, and that source has not sent too many. Costs a few
    /// hashes and no more, whoever sends it, and nothing if it asks for a cookie and there is none. Only a source
    /// that proved its address is charged for handshakes.
    /// `room` takes a cookie reply.
    pub(crate) fn admit(
        &self,
        source: IpAddr,
        initiation: &[u8],
        mono: Duration,
        room: &mut [u8],
    ) -> Admission {
        if self.load.would_admit(mono, HANDSHAKES_PER_SECOND) {
            if self.marks.verify_packet(None, initiation, &mut []).is_err() {
                return Admission::Refused(Reason::Unauthentic);
            }
            if self.load.admits(mono, HANDSHAKES_PER_SECOND) {
                return Admission::Granted;
            }
        }
        let gives = self.would_give_cookie(source, mono);
        if !gives && bears_no_cookie(initiation) {
            return Admission::Refused(Reason::HandshakeRate);
        }
        // Without room for a cookie none is made.
        let room = if gives { room } else { &mut [] };
        match self.cookies.verify_packet(Some(source), initiation, room) {
            Ok(_) if lock(&self.proven).admit(source, mono) => Admission::Granted,
            Err(TunnResult::WriteToNetwork(cookie))
                if lock(&self.claimed).admit(source, mono) || self.spare.admits(mono, COOKIES_PER_SECOND) =>
            {
                Admission::Cookie(cookie.len())
            }
            Ok(_)
            | Err(
                TunnResult::WriteToNetwork(_) | TunnResult::Err(WireGuardError::DestinationBufferTooSmall),
            ) => Admission::Refused(Reason::HandshakeRate),
            Err(_) => Admission::Refused(Reason::Unauthentic),
        }
    }

    fn would_give_cookie(&self, source: IpAddr, mono: Duration) -> bool {
        lock(&self.claimed).would_admit(source, mono) || self.spare.would_admit(mono, COOKIES_PER_SECOND)
    }

    /// Whether a response or a cookie reply is worth looking at, which is for an index of ours that nobody can
    /// guess. So whoever writes one is a peer, or sees its traffic, and no load is a reason to ask for more.
    pub(crate) fn admit_answer(&self, source: IpAddr, answer: &[u8], mono: Duration) -> Result<(), Reason> {
        if self.marks.verify_packet(None, answer, &mut []).is_err() {
            return Err(Reason::Unauthentic);
        }
        if lock(&self.proven).admit(source, mono) { Ok(()) } else { Err(Reason::HandshakeRate) }
    }

    /// Finds out whose private key made an initiation, or one that this is a replay of.
    pub(crate) fn knock(&self, datagram: &[u8]) -> Result<[u8; 32], Reason> {
        let Ok(Message::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(datagram) else {
            return Err(Reason::NotWireGuard);
        };
        parse_handshake_anon(self.key.secret(), &self.public, &initiation)
            .map(|half| half.peer_static_public)
            .map_err(|_| Reason::Unauthentic)
    }
}

/// The session with one peer. Answers with lengths: the bytes are in the buffer that was given.
pub(crate) struct Session {
    /// Unique among all peers; random, so that a stranger cannot guess which exist.
    index: u32,
    peer: PublicKey,
    tunn: Option<Box<Tunn>>,
    /// Whether there are keys to seal with; boringtun would queue otherwise.
    ready: bool,
    unconfirmed: Bucket,
    last_received: Option<Duration>,
    last_sent: Duration,
    last_initiation: Option<Duration>,
    /// The last initiation was one made for a cookie.
    for_cookie: bool,
    last_tick: Option<Duration>,
}

/// What came of sealing a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// The buffer begins with a datagram of this length; `rekey`: it is time for new keys.
    Datagram { len: usize, rekey: bool },
    /// There are no keys: queue the packet and [`Session::initiate`].
    NoSession,
}

/// What came of opening a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// An initiation was answered: send this many bytes back to where it came from. Proves nothing about the
    /// address.
    Answer(usize),
    /// Our initiation was answered: there are keys. Send this many bytes; the sender's address is authentic.
    Established(usize),
    /// The buffer begins with an inner packet of this length; the sender's address is authentic.
    Packet(usize),
    /// An empty packet; the sender's address is authentic.
    Keepalive,
    /// A cookie for our next initiation. Proves nothing.
    Cookie,
    /// Authentic, but not an IP packet; the sender's address is authentic.
    NotIp,
    Refused(Reason),
}

/// What came of a tick.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ticked {
    Nothing,
    /// Send this many bytes: an initiation (to every candidate) or a keepalive (to the endpoint).
    Initiation(usize),
    Keepalive(usize),
}

impl Session {
    pub(crate) fn new(index: u32, peer: &TunnelPublicKey) -> Self {
        Self {
            index,
            peer: PublicKey::from(*peer.as_bytes()),
            tunn: None,
            ready: false,
            unconfirmed: Bucket::default(),
            last_received: None,
            last_sent: Duration::ZERO,
            last_initiation: None,
            for_cookie: false,
            last_tick: None,
        }
    }

    /// Forgets all keys. boringtun's and dalek's types zeroize theirs when dropped.
    pub(crate) fn close(&mut self) {
        self.tunn = None;
        self.ready = false;
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether there are no keys and no handshake on its way, so that time does nothing. boringtun says so nine minutes
    /// after the last handshake, and when nobody answered for ninety seconds.
    pub(crate) fn is_dormant(&self) -> bool {
        self.tunn.as_ref().is_none_or(|tunn| tunn.is_expired())
    }

    pub(crate) fn last_handshake(&self) -> Option<Duration> {
        self.tunn.as_ref().and_then(|tunn| tunn.time_since_last_handshake())
    }

    pub(crate) fn last_received(&self) -> Option<Duration> {
        self.last_received
    }

    pub(crate) fn last_sent(&self) -> Duration {
        self.last_sent
    }

    pub(crate) fn last_initiation(&self) -> Option<Duration> {
        self.last_initiation
    }

    /// Room that [`Session::seal`] needs for a packet of `len` bytes.
    pub(crate) fn sealed_room(len: usize) -> usize {
        (len.next_multiple_of(PADDING) + DATA_OVERHEAD).max(HANDSHAKE_BYTES)
    }

    /// Room that [`Session::open`] needs for a datagram of `len` bytes.
    pub(crate) fn opened_room(len: usize) -> usize {
        len.max(HANDSHAKE_BYTES)
    }

    /// Encrypts `packet`, padded by means of `scratch`, into `room`.
    pub(crate) fn seal(
        &mut self,
        packet: &[u8],
        mtu: u16,
        scratch: &mut Vec<u8>,
        room: &mut [u8],
        mono: Duration,
    ) -> Sealed {
        let Some(tunn) = self.tunn.as_mut().filter(|_| self.ready) else { return Sealed::NoSession };
        let padded = padded_len(packet.len(), mtu);
        let plaintext = if padded == packet.len() {
            packet
        } else {
            scratch.clear();
            scratch.extend_from_slice(packet);
            scratch.resize(padded, 0);
            scratch
        };
        let TunnResult::WriteToNetwork(datagram) = tunn.encapsulate(plaintext, room) else {
            self.ready = false;
            return Sealed::NoSession;
        };
        let len = datagram.len();
        match datagram.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes) {
            Some(counter) if counter < REJECT_AFTER_MESSAGES => {
                self.last_sent = mono;
                Sealed::Datagram { len, rekey: counter >= REKEY_AFTER_MESSAGES }
            }
            // The datagram is not sent: its nonce is the last ones' business.
            _ => {
                self.ready = false;
                Sealed::NoSession
            }
        }
    }

    /// Writes a handshake initiation into `room`, unless one is on its way already. boringtun sends those
    /// again every five seconds for ninety, and after that the next packet begins anew.
    pub(crate) fn initiate(&mut self, door: &Door, room: &mut [u8], mono: Duration) -> Option<usize> {
        let again = self.last_initiation.is_some_and(|last| mono.saturating_sub(last) >= INITIATION_RETRY);
        self.write_initiation(door, room, mono, again).inspect(|_| self.for_cookie = false)
    }

    /// Writes the initiation that bears the cookie just received; once for each that was made without one, so
    /// that a cookie reply sent again and again has us send no more.
    pub(crate) fn initiate_with_cookie(
        &mut self,
        door: &Door,
        room: &mut [u8],
        mono: Duration,
    ) -> Option<usize> {
        if std::mem::replace(&mut self.for_cookie, true) {
            return None;
        }
        self.write_initiation(door, room, mono, true)
    }

    fn write_initiation(
        &mut self,
        door: &Door,
        room: &mut [u8],
        mono: Duration,
        again: bool,
    ) -> Option<usize> {
        let tunn = self.wake(door);
        match tunn.format_handshake_initiation(room, again) {
            TunnResult::WriteToNetwork(initiation) => {
                let len = initiation.len();
                self.last_sent = mono;
                self.last_initiation = Some(mono);
                Some(len)
            }
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => None,
        }
    }

    /// Takes an initiation whose static key is this peer's.
    pub(crate) fn answer(
        &mut self,
        door: &Door,
        from: SocketAddr,
        datagram: &[u8],
        room: &mut [u8],
        mono: Duration,
    ) -> Opened {
        // Each answer takes one of boringtun's eight session slots, so only a few may be left unconfirmed. A
        // replay, which is not answered, must not use them up.
        if self.unconfirmed.level(UNCONFIRMED, mono) == 0 {
            return Opened::Refused(Reason::HandshakeRate);
        }
        let was_asleep = self.last_tick.is_none_or(|last| mono.saturating_sub(last) > STALE_CLOCK);
        let tunn = self.wake(door);
        if was_asleep {
            // What it would like to send now is soon obsolete.
            let mut scrap = [0; HANDSHAKE_BYTES];
            let _ = tunn.update_timers(&mut scrap);
            self.last_tick = Some(mono);
            // The keys may just have expired.
            self.refresh_ready();
        }
        let opened = self.decapsulate(from, datagram, room, mono, Kind::Initiation);
        if matches!(opened, Opened::Answer(_)) {
            self.unconfirmed.take(UNCONFIRMED, mono);
        }
        opened
    }

    /// Takes a response, a cookie reply or data that is for this session's index.
    pub(crate) fn open(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        kind: Kind,
        room: &mut [u8],
        mono: Duration,
    ) -> Opened {
        if matches!(kind, Kind::Data { counter, .. } if counter >= REJECT_AFTER_MESSAGES) {
            return Opened::Refused(Reason::BadCounter);
        }
        self.decapsulate(from, datagram, room, mono, kind)
    }

    /// Lets boringtun look at its clock: rekey, retry, keep alive, forget old keys.
    pub(crate) fn tick(&mut self, room: &mut [u8], mono: Duration) -> Ticked {
        let Some(tunn) = self.tunn.as_mut() else { return Ticked::Nothing };
        let ticked = match tunn.update_timers(room) {
            TunnResult::WriteToNetwork(message) if message.len() == HANDSHAKE_BYTES => {
                self.last_initiation = Some(mono);
                self.for_cookie = false;
                Ticked::Initiation(message.len())
            }
            TunnResult::WriteToNetwork(message) => Ticked::Keepalive(message.len()),
            // `ConnectionExpired`: it gave up after ninety seconds and has forgotten all keys.
            TunnResult::Err(_)
            | TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => Ticked::Nothing,
        };
        self.last_tick = Some(mono);
        self.refresh_ready();
        if ticked != Ticked::Nothing {
            self.last_sent = mono;
        }
        ticked
    }

    fn wake(&mut self, door: &Door) -> &mut Tunn {
        self.tunn.get_or_insert_with(|| {
            let limiter = Some(Arc::clone(&door.marks));
            Box::new(Tunn::new(door.key.secret().clone(), self.peer, None, None, self.index, limiter))
        })
    }

    fn decapsulate(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        room: &mut [u8],
        mono: Duration,
        kind: Kind,
    ) -> Opened {
        let Some(tunn) = self.tunn.as_mut() else { return Opened::Refused(Reason::UnknownIndex) };
        let opened = match (tunn.decapsulate(Some(from.ip()), datagram, room), kind) {
            (TunnResult::WriteToNetwork(message), Kind::Initiation) => Opened::Answer(message.len()),
            (TunnResult::WriteToNetwork(message), Kind::Answer { .. } | Kind::Data { .. }) => {
                Opened::Established(message.len())
            }
            (TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _), _) => {
                Opened::Packet(packet.len())
            }
            (TunnResult::Done, Kind::Data { .. }) => Opened::Keepalive,
            (TunnResult::Done, Kind::Initiation | Kind::Answer { .. }) => Opened::Cookie,
            (TunnResult::Err(WireGuardError::InvalidPacket), Kind::Data { .. }) => Opened::NotIp,
            (TunnResult::Err(error), _) => Opened::Refused(reason(&error)),
        };
        match opened {
            Opened::Established(_) | Opened::Packet(_) | Opened::Keepalive | Opened::NotIp => {
                self.last_received = Some(mono);
                if !self.ready || matches!(opened, Opened::Established(_)) {
                    self.refresh_ready();
                }
                self.unconfirmed.fill();
            }
            Opened::Answer(_) => self.last_sent = mono,
            Opened::Cookie | Opened::Refused(_) => {}
        }
        opened
    }

    /// `encapsulate` seals exactly when this says that there is a current session.
    fn refresh_ready(&mut self) {
        self.ready = self.last_handshake().is_some();
    }
}

/// The length to which `len` bytes are padded: a multiple of 16, but never beyond the MTU.
fn padded_len(len: usize, mtu: u16) -> usize {
    len.next_multiple_of(PADDING).min(usize::from(mtu)).max(len)
}

fn reason(error: &WireGuardError) -> Reason {
    match error {
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Reason::BadCounter,
        WireGuardError::WrongIndex | WireGuardError::NoCurrentSession | WireGuardError::UnexpectedPacket => {
            Reason::UnknownIndex
        }
        WireGuardError::UnderLoad => Reason::HandshakeRate,
        WireGuardError::WrongTai64nTimestamp => Reason::RepeatedHandshake,
        WireGuardError::DestinationBufferTooSmall
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::WrongPacketType
        | WireGuardError::WrongKey
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::InvalidMac
        | WireGuardError::InvalidAeadTag
        | WireGuardError::InvalidPacket
        | WireGuardError::LockFailed
        | WireGuardError::ConnectionExpired => Reason::Unauthentic,
    }
}
