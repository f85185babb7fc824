use proptest::prelude::*;

use super::*;

const TTL: u32 = 1000;
const PLACE: Place = Place {
    scope: [7; SCOPE_LEN],
    certificate: [8; MARK_LEN],
};
const SESSION: &[u8] = b"a session with its secret";

struct Clock(Moment);

impl Clock {
    fn new() -> Self {
        let _ = process::seed(&[7; 48], b"test");
        Self(Moment::now())
    }

    fn after(&self, seconds: u64) -> Moment {
        Moment {
            unix_ms: self.0.unix_ms + seconds * 1000,
            steady: self.0.steady + Duration::from_secs(seconds),
        }
    }

    fn epoch(&self, name: u8, seconds: u64) -> Epoch {
        let until = self.after(seconds).steady;
        Epoch::new([name; NAME_LEN], &[name; KEY_LEN], until).unwrap()
    }

    /// A worker with one epoch, named 1, that seals and lives for 10 000 s.
    fn worker(&self, id: &str) -> TicketKeys {
        let keys = TicketKeys::new(id, TTL);
        let only = vec![self.epoch(1, 10_000)];
        keys.replace(&[], only, Some([1; NAME_LEN]), self.0);
        keys
    }
}

fn seal(keys: &TicketKeys, now: Moment) -> Vec<u8> {
    keys.seal(&PLACE, now.unix_ms, SESSION, now).unwrap().0
}

fn open(keys: &TicketKeys, ticket: &[u8], now: Moment) -> Result<Vec<u8>, Miss> {
    keys.open(&PLACE.scope, Some("a.example"), ticket, now)
        .map(|opened| opened.session.to_vec())
}

#[test]
fn a_ticket_of_one_worker_opens_on_another() {
    let clock = Clock::new();
    let ticket = seal(&clock.worker("a"), clock.0);
    assert_eq!(open(&clock.worker("b"), &ticket, clock.0).unwrap(), SESSION);
    assert!(!ticket.windows(SESSION.len()).any(|part| part == SESSION));
    assert_eq!(ticket[..NAME_LEN], [1; NAME_LEN]);
}

#[test]
fn nonces_and_ids_differ() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    let (first, second) = (seal(&keys, clock.0), seal(&keys, clock.0));
    assert_ne!(
        first[NAME_LEN..NAME_LEN + NONCE_LEN],
        second[NAME_LEN..NAME_LEN + NONCE_LEN]
    );
    let id = |ticket: &[u8]| keys.open(&PLACE.scope, None, ticket, clock.0).unwrap().id;
    assert_ne!(id(&first), id(&second));
    assert_eq!(id(&first), id(&first));
    assert_eq!(keys.status().sealed, 2);
}

#[test]
fn a_ticket_does_not_open_under_another_scope() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    let ticket = seal(&keys, clock.0);
    let other = [9; SCOPE_LEN];
    assert_eq!(
        keys.open(&other, None, &ticket, clock.0).err(),
        Some(Miss::Scope)
    );
    assert_eq!(keys.status().missed, [("scope", 1)]);
}

#[test]
fn no_changed_bit_opens() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    let ticket = seal(&keys, clock.0);
    for bit in 0..ticket.len() * 8 {
        let mut changed = ticket.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&keys, &changed, clock.0).is_err(), "bit {bit}");
    }
}

#[test]
fn nothing_seals_without_an_active_epoch() {
    let clock = Clock::new();
    let keys = TicketKeys::new("a", TTL);
    assert!(keys
        .seal(&PLACE, clock.0.unix_ms, SESSION, clock.0)
        .is_none());
    keys.replace(&[], vec![clock.epoch(1, 60)], None, clock.0);
    assert!(keys
        .seal(&PLACE, clock.0.unix_ms, SESSION, clock.0)
        .is_none());
    // A key that is not held cannot be made active.
    keys.replace(&[[1; NAME_LEN]], Vec::new(), Some([2; NAME_LEN]), clock.0);
    assert!(keys
        .seal(&PLACE, clock.0.unix_ms, SESSION, clock.0)
        .is_none());
}

#[test]
fn a_previous_epoch_opens_and_the_new_one_seals() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    let ticket = seal(&keys, clock.0);
    let next = vec![clock.epoch(2, 10_000)];
    keys.replace(&[[1; NAME_LEN]], next, Some([2; NAME_LEN]), clock.0);
    assert!(open(&keys, &ticket, clock.0).is_ok());
    assert_eq!(seal(&keys, clock.0)[..NAME_LEN], [2; NAME_LEN]);
    keys.replace(&[[2; NAME_LEN]], Vec::new(), Some([2; NAME_LEN]), clock.0);
    assert_eq!(open(&keys, &ticket, clock.0), Err(Miss::Unknown));
}

#[test]
fn an_epoch_that_is_held_keeps_its_key_and_its_count() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    let ticket = seal(&keys, clock.0);
    let name = [1; NAME_LEN];
    let until = clock.after(10).steady;
    let impostor = Epoch::new(name, &[9; KEY_LEN], until).unwrap();
    keys.replace(&[name], vec![impostor], Some(name), clock.0);
    assert!(open(&keys, &ticket, clock.after(100)).is_ok());
    assert_eq!(keys.status().sealed, 1);
}

#[test]
fn a_key_past_its_time_opens_nothing_and_is_dropped() {
    let clock = Clock::new();
    let keys = TicketKeys::new("a", TTL);
    keys.replace(&[], vec![clock.epoch(1, 60)], Some([1; NAME_LEN]), clock.0);
    let ticket = seal(&keys, clock.0);
    assert!(open(&keys, &ticket, clock.after(59)).is_ok());
    assert_eq!(open(&keys, &ticket, clock.after(60)), Err(Miss::Unknown));
    keys.sweep(clock.after(59));
    assert_eq!(keys.status().names.len(), 1);
    keys.sweep(clock.after(60));
    assert_eq!((keys.status().names.len(), keys.status().active), (0, None));
}

#[test]
fn the_promised_life_is_never_longer_than_the_key_s_or_the_session_s() {
    let clock = Clock::new();
    let life = |keys: &TicketKeys, issued: Moment, now: Moment| {
        keys.seal(&PLACE, issued.unix_ms, SESSION, now)
            .map(|sealed| sealed.1)
    };
    let keys = clock.worker("a");
    assert_eq!(life(&keys, clock.0, clock.0), Some(TTL));
    assert_eq!(life(&keys, clock.0, clock.after(400)), Some(TTL - 400));
    assert_eq!(life(&keys, clock.0, clock.after(1000)), None);
    assert_eq!(
        life(&keys, clock.after(9_900), clock.after(9_900)),
        Some(100)
    );
    assert_eq!(life(&keys, clock.after(10_000), clock.after(10_000)), None);
    // A stamp ahead of this clock promises no more.
    assert_eq!(life(&keys, clock.after(500), clock.0), Some(TTL));
}

#[test]
fn a_session_that_is_too_old_is_expired_though_its_key_is_there() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    let ticket = seal(&keys, clock.0);
    assert!(open(&keys, &ticket, clock.after(999)).is_ok());
    assert_eq!(open(&keys, &ticket, clock.after(1000)), Err(Miss::Expired));
}

#[test]
fn a_watermark_refuses_what_fits_all_of_it() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    let ticket = seal(&keys, clock.0);
    let before = Watermark {
        before_ms: clock.0.unix_ms + 1,
        ..Watermark::default()
    };
    let named = |name: &str| Watermark {
        server_name: Some(name.into()),
        ..before.clone()
    };
    let scope = |scope| Watermark {
        scope: Some(scope),
        ..before.clone()
    };
    let certificate = |certificate| Watermark {
        certificate: Some(certificate),
        ..before.clone()
    };
    let worker = |id: &[u8]| Watermark {
        worker: Some(mark(id)),
        ..before.clone()
    };
    let both = Watermark {
        worker: Some(mark(b"b")),
        ..named("a.example")
    };
    let earlier = Watermark {
        before_ms: clock.0.unix_ms,
        ..Watermark::default()
    };
    for (watermark, refused) in [
        (before.clone(), true),
        (earlier, false),
        (named("a.example"), true),
        (named("b.example"), false),
        (scope(PLACE.scope), true),
        (scope([0; SCOPE_LEN]), false),
        (certificate(PLACE.certificate), true),
        (certificate([0; MARK_LEN]), false),
        (worker(b"a"), true),
        (worker(b"b"), false),
        (both, false),
    ] {
        keys.set_watermarks(vec![watermark.clone()]);
        let result = open(&keys, &ticket, clock.0);
        assert_eq!(result == Err(Miss::Purged), refused, "{watermark:?}");
        assert_eq!(result.is_ok(), !refused, "{watermark:?}");
    }
}

#[test]
fn what_is_issued_after_a_purge_is_good_even_by_a_clock_that_is_late() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    keys.set_watermarks(vec![Watermark {
        before_ms: clock.after(5).unix_ms,
        ..Watermark::default()
    }]);
    let stamp = keys.stamp(clock.0);
    let ticket = keys.seal(&PLACE, stamp, SESSION, clock.0).unwrap().0;
    assert!(open(&keys, &ticket, clock.0).is_ok());
}

#[test]
fn zeros_are_refused_as_key_and_as_name() {
    let until = Instant::now();
    assert!(Epoch::new([0; NAME_LEN], &[1; KEY_LEN], until).is_err());
    assert!(Epoch::new([1; NAME_LEN], &[0; KEY_LEN], until).is_err());
}

#[test]
fn a_key_seals_no_more_than_its_bound() {
    let clock = Clock::new();
    let keys = clock.worker("a");
    keys.current().epochs[0]
        .sealed
        .store(MAX_SEALED, Ordering::Relaxed);
    assert!(keys
        .seal(&PLACE, clock.0.unix_ms, SESSION, clock.0)
        .is_none());
}

proptest! {
    #[test]
    fn whatever_comes_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let clock = Clock::new();
        let keys = clock.worker("a");
        prop_assert!(open(&keys, &bytes, clock.0).is_err());
        let known = bytes.len().min(NAME_LEN);
        bytes[..known].fill(1);
        prop_assert!(open(&keys, &bytes, clock.0).is_err());
    }
}
