//! The system calls of a connection, no more than it needs: `accept4`, `recv`, `sendmsg`,
//! `shutdown`. Sockets are non-blocking from the start.

use std::io::{self, IoSlice};
use std::mem::{size_of, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Most buffers in one `sendmsg` (IOV_MAX of Linux).
const MAX_BUFFERS: usize = 1024;

/// Make a descriptor non-blocking.
pub fn set_nonblocking(fd: BorrowedFd) -> io::Result<()> {
    // SAFETY: fcntl on a descriptor that is open for as long as it is borrowed.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The next connection of a listening socket, non-blocking and close-on-exec; None if none is
/// waiting. A connection that died in the queue is passed over.
pub fn accept(listener: BorrowedFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    loop {
        let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut length = address_len();
        // SAFETY: the address buffer is as long as `length` says.
        let fd = unsafe {
            libc::accept4(
                listener.as_raw_fd(),
                storage.as_mut_ptr().cast(),
                &mut length,
                libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
            )
        };
        if fd >= 0 {
            // SAFETY: a new descriptor that nothing else owns; the storage was zeroed and filled.
            let (fd, storage) = unsafe { (OwnedFd::from_raw_fd(fd), storage.assume_init()) };
            return Ok(Some((fd, address(&storage))));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN) => return Ok(None),
            // Errors of the new connection, not of the listener (accept(2), "Error handling").
            Some(
                libc::EINTR
                | libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP,
            ) => {}
            _ => return Err(error),
        }
    }
}

/// The address that a socket is bound to.
pub fn local_address(fd: BorrowedFd) -> io::Result<SocketAddr> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = address_len();
    // SAFETY: as in `accept`.
    let storage = unsafe {
        if libc::getsockname(fd.as_raw_fd(), storage.as_mut_ptr().cast(), &mut length) != 0 {
            return Err(io::Error::last_os_error());
        }
        storage.assume_init()
    };
    Ok(address(&storage))
}

/// Receive what there is; `Ok(0)` at end of file, `WouldBlock` if there is nothing.
pub fn receive(fd: BorrowedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are of one valid slice.
    let got = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// Send as much as the socket takes, without a signal if the peer is gone.
pub fn send(fd: BorrowedFd, buffers: &[IoSlice]) -> io::Result<usize> {
    if let [only] = buffers {
        // SAFETY: the pointer and length are of one valid slice.
        let sent = unsafe {
            libc::send(
                fd.as_raw_fd(),
                only.as_ptr().cast(),
                only.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        return usize::try_from(sent).map_err(|_| io::Error::last_os_error());
    }
    // SAFETY: IoSlice has the layout of iovec; the header only lives for the call.
    let sent = unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = buffers.as_ptr().cast_mut().cast();
        message.msg_iovlen = buffers.len().min(MAX_BUFFERS);
        libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// End the sending direction (FIN).
pub fn shut_sending(fd: BorrowedFd) {
    // SAFETY: plain call on an open descriptor. It fails only if the peer is gone already.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
}

/// Make the coming close send a reset instead of what is queued.
pub fn reset_on_close(fd: BorrowedFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option's value is a `linger` of the size given. A failure leaves a plain close.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap_or(0),
        );
    }
}

fn address_len() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0)
}

fn address(storage: &libc::sockaddr_storage) -> SocketAddr {
    let pointer = std::ptr::from_ref(storage);
    if i32::from(storage.ss_family) == libc::AF_INET6 {
        // SAFETY: the family says that it is a sockaddr_in6, which fits into the storage.
        let v6 = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
        let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
        let port = u16::from_be(v6.sin6_port);
        return match ip.to_ipv4_mapped() {
            Some(v4) => (v4, port).into(),
            None => SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into(),
        };
    }
    if i32::from(storage.ss_family) == libc::AF_INET {
        // SAFETY: the family says that it is a sockaddr_in, which fits into the storage.
        let v4 = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
        let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
        return (ip, u16::from_be(v4.sin_port)).into();
    }
    // A Unix socket has no address that a SocketAddr can hold.
    (Ipv4Addr::UNSPECIFIED, 0).into()
}
