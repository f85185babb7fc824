//! Client certificates: who must show one, and which are good.
//!
//! A certificate is checked at a full handshake, by rustls, and again each time a session made with
//! it is to be resumed, as by then it may have expired, been revoked or lost its authority.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, VerifiedPath,
};

/// Most intermediate certificates of a path: webpki's own bound.
pub const MAX_DEPTH: usize = 6;

/// What is asked of clients. Absent: no certificate.
pub struct ClientAuth {
    /// A client without a certificate is refused (certificate_required).
    pub required: bool,
    /// Never empty.
    pub authorities: Vec<CertificateDer<'static>>,
    /// None: revocation is not checked. Otherwise every authority of a path needs one that is in
    /// force.
    pub crls: Vec<CertificateRevocationListDer<'static>>,
    /// Intermediate certificates between a client's and an authority's, at most.
    pub depth: usize,
}

/// rustls' verifier, with a bound on the path's length.
#[derive(Debug)]
pub struct ClientVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    crls: Vec<CertRevocationList<'static>>,
    depth: usize,
}

impl ClientVerifier {
    /// The error names the parameter that is wrong.
    pub fn new(auth: &ClientAuth, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        if auth.depth > MAX_DEPTH {
            return Err(format!("client_depth: 0 to {MAX_DEPTH}"));
        }
        let mut roots = RootCertStore::empty();
        for authority in &auth.authorities {
            roots
                .add(authority.clone())
                .map_err(|error| format!("client_ca: {error}"))?;
        }
        let roots = Arc::new(roots);
        let crls = auth
            .crls
            .iter()
            .map(|crl| OwnedCertRevocationList::from_der(crl).map(CertRevocationList::from))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("crl: {error}"))?;
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
                .with_crls(auth.crls.iter().cloned())
                .enforce_revocation_expiration();
        if !auth.required {
            builder = builder.allow_unauthenticated();
        }
        Ok(Self {
            webpki: builder
                .build()
                .map_err(|error| format!("client_ca, crl: {error}"))?,
            provider: Arc::clone(provider),
            roots,
            crls,
            depth: auth.depth,
        })
    }

    /// Whether a session that was made with this chain (leaf first; empty: without a certificate)
    /// may still be used. The error is the reason for which it may not.
    pub fn recheck(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), &'static str> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return match self.client_auth_mandatory() {
                true => Err("client_missing"),
                false => Ok(()),
            };
        };
        match self.verify_client_cert(leaf, intermediates, now) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Err("client_expired"),
            Err(Error::InvalidCertificate(CertificateError::Revoked)) => Err("client_revoked"),
            Err(_) => Err("client_untrusted"),
        }
    }

    /// Whether there is a good path that is no longer than allowed. rustls cannot ask for that.
    fn is_within_depth(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        let crls: Vec<_> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            options
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let short = |path: &VerifiedPath<'_>| match path.intermediate_certificates().count() {
            count if count <= self.depth => Ok(()),
            _ => Err(webpki::Error::MaximumPathDepthExceeded),
        };
        EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
            leaf.verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                KeyUsage::client_auth(),
                revocation,
                Some(&short),
            )
            .is_ok()
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.webpki.verify_client_cert(leaf, intermediates, now)?;
        // A path has no more intermediates than were sent.
        if intermediates.len() > self.depth && !self.is_within_depth(leaf, intermediates, now) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
#[path = "client_auth_tests.rs"]
mod tests;
