//! Short queues: what comes behind a bulk transfer waits for all of it that was queued before.
//!
//! A TUN device drops at its end only, hundreds of superpackets later, and no stream of one host ever gets there: its window
//! is smaller. Nor does the device say how long its queue is or when a packet came, so the delay that CoDel goes by (RFC 8289)
//! is unknown. Known is what was read since it was empty last. Once that is more than [`BACKLOG_BYTES`], one packet
//! of a stream is told, at most one each [`BACKLOG_INTERVAL`]: its sender gives up a part of its window, which on
//! a short path is what stands in the queue. Streams whose window is on a long path send no such bursts.

use crate::limits::{BACKLOG_BYTES, BACKLOG_INTERVAL};
use std::time::Duration;

/// What waits, or waited, in the queue that a data thread reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Bytes read since it was empty last.
    bytes: usize,
    /// When the next packet may be told.
    next: Duration,
}

impl Backlog {
    /// Takes note of a round that read `bytes`, and whether it left nothing behind. Whether a packet of this round is
    /// to be told, by [`Batch::tell_congestion`](crate::Batch::tell_congestion). `mono` is the monotonic time.
    #[must_use]
    pub fn read(&mut self, bytes: usize, emptied: bool, mono: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let tell = self.bytes > BACKLOG_BYTES && mono >= self.next;
        if emptied {
            self.bytes = 0;
        }
        tell
    }

    /// One was told.
    pub fn told(&mut self, mono: Duration) {
        self.next = mono.saturating_add(BACKLOG_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: usize = 65_536;

    /// How often a packet was told in a second of rounds of 100 µs, of which every `each`-th empties the queue.
    fn told(each: usize) -> usize {
        let mut backlog = Backlog::default();
        let round = |i: usize| {
            let mono = Duration::from_micros(i as u64 * 100);
            let tell = backlog.read(ROUND, i.is_multiple_of(each), mono);
            if tell {
                backlog.told(mono);
            }
            tell
        };
        (1..=10_000).map(round).filter(|told| *told).count()
    }

    #[test]
    fn a_burst_that_is_read_soon_is_left_alone() {
        assert_eq!(told(BACKLOG_BYTES / ROUND), 0);
    }

    #[test]
    fn a_queue_that_stands_is_told_once_an_interval() {
        let intervals = (Duration::from_secs(1).as_millis() / BACKLOG_INTERVAL.as_millis()) as usize;
        assert_eq!(told(usize::MAX), intervals);
        assert_eq!(told(2 * BACKLOG_BYTES / ROUND), intervals);
    }
}
