//! Packets that wait for a handshake: a few per peer, and few bytes over all peers.
//!
//! They are kept as the host sent them and judged again when they leave, so that waiting outlives no
//! permission.

use crate::Reason;
use crate::limits::{MAX_WAITING_BYTES, MAX_WAITING_PACKETS, WAITING_MAX_AGE};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The bytes of all queues together.
#[derive(Debug, Default)]
pub(crate) struct WaitingBytes(AtomicUsize);

/// The queue of one peer.
#[derive(Debug)]
pub(crate) struct Waiting {
    packets: VecDeque<(Duration, Box<[u8]>)>,
    total: Arc<WaitingBytes>,
}

impl Waiting {
    pub(crate) fn new(total: Arc<WaitingBytes>) -> Self {
        Self { packets: VecDeque::new(), total }
    }

    /// Queues a packet. The newest packets are the ones worth sending: the oldest of this peer makes room.
    pub(crate) fn push(&mut self, packet: &[u8], mono: Duration) -> Result<(), Reason> {
        if self.packets.len() >= MAX_WAITING_PACKETS {
            self.forget_oldest();
        }
        let before = self.total.0.fetch_add(packet.len(), Ordering::Relaxed);
        if before + packet.len() > MAX_WAITING_BYTES {
            self.total.0.fetch_sub(packet.len(), Ordering::Relaxed);
            return Err(Reason::WaitingLimit);
        }
        self.packets.push_back((mono, packet.into()));
        Ok(())
    }

    /// The next packet in order; `Err` for one that waited too long.
    pub(crate) fn pop(&mut self, mono: Duration) -> Option<Result<Box<[u8]>, Reason>> {
        let (since, packet) = self.packets.pop_front()?;
        self.total.0.fetch_sub(packet.len(), Ordering::Relaxed);
        Some(if is_worthless(since, mono) { Err(Reason::WaitedTooLong) } else { Ok(packet) })
    }

    /// Drops what waited too long, so that a peer that never answers does not hold what all may use; says how many
    /// packets that were.
    pub(crate) fn forget_worthless(&mut self, mono: Duration) -> u64 {
        let mut forgotten = 0;
        while self.packets.front().is_some_and(|(since, _)| is_worthless(*since, mono)) {
            self.forget_oldest();
            forgotten += 1;
        }
        if forgotten > 0 && self.packets.is_empty() {
            self.packets = VecDeque::new();
        }
        forgotten
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Drops everything, and the memory.
    pub(crate) fn clear(&mut self) {
        while !self.packets.is_empty() {
            self.forget_oldest();
        }
        self.packets = VecDeque::new();
    }

    fn forget_oldest(&mut self) {
        if let Some((_, packet)) = self.packets.pop_front() {
            self.total.0.fetch_sub(packet.len(), Ordering::Relaxed);
        }
    }
}

fn is_worthless(since: Duration, mono: Duration) -> bool {
    mono.saturating_sub(since) > WAITING_MAX_AGE
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_few_wait_in_order_and_old_ones_are_worthless() {
        let total = Arc::new(WaitingBytes::default());
        let mut waiting = Waiting::new(Arc::clone(&total));
        for i in 0..20u8 {
            waiting.push(&[i], Duration::from_secs(u64::from(i))).unwrap();
        }
        assert_eq!(total.0.load(Ordering::Relaxed), MAX_WAITING_PACKETS);
        assert_eq!(waiting.pop(Duration::from_secs(28)), Some(Err(Reason::WaitedTooLong)));
        assert_eq!(waiting.pop(Duration::from_secs(28)), Some(Ok([13].into())));
        drop(waiting);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_peers_together_hold_a_bounded_number_of_bytes() {
        let total = Arc::new(WaitingBytes::default());
        let packet = vec![0; 64 * 1024];
        let mut queues: Vec<Waiting> = (0..64).map(|_| Waiting::new(Arc::clone(&total))).collect();
        let refused = queues
            .iter_mut()
            .flat_map(|queue| [queue.push(&packet, Duration::ZERO), queue.push(&packet, Duration::ZERO)])
            .filter(Result::is_err)
            .count();
        assert_eq!(refused, 64);
        assert!(total.0.load(Ordering::Relaxed) <= MAX_WAITING_BYTES);
    }
}
