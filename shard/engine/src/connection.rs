//! One TLS connection: its socket, its handshake, what it still has to send.
//!
//! PolarSSL's rule for `ssl_context` was that it is private to a connection; here one mutex orders
//! whoever calls. Nothing blocks, nothing calls back: a step returns what it brought.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::closing::Reason;
use crate::context::{Context, Resumption};
use crate::exchange::Value;
use crate::socket;
use crate::state::{Sending, Stage, State};
use crate::step::Step;

/// See the module. Any thread may call any method.
pub struct Connection {
    inner: Mutex<State>,
    fd: AtomicI32,
    peer: SocketAddr,
}

impl Connection {
    pub fn new(socket: OwnedFd, peer: SocketAddr, context: Arc<Context>) -> Self {
        Self {
            fd: AtomicI32::new(socket.as_raw_fd()),
            peer,
            inner: Mutex::new(State::new(socket, context)),
        }
    }

    /// The socket's descriptor, -1 once closed.
    pub fn fd(&self) -> i32 {
        self.fd.load(Ordering::Relaxed)
    }

    /// A PROXY header has to come before the ClientHello.
    pub fn expect_header(&self) {
        self.lock().header = Some(Vec::new());
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.lock().announced.map_or(self.peer, |(peer, _)| peer)
    }

    /// The address that the client reached.
    pub fn local(&self) -> io::Result<SocketAddr> {
        let inner = self.lock();
        if let Some((_, local)) = inner.announced {
            return Ok(local);
        }
        match &inner.socket {
            Some(socket) => socket::local_address(socket.as_fd()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The end of the client's TCP stream shall count as close_notify: a relay's view, as many
    /// clients never send one. Returns whether the client has ended already.
    pub fn tolerate_truncation(&self) -> bool {
        let mut inner = self.lock();
        inner.tolerant = true;
        inner.peer_closed
    }

    /// Receive, process, send: once for each readiness event.
    pub fn advance(&self, hangup: bool) -> Step {
        self.step(|inner, step| {
            inner.hangup |= hangup;
            if matches!(inner.stage, Stage::Parked(..)) {
                inner.unread = true;
            } else {
                inner.receive(step);
            }
        })
    }

    /// Continue a parked connection; any other goes on as it was.
    pub fn resume(&self, found: Option<(Vec<u8>, Vec<u8>)>) -> Step {
        self.step(|inner, step| {
            let Some((raw, hello)) = inner.unpark() else {
                return;
            };
            let context = Arc::clone(&inner.context);
            let host = context.host(hello.server_name.as_deref());
            let found = match context.resumption {
                // It was opened and admitted before; the answer says whether it may be used.
                Resumption::Tickets { .. } => found.and(inner.exchange.found.take()),
                _ => {
                    let found = found.map(|(id, value)| (id, Value::new(value)));
                    inner.admitted(host, &hello, found, step)
                }
            };
            let config = host.configuration(&hello, found.is_some());
            inner.exchange.found = found;
            inner.begin(config, &raw, step);
            if std::mem::take(&mut inner.unread) || inner.hangup {
                inner.receive(step);
            }
        })
    }

    /// Encrypt and send, or queue. Returns the backlog.
    pub fn write(&self, data: &[u8]) -> usize {
        self.quietly(|inner| {
            if inner.established && inner.sending == Sending::Open {
                inner.write(data);
            }
        })
    }

    /// Send what is queued. Returns the backlog.
    pub fn flush(&self) -> usize {
        self.quietly(State::pump)
    }

    /// Bytes that the socket has not taken.
    pub fn backlog(&self) -> usize {
        self.lock().outgoing.backlog()
    }

    /// close_notify and FIN after what is queued. Returns the backlog.
    pub fn write_eof(&self) -> usize {
        self.quietly(|inner| {
            if inner.sending == Sending::Open {
                inner.sending = Sending::Ending;
            }
            inner.pump();
        })
    }

    /// Orderly close.
    pub fn shutdown(&self) -> Step {
        self.step(|inner, _| {
            inner.closing = true;
            if inner.sending == Sending::Open {
                inner.sending = Sending::Ending;
            }
            if matches!(inner.stage, Stage::Hello(_) | Stage::Parked(..)) {
                inner.end(
                    Reason::Aborted,
                    "closed before the ClientHello was answered",
                );
            }
        })
    }

    /// Close with a reset.
    pub fn abort(&self) {
        let mut inner = self.lock();
        if let Some(socket) = inner.socket.as_ref() {
            socket::reset_on_close(socket.as_fd());
        }
        inner.outgoing.discard();
        inner.stage = Stage::Over;
        self.give_back(&mut inner);
    }

    /// Give the descriptor back.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.stage = Stage::Over;
        self.give_back(&mut inner);
    }

    fn give_back(&self, inner: &mut State) {
        self.fd.store(-1, Ordering::Relaxed);
        inner.socket = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic is contained by `contained`, which leaves a state that is over.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, work: impl FnOnce(&mut State, &mut Step)) -> Step {
        let mut inner = self.lock();
        let mut step = Step::default();
        if inner.socket.is_none() || matches!(inner.stage, Stage::Over) {
            return step;
        }
        contained(&mut inner, |inner| {
            work(inner, &mut step);
            // The tickets of TLS 1.3 follow the client's Finished, which brings the first request
            // along: one system call and one segment for both.
            step.held = !step.data.is_empty() && inner.outgoing.backlog() == 0 && inner.owes();
            if !step.held {
                inner.pump();
            }
        });
        inner.conclude(&mut step);
        step.backlog = inner.outgoing.backlog();
        step.lingering = matches!(inner.stage, Stage::Lingering)
            || (inner.closing && matches!(inner.stage, Stage::Tls(_)));
        step
    }

    fn quietly(&self, work: impl FnOnce(&mut State)) -> usize {
        let mut inner = self.lock();
        if inner.socket.is_some() && !matches!(inner.stage, Stage::Over) {
            contained(&mut inner, work);
        }
        inner.outgoing.backlog()
    }
}

/// A panic (a bug, here or in rustls) ends this connection alone.
fn contained(inner: &mut State, work: impl FnOnce(&mut State)) {
    if catch_unwind(AssertUnwindSafe(|| work(inner))).is_err() {
        inner.outgoing.discard();
        inner.end(Reason::Internal, "a panic was contained");
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
pub mod tests;
