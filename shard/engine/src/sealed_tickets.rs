//! What rustls sees of the ticket keys: a ticketer for the configurations of one host.

use std::cell::Cell;
use std::sync::Arc;

use rustls::server::ProducesTickets;

use crate::exchange::{find, stamp};
use crate::tickets::{Moment, Place, TicketKeys};

thread_local! {
    /// Seconds that the ticket sealed last is good for: rustls asks right after it.
    static LIFETIME: Cell<u32> = const { Cell::new(0) };
}

/// What rustls sees of it. Tickets that clients offer were opened before ([`crate::state`]).
pub struct SealedTickets {
    pub keys: Arc<TicketKeys>,
    pub place: Place,
}

impl std::fmt::Debug for SealedTickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedTickets")
    }
}

impl ProducesTickets for SealedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.get()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.keys.seal(&self.place, stamp(), session, Moment::now());
        LIFETIME.set(sealed.as_ref().map_or(0, |(_, lifetime)| *lifetime));
        sealed.map(|(ticket, _)| ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        find(ticket)
    }
}
