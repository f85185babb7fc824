//! The state of a connection, and what each step does to it. Guarded by [`crate::connection`].

use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustls::server::{ServerConfig, ServerConnection};
use rustls::Error;

use crate::client_hello::{ClientHello, Scan, Scanner};
use crate::closing::{sent_alert, Closed, Reason, INTERNAL_ERROR};
use crate::context::{Context, SCOPE_LEN};
use crate::established::Established;
use crate::exchange::Exchange;
use crate::outgoing::{Outgoing, ENCRYPT_AHEAD};
use crate::proxy_header::Announced;
use crate::socket;
use crate::step::{Effect, Step};

/// Most bytes received in one step, so that one connection cannot keep its reader from others.
pub const RECEIVE_BUDGET: usize = 64 * 1024;
/// Most plaintext encrypted and sent in one flush, for the same reason.
const FLUSH_BUDGET: usize = 1024 * 1024;

thread_local! {
    static SCRATCH: std::cell::RefCell<Vec<u8>> =
        std::cell::RefCell::new(vec![0; RECEIVE_BUDGET]);
}

pub enum Stage {
    /// Waiting for the whole ClientHello.
    Hello(Scanner),
    /// A session lookup is under way.
    Parked(Vec<u8>, ClientHello),
    Tls(Box<ServerConnection>),
    /// A fatal alert is sent: what comes is thrown away until the peer has closed, as a close with
    /// unread bytes sends a reset, which may overtake the alert.
    Lingering,
    Over,
}

#[derive(PartialEq, Eq)]
pub enum Sending {
    Open,
    /// close_notify follows what is queued.
    Ending,
    /// close_notify is encrypted; FIN follows when it is sent.
    Notified,
    /// FIN is sent.
    Ended,
}

pub struct State {
    pub socket: Option<OwnedFd>,
    pub context: Arc<Context>,
    pub stage: Stage,
    pub exchange: Exchange,
    pub scope: [u8; SCOPE_LEN],
    pub server_name: Option<String>,
    pub outgoing: Outgoing,
    pub sending: Sending,
    /// An orderly close is under way: what still comes is thrown away.
    pub closing: bool,
    pub established: bool,
    /// close_notify came.
    pub peer_closed: bool,
    pub peer_eof: bool,
    /// An end of file counts as close_notify.
    pub tolerant: bool,
    /// epoll reported a hangup: there is an end of file to find.
    pub hangup: bool,
    /// An edge was reported while parked.
    pub unread: bool,
    pub outcome: Option<Closed>,
    /// A PROXY header has to come first: what there is of it.
    pub header: Option<Vec<u8>>,
    /// What it said.
    pub announced: Announced,
}

impl State {
    /// Of a connection that was just accepted.
    pub fn new(socket: OwnedFd, context: Arc<Context>) -> Self {
        Self {
            socket: Some(socket),
            context,
            stage: Stage::Hello(Scanner::default()),
            exchange: Exchange::default(),
            scope: [0; SCOPE_LEN],
            server_name: None,
            outgoing: Outgoing::default(),
            sending: Sending::Open,
            closing: false,
            established: false,
            peer_closed: false,
            peer_eof: false,
            tolerant: false,
            hangup: false,
            unread: false,
            outcome: None,
            header: None,
            announced: None,
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    pub fn end(&mut self, reason: Reason, detail: impl Into<String>) {
        self.outcome
            .get_or_insert_with(|| Closed::new(reason, detail));
        self.stage = Stage::Over;
    }

    pub fn receive(&mut self, step: &mut Step) {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut received = 0;
            while !self.peer_eof && !matches!(self.stage, Stage::Parked(..) | Stage::Over) {
                if received >= RECEIVE_BUDGET {
                    step.more = true;
                    return;
                }
                let Some(fd) = self.fd() else { return };
                match socket::receive(fd, scratch) {
                    Ok(0) => self.peer_eof = true,
                    Ok(length) => {
                        received += length;
                        self.process(&scratch[..length], step);
                        if length < scratch.len() && !self.hangup {
                            return;
                        }
                        self.unread = true; // matters only if it has just been parked
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) => self.end(Reason::Reset, error.to_string()),
                }
            }
        });
    }

    pub fn process(&mut self, bytes: &[u8], step: &mut Step) {
        if let Some(header) = self.header.take() {
            self.read_header(header, bytes, step);
            return;
        }
        match &mut self.stage {
            Stage::Hello(scanner) => match scanner.feed(bytes) {
                Scan::Incomplete => {}
                Scan::Unreadable => {
                    let raw = std::mem::take(scanner).into_raw();
                    // rustls will find the fault; a client that offers nothing stands for it.
                    let host = self.context.host(None);
                    let config = host.configuration(&ClientHello::default(), false);
                    self.begin(config, &raw, step);
                }
                Scan::Complete(hello) => {
                    let raw = std::mem::take(scanner).into_raw();
                    self.hello(raw, hello, step);
                }
            },
            Stage::Tls(_) => self.process_tls(bytes, step),
            Stage::Parked(..) | Stage::Lingering | Stage::Over => {}
        }
    }

    pub fn begin(&mut self, config: Arc<ServerConfig>, raw: &[u8], step: &mut Step) {
        match ServerConnection::new(config) {
            Ok(mut tls) => {
                tls.set_buffer_limit(None); // `Outgoing` bounds what is encrypted ahead
                self.stage = Stage::Tls(Box::new(tls));
                self.process_tls(raw, step);
            }
            Err(error) => self.end(Reason::Internal, error.to_string()),
        }
    }

    fn process_tls(&mut self, mut bytes: &[u8], step: &mut Step) {
        let Stage::Tls(tls) = &mut self.stage else {
            return;
        };
        let mut failure = None;
        let mut notified = false;
        while !bytes.is_empty() {
            // After close_notify it takes no more: "Any data received after a closure alert has
            // been received MUST be ignored" (RFC 8446 §6.1).
            match tls.read_tls(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    failure = Some(Error::General(error.to_string()));
                    break;
                }
            }
            let state = match self.exchange.lend(|| tls.process_new_packets()) {
                Ok(state) => state,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            notified = state.peer_has_closed();
            let readable = state.plaintext_bytes_to_read();
            if readable > 0 {
                step.data.reserve(readable + bytes.len()); // once, for all that `bytes` may bring
                let mut reader = tls.reader();
                // An error means that there is no more.
                while let Ok(chunk @ [_, ..]) = reader.fill_buf() {
                    step.data.extend_from_slice(chunk);
                    let length = chunk.len();
                    reader.consume(length);
                }
            }
        }
        if !self.established && failure.is_none() && !tls.is_handshaking() {
            self.established = true;
            self.exchange.found = None;
            step.effects.push(Effect::Established(Established::of(
                tls,
                self.server_name.take(),
            )));
        }
        if !self.exchange.issued.is_empty() {
            step.effects.push(Effect::SessionsIssued {
                scope: self.scope,
                server_name: tls.server_name().map(str::to_owned),
                entries: std::mem::take(&mut self.exchange.issued),
            });
        }
        if let Some(error) = failure {
            self.fail(&error);
        } else if notified && !self.peer_closed {
            self.peer_closed = true;
            if self.established && !self.closing {
                step.effects.push(Effect::PeerClosed);
            }
        }
    }

    /// rustls refused what came: send its alert, then linger.
    fn fail(&mut self, error: &Error) {
        let Stage::Tls(mut tls) = std::mem::replace(&mut self.stage, Stage::Lingering) else {
            return;
        };
        if let Error::AlertReceived(alert) = error {
            self.outcome = Some(Closed {
                alert: Some(*alert),
                ..Closed::new(Reason::AlertReceived, error.to_string())
            });
            self.stage = Stage::Over;
            return;
        }
        let mut farewell = Vec::new();
        while tls.wants_write() && tls.write_tls(&mut farewell).is_ok_and(|n| n > 0) {}
        // The DRBG gives nothing. rustls sends no alert then; before the key exchange it may be
        // sent in the clear.
        let no_randomness = matches!(error, Error::FailedToGetRandomBytes);
        if no_randomness && tls.negotiated_key_exchange_group().is_none() {
            farewell.extend_from_slice(&INTERNAL_ERROR);
        }
        let reason = if no_randomness {
            Reason::NoRandomness
        } else {
            Reason::AlertSent
        };
        self.outcome = Some(Closed {
            alert: sent_alert(&farewell, error),
            ..Closed::new(reason, error.to_string())
        });
        if let Some(socket) = &self.socket {
            // What the socket does not take is kept for `pump`.
            let _ = self.outgoing.writer(socket.as_fd()).write_all(&farewell);
        }
        // Nothing is encrypted after a fatal alert (RFC 8446 §6.2), so nothing waits for it.
        self.outgoing.forget_plaintext();
        self.sending = Sending::Notified;
    }

    pub fn write(&mut self, data: &[u8]) {
        let (Stage::Tls(tls), Some(socket)) = (&mut self.stage, &self.socket) else {
            return;
        };
        let mut rest = data;
        while self.outgoing.backlog() == 0 && !self.outgoing.broken && !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(ENCRYPT_AHEAD));
            // Unlimited (`set_buffer_limit`), so it takes all of it.
            let _ = tls.writer().write_all(piece);
            send_tls(tls, &mut self.outgoing, socket.as_fd());
            rest = after;
        }
        self.outgoing.push(rest);
    }

    /// rustls has something to send.
    pub fn owes(&self) -> bool {
        matches!(&self.stage, Stage::Tls(tls) if tls.wants_write())
    }

    /// Move what is queued towards the socket, and end the sending direction when that is due.
    pub fn pump(&mut self) {
        let Some(socket) = &self.socket else { return };
        let fd = socket.as_fd();
        self.outgoing.send_rest(fd);
        if let Stage::Tls(tls) = &mut self.stage {
            send_tls(tls, &mut self.outgoing, fd);
            let mut pumped = 0;
            while self.outgoing.is_sent() && !self.outgoing.is_encrypted() && pumped < FLUSH_BUDGET
            {
                self.outgoing.encrypt_next(|piece| {
                    pumped += piece.len();
                    let _ = tls.writer().write_all(piece);
                });
                send_tls(tls, &mut self.outgoing, fd);
            }
            if self.sending == Sending::Ending && self.outgoing.is_encrypted() {
                tls.send_close_notify();
                send_tls(tls, &mut self.outgoing, fd);
                self.sending = Sending::Notified;
            }
        }
        if self.sending == Sending::Notified && self.outgoing.is_sent() {
            // If the client has ended too, a close follows at once, and that sends the FIN.
            let both = self.closing && (self.peer_closed || self.peer_eof);
            if !both {
                socket::shut_sending(fd);
            }
            self.sending = Sending::Ended;
        }
    }

    /// Tell how the connection has changed, once all that arrived is processed.
    pub fn conclude(&mut self, step: &mut Step) {
        if self.outgoing.broken && matches!(self.stage, Stage::Tls(_) | Stage::Lingering) {
            self.end(Reason::Reset, "the client is gone");
        }
        if self.closing {
            step.data.clear();
        }
        match self.stage {
            Stage::Hello(_) if self.peer_eof => {
                self.end(Reason::Truncated, "closed before its ClientHello");
            }
            Stage::Lingering if self.peer_eof => self.stage = Stage::Over,
            Stage::Tls(_) => {
                let done = self.closing && self.sending == Sending::Ended;
                if done && (self.peer_closed || self.peer_eof) {
                    self.end(Reason::Done, "");
                } else if self.peer_closed && !self.established {
                    self.end(Reason::Truncated, "closed during the handshake");
                } else if self.peer_eof && !self.peer_closed && !self.closing {
                    if self.tolerant && self.established {
                        self.peer_closed = true;
                        step.effects.push(Effect::PeerClosed);
                        return;
                    }
                    self.end(Reason::Truncated, "closed without close_notify");
                }
            }
            _ => {}
        }
        if matches!(self.stage, Stage::Over) {
            let closed = self.outcome.take();
            step.effects.push(Effect::Closed(
                closed.unwrap_or_else(|| Closed::new(Reason::Done, "")),
            ));
        }
    }
}

fn send_tls(tls: &mut ServerConnection, outgoing: &mut Outgoing, fd: BorrowedFd) {
    while tls.wants_write() {
        // The writer takes everything and never fails.
        if !tls.write_tls(&mut outgoing.writer(fd)).is_ok_and(|n| n > 0) {
            break;
        }
    }
}
