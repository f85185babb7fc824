//! X25519 and the NIST curves over a private key that is given, on AWS-LC.
//!
//! The interface of aws-lc-rs checks a private key that it did not make with a second
//! multiplication, which costs a P-384 handshake a fifth more. A key from our own generator needs no
//! such check.

use std::ptr::{self, NonNull};

use aws_lc_sys as sys;
use zeroize::Zeroizing;

const UNCOMPRESSED: u8 = 4;
const X25519_LEN: usize = 32;

/// A curve, for ephemeral key agreement.
#[derive(Debug, Clone, Copy)]
pub enum Curve {
    X25519,
    Nist(&'static NistCurve),
}

/// A curve of SP 800-186 with cofactor 1.
#[derive(Debug)]
pub struct NistCurve {
    group: unsafe extern "C" fn() -> *const sys::EC_GROUP,
    order: &'static [u8],
}

pub static P256: NistCurve = NistCurve {
    group: sys::EC_group_p256,
    order: &P256_ORDER,
};
pub static P384: NistCurve = NistCurve {
    group: sys::EC_group_p384,
    order: &P384_ORDER,
};

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

impl Curve {
    /// Length of a private key, in bytes.
    pub fn key_len(self) -> usize {
        match self {
            Self::X25519 => X25519_LEN,
            Self::Nist(curve) => curve.order.len(),
        }
    }

    /// Whether so many random bytes are a private key: any are for X25519 (RFC 7748 §5), and those
    /// in `1..order` for a NIST curve (SP 800-56A Rev. 3 §5.6.1.2.2).
    pub fn is_key(self, bytes: &[u8]) -> bool {
        bytes.len() == self.key_len()
            && match self {
                Self::X25519 => true,
                Self::Nist(curve) => bytes < curve.order && bytes.iter().any(|&byte| byte != 0),
            }
    }

    /// The share to send: the public key to a private one, in TLS' encoding.
    pub fn share(self, key: &[u8]) -> Option<Vec<u8>> {
        if !self.is_key(key) {
            return None;
        }
        match self {
            Self::X25519 => {
                let mut share = vec![0; X25519_LEN];
                // SAFETY: both have 32 bytes.
                unsafe { sys::X25519_public_from_private(share.as_mut_ptr(), key.as_ptr()) };
                Some(share)
            }
            Self::Nist(curve) => {
                let point = Point::new(curve)?;
                let scalar = Scalar::new(key)?;
                point.multiply(&scalar, None)?;
                point.encoded().map(|encoded| encoded.to_vec())
            }
        }
    }

    /// The shared secret of a private key and a peer's share; None for a share that is malformed.
    ///
    /// "For X25519 and X448, the contents of the public value are the byte string inputs"; for the
    /// NIST curves `legacy_form` is 4, uncompressed only (RFC 8446 §4.2.8.2).
    pub fn agree(self, key: &[u8], peer: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if !self.is_key(key) {
            return None;
        }
        match self {
            Self::X25519 => {
                let mut secret = Zeroizing::new(vec![0; X25519_LEN]);
                // SAFETY: all three have 32 bytes, the peer's by the condition before.
                let done = peer.len() == X25519_LEN
                    && unsafe {
                        sys::X25519(secret.as_mut_ptr(), key.as_ptr(), peer.as_ptr()) == 1
                    };
                done.then_some(secret)
            }
            Self::Nist(curve) => {
                let theirs = Point::new(curve)?;
                theirs.decode(peer)?;
                let product = Point::new(curve)?;
                product.multiply(&Scalar::new(key)?, Some(&theirs))?;
                // The x-coordinate (RFC 8446 §7.4.2).
                let encoded = product.encoded()?;
                Some(Zeroizing::new(encoded[1..=self.key_len()].to_vec()))
            }
        }
    }
}

/// A private key as a number, cleared when dropped.
struct Scalar(NonNull<sys::BIGNUM>);

impl Scalar {
    fn new(key: &[u8]) -> Option<Self> {
        // SAFETY: reads `key.len()` bytes and makes a number of its own.
        NonNull::new(unsafe { sys::BN_bin2bn(key.as_ptr(), key.len(), ptr::null_mut()) }).map(Self)
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        // SAFETY: it came from BN_bin2bn and is freed once.
        unsafe { sys::BN_clear_free(self.0.as_ptr()) };
    }
}

/// A point of a curve, cleared when dropped.
struct Point {
    curve: &'static NistCurve,
    group: *const sys::EC_GROUP,
    point: NonNull<sys::EC_POINT>,
}

impl Point {
    fn new(curve: &'static NistCurve) -> Option<Self> {
        // SAFETY: the group is static; the point made of it is owned by `Self`.
        unsafe {
            let group = (curve.group)();
            let point = NonNull::new(sys::EC_POINT_new(group))?;
            Some(Self {
                curve,
                group,
                point,
            })
        }
    }

    /// Set to `scalar` times `other`, or times the curve's generator. In constant time.
    fn multiply(&self, scalar: &Scalar, other: Option<&Self>) -> Option<()> {
        let scalar = scalar.0.as_ptr();
        let (of_generator, point, of_point) = match other {
            None => (scalar, ptr::null_mut(), ptr::null_mut()),
            Some(other) => (ptr::null_mut(), other.point.as_ptr(), scalar),
        };
        // SAFETY: all are valid or null together, as the function wants it; it makes a context.
        let done = unsafe {
            sys::EC_POINT_mul(
                self.group,
                self.point.as_ptr(),
                of_generator,
                point,
                of_point,
                ptr::null_mut(),
            )
        };
        (done == 1).then_some(())
    }

    fn encoded_len(&self) -> usize {
        1 + 2 * self.curve.order.len()
    }

    /// Set to a point that is uncompressed and on the curve, which with cofactor 1 is all of a
    /// public key's validation (SP 800-56A Rev. 3 §5.6.2.3.4).
    fn decode(&self, encoded: &[u8]) -> Option<()> {
        if encoded.len() != self.encoded_len() || encoded[0] != UNCOMPRESSED {
            return None;
        }
        // SAFETY: reads the bytes of `encoded`.
        let done = unsafe {
            sys::EC_POINT_oct2point(
                self.group,
                self.point.as_ptr(),
                encoded.as_ptr(),
                encoded.len(),
                ptr::null_mut(),
            )
        };
        (done == 1).then_some(())
    }

    fn encoded(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut encoded = Zeroizing::new(vec![0; self.encoded_len()]);
        // SAFETY: writes at most so many bytes.
        let length = unsafe {
            sys::EC_POINT_point2oct(
                self.group,
                self.point.as_ptr(),
                sys::point_conversion_form_t::POINT_CONVERSION_UNCOMPRESSED,
                encoded.as_mut_ptr(),
                encoded.len(),
                ptr::null_mut(),
            )
        };
        (length == encoded.len()).then_some(encoded)
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        // SAFETY: it came from EC_POINT_new and is freed once.
        unsafe { sys::EC_POINT_clear_free(self.point.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_below_the_order_and_not_zero() {
        for (curve, order) in [(&P256, &P256_ORDER[..]), (&P384, &P384_ORDER[..])] {
            let mut below = order.to_vec();
            *below.last_mut().unwrap() -= 1;
            let curve = Curve::Nist(curve);
            assert!(curve.is_key(&below));
            assert!(curve.share(&below).is_some());
            for refused in [order, &vec![0; order.len()], &vec![0xff; order.len()], &[1]] {
                assert!(!curve.is_key(refused));
                assert_eq!(curve.share(refused), None);
            }
        }
        assert!(Curve::X25519.is_key(&[0; 32]));
        assert!(!Curve::X25519.is_key(&[1; 31]));
    }
}
