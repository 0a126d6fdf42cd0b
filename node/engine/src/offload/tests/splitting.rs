//! Laws of splitting: the segments are those written plainly, and nothing else is ever made of any bytes.

use super::craft::{ACK, CWR, ECE, FIN, Flow, PSH, WHOLE, any_flow, payload};
use crate::offload::split::Split;
use crate::offload::{Malformed, Refused, Request, VnetHeader, read, split};
use crate::packet;
use proptest::collection::vec;
use proptest::prelude::*;

/// No path is as short.
const ANY: usize = usize::MAX;

fn all(bytes: &[u8], header: &VnetHeader, mtu: usize) -> Result<Vec<Vec<u8>>, Refused> {
    let mut bytes = bytes.to_vec();
    let mut segments = Vec::new();
    let count = split(&mut bytes, header, mtu, |segment| segments.push(segment.to_vec()))?;
    assert_eq!(count, segments.len());
    Ok(segments)
}

fn flows() -> [Flow; 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(v6, tcp)| Flow::plain(v6, tcp))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_superpacket_becomes_its_segments(flow in any_flow(), len in 0usize..9000, size in 8usize..3000) {
        let payload = payload(len);
        let (header, bytes) = flow.superpacket(&payload, size);
        prop_assert_eq!(all(&bytes, &header, ANY), Ok(flow.segments(&payload, size)));
    }

    #[test]
    fn nothing_is_written_outside_and_nothing_panics(
        header in any::<VnetHeader>(),
        kind in prop_oneof![Just(1u8), Just(4), Just(5)],
        flow in any_flow(),
        len in 0usize..300,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        size in 0u16..64,
        honest in any::<bool>(),
        mtu in 0usize..400,
    ) {
        let (mut asked, mut bytes) = flow.superpacket(&payload(len), usize::from(size));
        if !honest {
            asked = header;
            asked[1] = kind;
        }
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(segments) = all(&bytes, &asked, mtu) {
            prop_assert!(segments.iter().all(|segment| segment.len() <= mtu));
        }
    }
}

#[test]
fn what_was_handed_out_may_be_overwritten_and_what_comes_is_untouched() {
    for flow in flows() {
        for size in [10, 100, 999] {
            let payload = payload(2000);
            let (header, mut bytes) = flow.superpacket(&payload, size);
            let whole = bytes.clone();
            let Ok(Request::Segments(asked)) = read(&header) else { panic!("segments are asked for") };
            let packet = packet::parse(&bytes).unwrap();
            let mut split = Split::new(&packet, &bytes, asked, ANY).unwrap();
            assert_eq!(split.segments(), payload.len().div_ceil(size));
            let mut expected = flow.segments(&payload, size).into_iter();
            while let Some(range) = split.next(&mut bytes) {
                assert_eq!(Some(&bytes[range.clone()]), expected.next().as_deref());
                assert_eq!(bytes[range.end..], whole[range.end..]);
                bytes[range].fill(0xee);
            }
            assert_eq!(expected.next(), None);
        }
    }
}

#[test]
fn a_superpacket_of_any_size_up_to_the_largest_is_cut() {
    for flow in flows() {
        for size in [1360, 1448, 32_000, 65_535] {
            let payload = payload(65_535 - flow.headers());
            let (header, bytes) = flow.superpacket(&payload, size);
            assert_eq!(all(&bytes, &header, ANY), Ok(flow.segments(&payload, size)));
        }
    }
}

#[test]
fn fin_and_psh_are_said_last_and_cwr_first() {
    let mut flow = Flow::plain(false, true);
    flow.flags = ACK | FIN | PSH | ECE | CWR;
    let (header, bytes) = flow.superpacket(&payload(3000), 1000);
    let flags: Vec<u8> = all(&bytes, &header, ANY).unwrap().iter().map(|segment| segment[33]).collect();
    assert_eq!(flags, [ACK | ECE | CWR, ACK | ECE, ACK | ECE | FIN | PSH]);
}

#[test]
fn a_superpacket_that_opens_resets_or_hurries_is_refused() {
    for flag in [0x02, 0x04, 0x20] {
        let mut flow = Flow::plain(true, true);
        flow.flags |= flag;
        let (header, bytes) = flow.superpacket(&payload(3000), 1000);
        assert_eq!(all(&bytes, &header, ANY), Err(Refused::Malformed));
    }
}

#[test]
fn the_kernel_and_the_parser_have_to_agree() {
    for flow in flows() {
        let (header, bytes) = flow.superpacket(&payload(3000), 1000);
        assert!(all(&bytes, &header, ANY).is_ok());
        // The transport header begins elsewhere; the other protocol.
        let mut moved = header;
        moved[6] += 4;
        assert_eq!(all(&bytes, &moved, ANY), Err(Refused::Malformed));
        let mut other = Flow { tcp: !flow.tcp, ..flow.clone() }.superpacket(&payload(3000), 1000).0;
        other[6..8].copy_from_slice(&header[6..8]);
        assert_eq!(all(&bytes, &other, ANY), Err(Refused::Malformed));
        // What the kernel believes of the length of the headers does not matter.
        let mut wrong = header;
        wrong[2..4].fill(0xff);
        assert_eq!(all(&bytes, &wrong, ANY), all(&bytes, &header, ANY));
    }
}

#[test]
fn a_fragment_is_never_cut() {
    let mut flow = Flow::plain(false, true);
    flow.dont_fragment = false;
    let (header, mut bytes) = flow.superpacket(&payload(2968), 1000);
    bytes[6] = 0x20;
    assert_eq!(all(&bytes, &header, ANY), Err(Refused::Malformed));
}

#[test]
fn more_segments_than_the_limit_are_refused() {
    let flow = Flow::plain(false, true);
    let (header, bytes) = flow.superpacket(&payload(8193), 1);
    assert_eq!(all(&bytes, &header, ANY), Err(Refused::Malformed));
    let (header, bytes) = flow.superpacket(&payload(8192), 1);
    assert_eq!(all(&bytes, &header, ANY).map(|segments| segments.len()), Ok(8192));
}

#[test]
fn tcp_is_cut_to_a_shorter_path_and_datagrams_are_not() {
    for flow in flows() {
        let payload = payload(10_000);
        let (header, bytes) = flow.superpacket(&payload, 1400);
        let expected = match flow.tcp {
            true => Ok(flow.segments(&payload, 1280 - flow.headers())),
            false => Err(Refused::TooLong),
        };
        assert_eq!(all(&bytes, &header, 1280), expected);
        // Segments that fit stay what the kernel asked for.
        assert_eq!(all(&bytes, &header, flow.headers() + 1400), Ok(flow.segments(&payload, 1400)));
        assert_ne!(all(&bytes, &header, flow.headers() + 1399), Ok(flow.segments(&payload, 1400)));
    }
}

#[test]
fn one_long_tcp_segment_is_cut_to_its_path() {
    for v6 in [false, true] {
        let mut flow = Flow::plain(v6, true);
        flow.flags |= PSH | FIN;
        let payload = payload(1380);
        let long = flow.packet(&payload);
        assert_eq!(all(&long, &WHOLE, 1280), Ok(flow.segments(&payload, 1280 - flow.headers())));
        assert_eq!(all(&long, &WHOLE, long.len()), Ok(vec![long.clone()]));
        // With a checksum that is left to us, too.
        let (header, bytes) = flow.superpacket(&payload, 0);
        let mut checksum_only = header;
        checksum_only[1] = 0;
        assert_eq!(all(&bytes, &checksum_only, 1280), all(&long, &WHOLE, 1280));
        // Its checksum is believed only when it holds: ours would launder it.
        let mut wrong = long.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(all(&wrong, &WHOLE, 1280), Err(Refused::Malformed));
        assert_eq!(all(&wrong, &WHOLE, wrong.len()), Ok(vec![wrong]));
    }
}

#[test]
fn what_cannot_be_cut_without_its_sender_is_too_long() {
    let plain = Flow::plain(true, true);
    let with = |change: fn(&mut Flow)| {
        let mut flow = plain.clone();
        change(&mut flow);
        all(&flow.packet(&payload(1380)), &WHOLE, 1280)
    };
    assert!(with(|_| ()).is_ok());
    for refused in [
        with(|flow| flow.tcp = false),
        with(|flow| flow.flags |= 0x02),
        with(|flow| flow.flags |= 0x04),
        with(|flow| flow.flags |= 0x20),
        // TCP-MD5, TCP-AO, options that cannot be read; extension headers.
        with(|flow| flow.tcp_options = [&[1, 1, 19, 18][..], &[7; 16]].concat()),
        with(|flow| flow.tcp_options = [&[29, 16][..], &[7; 14]].concat()),
        with(|flow| flow.tcp_options = vec![8, 10, 0, 0]),
        with(|flow| flow.tcp_options = vec![8, 0, 0, 0]),
        with(|flow| flow.ip_options = vec![0, 1, 4, 0, 0, 0, 0]),
    ] {
        assert_eq!(refused, Err(Refused::TooLong));
    }
}

#[test]
fn a_checksum_is_completed_where_the_parser_sees_it_and_nowhere_else() {
    for flow in flows() {
        let payload = payload(100);
        let (mut header, bytes) = flow.superpacket(&payload, 0);
        header[1] = 0;
        assert_eq!(all(&bytes, &header, ANY), Ok(vec![flow.packet(&payload)]));
        for (at, number) in [(6, 0u16), (6, 12), (6, 0xffff), (8, 0), (8, 12), (8, 0xffff)] {
            let mut elsewhere = header;
            elsewhere[at..at + 2].copy_from_slice(&number.to_ne_bytes());
            assert_eq!(all(&bytes, &elsewhere, ANY), Err(Refused::Malformed), "{at} {number}");
        }
    }
}

#[test]
fn a_datagram_whose_checksum_is_zero_says_so_in_the_other_way() {
    let flow = Flow::plain(false, false);
    // The last word of the payload makes up for the rest.
    let mut payload = vec![0; 64];
    let sum = u16::from_be_bytes(flow.packet(&payload)[26..28].try_into().unwrap());
    payload[62..].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(flow.packet(&payload)[26..28], [0xff; 2]);
    let (header, bytes) = flow.superpacket(&payload, 64);
    assert_eq!(all(&bytes, &header, ANY), Ok(vec![flow.packet(&payload)]));
    let mut checksum_only = header;
    checksum_only[1] = 0;
    assert_eq!(all(&bytes, &checksum_only, ANY), Ok(vec![flow.packet(&payload)]));
}

#[test]
fn refusals_speak() {
    assert_eq!(Refused::from(Malformed).to_string(), Malformed.to_string());
    assert_eq!(Refused::TooLong.to_string(), "the packet is longer than its path carries");
}
