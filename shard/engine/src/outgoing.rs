//! What a connection still has to send: ciphertext that the socket did not take, and plaintext
//! that is not encrypted yet.
//!
//! Only a little is ever encrypted ahead, so a slow reader holds plaintext once and no more.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::os::fd::BorrowedFd;

use crate::socket;

/// Plaintext encrypted at a time: four full records.
pub const ENCRYPT_AHEAD: usize = 64 * 1024;
/// Small writes are gathered up to a full record (RFC 8446 §5.1: 2^14 bytes).
const GATHER: usize = 16 * 1024;

#[derive(Default)]
pub struct Outgoing {
    ciphertext: Vec<u8>,
    /// Of `ciphertext`, how much is sent.
    sent: usize,
    plaintext: VecDeque<Vec<u8>>,
    /// Of the first piece of `plaintext`, how much is encrypted.
    encrypted: usize,
    plaintext_len: usize,
    /// The socket takes nothing any more: the peer is gone.
    pub broken: bool,
}

impl Outgoing {
    /// Bytes that the socket has not taken.
    pub fn backlog(&self) -> usize {
        self.ciphertext.len() - self.sent + self.plaintext_len
    }

    /// No ciphertext is waiting for the socket.
    pub fn is_sent(&self) -> bool {
        self.sent == self.ciphertext.len()
    }

    /// No plaintext is waiting to be encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.plaintext_len == 0
    }

    /// Queue plaintext.
    pub fn push(&mut self, data: &[u8]) {
        if self.broken || data.is_empty() {
            return;
        }
        self.plaintext_len += data.len();
        let single = self.plaintext.len() == 1 && self.encrypted > 0;
        match self.plaintext.back_mut() {
            Some(last) if !single && last.len() + data.len() <= GATHER => {
                last.extend_from_slice(data);
            }
            _ => self.plaintext.push_back(data.to_vec()),
        }
    }

    /// Nothing more is encrypted; what is already is still sent.
    pub fn forget_plaintext(&mut self) {
        self.plaintext.clear();
        self.encrypted = 0;
        self.plaintext_len = 0;
    }

    /// Hand the next plaintext to `encrypt`, at most [`ENCRYPT_AHEAD`] bytes.
    pub fn encrypt_next(&mut self, encrypt: impl FnOnce(&[u8])) {
        let Some(first) = self.plaintext.front() else {
            return;
        };
        let end = first.len().min(self.encrypted + ENCRYPT_AHEAD);
        encrypt(&first[self.encrypted..end]);
        self.plaintext_len -= end - self.encrypted;
        self.encrypted = end;
        if end == first.len() {
            self.plaintext.pop_front();
            self.encrypted = 0;
        }
    }

    /// Send ciphertext left over from before.
    pub fn send_rest(&mut self, fd: BorrowedFd) {
        while !self.broken && !self.is_sent() {
            match socket::send(fd, &[IoSlice::new(&self.ciphertext[self.sent..])]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.discard(),
            }
        }
        self.ciphertext.clear();
        self.sent = 0;
    }

    /// The peer is gone: nothing will be sent.
    pub fn discard(&mut self) {
        *self = Self {
            broken: true,
            ..Self::default()
        };
    }

    /// A writer for rustls: sends, and keeps what the socket does not take.
    pub fn writer<'a>(&'a mut self, fd: BorrowedFd<'a>) -> Sender<'a> {
        Sender { outgoing: self, fd }
    }
}

pub struct Sender<'a> {
    outgoing: &'a mut Outgoing,
    fd: BorrowedFd<'a>,
}

impl Write for Sender<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice]) -> io::Result<usize> {
        let total = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut sent = 0;
        if !self.outgoing.broken && self.outgoing.is_sent() {
            match socket::send(self.fd, buffers) {
                Ok(taken) => sent = taken,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => self.outgoing.discard(),
            }
        }
        if !self.outgoing.broken {
            for buffer in buffers {
                let skip = sent.min(buffer.len());
                sent -= skip;
                self.outgoing.ciphertext.extend_from_slice(&buffer[skip..]);
            }
        }
        Ok(total)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn small_writes_are_gathered_and_come_out_in_order() {
        let mut outgoing = Outgoing::default();
        outgoing.push(b"one");
        outgoing.push(b"two");
        outgoing.push(&vec![b'x'; ENCRYPT_AHEAD + 5]);
        assert_eq!(outgoing.backlog(), 6 + ENCRYPT_AHEAD + 5);
        let mut seen = Vec::new();
        let mut pieces = 0;
        while !outgoing.is_encrypted() {
            outgoing.encrypt_next(|piece| seen.extend_from_slice(piece));
            pieces += 1;
        }
        assert_eq!(pieces, 3);
        assert!(seen.starts_with(b"onetwox"));
        assert_eq!(seen.len(), 6 + ENCRYPT_AHEAD + 5);
    }

    #[test]
    fn a_push_while_the_only_piece_is_half_encrypted_keeps_order() {
        let mut outgoing = Outgoing::default();
        outgoing.push(&vec![b'a'; ENCRYPT_AHEAD + 1]);
        let mut seen = Vec::new();
        outgoing.encrypt_next(|piece| seen.extend_from_slice(piece));
        outgoing.push(b"b");
        while !outgoing.is_encrypted() {
            outgoing.encrypt_next(|piece| seen.extend_from_slice(piece));
        }
        assert!(seen.ends_with(b"ab"));
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_kept_and_sent_later() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut outgoing = Outgoing::default();
        let block: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        assert_eq!(
            outgoing.writer(ours.as_fd()).write(&block).unwrap(),
            block.len()
        );
        assert!(!outgoing.is_sent());
        let mut got = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while got.len() < block.len() {
            let n = theirs.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..n]);
            outgoing.send_rest(ours.as_fd());
        }
        assert_eq!(got, block);
        assert_eq!(outgoing.backlog(), 0);
    }

    #[test]
    fn a_peer_that_is_gone_is_noticed_and_nothing_is_kept() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut outgoing = Outgoing::default();
        outgoing.push(b"lost");
        outgoing.writer(ours.as_fd()).write_all(b"x").unwrap();
        assert!(outgoing.broken);
        assert_eq!(outgoing.backlog(), 0);
    }
}
