//! Questions one engine asks another inside the encrypted session: how long is the way, how large a packet
//! fits through it, and would you accept this?
//!
//! A probe is an inner UDP packet between the certified addresses of two peers, from and to [`PROBE_PORT`].
//! Engines intercept it: it never reaches a TUN device, and no program on a host can send or receive on that
//! port through the tunnel. Asking needs a session and therefore a permit; an answer is never larger than the
//! question, is limited per peer, and names no rule. The answer is the peer's own judgement, so it is true
//! even while policies differ.

use crate::limits::{MAX_PROBE_RESULTS, MAX_PROBES, PROBE_TIMEOUT};
use bulkhead_acl::Service;
use bulkhead_identity::{Generation, NodeName};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The inner UDP port that engines keep for each other.
pub const PROBE_PORT: u16 = 51_821;
/// Every message has this many bytes; in a probe of the path's MTU zeros follow.
pub(crate) const PROBE_BYTES: usize = 32;
const MAGIC: [u8; 5] = *b"BHPB\x01";

/// What to ask a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Are you there?
    Echo,
    /// Would you accept this service from me?
    Verdict(Service),
}

/// Names one question until its result was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Which one.
    pub id: ProbeId,
    /// Who was asked.
    pub peer: NodeName,
    /// What came of it.
    pub outcome: ProbeOutcome,
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The peer answered an echo.
    Echo {
        /// From question to answer.
        round_trip: Duration,
    },
    /// The peer answered a verdict query.
    Verdict {
        /// Whether it would accept the service from us.
        allowed: bool,
        /// The policy generation it judged by.
        generation: Generation,
        /// From question to answer.
        round_trip: Duration,
    },
    /// No answer within [`PROBE_TIMEOUT`](crate::limits::PROBE_TIMEOUT).
    TimedOut,
}

/// One message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    EchoRequest {
        id: u64,
    },
    EchoReply {
        id: u64,
    },
    VerdictQuery {
        id: u64,
        service: Service,
    },
    VerdictReply {
        id: u64,
        allowed: bool,
        generation: Generation,
    },
    /// Padded to the size in question.
    MtuProbe {
        id: u64,
    },
    /// The probe arrived, and its inner packet had `size` bytes.
    MtuReply {
        id: u64,
        size: u16,
    },
}

impl Message {
    pub(crate) fn encode(self) -> [u8; PROBE_BYTES] {
        let mut bytes = [0; PROBE_BYTES];
        bytes[..5].copy_from_slice(&MAGIC);
        let (kind, id) = match self {
            Self::EchoRequest { id } => (0, id),
            Self::EchoReply { id } => (1, id),
            Self::VerdictQuery { id, service } => {
                let (protocol, port) = split(service);
                bytes[6] = protocol;
                bytes[16..18].copy_from_slice(&port.to_be_bytes());
                (2, id)
            }
            Self::VerdictReply { id, allowed, generation } => {
                bytes[7] = u8::from(allowed);
                bytes[24..32].copy_from_slice(&generation.0.to_be_bytes());
                (3, id)
            }
            Self::MtuProbe { id } => (4, id),
            Self::MtuReply { id, size } => {
                bytes[16..18].copy_from_slice(&size.to_be_bytes());
                (5, id)
            }
        };
        bytes[5] = kind;
        bytes[8..16].copy_from_slice(&id.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PROBE_BYTES] = bytes.try_into().ok()?;
        if bytes[..5] != MAGIC {
            return None;
        }
        let number = |at: usize| bytes[at..at + 8].iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        let (id, short) = (number(8), u16::from_be_bytes([bytes[16], bytes[17]]));
        match bytes[5] {
            0 => Some(Self::EchoRequest { id }),
            1 => Some(Self::EchoReply { id }),
            2 => Some(Self::VerdictQuery { id, service: join(bytes[6], short)? }),
            // Anything but exactly 1 is no permission.
            3 => Some(Self::VerdictReply { id, allowed: bytes[7] == 1, generation: Generation(number(24)) }),
            4 => Some(Self::MtuProbe { id }),
            5 => Some(Self::MtuReply { id, size: short }),
            _ => None,
        }
    }
}

/// A service as the wire has it: which kind, and its number.
fn split(service: Service) -> (u8, u16) {
    match service {
        Service::Tcp(port) => (0, port),
        Service::Udp(port) => (1, port),
        Service::Sctp(port) => (2, port),
        Service::Echo => (3, 0),
        Service::Ip(protocol) => (4, u16::from(protocol)),
    }
}

fn join(kind: u8, number: u16) -> Option<Service> {
    match kind {
        0 => Some(Service::Tcp(number)),
        1 => Some(Service::Udp(number)),
        2 => Some(Service::Sctp(number)),
        3 => Some(Service::Echo),
        4 => u8::try_from(number).ok().map(Service::Ip),
        _ => None,
    }
}

/// The probes we sent and the results nobody has fetched yet; both bounded.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    next: u64,
    pending: BTreeMap<u64, Pending>,
    finished: VecDeque<ProbeResult>,
}

#[derive(Debug)]
struct Pending {
    peer: NodeName,
    asked: Probe,
    sent: Duration,
}

impl Probes {
    /// Registers a question; `None` when too many are on their way.
    pub(crate) fn ask(
        &mut self,
        peer: &NodeName,
        probe: Probe,
        mono: Duration,
    ) -> Option<(ProbeId, Message)> {
        if self.pending.len() >= MAX_PROBES {
            return None;
        }
        self.next += 1;
        let id = self.next;
        self.pending.insert(id, Pending { peer: peer.clone(), asked: probe, sent: mono });
        let message = match probe {
            Probe::Echo => Message::EchoRequest { id },
            Probe::Verdict(service) => Message::VerdictQuery { id, service },
        };
        Some((ProbeId(id), message))
    }

    /// Takes an answer from `peer`; an answer that nobody asked that peer for is ignored.
    pub(crate) fn answered(&mut self, peer: &NodeName, message: Message, mono: Duration) {
        let id = match message {
            Message::EchoReply { id } | Message::VerdictReply { id, .. } => id,
            Message::EchoRequest { .. }
            | Message::VerdictQuery { .. }
            | Message::MtuProbe { .. }
            | Message::MtuReply { .. } => return,
        };
        let Some(pending) = self.pending.get(&id).filter(|pending| pending.peer == *peer) else { return };
        let round_trip = mono.saturating_sub(pending.sent);
        let outcome = match (pending.asked, message) {
            (Probe::Echo, Message::EchoReply { .. }) => ProbeOutcome::Echo { round_trip },
            (Probe::Verdict(_), Message::VerdictReply { allowed, generation, .. }) => {
                ProbeOutcome::Verdict { allowed, generation, round_trip }
            }
            (Probe::Echo | Probe::Verdict(_), _) => return,
        };
        self.finish(id, outcome);
    }

    /// Ends what was not answered in time.
    pub(crate) fn expire(&mut self, mono: Duration) {
        let late: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| mono.saturating_sub(pending.sent) >= PROBE_TIMEOUT)
            .map(|(&id, _)| id)
            .collect();
        for id in late {
            self.finish(id, ProbeOutcome::TimedOut);
        }
    }

    /// All results since the last call.
    pub(crate) fn take(&mut self) -> Vec<ProbeResult> {
        self.finished.drain(..).collect()
    }

    fn finish(&mut self, id: u64, outcome: ProbeOutcome) {
        let Some(pending) = self.pending.remove(&id) else { return };
        if self.finished.len() >= MAX_PROBE_RESULTS {
            self.finished.pop_front();
        }
        self.finished.push_back(ProbeResult { id: ProbeId(id), peer: pending.peer, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_decodes_and_nothing_else_does() {
        for message in [
            Message::EchoRequest { id: 1 },
            Message::EchoReply { id: u64::MAX },
            Message::VerdictQuery { id: 7, service: Service::Tcp(5432) },
            Message::VerdictQuery { id: 7, service: Service::Udp(53) },
            Message::VerdictQuery { id: 7, service: Service::Sctp(9) },
            Message::VerdictQuery { id: 7, service: Service::Echo },
            Message::VerdictQuery { id: 7, service: Service::Ip(47) },
            Message::VerdictReply { id: 8, allowed: true, generation: Generation(9) },
            Message::VerdictReply { id: 8, allowed: false, generation: Generation(9) },
            Message::MtuProbe { id: 9 },
            Message::MtuReply { id: 9, size: 1420 },
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        let mut odd = Message::VerdictReply { id: 8, allowed: true, generation: Generation(9) }.encode();
        odd[7] = 2;
        assert_eq!(
            Message::decode(&odd),
            Some(Message::VerdictReply { id: 8, allowed: false, generation: Generation(9) })
        );
        odd[0] = 0;
        assert_eq!(Message::decode(&odd), None);
        assert_eq!(Message::decode(&[]), None);
    }
}
