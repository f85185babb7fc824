"""The ASGI TLS extension's facts."""

from __future__ import annotations

import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from shard._engine import TlsContext
from shard.apps.tls_extension import extensions
from shard.connection import TlsInfo
from tests.certificates import Certificate


def info(version: str = "TLSv1.3", cipher: str = "TLS_AES_128_GCM_SHA256") -> TlsInfo:
    return TlsInfo(
        version=version,
        cipher=cipher,
        group="x25519",
        resumed=True,
        resumption="cache",
        server_name="localhost",
        alpn=None,
        worker="a-0.1",
    )


def test_without_a_client_certificate() -> None:
    assert extensions(info(), ()) == {
        "tls": {
            "server_cert": None,
            "client_cert_chain": [],
            "client_cert_name": None,
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": 0x1301,
        },
        "shardtls": {"resumed": True, "worker": "a-0.1"},
    }


def test_with_one(certificate: Certificate) -> None:
    leaf = load_pem_x509_certificate(certificate.cert.read_bytes())
    tls = extensions(info("TLSv1.2"), [leaf.public_bytes(Encoding.DER)])["tls"]
    assert tls["tls_version"] == 0x0303
    (pem,) = tls["client_cert_chain"]
    assert ssl.PEM_cert_to_DER_cert(pem) == leaf.public_bytes(Encoding.DER)
    assert tls["client_cert_name"] == leaf.subject.rfc4514_string()


@pytest.mark.parametrize("suite", TlsContext.CIPHER_SUITES)
def test_every_suite_of_the_engine_has_its_number(suite: str) -> None:
    """As the system's OpenSSL numbers the ones that it has, which are all of these."""
    number = extensions(info(cipher=suite), ())["tls"]["cipher_suite"]
    iana = {cipher["id"] & 0xFFFF for cipher in ssl.create_default_context().get_ciphers()}
    assert number in iana
