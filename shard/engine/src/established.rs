//! What a handshake agreed on.

use rustls::server::ServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};

use crate::provider::{group_name, suite_name};

#[derive(Debug)]
pub struct Established {
    pub version: &'static str,
    pub cipher: String,
    pub group: Option<&'static str>,
    pub resumed: bool,
    pub hello_retry: bool,
    pub server_name: Option<String>,
    pub alpn: Option<String>,
    /// DER, leaf first.
    pub peer_certificates: Vec<Vec<u8>>,
}

impl Established {
    pub fn of(tls: &ServerConnection, server_name: Option<String>) -> Self {
        let kind = tls.handshake_kind();
        Self {
            version: match tls.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: tls
                .negotiated_cipher_suite()
                .map(suite_name)
                .unwrap_or_default(),
            group: tls
                .negotiated_key_exchange_group()
                .map(|group| group_name(group.name())),
            resumed: kind == Some(HandshakeKind::Resumed),
            hello_retry: kind == Some(HandshakeKind::FullWithHelloRetryRequest),
            server_name,
            alpn: tls
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            peer_certificates: tls
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        }
    }
}
