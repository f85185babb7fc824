//! What rustls sees of the session cache: sessions looked up beforehand, and a place to leave new
//! ones.
//!
//! rustls asks its store while it processes a message, and a store that had to ask another process
//! would block. So a connection looks its sessions up *before* it hands the ClientHello over
//! ([`crate::client_hello`]), and lends its [`Exchange`] to the thread for as long as rustls works
//! for it.

use std::cell::RefCell;

use rustls::server::{ProducesTickets, StoresServerSessions};
use zeroize::Zeroizing;

use crate::drbg::process;

/// Length of the ids that we issue, as TLS 1.2 session ids and as TLS 1.3 ticket identities.
pub const ID_LEN: usize = 32;

/// A session as rustls encodes it: it holds the resumption secret.
pub type Value = Zeroizing<Vec<u8>>;

/// One connection's side of the session cache.
#[derive(Default)]
pub struct Exchange {
    /// The session that was looked up. Kept until the handshake ends, so that it is found again
    /// after a HelloRetryRequest.
    pub found: Option<(Vec<u8>, Value)>,
    /// Sessions issued to the client and not yet handed over to be stored.
    pub issued: Vec<(Vec<u8>, Value)>,
    /// Issue time of this connection's sealed tickets, Unix milliseconds: that of its ClientHello,
    /// however late the handshake ends, so that a purge in between reaches them.
    pub stamp_ms: u64,
}

thread_local! {
    static CURRENT: RefCell<Exchange> = RefCell::default();
}

impl Exchange {
    /// Run `work`, in which rustls may read and fill this exchange.
    pub fn lend<T>(&mut self, work: impl FnOnce() -> T) -> T {
        struct Return<'a>(&'a mut Exchange);
        impl Drop for Return<'_> {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| std::mem::swap(self.0, current));
            }
        }
        CURRENT.with_borrow_mut(|current| std::mem::swap(self, current));
        let _return = Return(self);
        work()
    }
}

/// Issue time of the sealed tickets of the connection that rustls works for.
pub fn stamp() -> u64 {
    CURRENT.with_borrow(|current| current.stamp_ms)
}

/// The session that was looked up, or opened, if it is this one.
pub fn find(id: &[u8]) -> Option<Vec<u8>> {
    CURRENT.with_borrow(|current| {
        current
            .found
            .as_ref()
            .filter(|(found, _)| found == id)
            .map(|(_, value)| value.to_vec())
    })
}

/// TLS 1.2 sessions by session id.
#[derive(Debug)]
pub struct SessionIds;

impl StoresServerSessions for SessionIds {
    fn put(&self, id: Vec<u8>, value: Vec<u8>) -> bool {
        // rustls takes over an id that the client made up when it knows no session by it. Only
        // ids of our length are ever looked up.
        if id.len() != ID_LEN {
            return false;
        }
        CURRENT.with_borrow_mut(|current| current.issued.push((id, Zeroizing::new(value))));
        true
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        find(id)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        find(id)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// TLS 1.3 tickets that are random ids of stored sessions.
///
/// A ticketer rather than a store, as rustls tells clients a fixed lifetime of 24 hours for
/// sessions in a store.
#[derive(Debug)]
pub struct TicketIds {
    /// Seconds (RFC 8446 §4.6.1: at most 604800).
    pub lifetime: u32,
}

impl ProducesTickets for TicketIds {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let mut id = vec![0; ID_LEN];
        process::fill(&mut id).ok()?;
        let value = Zeroizing::new(session.to_vec());
        CURRENT.with_borrow_mut(|current| current.issued.push((id.clone(), value)));
        Some(id)
    }

    fn decrypt(&self, id: &[u8]) -> Option<Vec<u8>> {
        find(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_seen_only_while_lent() {
        let mut exchange = Exchange {
            found: Some((vec![1; 32], Zeroizing::new(vec![2]))),
            ..Exchange::default()
        };
        assert_eq!(find(&[1; 32]), None);
        exchange.lend(|| {
            assert_eq!(SessionIds.get(&[1; 32]), Some(vec![2]));
            assert_eq!(SessionIds.get(&[9; 32]), None);
            assert!(SessionIds.put(vec![3; 32], vec![4]));
            assert!(!SessionIds.put(vec![3; 16], vec![4]));
        });
        assert_eq!(find(&[1; 32]), None);
        assert_eq!(exchange.issued.len(), 1);
        assert!(exchange.found.is_some());
    }

    #[test]
    fn a_panic_gives_the_exchange_back() {
        let mut exchange = Exchange {
            found: Some((vec![1; 32], Zeroizing::new(vec![2]))),
            ..Exchange::default()
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            exchange.lend(|| panic!("rustls broke"));
        }));
        assert!(result.is_err());
        assert_eq!(find(&[1; 32]), None);
        assert!(exchange.found.is_some());
    }

    #[test]
    fn tickets_are_distinct_ids() {
        let _ = process::seed(&[7; 48], b"test");
        let mut exchange = Exchange::default();
        let tickets = TicketIds { lifetime: 60 };
        exchange.lend(|| {
            let first = tickets.encrypt(&[1]).unwrap();
            let second = tickets.encrypt(&[2]).unwrap();
            assert_eq!(first.len(), ID_LEN);
            assert_ne!(first, second);
        });
        assert_eq!(exchange.issued.len(), 2);
    }
}
