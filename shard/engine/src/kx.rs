//! Ephemeral key exchange whose private keys come from the process's DRBG ([`crate::drbg`]).
//!
//! rustls' own groups draw theirs from AWS-LC's generator, which has no hook. Peer shares are
//! validated as rustls does. ML-KEM encapsulation stays on AWS-LC's generator: its interface takes
//! no randomness.

use aws_lc_rs::kem;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::Zeroizing;

use crate::drbg::process;
use crate::ecdh::{Curve, P256, P384};

const INVALID_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);
/// Candidates for a private key before giving up (SP 800-56A Rev. 3 §5.6.1.2.2, testing
/// candidates). One fails with probability 2^-32 (P-256) or less.
const KEY_TRIES: usize = 8;
const MLKEM768_ENCAPSULATION_KEY_LEN: usize = 1184;

pub static X25519: Ecdh = Ecdh {
    name: NamedGroup::X25519,
    curve: Curve::X25519,
};

pub static SECP256R1: Ecdh = Ecdh {
    name: NamedGroup::secp256r1,
    curve: Curve::Nist(&P256),
};

pub static SECP384R1: Ecdh = Ecdh {
    name: NamedGroup::secp384r1,
    curve: Curve::Nist(&P384),
};

pub static X25519MLKEM768: X25519MlKem768 = X25519MlKem768;

/// X25519 (RFC 7748) or a NIST curve.
#[derive(Debug)]
pub struct Ecdh {
    name: NamedGroup,
    curve: Curve,
}

impl Ecdh {
    fn private_key(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut key = Zeroizing::new(vec![0u8; self.curve.key_len()]);
        for _ in 0..KEY_TRIES {
            process::fill(&mut key).map_err(|_| Error::FailedToGetRandomBytes)?;
            if self.curve.is_key(&key) {
                return Ok(key);
            }
        }
        Err(Error::FailedToGetRandomBytes)
    }

    fn begin(&self) -> Result<ActiveEcdh, Error> {
        let private = self.private_key()?;
        let share = self
            .curve
            .share(&private)
            .ok_or_else(|| Error::General("no public key".into()))?;
        Ok(ActiveEcdh {
            name: self.name,
            curve: self.curve,
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
    curve: Curve,
    private: Zeroizing<Vec<u8>>,
    share: Vec<u8>,
}

impl ActiveEcdh {
    fn agree(&self, peer: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.curve.agree(&self.private, peer).ok_or(INVALID_SHARE)
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
