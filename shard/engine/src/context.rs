//! What the connections of a listener have in common: certificates, policy, sessions.

use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::SupportedProtocolVersion;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::certificates::Certificates;
use crate::client_auth::{ClientAuth, ClientVerifier};
use crate::client_hello::ClientHello;
use crate::exchange::{SessionIds, TicketIds};
use crate::provider::provider;
use crate::sealed_tickets::SealedTickets;
use crate::session_value::SessionFacts;
use crate::tickets::{mark, Place, TicketKeys};

/// Length of a scope: the part of a session's key that says where it is valid.
pub const SCOPE_LEN: usize = 32;
const MAX_TICKETS: usize = 8;
/// "Servers MUST NOT use any value greater than 604800 seconds (7 days)" (RFC 8446 §4.6.1).
const MAX_LIFETIME: u32 = 604_800;

/// A certificate with what it is for.
pub struct VirtualHost {
    /// DNS names, lower case; `*.` stands for one label.
    pub names: Vec<String>,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// An OCSP response to staple, DER.
    pub ocsp: Option<Vec<u8>>,
    pub scope: [u8; SCOPE_LEN],
}

/// How clients come back without a full handshake.
#[derive(Clone)]
pub enum Resumption {
    Off,
    /// Sessions are stored elsewhere; a client holds a random id.
    Cache,
    /// A client holds its session, sealed.
    Tickets {
        keys: Arc<TicketKeys>,
        /// A TLS 1.3 ticket resumes only after somebody has said that it is its first use.
        single_use: bool,
    },
}

/// How clients are served.
pub struct Policy {
    pub tls12: bool,
    pub cipher_suites: Option<Vec<String>>,
    pub groups: Option<Vec<String>>,
    pub alpn: Vec<String>,
    pub resumption: Resumption,
    pub tickets_per_connection: usize,
    /// Seconds.
    pub ticket_lifetime: u32,
    pub client_auth: Option<ClientAuth>,
}

/// Immutable once made; shared by all connections.
pub struct Context {
    hosts: Vec<Host>,
    pub resumption: Resumption,
    pub tls12: bool,
}

/// The certificates of one set of names, with their configurations.
pub struct Host {
    names: Vec<String>,
    pub scope: [u8; SCOPE_LEN],
    alpn: Vec<Vec<u8>>,
    verifier: Option<Arc<ClientVerifier>>,
    /// Our order of cipher suites decides.
    ours: Configurations,
    /// The client's does.
    theirs: Configurations,
}

/// They differ in how sessions are kept, which depends on the version: TLS 1.3 has tickets, TLS 1.2
/// has session ids.
struct Configurations {
    tls13_full: Arc<ServerConfig>,
    tls13_resumed: Arc<ServerConfig>,
    tls12: Arc<ServerConfig>,
}

impl Context {
    /// The first host serves clients that name none of them; hosts of the same names and scope are
    /// served as one. An error names what is wrong.
    pub fn new(hosts: &[&VirtualHost], policy: &Policy) -> Result<Self, String> {
        if hosts.is_empty() {
            return Err("hosts: at least one is needed".into());
        }
        if policy.tickets_per_connection > MAX_TICKETS {
            return Err(format!("tickets_per_connection: 0 to {MAX_TICKETS}"));
        }
        if policy.ticket_lifetime == 0 || policy.ticket_lifetime > MAX_LIFETIME {
            return Err(format!("ticket_lifetime: 1 to {MAX_LIFETIME} seconds"));
        }
        let mut alike: Vec<Vec<&VirtualHost>> = Vec::new();
        for host in hosts {
            let same = |other: &VirtualHost| other.names == host.names && other.scope == host.scope;
            match alike.iter_mut().find(|others| same(others[0])) {
                Some(others) => others.push(host),
                None => alike.push(vec![host]),
            }
        }
        let hosts = alike
            .iter()
            .map(|hosts| Host::new(hosts, policy))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            resumption: policy.resumption.clone(),
            tls12: policy.tls12,
        })
    }

    /// The host for a server name: exact, then by wildcard, then the default.
    pub fn host(&self, server_name: Option<&str>) -> &Host {
        let Some(name) = server_name else {
            return &self.hosts[0];
        };
        let exact = self
            .hosts
            .iter()
            .find(|host| host.names.iter().any(|n| n == name));
        exact
            .or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.hosts.iter().find(|host| {
                    host.names
                        .iter()
                        .filter_map(|n| n.strip_prefix("*."))
                        .any(|n| n == parent)
                })
            })
            .unwrap_or(&self.hosts[0])
    }
}

impl Host {
    /// Of hosts that are alike, in order of preference.
    fn new(hosts: &[&VirtualHost], policy: &Policy) -> Result<Self, String> {
        let provider = provider(policy.cipher_suites.as_deref(), policy.groups.as_deref())?;
        let provider = Arc::new(provider);
        let verifier = policy
            .client_auth
            .as_ref()
            .map(|auth| ClientVerifier::new(auth, &provider).map(Arc::new))
            .transpose()?;
        let versions: &[&SupportedProtocolVersion] = if policy.tls12 {
            &[&TLS13, &TLS12]
        } else {
            &[&TLS13]
        };
        let mut base = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| format!("cipher_suites, groups: {error}"))?
            .with_client_cert_verifier(match &verifier {
                Some(verifier) => Arc::clone(verifier) as _,
                None => WebPkiClientVerifier::no_client_auth(),
            })
            .with_cert_resolver(Arc::new(Certificates::new(hosts, &provider)?));
        base.alpn_protocols = policy
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        base.session_storage = Arc::new(NoServerSessionStorage {});
        base.send_tls13_tickets = 0;
        let place = Place {
            scope: hosts[0].scope,
            certificate: mark(&hosts[0].chain[0]),
        };
        let alpn = base.alpn_protocols.clone();
        let theirs = Configurations::new(base.clone(), policy, place);
        base.ignore_client_order = true;
        Ok(Self {
            names: hosts[0].names.clone(),
            scope: hosts[0].scope,
            alpn,
            verifier,
            ours: Configurations::new(base, policy, place),
            theirs,
        })
    }

    /// Whether a session found under this host's scope may be resumed by this client, now. To be
    /// asked before rustls sees the session, wherever it comes from. The error is the reason for a
    /// full handshake.
    pub fn admits(&self, session: &[u8], hello: &ClientHello) -> Result<(), &'static str> {
        let facts = SessionFacts::read(session).ok_or("unreadable")?;
        let negotiated = self.alpn.iter().find(|name| hello.alpn.contains(name));
        if facts.alpn != negotiated.map(Vec::as_slice) {
            return Err("alpn");
        }
        match &self.verifier {
            Some(verifier) => verifier.recheck(&facts.client_chain, UnixTime::now()),
            None if facts.client_chain.is_empty() => Ok(()),
            None => Err("client_untrusted"),
        }
    }

    /// How to answer a ClientHello.
    ///
    /// `found`: a session that it offers is at hand. Such a client gets one ticket in return for
    /// the one it used.
    pub fn configuration(&self, hello: &ClientHello, found: bool) -> Arc<ServerConfig> {
        let configurations = if hello.prefers_chacha20() {
            &self.theirs
        } else {
            &self.ours
        };
        Arc::clone(match (hello.offers_tls13, found) {
            (false, _) => &configurations.tls12,
            (true, false) => &configurations.tls13_full,
            (true, true) => &configurations.tls13_resumed,
        })
    }
}

impl Configurations {
    fn new(base: ServerConfig, policy: &Policy, place: Place) -> Self {
        let mut tls13_full = base.clone();
        let mut tls12 = base;
        match &policy.resumption {
            Resumption::Off => {}
            Resumption::Cache => {
                tls13_full.send_tls13_tickets = policy.tickets_per_connection;
                tls13_full.ticketer = Arc::new(TicketIds {
                    lifetime: policy.ticket_lifetime,
                });
                tls12.session_storage = Arc::new(SessionIds);
            }
            Resumption::Tickets { keys, .. } => {
                let keys = Arc::clone(keys);
                tls13_full.send_tls13_tickets = policy.tickets_per_connection;
                tls13_full.ticketer = Arc::new(SealedTickets { keys, place });
                tls12.ticketer = Arc::clone(&tls13_full.ticketer);
            }
        }
        let mut tls13_resumed = tls13_full.clone();
        tls13_resumed.send_tls13_tickets = policy.tickets_per_connection.min(1);
        Self {
            tls13_full: Arc::new(tls13_full),
            tls13_resumed: Arc::new(tls13_resumed),
            tls12: Arc::new(tls12),
        }
    }
}
