"""A CTR_DRBG as the standard has it, and as PolarSSL 1.3 had it: with no guard at all.

AES-256 without derivation function, after the text of NIST SP 800-90A Rev. 1 §10.2.1, on another
library's AES than the engine's. It serves to show what sharing one does, and tests predict the
engine's output with it. No server uses it.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

__all__ = ["SEED_BYTES", "TextbookCtrDrbg"]

KEY_BYTES: Final = 32
BLOCK_BYTES: Final = 16
SEED_BYTES: Final = KEY_BYTES + BLOCK_BYTES
"""Length of a seed, and the most that additional input may have (table 3)."""


class TextbookCtrDrbg:
    """Not thread-safe, on purpose: the state is read, worked with and written back.

    :ivar key: `Key` of the standard, 32 bytes.
    :ivar v: `V`, 16 bytes.
    """

    def __init__(self, entropy_input: bytes, personalization: bytes = b"") -> None:
        """CTR_DRBG_Instantiate_algorithm (§10.2.1.3.1).

        :param entropy_input: 48 bytes.
        :param personalization: at most 48 bytes.
        """
        self.key = bytes(KEY_BYTES)
        self.v = bytes(BLOCK_BYTES)
        self._update(_seed_material(entropy_input, personalization))

    def reseed(self, entropy_input: bytes, additional_input: bytes = b"") -> None:
        """CTR_DRBG_Reseed_algorithm (§10.2.1.4.1)."""
        self._update(_seed_material(entropy_input, additional_input))

    def generate(self, length: int, additional_input: bytes = b"") -> bytes:
        """CTR_DRBG_Generate_algorithm (§10.2.1.5.1).

        :param length: bytes, at most 65536.
        """
        padded = additional_input.ljust(SEED_BYTES, b"\0")
        if additional_input:
            self._update(padded)
        output = self._blocks(length)
        self._update(padded)
        return output

    def _update(self, provided: bytes) -> None:
        """CTR_DRBG_Update (§10.2.1.2)."""
        temp = _xor(self._blocks(SEED_BYTES), provided)
        self.key, self.v = temp[:KEY_BYTES], temp[KEY_BYTES:]

    def _blocks(self, length: int) -> bytes:
        """`length` bytes of Block_Encrypt(Key, V), V counted up before each."""
        count = -(-length // BLOCK_BYTES)
        # ECB is Block_Encrypt of each block by itself.
        encryptor = Cipher(algorithms.AES(self.key), modes.ECB()).encryptor()  # noqa: S305
        start = int.from_bytes(self.v, "big")
        counters = [((start + i) % (1 << 128)).to_bytes(16, "big") for i in range(1, count + 1)]
        output = encryptor.update(b"".join(counters))[:length]
        if counters:
            self.v = counters[-1]
        return output


def _seed_material(entropy_input: bytes, other: bytes) -> bytes:
    if len(entropy_input) != SEED_BYTES or len(other) > SEED_BYTES:
        raise ValueError(f"a seed is {SEED_BYTES} bytes, other input at most as many")
    return _xor(entropy_input, other.ljust(SEED_BYTES, b"\0"))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
