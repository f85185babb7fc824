//! What our generator and key exchange cost a handshake, beside rustls' own:
//! `cargo bench --no-default-features --bench randomness`.
//!
//! Client and server talk in memory, in one thread. Only the server's share is counted, in CPU time
//! of the thread. Handshakes alternate one by one and the median counts, so that whatever else the
//! machine does falls on both alike.

use std::hint::black_box;
use std::sync::Arc;

use rustls::crypto::{aws_lc_rs, CryptoProvider};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use _engine::ctr_drbg::{CtrDrbg, SEED_LEN};
use _engine::drbg::process;
use _engine::provider::provider;

/// Of each kind.
const HANDSHAKES: usize = 4001;
/// Of requests.
const ROUNDS: usize = 501;
const REQUESTS: usize = 1000;

/// CPU time of this thread, in nanoseconds.
fn cpu_time() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for the write.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Subject {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Subject {
    fn new(
        provider: CryptoProvider,
        made: &rcgen::CertifiedKey<rcgen::KeyPair>,
        version: &'static SupportedProtocolVersion,
        group: &str,
    ) -> Self {
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut server = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        // Sessions by random id, as the engine issues them.
        server.session_storage = ServerSessionMemoryCache::new(64);
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let groups = aws_lc_rs::ALL_KX_GROUPS
            .iter()
            .filter(|g| format!("{:?}", g.name()) == group)
            .copied()
            .collect();
        let provider = CryptoProvider {
            kx_groups: groups,
            ..aws_lc_rs::default_provider()
        };
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        Self {
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    /// One full handshake: nanoseconds of the server.
    fn handshake(&self) -> f64 {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let begun = cpu_time();
        let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
        let mut spent = cpu_time() - begun;
        let mut wire = Vec::new();
        loop {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            if wire.is_empty() {
                return spent as f64;
            }
            let begun = cpu_time();
            let mut unread = wire.as_slice();
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut answer = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answer).unwrap();
            }
            spent += cpu_time() - begun;
            let mut unread = answer.as_slice();
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    }
}

/// The medians of two measurements that alternate.
fn compare(
    rounds: usize,
    mut ours: impl FnMut() -> f64,
    mut theirs: impl FnMut() -> f64,
) -> (f64, f64) {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Each goes first as often as the other.
        if round % 2 == 0 {
            own.push(ours());
            other.push(theirs());
        } else {
            other.push(theirs());
            own.push(ours());
        }
    }
    (median(&mut own), median(&mut other))
}

/// Nanoseconds for each of many requests of 32 bytes.
fn requests(mut fill: impl FnMut(&mut [u8; 32])) -> f64 {
    let mut out = [0u8; 32];
    let begun = cpu_time();
    for _ in 0..REQUESTS {
        fill(black_box(&mut out));
    }
    (cpu_time() - begun) as f64 / REQUESTS as f64
}

fn main() {
    process::seed(&[7; SEED_LEN], b"bench").unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    println!("server CPU of a full handshake, microseconds   ours   rustls'   ratio");
    for (version, group) in [
        (&TLS13, "X25519"),
        (&TLS13, "secp256r1"),
        (&TLS13, "secp384r1"),
        (&TLS13, "X25519MLKEM768"),
        (&TLS12, "X25519"),
    ] {
        let ours = Subject::new(provider(None, None).unwrap(), &made, version, group);
        let theirs = Subject::new(
            CryptoProvider {
                kx_groups: aws_lc_rs::ALL_KX_GROUPS.to_vec(),
                cipher_suites: provider(None, None).unwrap().cipher_suites,
                ..aws_lc_rs::default_provider()
            },
            &made,
            version,
            group,
        );
        let (own, other) = compare(HANDSHAKES, || ours.handshake(), || theirs.handshake());
        let (own, other, ratio) = (own / 1000.0, other / 1000.0, own / other);
        let what = format!("{:?} {group}", version.version);
        println!("{what:<44} {own:>6.1} {other:>9.1} {ratio:>7.3}");
    }

    let rustls = aws_lc_rs::default_provider().secure_random;
    let mut bare = CtrDrbg::new(&[7; SEED_LEN], b"").unwrap();
    let (own, other) = compare(
        ROUNDS,
        || requests(|out| process::fill(out).unwrap()),
        || requests(|out| rustls.fill(out).unwrap()),
    );
    let (with, without) = compare(
        ROUNDS,
        || requests(|out| bare.generate(out, &[1; 32]).unwrap()),
        || {
            requests(|out| {
                // SAFETY: `out` is valid for the write.
                let got = unsafe { libc::getrandom(out.as_mut_ptr().cast(), 32, 0) };
                assert_eq!(got, 32);
            })
        },
    );
    println!("\na request of 32 bytes, nanoseconds");
    println!("our generator                                {own:>6.0}");
    println!("  of that: CTR_DRBG, 32 bytes mixed in       {with:>6.0}");
    println!("  of that: getrandom(2) of 32 bytes          {without:>6.0}");
    println!("rustls' random source                        {other:>6.0}");
}
