//! Where a relay connects to.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};

/// A TCP address, or the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Begin to connect; never blocks.
///
/// Returns the socket, non-blocking and close-on-exec, and whether the connection is still being
/// made. An error is final for this attempt: nothing listens, the path does not exist, or (Unix
/// alone) the queue of the listener is full.
pub fn connect(address: &Address) -> io::Result<(OwnedFd, bool)> {
    let (target, domain) = match address {
        Address::Tcp(tcp) => (SockAddr::from(*tcp), Domain::for_address(*tcp)),
        Address::Unix(path) => (SockAddr::unix(path)?, Domain::UNIX),
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
    if matches!(address, Address::Tcp(_)) {
        socket.set_tcp_nodelay(true)?;
    }
    match socket.connect(&target) {
        Ok(()) => Ok((socket.into(), false)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((socket.into(), true)),
        Err(error) => Err(error),
    }
}
