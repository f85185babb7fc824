//! Reading a ClientHello before rustls does, for the sessions that it offers.
//!
//! The scanner decides nothing about the handshake: what it cannot read goes to rustls unread, and
//! rustls answers with the alert that is due. It looks for what selects a certificate (the server
//! name) and a session (a TLS 1.2 session id, TLS 1.3 PSK identities).

use crate::exchange::ID_LEN;
use crate::tickets;

/// Longest ClientHello that is read, and about the most bytes held back for one (it may be cut
/// into many records). rustls itself takes no longer message.
pub const MAX_HELLO: usize = 64 * 1024;
const MAX_RAW: usize = MAX_HELLO + 32 * 1024;
/// Identities looked up at most (RFC 8446 §4.2.11: a client may offer any number).
pub const MAX_IDS: usize = 2;

const RECORD_HEADER: usize = 5;
const MAX_FRAGMENT: usize = 16384;
const CONTENT_HANDSHAKE: u8 = 22;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const HANDSHAKE_HEADER: usize = 4;
const TLS13: u16 = 0x0304;
const EXT_SERVER_NAME: u16 = 0;
const EXT_ALPN: u16 = 16;
const EXT_SESSION_TICKET: u16 = 35;
const EXT_PRE_SHARED_KEY: u16 = 41;
const EXT_SUPPORTED_VERSIONS: u16 = 43;
const NAME_HOST: u8 = 0;

/// What a ClientHello offers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// server_name (RFC 6066 §3), lower case; None if absent or not ASCII.
    pub server_name: Option<String>,
    /// The client's first choice of cipher suite.
    pub first_suite: Option<u16>,
    /// Application protocols (RFC 7301 §3.1), in the client's order.
    pub alpn: Vec<Vec<u8>>,
    /// supported_versions names TLS 1.3 (RFC 8446 §4.2.1).
    pub offers_tls13: bool,
    /// legacy_session_id, if it has the length of ours.
    pub session_id: Option<[u8; ID_LEN]>,
    /// PSK identities (RFC 8446 §4.2.11) of the length of ours, in the client's order.
    pub identities: Vec<[u8; ID_LEN]>,
    /// legacy_session_id has another length than ours, and is not empty.
    pub foreign_session_id: bool,
    /// A PSK identity has another length than ours.
    pub foreign_identity: bool,
    /// session_ticket (RFC 5077 §3.2), if it is long enough to be a sealed one of ours.
    pub session_ticket: Option<Vec<u8>>,
    /// PSK identities that are long enough, in the client's order.
    pub tickets: Vec<Vec<u8>>,
}

/// ChaCha20-Poly1305 suites (RFC 8446 §B.4, RFC 7905 §2).
const CHACHA20: [u16; 3] = [0x1303, 0xcca8, 0xcca9];

impl ClientHello {
    /// The client has no hardware for AES, as it puts ChaCha20 first.
    pub fn prefers_chacha20(&self) -> bool {
        self.first_suite
            .is_some_and(|suite| CHACHA20.contains(&suite))
    }

    /// The ids to look up, if TLS 1.3 is (not) what will be negotiated.
    pub fn offered_ids(&self, tls13: bool) -> Vec<[u8; ID_LEN]> {
        if tls13 {
            self.identities.clone()
        } else {
            self.session_id.into_iter().collect()
        }
    }

    /// It offers a session that cannot be one of ours, if TLS 1.3 is (not) what will be negotiated.
    pub fn offers_foreign(&self, tls13: bool) -> bool {
        match tls13 {
            true => self.foreign_identity,
            false => self.foreign_session_id,
        }
    }

    /// The sealed tickets to open, likewise.
    pub fn offered_tickets(&self, tls13: bool) -> &[Vec<u8>] {
        if tls13 {
            &self.tickets
        } else {
            self.session_ticket.as_slice()
        }
    }
}

/// How far the scanner has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// More bytes are needed.
    Incomplete,
    /// Here it is.
    Complete(ClientHello),
    /// This is no ClientHello that we can read: rustls shall answer it.
    Unreadable,
}

/// Collects a connection's first bytes until they hold a whole ClientHello, however it is cut into
/// records and segments. Work and memory are linear in the bytes fed.
#[derive(Default)]
pub struct Scanner {
    raw: Vec<u8>,
    next_record: usize,
    message: Vec<u8>,
}

impl Scanner {
    /// Take more of the connection's bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Scan {
        self.raw.extend_from_slice(bytes);
        while let Some(header) = self
            .raw
            .get(self.next_record..self.next_record + RECORD_HEADER)
        {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            // "Implementations MUST NOT send zero-length fragments of Handshake types"
            // (RFC 8446 §5.1).
            if header[0] != CONTENT_HANDSHAKE
                || header[1] != 3
                || length == 0
                || length > MAX_FRAGMENT
            {
                return Scan::Unreadable;
            }
            let start = self.next_record + RECORD_HEADER;
            let Some(fragment) = self.raw.get(start..start + length) else {
                break;
            };
            self.message.extend_from_slice(fragment);
            self.next_record = start + length;
            match self.whole_message() {
                Scan::Incomplete => {}
                done => return done,
            }
        }
        if self.raw.len() > MAX_RAW {
            return Scan::Unreadable;
        }
        Scan::Incomplete
    }

    /// All bytes fed so far, for rustls.
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    fn whole_message(&self) -> Scan {
        let Some(header) = self.message.get(..HANDSHAKE_HEADER) else {
            return Scan::Incomplete;
        };
        let length =
            usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
        if header[0] != HANDSHAKE_CLIENT_HELLO || length > MAX_HELLO {
            return Scan::Unreadable;
        }
        let body = &self.message[HANDSHAKE_HEADER..];
        if body.len() < length {
            return Scan::Incomplete;
        }
        parse(&body[..length]).map_or(Scan::Unreadable, Scan::Complete)
    }
}

/// A cursor over length-prefixed fields (RFC 8446 §3).
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<Self> {
        let length = self.u8()?;
        self.take(length.into()).map(Self)
    }

    fn vector16(&mut self) -> Option<Self> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut fields = Fields(body);
    let mut hello = ClientHello::default();
    fields.take(2 + 32)?; // legacy_version, random
    let session_id = fields.vector8()?;
    hello.session_id = session_id.0.try_into().ok();
    hello.foreign_session_id = hello.session_id.is_none() && !session_id.is_empty();
    hello.first_suite = Some(fields.vector16()?.u16()?);
    fields.vector8()?; // legacy_compression_methods
    if fields.is_empty() {
        return Some(hello); // a TLS 1.2 hello may have no extensions (RFC 5246 §7.4.1.2)
    }
    let mut extensions = fields.vector16()?;
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        match kind {
            EXT_SERVER_NAME => hello.server_name = server_name(data)?,
            EXT_ALPN => hello.alpn = protocols(data)?,
            EXT_SUPPORTED_VERSIONS => hello.offers_tls13 = versions(data)?.contains(&TLS13),
            EXT_SESSION_TICKET => hello.session_ticket = sealed(data.0),
            EXT_PRE_SHARED_KEY => identities(data, &mut hello)?,
            _ => {}
        }
    }
    Some(hello)
}

fn server_name(mut data: Fields) -> Option<Option<String>> {
    let mut names = data.vector16()?;
    while !names.is_empty() {
        let kind = names.u8()?;
        let name = names.vector16()?;
        if kind == NAME_HOST {
            let text = std::str::from_utf8(name.0)
                .ok()
                .filter(|text| text.is_ascii());
            return Some(text.map(str::to_ascii_lowercase));
        }
    }
    Some(None)
}

fn protocols(mut data: Fields) -> Option<Vec<Vec<u8>>> {
    let mut list = data.vector16()?;
    let mut names = Vec::new();
    while !list.is_empty() {
        names.push(list.vector8()?.0.to_vec());
    }
    Some(names)
}

fn versions(mut data: Fields) -> Option<Vec<u16>> {
    let mut list = data.vector8()?;
    let mut versions = Vec::new();
    while !list.is_empty() {
        versions.push(list.u16()?);
    }
    Some(versions)
}

fn sealed(ticket: &[u8]) -> Option<Vec<u8>> {
    (ticket.len() >= tickets::MIN_LEN).then(|| ticket.to_vec())
}

fn identities(mut data: Fields, hello: &mut ClientHello) -> Option<()> {
    let mut list = data.vector16()?;
    while !list.is_empty() {
        let identity = list.vector16()?;
        list.take(4)?; // obfuscated_ticket_age
        if let Ok(id) = identity.0.try_into() {
            if hello.identities.len() < MAX_IDS {
                hello.identities.push(id);
            }
        } else {
            hello.foreign_identity = true;
            if hello.tickets.len() < MAX_IDS {
                hello.tickets.extend(sealed(identity.0));
            }
        }
    }
    Some(())
}

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
