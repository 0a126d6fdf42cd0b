//! The system calls that no library we use offers safely: opening a queue of a TUN device with a `virtio_net_hdr`,
//! the settings that turn offloads on and off, and those of the memory allocator. The only module with `unsafe` in it;
//! every block says why it is sound.
#![allow(unsafe_code)]

use rustix::fs::{Mode, OFlags, open};
use std::ffi::{c_int, c_short, c_uint};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Larger pieces of memory, and more of it free at the end of the heap, go back at once: glibc's own first threshold,
/// which it raises unless it is set (mallopt(3)).
#[cfg(target_env = "gnu")]
const MALLOC_KEEPS_BYTES: c_int = 128 * 1024;

/// What the host may leave to us to do with the packets that it sends into a TUN device (`linux/if_tun.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunOffloads(c_uint);

impl TunOffloads {
    /// Nothing: every packet comes whole, with its checksum.
    pub(crate) const NONE: Self = Self(0);
    /// Checksums, and cutting TCP.
    pub(crate) const TSO: Self =
        Self(libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN);
    /// Cutting UDP as well (Linux 6.2). The same kernels take merged UDP from us.
    pub(crate) const TSO_AND_USO: Self = Self(Self::TSO.0 | libc::TUN_F_USO4 | libc::TUN_F_USO6);
}

/// Opens a queue of the TUN device `name`, which is made if it does not exist. With `several`, a device may have more
/// queues than one, and every one of them has to be opened so. Packets carry a `virtio_net_hdr` in front.
///
/// # Errors
/// The operating system's; `InvalidInput` when the name is too long.
pub(crate) fn open_tun_queue(name: &str, several: bool) -> io::Result<OwnedFd> {
    let queue = open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    // SAFETY: `ifreq` is plain old data, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as _;
    }
    let queues = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues) as c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call; the descriptor is open.
    check(unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(queue)
}

/// Says what the host may leave to us; it takes effect for packets that it sends from now on.
///
/// # Errors
/// `InvalidInput` when this kernel does not know one of them.
pub(crate) fn set_tun_offloads(queue: &impl AsFd, offloads: TunOffloads) -> io::Result<()> {
    let queue = queue.as_fd().as_raw_fd();
    // SAFETY: TUNSETOFFLOAD takes its argument by value; the descriptor is borrowed for the call.
    check(unsafe { libc::ioctl(queue, libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads.0)) })
}

/// Whether the kernel may hand us several datagrams of one sender in one piece.
///
/// # Errors
/// The operating system's; kernels before 5.0 do not know the option.
pub(crate) fn set_udp_gro(socket: &impl AsFd, on: bool) -> io::Result<()> {
    // SAFETY: the option takes a `c_int`.
    unsafe { set_option(socket, libc::SOL_UDP, libc::UDP_GRO, c_int::from(on)) }
}

/// Sets the sizes of a socket's buffers in bytes, whatever `net.core.rmem_max` and `wmem_max` say, which are for
/// processes without `CAP_NET_ADMIN`.
///
/// # Errors
/// The operating system's.
pub(crate) fn set_socket_buffers(socket: &impl AsFd, receive: usize, send: usize) -> io::Result<()> {
    for (name, bytes) in [(libc::SO_RCVBUFFORCE, receive), (libc::SO_SNDBUFFORCE, send)] {
        let bytes = c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: both options take a `c_int`.
        unsafe { set_option(socket, libc::SOL_SOCKET, name, bytes)? };
    }
    Ok(())
}

/// Has a classic BPF program choose among the sockets that share the port of `socket`, by their number.
///
/// # Errors
/// The operating system's: `InvalidInput` for a program that the kernel does not take.
pub(crate) fn steer_datagrams(socket: &impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel only reads the program, whatever the type says.
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the option takes a `sock_fprog`, whose instructions are borrowed for the call.
    unsafe { set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program) }
}

/// # Safety
/// `T` is what the option takes, and what it points to outlives the call.
unsafe fn set_option<T>(socket: &impl AsFd, level: c_int, name: c_int, value: T) -> io::Result<()> {
    // SAFETY: the kernel reads no more than the value's size; the descriptor is borrowed for the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

/// Has glibc give freed memory back to the system; other allocators are left to do as they do. Of itself it learns from
/// the first large message to keep what the largest one took, and in each thread's own arena: beside ten thousand peers,
/// as much again. Before there are other threads.
pub(crate) fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MALLOC_KEEPS_BYTES),
        (libc::M_TRIM_THRESHOLD, MALLOC_KEEPS_BYTES),
        // The data threads allocate nothing per packet, so that one is enough.
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: takes two integers; a value that it does not like changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// The descriptor of a TUN device, to wait for and to set up.
pub(crate) fn fd_of(tun: &tun::Device) -> BorrowedFd<'_> {
    // SAFETY: the device owns its descriptor and is borrowed for as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(tun.as_raw_fd()) }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
