//! The verdict on one packet: does it belong to a flow that the policy permits, or may it open one?
//!
//! The property (03-policy.md, semantics 3 to 6): whatever passes is part of a flow that the current permit
//! allows in the direction in which the flow was opened. A flow judged under another generation is judged
//! again before its next packet passes; no cache stands in front of that. Who sends and who receives was
//! checked before: see [`crate::outbound`] and [`crate::inbound`].

use crate::Reason;
use crate::flow::{Flow, FlowBudget, FlowKey, FlowTable, Way};
use crate::fragment::{Datagram, Fragments};
use crate::packet::Packet;
use crate::status::{FlowState, Traffic};
use crate::tcp::Segments;
use crate::transport::{Echo, Flags, Ports, Quoted, QuotedTransport, Tcp, Transport};
use bulkhead_acl::{Direction, Permit, Service, Verdict};
use bulkhead_identity::{Now, Timestamp};
use std::sync::Arc;

/// Flows and fragments of one peer.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) flows: FlowTable,
    fragments: Fragments,
}

/// What a packet is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) permit: &'a Permit,
    pub(crate) way: Way,
    pub(crate) now: Now,
    /// Whether the middle of a TCP flow may be taken up, just after the start.
    pub(crate) pickup: bool,
    pub(crate) turn: Turn,
    /// What the packet stands for: several, when they are segments of one flow.
    pub(crate) traffic: Traffic,
}

/// Whether a packet comes before the filter for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    First,
    /// It passed, waited for a handshake, and is about to leave: its flow has counted it.
    Again,
}

impl Question<'_> {
    fn saw(&self, flow: &mut Flow) {
        match self.turn {
            Turn::First => flow.saw(self.way, self.traffic, self.now.mono),
            Turn::Again => flow.last = self.now.mono,
        }
    }
}

impl Filter {
    pub(crate) fn new(budget: Arc<FlowBudget>) -> Self {
        Self { flows: FlowTable::new(budget), fragments: Fragments::default() }
    }

    /// Lets `packet` pass, or says why not.
    pub(crate) fn judge(&mut self, question: Question<'_>, packet: &Packet) -> Result<(), Reason> {
        match packet.transport {
            Transport::LaterFragment => {
                let piece = packet.fragment.ok_or(Reason::Malformed)?;
                return self.fragments.follow(datagram(question.way, packet), piece, question.now.mono);
            }
            Transport::Tcp(segment) => self.judge_tcp(question, packet, &segment)?,
            Transport::Udp(ports) => {
                self.judge_plain(question, packet, ports, Service::Udp(ports.destination))?;
            }
            Transport::Sctp(ports) => {
                self.judge_plain(question, packet, ports, Service::Sctp(ports.destination))?;
            }
            Transport::Other => {
                let none = Ports { source: 0, destination: 0 };
                self.judge_plain(question, packet, none, Service::Ip(packet.protocol))?;
            }
            Transport::Echo(echo) => self.judge_echo(question, packet, echo)?,
            Transport::Error(quoted) => self.judge_error(question, packet, &quoted)?,
            Transport::OtherIcmp => return Err(Reason::UnwantedIcmp),
        }
        match packet.fragment {
            Some(first) => self.fragments.begin(datagram(question.way, packet), first, question.now.mono),
            None => Ok(()),
        }
    }

    /// Packets that were let out, but waited, are about to be judged again.
    pub(crate) fn judge_waiting_anew(&mut self) {
        self.fragments.forget(Way::Out);
    }

    /// Judges every flow again, in the direction in which it was opened. `ended` sees those that end. What
    /// waits for the rest of its fragments has to begin anew.
    pub(crate) fn judge_all(
        &mut self,
        permit: &Permit,
        wall: Timestamp,
        mut ended: impl FnMut(&FlowKey, &Flow),
    ) -> usize {
        self.fragments.clear();
        let before = self.flows.len();
        self.flows.retain(|key, flow| {
            let stays = judge_again(permit, flow, wall);
            if !stays {
                ended(key, flow);
            }
            stays
        });
        before - self.flows.len()
    }

    /// Ends every flow.
    pub(crate) fn end_all(&mut self, mut ended: impl FnMut(&FlowKey, &Flow)) -> usize {
        self.fragments.clear();
        let before = self.flows.len();
        self.flows.retain(|key, flow| {
            ended(key, flow);
            false
        });
        before
    }

    fn judge_tcp(&mut self, question: Question<'_>, packet: &Packet, segment: &Tcp) -> Result<(), Reason> {
        if !segment.flags.are_sane() {
            return Err(Reason::BadFlags);
        }
        let key = key(question.way, packet, segment.ports);
        let opens = segment.flags.opens();
        if let Some(flow) = self.known(question, &key)? {
            let same_opener = flow.direction == question.way.opens();
            match (opens, flow.state, same_opener) {
                // The port is used again, or a SYN is sent again: judged like a new one.
                (true, FlowState::Closing, _) | (true, FlowState::Opening, true) => {}
                // Nobody turns the direction of a live flow round.
                (true, FlowState::Opening | FlowState::Established, false) => return Err(Reason::NoFlow),
                (true, FlowState::Established, true) | (false, _, _) => {
                    flow.state = flow.segments.saw(question.way, segment, flow.state);
                    question.saw(flow);
                    return Ok(());
                }
            }
        }
        let picked_up = question.pickup
            && question.way == Way::Out
            && !segment.flags.has(Flags::SYN)
            && !segment.flags.has(Flags::RST);
        if !opens && !picked_up {
            return Err(Reason::NoFlow);
        }
        let state = if opens { FlowState::Opening } else { FlowState::Established };
        let mut segments = Segments::default();
        let state = segments.saw(question.way, segment, state);
        self.open(question, key, Service::Tcp(segment.ports.destination), state, segments)
    }

    /// Protocols of which we know who spoke, and no more.
    fn judge_plain(
        &mut self,
        question: Question<'_>,
        packet: &Packet,
        ports: Ports,
        service: Service,
    ) -> Result<(), Reason> {
        let key = key(question.way, packet, ports);
        if let Some(flow) = self.known(question, &key)? {
            if flow.direction != question.way.opens() {
                flow.state = FlowState::Established;
            }
            question.saw(flow);
            return Ok(());
        }
        self.open(question, key, service, FlowState::Opening, Segments::default())
    }

    fn judge_echo(&mut self, question: Question<'_>, packet: &Packet, echo: Echo) -> Result<(), Reason> {
        let key = echo_key(question.way, packet, echo);
        if let Some(flow) = self.known(question, &key)? {
            if !echo.request {
                flow.state = FlowState::Established;
            }
            question.saw(flow);
            return Ok(());
        }
        if !echo.request {
            return Err(Reason::NoFlow);
        }
        self.open(question, key, Service::Echo, FlowState::Opening, Segments::default())
    }

    /// An error passes when the packet it quotes went the other way in a live flow. It opens and refreshes
    /// nothing.
    fn judge_error(
        &mut self,
        question: Question<'_>,
        packet: &Packet,
        quoted: &Quoted,
    ) -> Result<(), Reason> {
        if quoted.source != packet.destination || quoted.destination != packet.source {
            return Err(Reason::UnwantedIcmp);
        }
        let way = match question.way {
            Way::Out => Way::In,
            Way::In => Way::Out,
        };
        let about = Packet { protocol: quoted.protocol, ..*packet };
        let key = match quoted.what {
            QuotedTransport::Ports(ports) => key(way, &about, ports),
            QuotedTransport::Echo(echo) => echo_key(way, &about, echo),
            QuotedTransport::Other => key(way, &about, Ports { source: 0, destination: 0 }),
        };
        self.known(question, &key)?.map(|_| ()).ok_or(Reason::UnwantedIcmp)
    }

    /// The live flow of this key, judged again if the generation moved.
    fn known(&mut self, question: Question<'_>, key: &FlowKey) -> Result<Option<&mut Flow>, Reason> {
        let Question { permit, now, .. } = question;
        let Some(flow) = self.flows.get(key) else { return Ok(None) };
        if flow.is_expired(now.mono) {
            self.flows.remove(key);
            return Ok(None);
        }
        if flow.generation != permit.generation()
            && !self.flows.get_mut(key).is_some_and(|flow| judge_again(permit, flow, now.wall))
        {
            self.flows.remove(key);
            return Err(Reason::FlowRevoked);
        }
        Ok(self.flows.get_mut(key))
    }

    fn open(
        &mut self,
        question: Question<'_>,
        key: FlowKey,
        service: Service,
        state: FlowState,
        segments: Segments,
    ) -> Result<(), Reason> {
        let direction = question.way.opens();
        let rule = match question.permit.verdict(direction, service, question.now.wall) {
            Verdict::Allow(rule) => rule,
            Verdict::Deny => return Err(Reason::NoPermit),
        };
        let mono = question.now.mono;
        let mut flow = Flow {
            direction,
            service,
            state,
            generation: question.permit.generation(),
            rule,
            segments,
            sent: Traffic::default(),
            received: Traffic::default(),
            first: mono,
            last: mono,
        };
        flow.saw(question.way, question.traffic, mono);
        self.flows.insert(key, flow)
    }
}

fn judge_again(permit: &Permit, flow: &mut Flow, wall: Timestamp) -> bool {
    match permit.verdict(flow.direction, flow.service, wall) {
        Verdict::Allow(rule) => {
            flow.generation = permit.generation();
            flow.rule = rule;
            true
        }
        Verdict::Deny => false,
    }
}

fn key(way: Way, packet: &Packet, ports: Ports) -> FlowKey {
    let (local, remote) = match way {
        Way::Out => (ports.source, ports.destination),
        Way::In => (ports.destination, ports.source),
    };
    FlowKey { v6: packet.source.is_ipv6(), protocol: packet.protocol, asker: None, local, remote }
}

/// An echo flow is named by the identifier that its asker chose.
fn echo_key(way: Way, packet: &Packet, echo: Echo) -> FlowKey {
    let asked_by_us = (way == Way::Out) == echo.request;
    let (asker, local, remote) =
        if asked_by_us { (Direction::Outbound, echo.id, 0) } else { (Direction::Inbound, 0, echo.id) };
    FlowKey { v6: packet.source.is_ipv6(), protocol: packet.protocol, asker: Some(asker), local, remote }
}

fn datagram(way: Way, packet: &Packet) -> Datagram {
    let v6 = packet.source.is_ipv6();
    Datagram {
        way,
        v6,
        protocol: if v6 { 0 } else { packet.protocol },
        id: packet.fragment.map_or(0, |piece| piece.id),
    }
}
