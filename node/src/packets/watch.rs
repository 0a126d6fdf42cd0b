//! Waiting for packets.
//!
//! To wake a thread on another CPU takes about 18 µs (measured: ARCHITECTURE.md), and a question and its answer wake a
//! tunnel's threads four times. So while small packets come closely, a thread looks again for a short time before
//! it sleeps, and offers its CPU to others in between. Not beside bulk, where the CPU does more good to others; not when
//! packets come seldom: an idle node sleeps; and not when others take the CPU and keep it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread looks again before it sleeps.
const LINGER: Duration = Duration::from_micros(50);
/// Packets that come as closely as this are waited for in that way.
const CLOSELY: Duration = Duration::from_micros(100);
/// Bytes moved between two waits, on average of the last few: more is bulk.
const SMALL_BYTES: usize = 1024;
/// What a round counts for in which nothing came that was for anybody: who sends noise is not lingered for.
pub(crate) const NOISE: usize = 64 * 1024;
/// Offering the CPU takes longer than this when someone takes it who has much to do. The kernel then gives it back late.
const TAKEN: Duration = Duration::from_micros(100);
/// How long a thread does not offer its CPU after that; it sleeps, and is woken in time.
const CROWDED: Duration = Duration::from_millis(300);
/// How long a thread sleeps at most before it looks whether it is to stop. Stopping normally wakes it.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
const NO_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// How the packets of one thread come.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The last wait was short.
    closely: bool,
    /// Bytes moved between two waits, on average.
    moved: usize,
    /// Until when the CPU is not offered.
    crowded: Option<Instant>,
}

impl Watch {
    /// Waits until one of `sources` can be read, or for a few seconds; which of them can. `moved`: bytes
    /// that went either way since the last wait.
    ///
    /// # Errors
    /// Those of `poll(2)`; an interruption is none, and nothing can be read then.
    pub(crate) fn wait<const N: usize>(
        &mut self,
        sources: [BorrowedFd<'_>; N],
        moved: usize,
    ) -> io::Result<[bool; N]> {
        let start = Instant::now();
        self.heed(moved);
        let mut watched = sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN));
        if !self.linger(start, &mut watched)? {
            look(&mut watched, PATIENCE)?;
        }
        self.closely = start.elapsed() < CLOSELY;
        Ok(watched.map(|source| !source.revents().is_empty()))
    }

    /// Takes note of bytes moved between two waits.
    fn heed(&mut self, moved: usize) {
        self.moved = (self.moved * 7).saturating_add(moved) / 8;
    }

    /// Whether looking again pays.
    fn pays(&self, now: Instant) -> bool {
        self.closely && self.moved <= SMALL_BYTES && self.crowded.is_none_or(|until| now >= until)
    }

    /// Looks again for a while, if that pays; whether one can be read.
    fn linger(&mut self, start: Instant, watched: &mut [PollFd<'_>]) -> io::Result<bool> {
        if !self.pays(start) {
            return Ok(false);
        }
        let mut now = start;
        while now - start < LINGER {
            thread::yield_now();
            let after = Instant::now();
            if after - now > TAKEN {
                self.crowded = Some(after + CROWDED);
            }
            if look(watched, NO_PATIENCE)? {
                return Ok(true);
            }
            now = after;
        }
        Ok(false)
    }
}

/// Waits until one of `sources` can be read, or for a few seconds.
///
/// # Errors
/// Those of `poll(2)`; an interruption is none.
pub(crate) fn sleep<const N: usize>(sources: [BorrowedFd<'_>; N]) -> io::Result<()> {
    look(&mut sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)), PATIENCE).map(drop)
}

/// Whether one can be read, by the end of `patience`.
fn look(watched: &mut [PollFd<'_>], patience: Timespec) -> io::Result<bool> {
    match poll(watched, Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it pays after waits that were short, with so much moved between them.
    fn pays_after(moved: impl IntoIterator<Item = usize>) -> bool {
        let mut watch = Watch { closely: true, ..Watch::default() };
        moved.into_iter().for_each(|moved| watch.heed(moved));
        watch.pays(Instant::now())
    }

    #[test]
    fn a_thread_lingers_for_small_packets_and_not_beside_bulk_or_noise() {
        assert!(pays_after([100; 50]));
        assert!(!pays_after([1400; 50]));
        assert!(!pays_after((0..50).map(|i| if i % 10 == 9 { 64 * 1024 } else { 66 })));
        assert!(!pays_after((0..50).map(|i| if i % 10 == 9 { NOISE } else { 60 })));
        assert!(pays_after([64 * 1024].into_iter().chain([66; 50])), "bulk that is over");
    }

    #[test]
    fn a_thread_does_not_linger_for_what_comes_seldom_nor_where_others_take_the_cpu() {
        let now = Instant::now();
        let close = Watch { closely: true, ..Watch::default() };
        assert!(close.pays(now) && !Watch::default().pays(now));
        let crowded = Watch { crowded: Some(now + CROWDED), ..close };
        assert!(!crowded.pays(now) && crowded.pays(now + CROWDED));
    }
}
