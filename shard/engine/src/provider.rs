//! rustls' cryptography with this process's own randomness and key exchange.

use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::crypto::{aws_lc_rs, CryptoProvider, GetRandomFailed, SecureRandom, SupportedKxGroup};
use rustls::{NamedGroup, SupportedCipherSuite};

use crate::drbg::process;
use crate::kx;

/// The process's DRBG as rustls' random source: ServerHello.random, session ids, ticket ids,
/// nonces and ages, and (through [`kx`]) the ephemeral keys.
#[derive(Debug)]
struct ProcessRandom;

impl SecureRandom for ProcessRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        process::fill(buffer).map_err(|_| GetRandomFailed)
    }
}

static RANDOM: ProcessRandom = ProcessRandom;
static GROUPS: [&dyn SupportedKxGroup; 4] = [
    &kx::X25519MLKEM768,
    &kx::X25519,
    &kx::SECP256R1,
    &kx::SECP384R1,
];

/// In the default order of preference: AES-128-GCM first, which costs a handshake and its data less
/// than AES-256-GCM with its SHA-384 and is as strong as X25519 (RFC 8446 §9.1 makes it mandatory);
/// forward secret suites of TLS 1.2 in the same order.
static SUITES: [SupportedCipherSuite; 9] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The IANA name of a cipher suite.
pub fn suite_name(suite: SupportedCipherSuite) -> String {
    // rustls writes TLS13_AES_128_GCM_SHA256 where IANA has TLS_AES_128_GCM_SHA256.
    let name = suite.suite().as_str().unwrap_or("unknown");
    name.replacen("TLS13_", "TLS_", 1)
}

/// The IANA name of a key exchange group.
pub fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "x25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => "unknown",
    }
}

/// Every cipher suite there is, by IANA name, in the default order of preference.
pub fn suite_names() -> Vec<String> {
    SUITES.iter().map(|suite| suite_name(*suite)).collect()
}

/// Every group there is, by IANA name, in the default order of preference.
pub fn group_names() -> Vec<&'static str> {
    GROUPS
        .iter()
        .map(|group| group_name(group.name()))
        .collect()
}

/// A provider with these suites and groups, by IANA name; None for all.
///
/// The error names what is unknown.
pub fn provider(
    suites: Option<&[String]>,
    groups: Option<&[String]>,
) -> Result<CryptoProvider, String> {
    Ok(CryptoProvider {
        cipher_suites: chosen("cipher suite", suites, &SUITES, |suite| suite_name(*suite))?,
        kx_groups: chosen("group", groups, &GROUPS, |group| {
            group_name(group.name()).to_owned()
        })?,
        secure_random: &RANDOM,
        ..aws_lc_rs::default_provider()
    })
}

fn chosen<T: Copy>(
    what: &str,
    wanted: Option<&[String]>,
    all: &[T],
    name: impl Fn(&T) -> String,
) -> Result<Vec<T>, String> {
    let Some(wanted) = wanted else {
        return Ok(all.to_vec());
    };
    wanted
        .iter()
        .map(|wanted| {
            all.iter()
                .find(|item| name(item) == *wanted)
                .copied()
                .ok_or_else(|| format!("unknown {what} {wanted:?}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ianas() {
        assert!(suite_names().contains(&"TLS_AES_128_GCM_SHA256".to_owned()));
        assert!(suite_names().contains(&"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned()));
        assert_eq!(
            group_names(),
            ["X25519MLKEM768", "x25519", "secp256r1", "secp384r1"]
        );
    }

    #[test]
    fn an_unknown_name_is_named() {
        let wanted = ["TLS_NULL".to_owned()];
        let error = provider(Some(&wanted), None).err().unwrap();
        assert!(error.contains("TLS_NULL"));
    }

    #[test]
    fn the_order_asked_for_is_kept() {
        let wanted = ["secp384r1".to_owned(), "x25519".to_owned()];
        let made = provider(None, Some(&wanted)).unwrap();
        let names: Vec<_> = made
            .kx_groups
            .iter()
            .map(|g| group_name(g.name()))
            .collect();
        assert_eq!(names, ["secp384r1", "x25519"]);
    }
}
