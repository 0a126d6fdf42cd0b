//! Superpackets: cut as the kernel asks, and merged from what a peer sends. The laws say a second time, over the
//! plain bytes, what a segment is.

use bulkhead_node_engine::offload::{self, Merged, Protocol, Request, Segments, VNET_HEADER_BYTES};

use super::ip;
use super::packets::records;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// A vnet header, two bytes of MTU, and a packet: no segment is longer than the MTU, each is whole and right, and
/// together they are the packet. Merging them loses nothing.
pub fn split(data: &[u8]) -> bool {
    let Some((header, rest)) = data.split_first_chunk::<VNET_HEADER_BYTES>() else { return false };
    let Some((mtu, packet)) = rest.split_first_chunk::<2>() else { return false };
    let mtu = usize::from(u16::from_be_bytes(*mtu));
    let mut bytes = packet.to_vec();
    let mut segments = Vec::new();
    let cut = offload::split(&mut bytes, header, mtu, |segment| segments.push(segment.to_vec()));
    let Ok(count) = cut else {
        assert!(segments.is_empty(), "a part of what was refused");
        return false;
    };
    assert_eq!(count, segments.len());
    let (packet, behind) = packet.split_at(ip::claimed_len(packet).unwrap());
    assert_eq!(&bytes[packet.len()..], behind, "written behind the packet");
    assert!(segments.iter().all(|segment| segment.len() <= mtu));
    match offload::read(header).unwrap() {
        Request::Segments(Segments { size, protocol, checksum_start }) => {
            let headers = assert_are_segments(packet, protocol, checksum_start, &segments);
            assert!(segments.iter().all(|segment| segment.len() - headers <= size), "longer than asked");
        }
        Request::Whole | Request::Checksum { .. } if packet.len() > mtu => {
            let at = if packet[0] >> 4 == 6 { 40 } else { usize::from(packet[0] & 0x0f) * 4 };
            assert_are_segments(packet, Protocol::Tcp, at, &segments);
        }
        Request::Whole => assert_eq!(segments, [packet]),
        Request::Checksum { start, offset } => {
            let mut completed = packet.to_vec();
            let sum = match ip::checksum(&packet[start..], 0) {
                0 if offset == 6 => u16::MAX,
                sum => sum,
            };
            completed[start + offset..][..2].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(segments, [completed]);
        }
    }
    assert_merging_loses_nothing(&segments);
    count > 1
}

/// Packets of a peer, each two bytes of length, whose first bit has the packet given right checksums, and the packet:
/// what is merged splits into what came, and nothing is merged whose checksum does not hold.
pub fn merge(data: &[u8]) -> bool {
    let mut packets = Vec::new();
    for (mends, record) in records(data) {
        let mut packet = record.to_vec();
        if mends {
            ip::mend(&mut packet);
        }
        // What does not parse is left out.
        packets.extend(offload::merge(&[&packet]).into_iter().map(|one| one.bytes));
    }
    assert_merging_loses_nothing(&packets)
}

/// Whether anything was merged.
fn assert_merging_loses_nothing(packets: &[Vec<u8>]) -> bool {
    let merged = offload::merge(&packets.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let mut came = packets.iter();
    for one in &merged {
        let run: Vec<&Vec<u8>> = came.by_ref().take(one.segments).collect();
        assert_eq!(run.len(), one.segments);
        assert_is_run(one, &run);
    }
    assert!(came.next().is_none(), "a packet was lost");
    merged.iter().any(|one| one.segments > 1)
}

fn assert_is_run(Merged { header, bytes, .. }: &Merged, run: &[&Vec<u8>]) {
    if let [packet] = run {
        assert_eq!((header, bytes), (&[0; VNET_HEADER_BYTES], *packet));
        return;
    }
    let (at, protocol) = if bytes[0] >> 4 == 6 { (40, bytes[6]) } else { (20, bytes[9]) };
    for packet in run {
        assert!(ip::sums_hold(packet, at, protocol), "a wrong checksum was made good");
        let singular = FIN | ip::SYN | ip::RST | URG | CWR;
        assert!(protocol == ip::UDP || packet[at + 13] & singular == 0, "flags {:#04x}", packet[at + 13]);
    }
    let mut segments = Vec::new();
    offload::split(&mut bytes.clone(), header, usize::MAX, |segment| segments.push(segment.to_vec()))
        .unwrap();
    assert_eq!(segments.len(), run.len());
    for (segment, packet) in segments.iter().zip(run) {
        assert!(ip::sums_hold(segment, at, protocol));
        assert_eq!(without_free_fields(segment, at, protocol), without_free_fields(packet, at, protocol));
    }
}

/// Without checksums, which hold but have two ways to say zero, and without the identification of a packet that must
/// not be fragmented, which means nothing (RFC 6864).
fn without_free_fields(packet: &[u8], at: usize, protocol: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        if packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
        }
    }
    packet[at + if protocol == ip::TCP { 16 } else { 6 }..][..2].fill(0);
    packet
}

/// Checks `segments` of `packet`, whose transport header is at `at`, byte for byte; answers how long their headers are.
fn assert_are_segments(packet: &[u8], protocol: Protocol, at: usize, segments: &[Vec<u8>]) -> usize {
    let (number, headers, checksum) = match protocol {
        Protocol::Tcp => (ip::TCP, at + usize::from(packet[at + 12] >> 4) * 4, at + 16),
        Protocol::Udp => (ip::UDP, at + 8, at + 6),
    };
    let mut done = 0;
    for (i, segment) in segments.iter().enumerate() {
        assert!(ip::sums_hold(segment, at, number), "checksums of segment {i}");
        let mut expected = packet[..headers].to_vec();
        if packet[0] >> 4 == 6 {
            expected[4..6].copy_from_slice(&((segment.len() - 40) as u16).to_be_bytes());
        } else {
            expected[2..4].copy_from_slice(&(segment.len() as u16).to_be_bytes());
            add(&mut expected[4..6], i as u32);
            expected[10..12].copy_from_slice(&segment[10..12]);
        }
        expected[checksum..checksum + 2].copy_from_slice(&segment[checksum..checksum + 2]);
        if protocol == Protocol::Udp {
            expected[at + 4..at + 6].copy_from_slice(&((segment.len() - at) as u16).to_be_bytes());
        } else {
            add(&mut expected[at + 4..at + 8], done as u32);
            let first = if i == 0 { 0 } else { CWR };
            let last = if i + 1 == segments.len() { 0 } else { FIN | PSH };
            expected[at + 13] &= !(first | last);
        }
        assert_eq!(segment[..headers], expected, "headers of segment {i}");
        let payload = &segment[headers..];
        assert_eq!(payload, &packet[headers + done..][..payload.len()]);
        done += payload.len();
    }
    assert_eq!(headers + done, packet.len(), "the end is missing");
    headers
}

/// Adds to a number in network order, in as many bytes as it has.
fn add(field: &mut [u8], summand: u32) {
    let value = field.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)).wrapping_add(summand);
    let from = 4 - field.len();
    field.copy_from_slice(&value.to_be_bytes()[from..]);
}
