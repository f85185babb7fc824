//! Ephemeral key exchange whose private keys come from the process's DRBG ([`crate::drbg`]).
//!
//! rustls' own groups draw theirs from AWS-LC's generator, which has no hook. Peer shares are
//! validated as rustls does. ML-KEM encapsulation stays on AWS-LC's generator: its interface takes
//! no randomness.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::kem;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::Zeroizing;

use crate::drbg::process;

const INVALID_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
/// Candidates for a scalar before giving up. One fails with probability 2^-32 (P-256) or less.
const SCALAR_TRIES: usize = 8;
const UNCOMPRESSED: u8 = 4;
const MLKEM768_ENCAPSULATION_KEY_LEN: usize = 1184;

pub static X25519: Ecdh = Ecdh {
    name: NamedGroup::X25519,
    algorithm: &agreement::X25519,
    share_len: 32,
    order: None,
};

pub static SECP256R1: Ecdh = Ecdh {
    name: NamedGroup::secp256r1,
    algorithm: &agreement::ECDH_P256,
    share_len: 65,
    order: Some(&P256_ORDER),
};

pub static SECP384R1: Ecdh = Ecdh {
    name: NamedGroup::secp384r1,
    algorithm: &agreement::ECDH_P384,
    share_len: 97,
    order: Some(&P384_ORDER),
};

pub static X25519MLKEM768: X25519MlKem768 = X25519MlKem768;

/// Order of P-256 (SP 800-186 §3.2.1.3).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// Order of P-384 (SP 800-186 §3.2.1.4).
const P384_ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// X25519 (RFC 7748) or a NIST curve.
#[derive(Debug)]
pub struct Ecdh {
    name: NamedGroup,
    algorithm: &'static agreement::Algorithm,
    share_len: usize,
    /// Of a NIST curve: a private key is a random integer in `1..order` (SP 800-56A Rev. 3
    /// §5.6.1.2.2, testing candidates). Any 32 bytes are an X25519 private key (RFC 7748 §5).
    order: Option<&'static [u8]>,
}

impl Ecdh {
    fn private_key(&self) -> Result<PrivateKey, Error> {
        let mut scalar = Zeroizing::new(vec![0u8; self.order.map_or(32, <[u8]>::len)]);
        for _ in 0..SCALAR_TRIES {
            process::fill(&mut scalar).map_err(|_| Error::FailedToGetRandomBytes)?;
            let in_range = self
                .order
                .is_none_or(|order| scalar.as_slice() < order && scalar.iter().any(|&b| b != 0));
            if in_range {
                return PrivateKey::from_private_key(self.algorithm, &scalar)
                    .map_err(|_| Error::FailedToGetRandomBytes);
            }
        }
        Err(Error::FailedToGetRandomBytes)
    }

    fn begin(&self) -> Result<ActiveEcdh, Error> {
        let private = self.private_key()?;
        let share = private
            .compute_public_key()
            .map_err(|_| Error::General("no public key".into()))?
            .as_ref()
            .to_vec();
        Ok(ActiveEcdh {
            name: self.name,
            share_len: self.share_len,
            private,
            share,
        })
    }
}

impl SupportedKxGroup for Ecdh {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(self.begin()?))
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

struct ActiveEcdh {
    name: NamedGroup,
    share_len: usize,
    private: PrivateKey,
    share: Vec<u8>,
}

impl ActiveEcdh {
    fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        // "For X25519 and X448, the contents of the public value are the byte string inputs";
        // for the NIST curves `legacy_form` is 4: uncompressed only (RFC 8446 §4.2.8.2).
        let well_formed =
            peer.len() == self.share_len && (self.share_len == 32 || peer[0] == UNCOMPRESSED);
        if !well_formed {
            return Err(INVALID_SHARE);
        }
        let peer = UnparsedPublicKey::new(self.private.algorithm(), peer);
        agreement::agree(&self.private, peer, INVALID_SHARE, |secret| {
            Ok(Zeroizing::new(secret.to_vec()))
        })
    }
}

impl ActiveKeyExchange for ActiveEcdh {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        self.agree(peer)
            .map(|secret| SharedSecret::from(secret.as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}

/// The hybrid of draft-ietf-tls-ecdhe-mlkem: ML-KEM-768 first, then X25519, in shares and secret.
#[derive(Debug)]
pub struct X25519MlKem768;

impl SupportedKxGroup for X25519MlKem768 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::General(
            "a server answers a hybrid share, it never starts one".into(),
        ))
    }

    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (encapsulation_key, x25519_share) = client_share
            .split_at_checked(MLKEM768_ENCAPSULATION_KEY_LEN)
            .ok_or(INVALID_SHARE)?;
        let ours = X25519.begin()?;
        let classical = ours.agree(x25519_share)?;
        let (ciphertext, post_quantum) =
            kem::EncapsulationKey::new(&kem::ML_KEM_768, encapsulation_key)
                .map_err(|_| INVALID_SHARE)?
                .encapsulate()
                .map_err(|_| INVALID_SHARE)?;
        let secret = Zeroizing::new([post_quantum.as_ref(), &classical].concat());
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: [ciphertext.as_ref(), &ours.share].concat(),
            secret: SharedSecret::from(secret.as_slice()),
        })
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::kx_group as reference;

    fn seeded() {
        let _ = process::seed(&[7; 48], b"test");
    }

    fn agrees(ours: &'static dyn SupportedKxGroup, theirs: &'static dyn SupportedKxGroup) {
        seeded();
        let client = theirs.start().unwrap();
        let server = ours.start_and_complete(client.pub_key()).unwrap();
        let secret = client.complete(&server.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), server.secret.secret_bytes());
        assert_eq!(server.group, theirs.name());
    }

    #[test]
    fn every_group_agrees_with_rustls_own() {
        agrees(&X25519, reference::X25519);
        agrees(&SECP256R1, reference::SECP256R1);
        agrees(&SECP384R1, reference::SECP384R1);
        agrees(&X25519MLKEM768, reference::X25519MLKEM768);
    }

    #[test]
    fn malformed_shares_are_refused() {
        seeded();
        let refused = |group: &'static dyn SupportedKxGroup, share: &[u8]| {
            assert!(matches!(
                group.start_and_complete(share).err(),
                Some(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))
            ));
        };
        refused(&X25519, &[0; 32]); // low order: the shared secret would be zero
        refused(&X25519, &[9; 31]);
        refused(&X25519, &[]);
        let mut compressed = vec![2u8];
        compressed.extend_from_slice(&reference::SECP256R1.start().unwrap().pub_key()[1..33]);
        refused(&SECP256R1, &compressed);
        let mut off_curve = reference::SECP256R1.start().unwrap().pub_key().to_vec();
        off_curve[64] ^= 1;
        refused(&SECP256R1, &off_curve);
        refused(&SECP256R1, &[4; 97]);
        refused(&SECP384R1, &[4; 65]);
        refused(&X25519MLKEM768, &[0; 1183]);
        refused(&X25519MLKEM768, &[0xff; 1216]);
    }
}
