//! Reading rustls' encoding of a session, for what a session may be resumed under.
//!
//! rustls has no accessor for it. The version of rustls is pinned, and a test reads a session that
//! it has just made (`connection_tests.rs`); what cannot be read is not resumed.

use rustls_pki_types::CertificateDer;

/// What a session was made with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SessionFacts<'a> {
    /// The client's chain, leaf first; empty without a certificate.
    pub client_chain: Vec<CertificateDer<'a>>,
    pub alpn: Option<&'a [u8]>,
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// What follows a length of so many bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self.take(width)?;
        self.take(
            length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        )
    }

    /// Whether an optional field follows.
    fn is_present(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl<'a> SessionFacts<'a> {
    /// Read rustls' `ServerSessionValue` (0.23): server name, version, cipher suite, secret,
    /// extended master secret, client chain, ALPN, and more. None if it is something else.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let mut facts = Self::default();
        if fields.is_present()? {
            fields.vector(1)?;
        }
        fields.take(2 + 2)?;
        fields.vector(1)?;
        fields.take(1)?;
        if fields.is_present()? {
            let mut chain = Fields(fields.vector(3)?);
            while !chain.0.is_empty() {
                facts.client_chain.push(chain.vector(3)?.into());
            }
        }
        if fields.is_present()? {
            facts.alpn = Some(fields.vector(1)?);
        }
        fields.vector(2)?; // application data
        fields.take(8 + 4)?; // time of creation, age obfuscation
        fields.0.is_empty().then_some(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(chain: &[u8], alpn: &[u8]) -> Vec<u8> {
        let mut value = vec![1, 1, b'a', 3, 4, 0x13, 1, 2, 9, 9, 1];
        value.extend_from_slice(chain);
        value.extend_from_slice(alpn);
        value.extend_from_slice(&[0, 0]);
        value.extend_from_slice(&[0; 12]);
        value
    }

    #[test]
    fn the_chain_and_the_protocol_are_read() {
        let made = value(
            &[1, 0, 0, 9, 0, 0, 2, 7, 8, 0, 0, 1, 6],
            &[1, 2, b'h', b'2'],
        );
        let facts = SessionFacts::read(&made).unwrap();
        assert_eq!(facts.client_chain, [vec![7, 8].into(), vec![6].into()]);
        assert_eq!(facts.alpn, Some(b"h2".as_slice()));
        assert_eq!(
            SessionFacts::read(&value(&[0], &[0])),
            Some(SessionFacts::default())
        );
    }

    #[test]
    fn what_is_cut_or_longer_is_not_read() {
        let made = value(&[1, 0, 0, 5, 0, 0, 2, 7, 8], &[1, 1, b'x']);
        for length in 0..made.len() {
            assert_eq!(SessionFacts::read(&made[..length]), None, "{length}");
        }
        let longer = [made.as_slice(), &[0]].concat();
        assert_eq!(SessionFacts::read(&longer), None);
    }
}
