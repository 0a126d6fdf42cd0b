//! One queue of the TUN device: frames in, frames out, without waiting.
//!
//! A frame is a `virtio_net_hdr` and an IP packet. With offloads the packet may be one for many: TCP or UDP that the
//! host leaves to us to cut, or that we merged for it.

use crate::sys::{self, TunOffloads};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};

/// An open queue. Reading and writing take `&self`.
pub(crate) struct Queue {
    tun: tun::Device,
    /// The most that this kernel can leave to us.
    most: TunOffloads,
}

impl Queue {
    /// Opens a queue of `name`; see [`sys::open_tun_queue`]. Nothing is left to us yet.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn open(name: &str, several: bool) -> Result<Self, tun::Error> {
        let descriptor = sys::open_tun_queue(name, several)?;
        let can = |offloads| sys::set_tun_offloads(&descriptor, offloads).is_ok();
        let most = [TunOffloads::TSO_AND_USO, TunOffloads::TSO].into_iter().find(|most| can(*most));
        let most = most.unwrap_or(TunOffloads::NONE);
        sys::set_tun_offloads(&descriptor, TunOffloads::NONE)?;
        let mut configuration = tun::Configuration::default();
        configuration.tun_name(name).raw_fd(descriptor.into_raw_fd()).close_fd_on_drop(true);
        Ok(Self { tun: tun::Device::new(&configuration)?, most })
    }

    /// Whether the kernel can leave anything to us, and so takes merged packets from us.
    pub(crate) fn can_offload(&self) -> bool {
        self.most != TunOffloads::NONE
    }

    /// Whether that includes UDP.
    pub(crate) fn can_offload_udp(&self) -> bool {
        self.most == TunOffloads::TSO_AND_USO
    }

    /// Whether the host leaves to us what this kernel can, or nothing.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn set_offloads(&self, on: bool) -> io::Result<()> {
        sys::set_tun_offloads(self, if on { self.most } else { TunOffloads::NONE })
    }

    /// One frame from the host; `WouldBlock` when there is none.
    ///
    /// # Errors
    /// The operating system's; anything but `WouldBlock` and `Interrupted` means that the interface is gone.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tun.recv(buffer)
    }

    /// One frame to the host.
    ///
    /// # Errors
    /// The operating system's; `InvalidInput` when it does not take merged packets.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<usize> {
        self.tun.send(frame)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        sys::fd_of(&self.tun)
    }
}
