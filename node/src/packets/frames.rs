//! What one round reads from the TUN device: several frames, end to end in one buffer.

use crate::device::queue::Queue;
use std::io;

/// Frames read in one round, at most.
const FRAMES: usize = 64;
/// The largest frame: a `virtio_net_hdr` and 64 KB of packet.
const FRAME_BYTES: usize = 65_535 + bulkhead_node_engine::offload::VNET_HEADER_BYTES;
/// Room for large frames in one round. While less than one large frame fits, the round is over.
const ROUND_BYTES: usize = 2 * FRAME_BYTES;

/// The buffer, and where the frames in it end.
pub(crate) struct Frames {
    bytes: Vec<u8>,
    ends: [usize; FRAMES],
    count: usize,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; ROUND_BYTES], ends: [0; FRAMES], count: 0 }
    }

    /// Reads what waits, as far as there is room; returns whether that was all.
    ///
    /// # Errors
    /// Those of [`Queue::receive`], `WouldBlock` excepted. What was read before one is kept.
    pub(crate) fn fill(&mut self, queue: &Queue) -> io::Result<bool> {
        self.count = 0;
        let mut used = 0;
        while let (Some(end), Some(room)) = (self.ends.get_mut(self.count), self.bytes.get_mut(used..)) {
            if room.len() < FRAME_BYTES {
                break;
            }
            match queue.receive(room) {
                Ok(length) => {
                    used += length;
                    *end = used;
                    self.count += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Bytes read in this round.
    pub(crate) fn bytes(&self) -> usize {
        self.ends[..self.count].last().copied().unwrap_or(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frames in the order they were read.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let (mut rest, mut start) = (&mut self.bytes[..], 0);
        self.ends[..self.count].iter().map(move |&end| {
            let (frame, after) = std::mem::take(&mut rest).split_at_mut(end - start);
            (rest, start) = (after, end);
            frame
        })
    }
}
