//! Stateless tickets: the session itself, sealed under a key that all workers have.
//!
//! The construction is that of RFC 5077 §4 with AES-256-GCM:
//!
//! ```text
//! ticket = key name (16) | nonce (12) | AES-256-GCM(header | session) | tag (16)
//! header = format (1) | issued, Unix ms (8) | id (32) | certificate (8) | worker (8)
//! ```
//!
//! The key name and the scope are associated data, so a ticket opens only where it was issued for:
//! the certificate's names, ports, ALPN and trust settings that make the scope. Which epochs exist,
//! and which one seals, is decided elsewhere; here they are held, used, and wiped when their time
//! is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM, NONCE_LEN};
use aws_lc_rs::digest::{digest, SHA256};

use crate::context::SCOPE_LEN;
use crate::drbg::process;
use crate::exchange::{Value, ID_LEN};
use crate::watermark::Watermark;

pub const NAME_LEN: usize = 16;
pub const KEY_LEN: usize = 32;
/// Bytes of the SHA-256 that stands for a worker or a certificate in a ticket.
pub const MARK_LEN: usize = 8;
const TAG_LEN: usize = 16;
const FORMAT: u8 = 1;
const HEADER_LEN: usize = 1 + 8 + ID_LEN + 2 * MARK_LEN;
/// No ticket of ours is shorter.
pub const MIN_LEN: usize = NAME_LEN + NONCE_LEN + HEADER_LEN + TAG_LEN;
/// "The total number of invocations of the authenticated encryption function shall not exceed
/// 2^32" with random nonces (SP 800-38D §8.3). That is for all workers together; the coordinator
/// adds up what they report and makes another key at half of it. This is the last resort.
pub const MAX_SEALED: u64 = 1 << 32;
const DOMAIN: &[u8; 17] = b"shardtls ticket 1";

pub type Mark = [u8; MARK_LEN];
pub type Name = [u8; NAME_LEN];
pub type Scope = [u8; SCOPE_LEN];

/// What stands for a worker or a certificate in a ticket.
pub fn mark(what: &[u8]) -> Mark {
    let hash = digest(&SHA256, what);
    let mut mark = [0; MARK_LEN];
    mark.copy_from_slice(&hash.as_ref()[..MARK_LEN]);
    mark
}

/// A point in time: of the calendar, which tickets carry between hosts, and of the clock that never
/// goes back, by which keys end.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub unix_ms: u64,
    pub steady: Instant,
}

impl Moment {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            unix_ms: since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            steady: Instant::now(),
        }
    }
}

/// Why a ticket that has the form of ours is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// No key of that name: another server's, or one whose time is over.
    Unknown,
    /// It does not open here: made under another scope, or tampered with.
    Scope,
    Expired,
    Purged,
}

impl Miss {
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Scope, Self::Expired, Self::Purged];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Scope => "scope",
            Self::Expired => "expired",
            Self::Purged => "purged",
        }
    }
}

/// One key with its time. AWS-LC clears the key's memory when it frees it.
pub struct Epoch {
    name: Name,
    key: LessSafeKey,
    decrypt_until: Instant,
    sealed: AtomicU64,
}

impl Epoch {
    /// `key`: the caller clears its own copy.
    pub fn new(name: Name, key: &[u8; KEY_LEN], decrypt_until: Instant) -> Result<Self, String> {
        // CVE-2020-13777: GnuTLS sealed tickets under a key of zeros.
        if name.iter().all(|&b| b == 0) || key.iter().all(|&b| b == 0) {
            return Err("a key or its name is all zeros".into());
        }
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| "the key is refused")?;
        Ok(Self {
            name,
            key: LessSafeKey::new(key),
            decrypt_until,
            sealed: AtomicU64::new(0),
        })
    }
}

/// Replaced as a whole, never changed.
#[derive(Default)]
struct Ring {
    epochs: Vec<Arc<Epoch>>,
    active: Option<Arc<Epoch>>,
    watermarks: Vec<Watermark>,
}

/// What is sealed beside the session.
pub struct Header {
    pub issued_ms: u64,
    pub id: [u8; ID_LEN],
    pub certificate: Mark,
    pub worker: Mark,
}

/// A ticket that was opened.
pub struct Opened {
    pub session: Value,
    /// Random, of this ticket alone.
    pub id: [u8; ID_LEN],
    pub issued_ms: u64,
    pub expires_ms: u64,
}

/// What a ticket is bound to beside its time.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub scope: Scope,
    pub certificate: Mark,
}

/// The ring of a worker, shared by all its connections. Any thread may call anything.
pub struct TicketKeys {
    worker: Mark,
    ttl_ms: u64,
    ring: RwLock<Arc<Ring>>,
    opened: AtomicU64,
    missed: [AtomicU64; Miss::ALL.len()],
}

/// What a worker reports of its ring.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of the epochs held, the latest last.
    pub names: Vec<Name>,
    pub active: Option<Name>,
    /// Tickets sealed under the active key, here.
    pub sealed: u64,
    pub opened: u64,
    pub missed: Vec<(&'static str, u64)>,
}

impl TicketKeys {
    /// `ttl`: seconds a ticket is good for, counted from the handshake that it was issued in.
    pub fn new(worker: &str, ttl: u32) -> Self {
        Self {
            worker: mark(worker.as_bytes()),
            ttl_ms: u64::from(ttl) * 1000,
            ring: RwLock::default(),
            opened: AtomicU64::new(0),
            missed: Default::default(),
        }
    }

    fn current(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Take `added` in; of what is held keep `kept` alone; seal under `active` from now on, or under
    /// nothing. An epoch that is held already stays as it is.
    pub fn replace(&self, kept: &[Name], added: Vec<Epoch>, active: Option<Name>, now: Moment) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let mut epochs: Vec<_> = ring
            .epochs
            .iter()
            .filter(|epoch| kept.contains(&epoch.name) && now.steady < epoch.decrypt_until)
            .cloned()
            .collect();
        for epoch in added {
            if !epochs.iter().any(|held| held.name == epoch.name) {
                epochs.push(Arc::new(epoch));
            }
        }
        let active = epochs
            .iter()
            .find(|epoch| Some(epoch.name) == active)
            .cloned();
        let watermarks = ring.watermarks.clone();
        *ring = Arc::new(Ring {
            epochs,
            active,
            watermarks,
        });
    }

    /// What is refused from now on.
    pub fn set_watermarks(&self, watermarks: Vec<Watermark>) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        *ring = Arc::new(Ring {
            epochs: ring.epochs.clone(),
            active: ring.active.clone(),
            watermarks,
        });
    }

    /// Drop the keys whose time is over.
    pub fn sweep(&self, now: Moment) {
        let over = |epoch: &Arc<Epoch>| now.steady >= epoch.decrypt_until;
        if self.current().epochs.iter().any(over) {
            let held = self.status();
            self.replace(&held.names, Vec::new(), held.active, now);
        }
    }

    pub fn status(&self) -> Status {
        let ring = self.current();
        let counts = Miss::ALL.iter().zip(&self.missed);
        Status {
            names: ring.epochs.iter().map(|epoch| epoch.name).collect(),
            active: ring.active.as_ref().map(|epoch| epoch.name),
            sealed: ring
                .active
                .as_ref()
                .map_or(0, |epoch| epoch.sealed.load(Ordering::Relaxed)),
            opened: self.opened.load(Ordering::Relaxed),
            missed: counts
                .map(|(miss, count)| (miss.name(), count.load(Ordering::Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    /// The issue time of tickets of a handshake that begins now: never before a watermark, however
    /// late this host's clock is.
    pub fn stamp(&self, now: Moment) -> u64 {
        let ring = self.current();
        let marks = ring.watermarks.iter().map(|mark| mark.before_ms);
        marks.fold(now.unix_ms, u64::max)
    }

    /// A ticket and the seconds for which it can be resumed. None: nothing seals at present, or the
    /// ticket would be good for nothing.
    pub fn seal(
        &self,
        place: &Place,
        issued_ms: u64,
        session: &[u8],
        now: Moment,
    ) -> Option<(Vec<u8>, u32)> {
        let ring = self.current();
        let epoch = ring.active.as_ref()?;
        // A client must not be told of a longer life than the key has.
        let key_left = epoch.decrypt_until.checked_duration_since(now.steady)?;
        let session_left = (issued_ms + self.ttl_ms).saturating_sub(now.unix_ms);
        let left = key_left.min(Duration::from_millis(session_left.min(self.ttl_ms)));
        let lifetime = u32::try_from(left.as_secs()).ok().filter(|&s| s > 0)?;
        if epoch.sealed.fetch_add(1, Ordering::Relaxed) >= MAX_SEALED {
            return None;
        }
        let mut random = [0; NONCE_LEN + ID_LEN];
        process::fill(&mut random).ok()?;
        let (nonce, id) = random.split_at(NONCE_LEN);
        let start = NAME_LEN + NONCE_LEN;
        let mut ticket = Vec::with_capacity(MIN_LEN + session.len());
        ticket.extend_from_slice(&epoch.name);
        ticket.extend_from_slice(nonce);
        ticket.push(FORMAT);
        ticket.extend_from_slice(&issued_ms.to_be_bytes());
        ticket.extend_from_slice(id);
        ticket.extend_from_slice(&place.certificate);
        ticket.extend_from_slice(&self.worker);
        ticket.extend_from_slice(session);
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = associated(&epoch.name, &place.scope);
        let sealed =
            epoch
                .key
                .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut ticket[start..]);
        let tag = sealed.ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some((ticket, lifetime))
    }

    /// Open a ticket that a client offers for `scope` and `server_name`, and count what came of it.
    pub fn open(
        &self,
        scope: &Scope,
        server_name: Option<&str>,
        ticket: &[u8],
        now: Moment,
    ) -> Result<Opened, Miss> {
        let result = self.try_open(scope, server_name, ticket, now);
        match &result {
            Ok(_) => &self.opened,
            Err(miss) => &self.missed[*miss as usize],
        }
        .fetch_add(1, Ordering::Relaxed);
        result
    }

    fn try_open(
        &self,
        scope: &Scope,
        server_name: Option<&str>,
        ticket: &[u8],
        now: Moment,
    ) -> Result<Opened, Miss> {
        let (name, rest) = ticket.split_at_checked(NAME_LEN).ok_or(Miss::Unknown)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(Miss::Unknown)?;
        let ring = self.current();
        let epoch = ring
            .epochs
            .iter()
            .find(|epoch| epoch.name == *name && now.steady < epoch.decrypt_until)
            .ok_or(Miss::Unknown)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Miss::Unknown)?;
        let aad = Aad::from(associated(&epoch.name, scope));
        let mut plain = Value::new(sealed.to_vec());
        let length = epoch
            .key
            .open_in_place(nonce, aad, &mut plain)
            .map_err(|_| Miss::Scope)?
            .len();
        plain.truncate(length);
        let header = Header::read(&plain).ok_or(Miss::Scope)?;
        let expires_ms = header.issued_ms.saturating_add(self.ttl_ms);
        if expires_ms <= now.unix_ms {
            return Err(Miss::Expired);
        }
        let purged = |mark: &Watermark| mark.refuses(scope, server_name, &header);
        if ring.watermarks.iter().any(purged) {
            return Err(Miss::Purged);
        }
        plain.drain(..HEADER_LEN);
        Ok(Opened {
            session: plain,
            id: header.id,
            issued_ms: header.issued_ms,
            expires_ms,
        })
    }
}

impl Header {
    fn read(plain: &[u8]) -> Option<Self> {
        let (format, rest) = plain.split_first()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (id, rest) = rest.split_first_chunk::<ID_LEN>()?;
        let (certificate, rest) = rest.split_first_chunk::<MARK_LEN>()?;
        let (worker, _) = rest.split_first_chunk::<MARK_LEN>()?;
        (*format == FORMAT).then_some(Self {
            issued_ms: u64::from_be_bytes(*issued),
            id: *id,
            certificate: *certificate,
            worker: *worker,
        })
    }
}

fn associated(name: &Name, scope: &Scope) -> [u8; DOMAIN.len() + NAME_LEN + SCOPE_LEN] {
    let mut bytes = [0; DOMAIN.len() + NAME_LEN + SCOPE_LEN];
    let (domain, rest) = bytes.split_at_mut(DOMAIN.len());
    domain.copy_from_slice(DOMAIN);
    rest[..NAME_LEN].copy_from_slice(name);
    rest[NAME_LEN..].copy_from_slice(scope);
    bytes
}

#[cfg(test)]
#[path = "tickets_tests.rs"]
mod tests;
