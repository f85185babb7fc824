//! What a step on a connection brings: plaintext, and what has to happen elsewhere.

use crate::closing::Closed;
use crate::context::SCOPE_LEN;
use crate::established::Established;
use crate::exchange::{Value, ID_LEN};

/// What has to happen outside a connection.
#[derive(Debug)]
pub enum Effect {
    /// Look these up and call [`crate::connection::Connection::resume`]; until then the connection is parked.
    SessionWanted {
        single_use: bool,
        scope: [u8; SCOPE_LEN],
        ids: Vec<[u8; ID_LEN]>,
        server_name: Option<String>,
    },
    /// Ask whether this sealed ticket is used for the first time and call
    /// [`crate::connection::Connection::resume`]; until then the connection is parked.
    TicketOffered {
        scope: [u8; SCOPE_LEN],
        id: [u8; ID_LEN],
        /// Unix milliseconds.
        issued_ms: u64,
        expires_ms: u64,
    },
    /// A session that was found may not be resumed: the handshake goes on in full.
    SessionRefused {
        scope: [u8; SCOPE_LEN],
        reason: &'static str,
    },
    /// Store these.
    SessionsIssued {
        scope: [u8; SCOPE_LEN],
        server_name: Option<String>,
        entries: Vec<(Vec<u8>, Value)>,
    },
    /// The handshake is complete.
    Established(Established),
    /// close_notify came.
    PeerClosed,
    /// A relay has reached its backend.
    BackendConnected,
    /// A relay cannot reach its backend, for this reason; its socket is closed.
    BackendFailed(String),
    /// A relay has closed its backend's socket before its own end.
    BackendClosed,
    /// It is over.
    Closed(Closed),
}

/// What a step brought.
#[derive(Debug, Default)]
pub struct Step {
    pub data: Vec<u8>,
    pub effects: Vec<Effect>,
    pub backlog: usize,
    pub more: bool,
    pub lingering: bool,
    /// What the handshake still sends waits for an answer to `data`, to go out with it:
    /// the connection's `write` or `flush` sends it.
    pub held: bool,
}

impl Step {
    /// Whether the caller has nothing to do.
    pub fn is_nothing(&self) -> bool {
        let quiet = !self.more && !self.lingering && !self.held && self.backlog == 0;
        quiet && self.data.is_empty() && self.effects.is_empty()
    }
}
