use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::ClientConnection;

use super::*;
use crate::connection::tests::Peers;

struct Relayed {
    relay: Relay,
    client: ClientConnection,
    wire: UnixStream,
    listener: TcpListener,
}

impl Relayed {
    fn new() -> Self {
        let mut peers = Peers::new();
        peers.handshake();
        let Peers {
            server,
            client,
            wire,
        } = peers;
        Self {
            relay: Relay::new(Arc::new(server)),
            client,
            wire,
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    fn address(&self) -> Address {
        Address::Tcp(self.listener.local_addr().unwrap())
    }

    /// Connect, with `preface`; the backend's end of it.
    fn connect(&self, preface: &[u8]) -> (TcpStream, Step) {
        self.relay
            .connect(&self.address(), preface.to_vec())
            .unwrap();
        let (stream, _) = self.listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        (stream, self.relay.backend_ready(libc::EPOLLOUT))
    }

    fn client_sends(&mut self, data: &[u8]) -> Step {
        self.client.writer().write_all(data).unwrap();
        self.client_to_relay()
    }

    fn client_to_relay(&mut self) -> Step {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire).unwrap();
        }
        self.relay.advance(false)
    }

    fn client_reads(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        while self.client.read_tls(&mut self.wire).is_ok_and(|n| n > 0) {
            let state = self.client.process_new_packets().unwrap();
            let start = data.len();
            data.resize(start + state.plaintext_bytes_to_read(), 0);
            self.client.reader().read_exact(&mut data[start..]).unwrap();
        }
        data
    }
}

fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    stream.read_exact(&mut data).unwrap();
    data
}

fn closed(step: &Step) -> Option<Reason> {
    step.effects.iter().find_map(|effect| match effect {
        Effect::Closed(closed) => Some(closed.reason),
        _ => None,
    })
}

#[test]
fn the_preface_goes_first_then_what_came_before_then_the_rest() {
    let mut relayed = Relayed::new();
    relayed.relay.push(b"before ");
    let (mut backend, step) = relayed.connect(b"PROXY ");
    assert!(matches!(
        step.effects.as_slice(),
        [Effect::BackendConnected]
    ));
    relayed.client_sends(b"after");
    assert_eq!(exactly(&mut backend, 18), b"PROXY before after");
    backend.write_all(b"answer").unwrap();
    relayed.relay.backend_ready(libc::EPOLLIN);
    assert_eq!(relayed.client_reads(), b"answer");
}

#[test]
fn both_ends_in_either_order_are_an_orderly_close() {
    for client_first in [true, false] {
        let mut relayed = Relayed::new();
        let (mut backend, _) = relayed.connect(b"");
        let mut last = Step::default();
        for turn in [client_first, !client_first] {
            assert_eq!(closed(&last), None);
            if turn {
                relayed.client.send_close_notify();
                last = relayed.client_to_relay();
                assert_eq!(backend.read(&mut [0]).unwrap(), 0);
            } else {
                socket::shut_sending(backend.as_fd());
                last = relayed.relay.backend_ready(libc::EPOLLIN | libc::EPOLLHUP);
                relayed.client_reads();
                assert!(relayed.client.reader().read(&mut [0]).is_ok_and(|n| n == 0));
            }
        }
        assert_eq!(closed(&last), Some(Reason::Done));
    }
}

#[test]
fn an_end_without_close_notify_is_one_for_the_backend() {
    let mut relayed = Relayed::new();
    let (mut backend, _) = relayed.connect(b"");
    relayed.client.writer().write_all(b"last").unwrap();
    relayed.client.write_tls(&mut relayed.wire).unwrap();
    relayed.wire.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(relayed.relay.advance(true).effects.is_empty());
    assert_eq!(exactly(&mut backend, 4), b"last");
    assert_eq!(backend.read(&mut [0]).unwrap(), 0);
    backend.write_all(b"answer").unwrap();
    relayed.relay.backend_ready(libc::EPOLLIN);
    assert_eq!(relayed.client_reads(), b"answer");
}

#[test]
fn a_backend_that_refuses_is_told_and_another_gets_everything() {
    let relayed = Relayed::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(nobody.local_addr().unwrap());
    drop(nobody);
    relayed.relay.push(b"kept");
    relayed.relay.connect(&address, b"first ".to_vec()).unwrap();
    let step = relayed.relay.backend_ready(libc::EPOLLIN | libc::EPOLLHUP);
    assert!(matches!(
        step.effects.as_slice(),
        [Effect::BackendFailed(_)]
    ));
    let (mut backend, _) = relayed.connect(b"second ");
    assert_eq!(exactly(&mut backend, 11), b"second kept");
}

#[test]
fn an_event_meant_for_another_socket_is_no_connection() {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // Fills the queue, so that the kernel leaves whoever comes next unanswered.
    let _first = TcpStream::connect(address).unwrap();
    let relayed = Relayed::new();
    relayed
        .relay
        .connect(&Address::Tcp(address), Vec::new())
        .unwrap();
    assert!(relayed
        .relay
        .backend_ready(libc::EPOLLIN | libc::EPOLLHUP)
        .effects
        .is_empty());
    relayed.relay.give_up();
    relayed.relay.push(b"kept");
    let (mut backend, _) = relayed.connect(b"");
    assert_eq!(exactly(&mut backend, 4), b"kept");
}

#[test]
fn a_reset_of_the_backend_is_one_for_the_client() {
    let mut relayed = Relayed::new();
    let (backend, _) = relayed.connect(b"");
    socket::reset_on_close(backend.as_fd());
    drop(backend);
    let step = relayed.relay.backend_ready(libc::EPOLLIN | libc::EPOLLHUP);
    assert_eq!(closed(&step), Some(Reason::BackendReset));
    assert!(relayed
        .client
        .read_tls(&mut relayed.wire)
        .is_ok_and(|n| n == 0));
    assert!(relayed.relay.advance(true).effects.is_empty());
}

#[test]
fn a_client_is_not_read_while_the_backend_takes_nothing() {
    let mut relayed = Relayed::new();
    let (mut backend, _) = relayed.connect(b"");
    let block = [7; 16 * 1024];
    let mut sent = 0;
    // Until the client's own socket takes no more.
    'client: loop {
        relayed.client.writer().write_all(&block).unwrap();
        sent += block.len();
        while relayed.client.wants_write() {
            if relayed.client.write_tls(&mut relayed.wire).is_err() {
                let before = relayed.relay.lock().pending.len();
                relayed.relay.advance(false);
                let state = relayed.relay.lock();
                assert!(state.pending.len() <= 3 * CHUNK);
                if before > 0 && !state.is_sent() {
                    break 'client;
                }
            }
        }
    }
    let mut received = 0;
    let mut buffer = vec![0; CHUNK];
    while received < sent {
        received += backend.read(&mut buffer).unwrap();
        relayed.relay.backend_ready(libc::EPOLLOUT);
        while relayed.client.wants_write() && relayed.client.write_tls(&mut relayed.wire).is_ok() {}
        relayed.relay.advance(false);
    }
    assert_eq!(received, sent);
}

#[test]
fn a_backend_is_not_read_while_the_client_takes_nothing() {
    let mut relayed = Relayed::new();
    let (mut backend, _) = relayed.connect(b"");
    backend.set_nonblocking(true).unwrap();
    let block = vec![9; CHUNK];
    let mut sent = 0;
    loop {
        match backend.write(&block) {
            Ok(length) => sent += length,
            Err(_) if relayed.relay.client.backlog() > 0 => break,
            Err(_) => {}
        }
        relayed.relay.backend_ready(libc::EPOLLIN);
    }
    assert!(relayed.relay.client.backlog() <= 2 * CHUNK);
    let mut received = 0;
    while received < sent {
        received += relayed.client_reads().len();
        relayed.relay.advance(false);
    }
    assert_eq!(received, sent);
}

#[test]
fn an_end_that_came_with_the_handshake_is_passed_on() {
    for notify in [true, false] {
        let mut peers = Peers::new();
        peers.server.tolerate_truncation();
        peers.client_to_server();
        peers.server_to_client();
        peers.client.writer().write_all(b"all").unwrap();
        if notify {
            peers.client.send_close_notify();
        }
        while peers.client.wants_write() {
            peers.client.write_tls(&mut peers.wire).unwrap();
        }
        peers.wire.shutdown(std::net::Shutdown::Write).unwrap();
        let step = peers.server.advance(true);
        assert_eq!(closed(&step), None);
        assert_eq!(step.data, b"all");
        let relay = Relay::new(Arc::new(peers.server));
        relay.push(&step.data);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        relay.connect(&address, Vec::new()).unwrap();
        let (mut backend, _) = listener.accept().unwrap();
        relay.backend_ready(libc::EPOLLOUT);
        assert_eq!(exactly(&mut backend, 3), b"all");
        assert_eq!(backend.read(&mut [0]).unwrap(), 0);
    }
}
