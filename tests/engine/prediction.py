"""What a server on a known seed will send, and what it did send."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shard.demo.textbook import TextbookCtrDrbg
from tests.client import TIMEOUT
from tests.hostile import HANDSHAKE, parse

__all__ = ["CURVES", "X25519", "Answer", "Prediction", "answer", "converse"]

T = TypeVar("T")

CURVES: Final[dict[str, tuple[int, ec.EllipticCurve]]] = {
    "secp256r1": (0x0017, ec.SECP256R1()),
    "secp384r1": (0x0018, ec.SECP384R1()),
}
X25519: Final = 0x001D
CHANGE_CIPHER_SPEC: Final = 20
SERVER_HELLO: Final = 2
SERVER_KEY_EXCHANGE: Final = 12
KEY_SHARE: Final = 51


class Prediction:
    """The reference generator, drawn from in the order in which the engine draws.

    A request of the engine is one request here: each moves the state on.
    """

    def __init__(self, seed: bytes, personalization: bytes) -> None:
        self.drbg = TextbookCtrDrbg(seed, personalization)

    def random(self) -> bytes:
        """ServerHello.random."""
        return self.drbg.generate(32)

    def session_id(self) -> bytes:
        """Of TLS 1.2."""
        return self.drbg.generate(32)

    def share(self, group: str) -> bytes:
        """The public key to the private key that is drawn."""
        if group == "x25519":
            private = X25519PrivateKey.from_private_bytes(self.drbg.generate(32))
            return private.public_key().public_bytes_raw()
        curve = CURVES[group][1]
        scalar = int.from_bytes(self.drbg.generate(curve.key_size // 8), "big")
        public = ec.derive_private_key(scalar, curve).public_key()
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def ticket(self) -> bytes:
        """The id in a TLS 1.3 ticket: drawn after its nonce and its age_add."""
        self.drbg.generate(32)
        self.drbg.generate(4)
        return self.drbg.generate(32)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered a ClientHello with.

    :ivar group: the code point of the key exchange group.
    """

    random: bytes
    session_id: bytes
    group: int
    share: bytes


def answer(stream: bytes) -> Answer:
    """Read from the bytes that a server sent."""
    plain = b""
    for kind, fragment in parse(stream):
        if kind == CHANGE_CIPHER_SPEC:
            break  # from here on TLS 1.2 is encrypted too
        if kind == HANDSHAKE:
            plain += fragment
    messages = {}
    while plain:
        end = 4 + int.from_bytes(plain[1:4], "big")
        messages[plain[0]], plain = plain[4:end], plain[end:]
    hello = messages[SERVER_HELLO]
    id_end = 35 + hello[34]
    if SERVER_KEY_EXCHANGE in messages:
        # curve_type, NamedCurve, then the point behind its length (RFC 8422 §5.4)
        exchange = messages[SERVER_KEY_EXCHANGE]
        group, share = exchange[1:3], exchange[4 : 4 + exchange[3]]
    else:
        # NamedGroup, then the key behind its length (RFC 8446 §4.2.8)
        entry = _extension(hello[id_end + 5 :], KEY_SHARE)
        group, share = entry[:2], entry[4:]
    return Answer(hello[2:34], hello[35:id_end], int.from_bytes(group, "big"), share)


def _extension(block: bytes, wanted: int) -> bytes:
    while block:
        kind, end = int.from_bytes(block[:2], "big"), 4 + int.from_bytes(block[2:4], "big")
        if kind == wanted:
            return block[4:end]
        block = block[end:]
    raise AssertionError(f"no extension {wanted}")


def converse(
    address: tuple[str, int], context: ssl.SSLContext
) -> tuple[bytes, ssl.SSLSession | None]:
    """Connect with OpenSSL, have a byte echoed.

    :returns: all that the server sent, as it was on the wire, and the session it gave.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    received = b""
    with socket.create_connection(address, timeout=TIMEOUT) as plain:

        def carry_out(step: Callable[[], T]) -> T:
            nonlocal received
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    piece = plain.recv(65536)
                    if not piece:
                        raise ConnectionResetError("the server closed") from None
                    received += piece
                    incoming.write(piece)
                else:
                    plain.sendall(outgoing.read())
                    return result

        carry_out(tls.do_handshake)
        carry_out(lambda: tls.write(b"x"))
        assert carry_out(lambda: tls.read(1)) == b"x"
        return received, tls.session
