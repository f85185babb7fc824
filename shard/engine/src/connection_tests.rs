use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::closing::Closed;
use crate::context::{Policy, Resumption, VirtualHost, SCOPE_LEN};
use crate::drbg::process;
use crate::session_value::SessionFacts;
use crate::step::Effect;

pub struct Peers {
    pub server: Connection,
    pub client: ClientConnection,
    pub wire: UnixStream,
}

impl Peers {
    #[allow(clippy::new_without_default)] // the tests' own
    pub fn new() -> Self {
        Self::with_client(default_provider())
    }

    fn with_client(provider: CryptoProvider) -> Self {
        let _ = process::seed(&[7; 48], b"test");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let host = VirtualHost {
            names: vec!["localhost".to_owned()],
            chain: vec![made.cert.der().clone()],
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            ocsp: None,
            scope: [1; SCOPE_LEN],
        };
        let policy = Policy {
            tls12: true,
            cipher_suites: None,
            groups: None,
            alpn: Vec::new(),
            resumption: Resumption::Cache,
            tickets_per_connection: 2,
            ticket_lifetime: 60,
            client_auth: None,
        };
        let context = Arc::new(Context::new(&[&host], &policy).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let (ours, wire) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        wire.set_nonblocking(true).unwrap();
        Self {
            server: Connection::new(ours.into(), (Ipv4Addr::LOCALHOST, 1).into(), context),
            client: ClientConnection::new(Arc::new(config), name).unwrap(),
            wire,
        }
    }

    /// The client sends all it has; the server takes a step.
    pub fn client_to_server(&mut self) -> Step {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire).unwrap();
        }
        self.server.advance(false)
    }

    pub fn server_to_client(&mut self) {
        while self.client.read_tls(&mut self.wire).is_ok_and(|n| n > 0) {
            self.client.process_new_packets().unwrap();
        }
    }

    pub fn handshake(&mut self) -> Step {
        assert!(self.client_to_server().effects.is_empty());
        self.server_to_client();
        let step = self.client_to_server();
        self.server_to_client();
        step
    }
}

#[test]
fn a_handshake_issues_sessions_and_tells_what_it_agreed_on() {
    let mut peers = Peers::new();
    let step = peers.handshake();
    let [Effect::Established(facts), Effect::SessionsIssued { scope, entries, .. }] =
        step.effects.as_slice()
    else {
        panic!("{:?}", step.effects);
    };
    assert_eq!(facts.version, "TLSv1.3");
    assert_eq!(facts.server_name.as_deref(), Some("localhost"));
    assert_eq!((scope, entries.len()), (&[1; SCOPE_LEN], 2));
    for (_, value) in entries {
        assert_eq!(SessionFacts::read(value), Some(SessionFacts::default()));
    }
}

#[test]
fn the_hybrid_is_agreed_on_with_a_client_that_prefers_it() {
    let mut peers = Peers::with_client(CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..default_provider()
    });
    let step = peers.handshake();
    let Some(Effect::Established(facts)) = step.effects.first() else {
        panic!("{:?}", step.effects);
    };
    assert_eq!(facts.group, Some("X25519MLKEM768"));
    peers.client.writer().write_all(b"both halves").unwrap();
    assert_eq!(peers.client_to_server().data, b"both halves");
}

#[test]
fn an_orderly_close_is_told_when_both_sides_have_ended() {
    let mut peers = Peers::new();
    peers.handshake();
    let step = peers.server.shutdown();
    assert!(step.effects.is_empty() && step.lingering);
    peers.server_to_client();
    peers.client.send_close_notify();
    let step = peers.client_to_server();
    assert!(matches!(
        step.effects.as_slice(),
        [Effect::Closed(Closed {
            reason: Reason::Done,
            ..
        })]
    ));
    assert!(peers.server.advance(false).effects.is_empty());
}

#[test]
fn what_comes_after_a_shutdown_is_thrown_away() {
    let mut peers = Peers::new();
    peers.handshake();
    peers.server.shutdown();
    peers.client.writer().write_all(b"late").unwrap();
    assert!(peers.client_to_server().data.is_empty());
}

#[test]
fn a_panic_ends_the_connection_it_came_from() {
    let mut peers = Peers::new();
    peers.handshake();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let step = peers.server.step(|_, _| panic!("a bug"));
    std::panic::set_hook(hook);
    assert!(matches!(
        step.effects.as_slice(),
        [Effect::Closed(Closed {
            reason: Reason::Internal,
            ..
        })]
    ));
    assert_eq!(peers.server.write(b"x"), 0);
    assert!(peers.server.advance(true).effects.is_empty());
}

#[test]
fn bytes_that_are_no_tls_get_an_alert_and_linger() {
    let mut peers = Peers::new();
    peers.wire.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let step = peers.server.advance(false);
    assert!(step.lingering && step.effects.is_empty());
    let mut answer = [0; 16];
    let length = peers.wire.read(&mut answer).unwrap();
    assert_eq!(answer[..3], [21, 3, 3]);
    assert_eq!(length, 7);
    drop(std::mem::replace(
        &mut peers.wire,
        UnixStream::pair().unwrap().0,
    ));
    let step = peers.server.advance(true);
    let [Effect::Closed(closed)] = step.effects.as_slice() else {
        panic!("{:?}", step.effects);
    };
    assert_eq!(closed.reason, Reason::AlertSent);
    assert!(closed.alert.is_some());
}

#[test]
fn a_resume_that_nobody_waits_for_does_nothing() {
    let mut peers = Peers::new();
    assert!(peers.server.resume(None).effects.is_empty());
    assert!(matches!(
        peers.handshake().effects.first(),
        Some(Effect::Established(_))
    ));
    assert!(peers.server.resume(None).effects.is_empty());
    peers.client.writer().write_all(b"still here").unwrap();
    assert_eq!(peers.client_to_server().data, b"still here");
}

#[test]
fn after_a_fatal_alert_only_what_is_encrypted_is_still_owed() {
    let mut peers = Peers::new();
    peers.handshake();
    // More than the socket takes: the rest waits, most of it not encrypted yet.
    assert!(peers.server.write(&vec![b'x'; 8 << 20]) > 0);
    peers.wire.write_all(&[23, 3, 3, 0, 17]).unwrap();
    peers.wire.write_all(&[0; 17]).unwrap();
    assert!(peers.server.advance(false).lingering);
    let mut scratch = vec![0; 1 << 16];
    while peers.wire.read(&mut scratch).is_ok_and(|n| n > 0) {
        peers.server.flush();
    }
    assert_eq!(peers.server.backlog(), 0);
}
