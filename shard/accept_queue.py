"""Closing a listening socket without losing a connection.

When a listening socket is closed, Linux resets every connection that it had completed and nobody
had accepted yet. The client believes that it is connected and has sent its ClientHello; a
balancer in TCP mode cannot try another server for it. So a group of workers that goes away

1. stops new connections from being made (:func:`refuse_new_connections`),
2. goes on accepting until the queue is empty (:func:`waiting_connections`), a round trip later than
   1, as handshakes that were under way end in it too, then
3. has nobody accept any more, and closes the port (:func:`close_port`): from there on a new
   connection is refused, and the client or the balancer goes elsewhere at once.

A SYN that is dropped between 1 and 3 is sent again after 1 s (RFC 6298 §2.1) and then refused.

Not needed when another process goes on holding the same socket. Any thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from typing import Final

__all__ = ["close_port", "refuse_new_connections", "waiting_connections"]

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
    """Drop every SYN that arrives for `listener`, in all processes that hold it, for good.

    Handshakes under way are completed: only a SYN without ACK is dropped.

    :returns: False if this kernel does not let us; closing then resets what is in the queue.
    """
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
