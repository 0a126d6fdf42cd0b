//! As much of TCP as the filter needs: how far a connection has come, and which sequence number each side
//! expects, so that a reset we make up is one that our host's stack accepts (RFC 5961, section 3.2: it has to
//! be exact).

use crate::flow::Way;
use crate::status::FlowState;
use crate::transport::{Flags, Tcp};

/// What both sides have sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segments {
    local: Side,
    remote: Side,
}

#[derive(Clone, Copy, Debug, Default)]
struct Side {
    /// Behind the last byte it sent, if it sent any.
    next: Option<u32>,
    /// The last acknowledgement it sent: what it expects next, if it has everything.
    acknowledged: Option<u32>,
    finished: bool,
}

impl Side {
    fn saw(&mut self, segment: &Tcp) {
        let end = segment.sequence.wrapping_add(segment.extent);
        self.next = Some(later(self.next, end));
        if segment.flags.has(Flags::ACK) {
            self.acknowledged = Some(later(self.acknowledged, segment.acknowledgement));
        }
        self.finished |= segment.flags.has(Flags::FIN);
    }
}

/// The later of two sequence numbers (RFC 1982 arithmetic).
fn later(held: Option<u32>, seen: u32) -> u32 {
    match held {
        Some(held) if (seen.wrapping_sub(held) as i32) < 0 => held,
        Some(_) | None => seen,
    }
}

/// Numbers for a reset towards our own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
}

impl Segments {
    /// Takes a segment into account and says how far the connection has come by it.
    pub(crate) fn saw(&mut self, way: Way, segment: &Tcp, state: FlowState) -> FlowState {
        match way {
            Way::Out => self.local.saw(segment),
            Way::In => self.remote.saw(segment),
        }
        let closed = segment.flags.has(Flags::RST) || (self.local.finished && self.remote.finished);
        let spoke_both = self.local.next.is_some() && self.remote.next.is_some();
        match state {
            FlowState::Closing => FlowState::Closing,
            FlowState::Opening | FlowState::Established if closed => FlowState::Closing,
            // The third segment of the handshake: an ACK without SYN, after both sides have spoken.
            FlowState::Opening if spoke_both && !segment.flags.has(Flags::SYN) => FlowState::Established,
            FlowState::Opening => FlowState::Opening,
            FlowState::Established => FlowState::Established,
        }
    }

    /// Resets towards our host, in the peer's name. It accepts the one whose sequence number is what it
    /// expects next: the end of what was delivered, or, with a gap before that, its own last acknowledgement.
    pub(crate) fn resets(&self) -> impl Iterator<Item = Reset> {
        let acknowledgement = self.local.next.unwrap_or(0);
        let delivered = self.remote.next;
        let acknowledged = self.local.acknowledged.filter(|&number| Some(number) != delivered);
        let any = delivered.or(acknowledged).is_none().then_some(0);
        delivered
            .into_iter()
            .chain(acknowledged)
            .chain(any)
            .map(move |sequence| Reset { sequence, acknowledgement })
    }
}

/// The reset that answers a segment our host sent to nowhere (RFC 9293, section 3.10.7.1).
pub(crate) fn answer(segment: &Tcp) -> Reset {
    Reset {
        sequence: if segment.flags.has(Flags::ACK) { segment.acknowledgement } else { 0 },
        acknowledgement: segment.sequence.wrapping_add(segment.extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Ports;

    fn segment(flags: u8, sequence: u32, acknowledgement: u32, data: u32) -> Tcp {
        let flags = Flags(flags);
        let extent = data + u32::from(flags.has(Flags::SYN)) + u32::from(flags.has(Flags::FIN));
        Tcp { ports: Ports { source: 1, destination: 2 }, flags, sequence, acknowledgement, extent }
    }

    #[test]
    fn a_reset_has_the_number_that_our_host_expects_across_the_wrap() {
        let mut segments = Segments::default();
        let mut state = FlowState::Opening;
        let first = u32::MAX - 5;
        state = segments.saw(Way::Out, &segment(Flags::SYN, 100, 0, 0), state);
        assert_eq!(segments.resets().collect::<Vec<_>>(), [Reset { sequence: 0, acknowledgement: 101 }]);
        state = segments.saw(Way::In, &segment(Flags::SYN | Flags::ACK, first, 101, 0), state);
        assert_eq!(state, FlowState::Opening);
        state = segments.saw(Way::Out, &segment(Flags::ACK, 101, first.wrapping_add(1), 10), state);
        assert_eq!(state, FlowState::Established);
        state = segments.saw(Way::In, &segment(Flags::ACK, first.wrapping_add(1), 111, 1000), state);
        let expected = first.wrapping_add(1001);
        assert!(expected < first, "wrapped");
        let resets: Vec<_> = segments.resets().collect();
        assert_eq!(resets[0], Reset { sequence: expected, acknowledgement: 111 });
        assert_eq!(resets[1].sequence, first.wrapping_add(1));
        state = segments.saw(Way::Out, &segment(Flags::ACK | Flags::FIN, 111, expected, 0), state);
        assert_eq!(state, FlowState::Established);
        state = segments.saw(Way::In, &segment(Flags::ACK | Flags::FIN, expected, 112, 0), state);
        assert_eq!(state, FlowState::Closing);
    }

    #[test]
    fn a_segment_to_nowhere_is_answered_as_the_standard_says() {
        let syn = segment(Flags::SYN, 7, 0, 0);
        assert_eq!(answer(&syn), Reset { sequence: 0, acknowledgement: 8 });
        let data = segment(Flags::ACK, 7, 99, 10);
        assert_eq!(answer(&data), Reset { sequence: 99, acknowledgement: 17 });
    }
}
