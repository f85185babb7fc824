//! The state of a relay. Guarded by [`crate::relay`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::SockRef;

use crate::socket;
use crate::step::{Effect, Step};

#[derive(Default)]
pub struct State {
    pub backend: Option<OwnedFd>,
    /// The backend's TCP handshake is under way.
    pub connecting: bool,
    /// A connection to the backend was made and told of.
    pub connected: bool,
    /// Goes before everything: a PROXY header.
    pub preface: Vec<u8>,
    /// For the backend, which has taken the first `sent` bytes of preface and this together.
    pub pending: Vec<u8>,
    pub sent: usize,
    /// An edge of the client's socket is not used up.
    pub client_unread: bool,
    pub client_hangup: bool,
    /// The client sends no more.
    pub client_ended: bool,
    /// Nothing is sent to the backend any more.
    pub finished: bool,
    pub backend_unread: bool,
    pub backend_hangup: bool,
    /// The backend sends no more.
    pub backend_ended: bool,
    /// The backend takes no more: it has reset the connection.
    pub backend_broken: bool,
    /// Nothing is relayed any more; the client's connection comes to its end.
    pub closing: bool,
    /// Nothing comes of it any more.
    pub over: bool,
}

impl State {
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.backend.as_ref().map(AsFd::as_fd)
    }

    pub fn is_sent(&self) -> bool {
        self.sent == self.preface.len() + self.pending.len()
    }

    /// Both directions have come to their ends.
    pub fn is_complete(&self) -> bool {
        self.client_ended && self.finished && self.backend_ended
    }

    /// Close the backend's socket; with a reset if what it was sent is not all.
    pub fn drop_backend(&mut self, reset: bool, step: &mut Step) {
        if let Some(backend) = self.backend.take() {
            if reset {
                socket::reset_on_close(backend.as_fd());
            }
            step.effects.push(Effect::BackendClosed);
        }
        self.connecting = false;
        self.pending = Vec::new();
        self.sent = 0;
        self.preface = Vec::new();
    }

    /// An event came while connecting: whether it is done. The event may have been meant for a
    /// socket that had this descriptor before.
    pub fn look_at_connecting(&mut self, step: &mut Step) {
        let (true, Some(backend)) = (self.connecting, self.backend.as_ref()) else {
            return;
        };
        let socket = SockRef::from(backend);
        match socket.take_error() {
            Ok(None) => self.connecting = socket.peer_addr().is_err(),
            Ok(Some(error)) | Err(error) => self.connect_failed(&error, step),
        }
    }

    /// The backend cannot be reached. What is for it is kept, for another.
    pub fn connect_failed(&mut self, error: &io::Error, step: &mut Step) {
        self.backend = None;
        self.connecting = false;
        step.effects.push(Effect::BackendFailed(error.to_string()));
    }
}
