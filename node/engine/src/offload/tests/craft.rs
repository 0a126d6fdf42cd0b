//! Packets written plainly, field by field: what splitting has to give and merging has to take.

use crate::offload::{VnetHeader, vnet};
use proptest::collection::vec;
use proptest::prelude::*;

pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const ECE: u8 = 0x40;
pub(super) const CWR: u8 = 0x80;

/// A flow, and where in it we are.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) v6: bool,
    pub(super) tcp: bool,
    /// TOS or traffic class.
    pub(super) class: u8,
    pub(super) label: u32,
    pub(super) hops: u8,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    /// IPv4 options, or an IPv6 destination options header without its first byte.
    pub(super) ip_options: Vec<u8>,
    pub(super) addresses: [[u8; 16]; 2],
    pub(super) ports: [u16; 2],
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) tcp_options: Vec<u8>,
}

impl Flow {
    /// One that nobody minds to be merged.
    pub(super) fn plain(v6: bool, tcp: bool) -> Self {
        Self {
            v6,
            tcp,
            class: 0,
            label: 0x5_4321,
            hops: 64,
            id: 0xfffe,
            dont_fragment: true,
            ip_options: Vec::new(),
            addresses: [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 10, 9, 8, 7], [0x31; 16]],
            ports: [443, 50_000],
            sequence: u32::MAX - 1000,
            acknowledgement: 77,
            flags: ACK,
            window: 512,
            // NOP, NOP, timestamps.
            tcp_options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        }
    }

    pub(super) fn transport(&self) -> usize {
        match (self.v6, self.ip_options.len()) {
            (false, options) => 20 + options,
            (true, 0) => 40,
            (true, options) => 41 + options,
        }
    }

    pub(super) fn headers(&self) -> usize {
        self.transport() + if self.tcp { 20 + self.tcp_options.len() } else { 8 }
    }

    pub(super) fn protocol(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }

    /// The packet with this payload and a whole checksum.
    pub(super) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = self.unsummed(payload);
        let message = &packet[self.transport()..];
        let sum = match !naive(&[&self.pseudo_header(message.len()), message]) {
            0 if !self.tcp => 0xffff,
            sum => sum,
        };
        self.put_checksum(&mut packet, sum);
        packet
    }

    /// The packet as a superpacket of segments of `size`: with the sum of its pseudo header, and its vnet header.
    pub(super) fn superpacket(&self, payload: &[u8], size: usize) -> (VnetHeader, Vec<u8>) {
        let mut packet = self.unsummed(payload);
        let sum = naive(&[&self.pseudo_header(packet.len() - self.transport())]);
        self.put_checksum(&mut packet, sum);
        let kind = match (self.tcp, self.v6) {
            (true, false) => 1,
            (true, true) => 4,
            (false, _) => 5,
        };
        let mut header = [1, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        let offset = if self.tcp { 16 } else { 6 };
        for (at, number) in [(2, self.headers()), (4, size), (6, self.transport()), (8, offset)] {
            header[at..at + 2].copy_from_slice(&(number as u16).to_ne_bytes());
        }
        (header, packet)
    }

    /// The segments that a superpacket with this payload stands for.
    pub(super) fn segments(&self, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        let chunks: Vec<&[u8]> =
            if payload.is_empty() { vec![payload] } else { payload.chunks(size).collect() };
        let segment = |(i, chunk): (usize, &&[u8])| {
            let mut flow = self.clone();
            flow.id = self.id.wrapping_add(i as u16);
            flow.sequence = self.sequence.wrapping_add((i * size) as u32);
            if i > 0 {
                flow.flags &= !CWR;
            }
            if i + 1 < chunks.len() {
                flow.flags &= !(FIN | PSH);
            }
            flow.packet(chunk)
        };
        chunks.iter().enumerate().map(segment).collect()
    }

    fn unsummed(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = self.ip_header(self.headers() + payload.len());
        packet.extend(self.ports.iter().flat_map(|port| port.to_be_bytes()));
        if self.tcp {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.acknowledgement.to_be_bytes());
            packet.push(((20 + self.tcp_options.len()) as u8 / 4) << 4);
            packet.push(self.flags);
            packet.extend(self.window.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend(&self.tcp_options);
        } else {
            packet.extend(((8 + payload.len()) as u16).to_be_bytes());
            packet.extend([0; 2]);
        }
        packet.extend(payload);
        packet
    }

    fn ip_header(&self, len: usize) -> Vec<u8> {
        let mut header = Vec::new();
        if self.v6 {
            let first = 6 << 28 | u32::from(self.class) << 20 | self.label;
            header.extend(first.to_be_bytes());
            header.extend(((len - 40) as u16).to_be_bytes());
            let options = !self.ip_options.is_empty();
            header.extend([if options { 60 } else { self.protocol() }, self.hops]);
            self.addresses.iter().for_each(|address| header.extend(address));
            if options {
                header.push(self.protocol());
                header.extend(&self.ip_options);
            }
            return header;
        }
        header.extend([0x45 + (self.ip_options.len() / 4) as u8, self.class]);
        header.extend((len as u16).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, self.hops, self.protocol(), 0, 0]);
        self.addresses.iter().for_each(|address| header.extend(&address[12..]));
        header.extend(&self.ip_options);
        let sum = !naive(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn pseudo_header(&self, len: usize) -> Vec<u8> {
        let first = if self.v6 { 0 } else { 12 };
        let mut pseudo: Vec<u8> =
            self.addresses.iter().flat_map(|address| &address[first..]).copied().collect();
        pseudo.extend((len as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, self.protocol()]);
        pseudo
    }

    fn put_checksum(&self, packet: &mut [u8], sum: u16) {
        let at = self.transport() + if self.tcp { 16 } else { 6 };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The sum of RFC 1071, word by word; all parts but the last are of even length.
pub(super) fn naive(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.concat().chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Payload in which no two stretches are the same.
pub(super) fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

/// Any flow whose segments may be merged.
pub(super) fn joinable_flow() -> impl Strategy<Value = Flow> {
    let ip = (any::<bool>(), any::<u8>(), 0u32..1 << 20, any::<u8>(), any::<u16>(), any::<bool>());
    let ends = (any::<[[u8; 16]; 2]>(), any::<[u16; 2]>());
    let flags = prop_oneof![Just(ACK), Just(ACK | PSH), Just(ACK | ECE), Just(ACK | ECE | PSH)];
    let options = (0usize..11).prop_map(|words| vec![1; words * 4]);
    let tcp = (any::<bool>(), any::<u32>(), any::<u32>(), flags, any::<u16>(), options);
    (ip, ends, tcp).prop_map(|(ip, (addresses, ports), tcp)| {
        let (v6, class, label, hops, id, dont_fragment) = ip;
        let (tcp, sequence, acknowledgement, flags, window, tcp_options) = tcp;
        Flow {
            v6,
            tcp,
            class,
            label,
            hops,
            id,
            dont_fragment,
            ip_options: Vec::new(),
            addresses,
            ports,
            sequence,
            acknowledgement,
            flags,
            window,
            tcp_options,
        }
    })
}

/// Any flow that the kernel may hand over as superpackets.
pub(super) fn any_flow() -> impl Strategy<Value = Flow> {
    let flags = vec(prop_oneof![Just(0), Just(FIN), Just(PSH), Just(CWR), Just(ECE)], 0..3);
    (joinable_flow(), 0usize..4, flags).prop_map(|(mut flow, words, flags)| {
        flow.flags = flags.iter().fold(ACK, |all, flag| all | flag);
        if words > 0 && flow.v6 {
            // A destination options header: its length in units of eight bytes, and padding (RFC 8200, section 4.6).
            let padding = words * 8 - 4;
            flow.ip_options = vec![(words - 1) as u8, 1, padding as u8];
            flow.ip_options.resize(words * 8 - 1, 0);
        } else if words > 0 {
            flow.ip_options = vec![1; words * 4];
        }
        flow
    })
}

/// The vnet header of a packet that is whole.
pub(super) const WHOLE: VnetHeader = vnet::WHOLE;
