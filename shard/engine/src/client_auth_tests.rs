use std::time::Duration;

use rcgen::{
    date_time_ymd, BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertifiedIssuer, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};

use super::*;
use crate::provider::provider;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Serial number of every client certificate.
const SERIAL: u64 = 7;

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn root(name: &str) -> Authority {
    Authority::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn intermediate(name: &str, issuer: &Authority) -> Authority {
    let key = KeyPair::generate().unwrap();
    Authority::signed_by(authority_params(name), key, issuer).unwrap()
}

fn client(issuer: &Authority, until: i32) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(SERIAL));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let made = params.signed_by(&KeyPair::generate().unwrap(), issuer);
    made.unwrap().der().clone()
}

fn crl(
    issuer: &Authority,
    revoked: Option<u64>,
    until: i32,
) -> CertificateRevocationListDer<'static> {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .into_iter()
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().clone()
}

/// 2025-01-01.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_735_689_600))
}

fn auth(authorities: &[&Authority]) -> ClientAuth {
    ClientAuth {
        required: true,
        authorities: authorities.iter().map(|made| made.der().clone()).collect(),
        crls: Vec::new(),
        depth: MAX_DEPTH,
    }
}

fn recheck(auth: &ClientAuth, chain: &[CertificateDer<'_>]) -> Result<(), &'static str> {
    let provider = Arc::new(provider(None, None).unwrap());
    ClientVerifier::new(auth, &provider)
        .unwrap()
        .recheck(chain, now())
}

#[test]
fn a_certificate_is_good_while_its_authority_is_known_and_it_has_not_expired() {
    let (known, other) = (root("known"), root("other"));
    let auth = auth(&[&known]);
    assert_eq!(recheck(&auth, &[client(&known, 2030)]), Ok(()));
    assert_eq!(
        recheck(&auth, &[client(&known, 2024)]),
        Err("client_expired")
    );
    assert_eq!(
        recheck(&auth, &[client(&other, 2030)]),
        Err("client_untrusted")
    );
}

#[test]
fn a_session_without_a_certificate_is_good_where_none_is_required() {
    let known = root("known");
    let mut auth = auth(&[&known]);
    assert_eq!(recheck(&auth, &[]), Err("client_missing"));
    auth.required = false;
    assert_eq!(recheck(&auth, &[]), Ok(()));
}

#[test]
fn a_list_refuses_the_revoked_and_once_out_of_date_everybody() {
    let known = root("known");
    let chain = [client(&known, 2030)];
    let with = |list| {
        let crls = vec![list];
        recheck(
            &ClientAuth {
                crls,
                ..auth(&[&known])
            },
            &chain,
        )
    };
    assert_eq!(with(crl(&known, Some(SERIAL), 2030)), Err("client_revoked"));
    assert_eq!(with(crl(&known, Some(SERIAL + 1), 2030)), Ok(()));
    assert_eq!(with(crl(&known, None, 2024)), Err("client_untrusted"));
    assert_eq!(
        with(crl(&root("other"), None, 2030)),
        Err("client_untrusted"),
        "a list of another authority says nothing of this one"
    );
}

#[test]
fn the_depth_counts_intermediate_certificates() {
    let known = root("known");
    let (first, second) = {
        let first = intermediate("first", &known);
        let second = intermediate("second", &first);
        (first, second)
    };
    let chain = [
        client(&second, 2030),
        second.der().clone(),
        first.der().clone(),
    ];
    for (depth, good) in [(0, false), (1, false), (2, true), (MAX_DEPTH, true)] {
        let auth = ClientAuth {
            depth,
            ..auth(&[&known])
        };
        assert_eq!(recheck(&auth, &chain).is_ok(), good, "{depth}");
    }
    // What was sent besides the path does not count.
    let auth = ClientAuth {
        depth: 0,
        ..auth(&[&known])
    };
    let padded = [client(&known, 2030), first.der().clone()];
    assert_eq!(recheck(&auth, &padded), Ok(()));
}

#[test]
fn no_authority_is_an_error_and_never_all_of_them() {
    let provider = Arc::new(provider(None, None).unwrap());
    let error = ClientVerifier::new(&auth(&[]), &provider).unwrap_err();
    assert!(error.contains("client_ca"), "{error}");
    let known = root("known");
    let bad = ClientAuth {
        crls: vec![vec![1].into()],
        ..auth(&[&known])
    };
    assert!(ClientVerifier::new(&bad, &provider)
        .unwrap_err()
        .starts_with("crl"));
    let deep = ClientAuth {
        depth: MAX_DEPTH + 1,
        ..auth(&[&known])
    };
    assert!(ClientVerifier::new(&deep, &provider)
        .unwrap_err()
        .starts_with("client_depth"));
}
