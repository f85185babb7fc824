//! A relay: what a TLS client sends goes to a backend in the clear, and what that sends goes back.
//!
//! It owns the backend's socket, and moves bytes on any readiness event of either socket, bounded
//! each turn. Neither side is read while the other has not taken what came before, so a slow reader
//! holds its peer back and costs at most two buffers. It decides nothing: which backend, how long to
//! wait for it and whether to try another is its caller's affair.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{self, Address};
use crate::closing::{Closed, Reason};
use crate::connection::Connection;
use crate::relay_state::State;
use crate::socket;
use crate::step::{Effect, Step};

/// Most bytes moved one way in a turn, so that one connection cannot keep its reader from others.
const TURN: usize = 256 * 1024;
/// Received from a backend at a time: what is encrypted and sent at once.
const CHUNK: usize = 64 * 1024;
const HANGUP: i32 = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;

/// Where in a memory page a chunk begins. What is encrypted is copied behind a record's header, just
/// after the beginning of a page, and copying to a place slightly behind the source's in its page is
/// twenty times slower on some processors (AMD Zen, glibc's bug 30994).
const SKEW: usize = 2048;
const PAGE: usize = 4096;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK + 2 * PAGE]);
}

/// See the module. Any thread may call any method; by convention the connection's reader does.
pub struct Relay {
    client: Arc<Connection>,
    state: Mutex<State>,
}

impl Relay {
    pub fn new(client: Arc<Connection>) -> Self {
        let state = State {
            client_ended: client.tolerate_truncation(),
            ..State::default()
        };
        Self {
            client,
            state: Mutex::new(state),
        }
    }

    pub fn client(&self) -> &Connection {
        &self.client
    }

    /// Begin to connect to a backend, instead of the one before if there was one.
    ///
    /// `preface` is what it is sent before anything of the client. Returns the descriptor of its
    /// socket, to be watched for input, output and hangup (edge-triggered).
    pub fn connect(&self, address: &Address, preface: Vec<u8>) -> io::Result<i32> {
        let mut state = self.lock();
        let (socket, connecting) = backend::connect(address)?;
        let fd = socket.as_raw_fd();
        state.backend = Some(socket);
        state.connecting = connecting;
        state.preface = preface;
        Ok(fd)
    }

    /// Give up an attempt to connect: its socket is closed, what is for the backend is kept.
    pub fn give_up(&self) {
        let mut state = self.lock();
        if state.connecting {
            state.connecting = false;
            state.backend = None;
        }
    }

    /// Data of the client that was read before the relay was made.
    pub fn push(&self, data: &[u8]) -> Step {
        self.turn(|state, _| state.pending.extend_from_slice(data))
    }

    /// The client's socket is ready.
    pub fn advance(&self, hangup: bool) -> Step {
        self.turn(|state, _| {
            state.client_unread = true;
            state.client_hangup |= hangup;
        })
    }

    /// The backend's socket is ready.
    /// `events`: epoll's.
    pub fn backend_ready(&self, events: i32) -> Step {
        self.turn(|state, step| {
            let hangup = events & HANGUP != 0;
            state.backend_unread |= events & libc::EPOLLIN != 0 || hangup;
            state.backend_hangup |= hangup;
            state.look_at_connecting(step);
        })
    }

    /// Orderly close towards the client. A backend that was not sent everything is reset.
    pub fn shutdown(&self) -> Step {
        let mut state = self.lock();
        let mut step = self.client.shutdown();
        state.closing = true;
        let reset = state.connecting || !state.is_sent();
        state.drop_backend(reset, &mut step);
        step.backlog = 0;
        step
    }

    /// Close both with a reset.
    pub fn abort(&self) {
        let mut state = self.lock();
        state.drop_backend(true, &mut Step::default());
        state.over = true;
        self.client.abort();
    }

    /// Give both descriptors back. A backend that did not get to its end is reset.
    pub fn close(&self) {
        let mut state = self.lock();
        let reset = !state.is_complete();
        state.drop_backend(reset, &mut Step::default());
        state.over = true;
        self.client.close();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic is contained by `turn`, which leaves a state that is over.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, note: impl FnOnce(&mut State, &mut Step)) -> Step {
        let mut state = self.lock();
        let mut step = Step::default();
        if state.over {
            return step;
        }
        let contained = catch_unwind(AssertUnwindSafe(|| {
            note(&mut state, &mut step);
            self.relay(&mut state, &mut step);
        }));
        if contained.is_err() {
            self.reset(
                &mut state,
                Reason::Internal,
                "a panic was contained",
                &mut step,
            );
        }
        step
    }

    fn relay(&self, state: &mut State, step: &mut Step) {
        self.to_backend(state, step);
        if !state.over && !state.closing {
            self.to_client(state, step);
        }
        if state.closing && !state.over && state.client_unread {
            let hangup = state.client_hangup;
            let got = self.client.advance(hangup);
            state.client_unread = got.more;
            step.more |= got.more;
            self.take_in(got, state, step);
        }
        if !state.over && !state.closing && state.is_complete() {
            // Nothing is left to be moved: the connection is over once all is sent.
            state.closing = true;
            self.take_in(self.client.shutdown(), state, step);
        }
    }

    /// What the client sends.
    fn to_backend(&self, state: &mut State, step: &mut Step) {
        let mut moved = 0;
        loop {
            if state.closing || state.over || !self.send_pending(state, step) {
                return;
            }
            if state.client_ended && !state.finished {
                state.finished = true;
                if let Some(fd) = state.fd() {
                    socket::shut_sending(fd);
                }
            }
            if !state.client_unread {
                return;
            }
            if moved >= TURN {
                step.more = true;
                return;
            }
            let mut got = self.client.advance(state.client_hangup);
            state.client_unread = got.more;
            moved += got.data.len();
            if !state.backend_broken {
                state.pending = std::mem::take(&mut got.data);
            }
            self.take_in(got, state, step);
        }
    }

    /// Send what is for the backend; false if nothing more can go there now.
    fn send_pending(&self, state: &mut State, step: &mut Step) -> bool {
        let Some(backend) = state.backend.as_ref() else {
            return false;
        };
        let preface = state.preface.len();
        while !state.is_sent() {
            let fore = &state.preface[state.sent.min(preface)..];
            let rest = &state.pending[state.sent.saturating_sub(preface)..];
            let sent = if fore.is_empty() {
                socket::send(backend.as_fd(), &[IoSlice::new(rest)])
            } else {
                socket::send(backend.as_fd(), &[IoSlice::new(fore), IoSlice::new(rest)])
            };
            match sent {
                Ok(taken) => {
                    state.sent += taken;
                    state.connecting = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if state.connecting => {
                    state.connect_failed(&error, step);
                    return false;
                }
                Err(_) => {
                    // It may have sent an answer before: `to_client` finds that, and the reset.
                    state.backend_broken = true;
                    state.finished = true;
                    state.backend_unread = true;
                    state.backend_hangup = true;
                    break;
                }
            }
        }
        if !state.connecting && !state.connected {
            state.connected = true;
            step.effects.push(Effect::BackendConnected);
        }
        state.preface = Vec::new();
        state.pending = Vec::new();
        state.sent = 0;
        !state.connecting
    }

    /// What the backend sends.
    fn to_client(&self, state: &mut State, step: &mut Step) {
        if state.backend_ended || !state.connected {
            return;
        }
        let mut backlog = self.client.backlog();
        if backlog > 0 {
            backlog = self.client.flush();
        }
        let mut moved = 0;
        SCRATCH.with_borrow_mut(|scratch| {
            let start = scratch.as_ptr().align_offset(PAGE).min(PAGE) + SKEW;
            let scratch = &mut scratch[start..start + CHUNK];
            while backlog == 0 && state.backend_unread {
                if moved >= TURN {
                    step.more = true;
                    return;
                }
                let Some(backend) = state.backend.as_ref() else {
                    return;
                };
                match socket::receive(backend.as_fd(), scratch) {
                    Ok(0) if state.backend_broken => {
                        self.reset(state, Reason::BackendReset, "the backend is gone", step);
                        return;
                    }
                    Ok(0) => {
                        state.backend_ended = true;
                        self.client.write_eof();
                        return;
                    }
                    Ok(length) => {
                        moved += length;
                        if length < scratch.len() && !state.backend_hangup {
                            state.backend_unread = false;
                        }
                        backlog = self.client.write(&scratch[..length]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        state.backend_unread = false;
                    }
                    Err(error) => {
                        self.reset(state, Reason::BackendReset, &error.to_string(), step);
                        return;
                    }
                }
            }
        });
        if moved > 0 && state.client_ended && !state.over {
            // No edge tells that a client is gone which had sent its end before.
            self.take_in(self.client.advance(false), state, step);
        }
    }

    /// What a step of the client's connection brought, its data apart.
    fn take_in(&self, got: Step, state: &mut State, step: &mut Step) {
        if got.held {
            self.client.flush();
        }
        for effect in got.effects {
            match effect {
                Effect::PeerClosed => state.client_ended = true,
                Effect::Closed(closed) => {
                    state.over = true;
                    // What ended in disorder shall not look whole to the backend.
                    let reset = !state.is_complete();
                    state.drop_backend(reset, step);
                    step.effects.push(Effect::Closed(closed));
                }
                other => step.effects.push(other),
            }
        }
        if got.lingering && !state.closing {
            // A fatal alert was sent to the client.
            state.closing = true;
            step.lingering = true;
            state.drop_backend(true, step);
        }
    }

    fn reset(&self, state: &mut State, reason: Reason, detail: &str, step: &mut Step) {
        state.drop_backend(true, step);
        state.over = true;
        self.client.abort();
        step.effects
            .push(Effect::Closed(Closed::new(reason, detail)));
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
