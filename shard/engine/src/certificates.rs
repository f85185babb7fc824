//! The certificates that a host shows: one, or several of the same names with different keys.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::context::VirtualHost;

/// In order of preference: the first whose key can make a signature that the client understands
/// (RFC 8446 §4.4.2.2, signature_algorithms), or the first of all, which rustls then refuses.
#[derive(Debug)]
pub struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    /// The error names what is wrong.
    pub fn new(hosts: &[&VirtualHost], provider: &CryptoProvider) -> Result<Self, String> {
        hosts
            .iter()
            .map(|host| {
                let (chain, key) = (host.chain.clone(), host.key.clone_key());
                let mut made = CertifiedKey::from_der(chain, key, provider)
                    .map_err(|error| format!("key: {error}"))?;
                made.ocsp.clone_from(&host.ocsp);
                Ok(Arc::new(made))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.0
            .iter()
            .find(|certificate| certificate.key.choose_scheme(schemes).is_some())
            .or(self.0.first())
            .cloned()
    }
}
