"""Closing a listening socket without losing a connection.

When a listening socket is closed, Linux resets every connection that it had completed and nobody
had accepted yet. The client believes that it is connected and has sent its ClientHello; a
balancer in TCP mode cannot try another server for it. So a group of workers that goes away

1. stops new connections from being made (:func:`refuse_new_connections`),
2. goes on accepting until the queue is empty (:func:`waiting_connections`), a round trip later than
   1, as handshakes that were under way end in it too, then
3. has nobody accept any more, and closes the port (:func:`close_port`): from there on a new
   connection is refused, and the client or the balancer goes elsewhere at once.

There are two ways for 1, and neither suits all cases: the socket is bound to a network interface
that its clients do not come by, so that they are refused at once; and a socket filter drops SYNs
(sent again after 1 s, RFC 6298 §2.1, and then refused), which some container engines do not allow.

Not needed when another process goes on holding the same socket. Any thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
from typing import Final

__all__ = ["close_port", "refuse_new_connections", "waiting_connections"]

_LOOPBACK: Final = "lo"
_SO_ATTACH_FILTER: Final = 26

# Classic BPF (struct sock_filter: code, jt, jf, k). The kernel hands a TCP socket's filter the
# segment from the TCP header on; byte 13 holds the flags (RFC 9293 §3.1).
_FLAGS_OFFSET: Final = 13
_SYN: Final = 0x02
_ACK: Final = 0x10
_DROP_SYN: Final = (
    (0x30, 0, 0, _FLAGS_OFFSET),  # ldb [13]
    (0x54, 0, 0, _SYN | _ACK),  # and #(SYN|ACK)
    (0x15, 0, 1, _SYN),  # jeq #SYN, next, skip 1
    (0x06, 0, 0, 0),  # ret #0: drop
    (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1: keep all of it
)

# struct tcp_info (linux/tcp.h): 8 one-byte fields, then __u32 rto, ato, snd_mss, rcv_mss, unacked.
# Of a listening socket, `unacked` is the length of its accept queue.
_UNACKED_OFFSET: Final = 8 + 4 * 4
_UNSIGNED: Final = struct.Struct("=I")


def refuse_new_connections(listener: socket.socket) -> bool:
    """Let no new connection to `listener` be made, in all processes that hold it, for good.

    Handshakes under way are completed. Without the filter, clients on this very machine may still
    connect to a socket that listens on all addresses.

    :returns: False if this kernel does not let us at all.
    """
    bound = _bind_elsewhere(listener)
    return _drop_syns(listener) or bound


def _bind_elsewhere(listener: socket.socket) -> bool:
    """Bind it to an interface that the wrong clients come by (no privilege since Linux 5.7).

    What is in the queue, or on its way there, belongs to the socket already.
    """
    local = ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
    names = [name for _, name in socket.if_nameindex() if (name != _LOOPBACK) == local]
    if not names:
        return False
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, names[0].encode())
    except OSError:
        return False
    return True


def _drop_syns(listener: socket.socket) -> bool:
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *op) for op in _DROP_SYN))
    # struct sock_fprog: unsigned short len, pointer (aligned).
    fprog = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
        # From here on a handshake ends with its ACK, without waiting for the client's first bytes.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)
    except OSError:
        return False
    return True


def waiting_connections(listener: socket.socket) -> int:
    """How many connections wait in the accept queue of `listener`."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    length: int = _UNSIGNED.unpack_from(info, _UNACKED_OFFSET)[0]
    return length


def close_port(listener: socket.socket) -> None:
    """Stop listening, in all processes that hold the socket.

    If each merely closed it, the port would stay open for as long as one has it, such as a worker
    that is finishing its connections: clients would be connected, and served by nobody.
    """
    # Linux leaves the state LISTEN on a shutdown for reading; a second one is an error of no
    # consequence.
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
