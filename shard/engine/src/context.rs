//! What the connections of a listener have in common: certificates, policy, sessions.

use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version::{TLS12, TLS13};
use rustls::SupportedProtocolVersion;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client_hello::ClientHello;
use crate::exchange::{SessionIds, TicketIds};
use crate::provider::provider;
use crate::sealed_tickets::SealedTickets;
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
}

/// Immutable once made; shared by all connections.
pub struct Context {
    hosts: Vec<Host>,
    pub resumption: Resumption,
    pub tls12: bool,
}

/// One certificate, with its configurations.
pub struct Host {
    names: Vec<String>,
    pub scope: [u8; SCOPE_LEN],
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
    /// The first host serves clients that name none of them. An error names what is wrong.
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
        let hosts = hosts
            .iter()
            .map(|host| Host::new(host, policy))
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
    fn new(host: &VirtualHost, policy: &Policy) -> Result<Self, String> {
        let provider = provider(policy.cipher_suites.as_deref(), policy.groups.as_deref())?;
        let versions: &[&SupportedProtocolVersion] = if policy.tls12 {
            &[&TLS13, &TLS12]
        } else {
            &[&TLS13]
        };
        let mut base = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .map_err(|error| format!("cipher_suites, groups: {error}"))?
            .with_no_client_auth()
            .with_single_cert(host.chain.clone(), host.key.clone_key())
            .map_err(|error| format!("key: {error}"))?;
        base.alpn_protocols = policy
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        base.session_storage = Arc::new(NoServerSessionStorage {});
        base.send_tls13_tickets = 0;
        let place = Place {
            scope: host.scope,
            certificate: mark(&host.chain[0]),
        };
        let theirs = Configurations::new(base.clone(), policy, place);
        base.ignore_client_order = true;
        Ok(Self {
            names: host.names.clone(),
            scope: host.scope,
            ours: Configurations::new(base, policy, place),
            theirs,
        })
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
