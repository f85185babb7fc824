use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn vector16(data: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(data);
    out
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector16(data)].concat()
}

fn message(session_id: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0x5a; 32]);
    body.push(u8::try_from(session_id.len()).unwrap());
    body.extend_from_slice(session_id);
    body.extend_from_slice(&vector16(&[0x13, 0x01]));
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&vector16(&extensions.concat()));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [vec![1, length[1], length[2], length[3]], body].concat()
}

fn name_extension(name: &str) -> Vec<u8> {
    let entry = [vec![0], vector16(name.as_bytes())].concat();
    extension(EXT_SERVER_NAME, &vector16(&entry))
}

fn psk_extension(identities: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = identities
        .iter()
        .flat_map(|identity| [vector16(identity), vec![0; 4]].concat())
        .collect();
    extension(
        EXT_PRE_SHARED_KEY,
        &[vector16(&list), vector16(&[0; 33])].concat(),
    )
}

fn versions_extension() -> Vec<u8> {
    extension(EXT_SUPPORTED_VERSIONS, &[4, 3, 4, 3, 3])
}

fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = message;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap()).clamp(1, rest.len());
        let (fragment, after) = rest.split_at(size);
        out.extend_from_slice(&[22, 3, 1]);
        out.extend_from_slice(&vector16(fragment));
        rest = after;
    }
    out
}

fn feed_all(raw: &[u8]) -> Scan {
    Scanner::default().feed(raw)
}

fn resumption_hello() -> Vec<u8> {
    message(
        &[0xaa; 32],
        &[
            name_extension("Example.ORG"),
            versions_extension(),
            psk_extension(&[&[1; 31], &[2; 32], &[3; 33], &[4; 32], &[5; 32]]),
        ],
    )
}

#[test]
fn names_versions_and_ids_are_read() {
    let Scan::Complete(hello) = feed_all(&records(&resumption_hello(), &[16384])) else {
        panic!("not read");
    };
    assert_eq!(hello.server_name.as_deref(), Some("example.org"));
    assert!(hello.offers_tls13);
    assert_eq!(hello.session_id, Some([0xaa; 32]));
    assert_eq!(hello.identities, [[2; 32], [4; 32]]);
    assert_eq!(hello.offered_ids(true), [[2; 32], [4; 32]]);
    assert_eq!(hello.offered_ids(false), [[0xaa; 32]]);
    assert!(!hello.foreign_session_id);
}

#[test]
fn a_hello_without_extensions_is_read() {
    let mut bare = message(&[], &[]);
    bare.truncate(bare.len() - 2);
    let length = u32::try_from(bare.len() - 4).unwrap().to_be_bytes();
    bare[1..4].copy_from_slice(&length[1..]);
    assert_eq!(
        feed_all(&records(&bare, &[16384])),
        Scan::Complete(ClientHello {
            first_suite: Some(0x1301),
            ..ClientHello::default()
        })
    );
}

#[test]
fn ids_of_other_lengths_are_not_ours() {
    for length in [0, 1, 31, 33, 255] {
        let hello = message(
            &vec![7; length.min(32)],
            &[versions_extension(), psk_extension(&[&vec![7; length]])],
        );
        let Scan::Complete(hello) = feed_all(&records(&hello, &[16384])) else {
            panic!("not read");
        };
        assert!(hello.identities.is_empty());
        assert!(hello.offers_foreign(true));
        assert_eq!(hello.offers_foreign(false), (1..32).contains(&length));
    }
}

#[test]
fn tickets_long_enough_to_be_sealed_are_kept_in_order_and_at_most_two() {
    let ticket = |byte| vec![byte; tickets::MIN_LEN + 1];
    let short = vec![9; tickets::MIN_LEN - 1];
    let hello = message(
        &[],
        &[
            versions_extension(),
            extension(EXT_SESSION_TICKET, &ticket(7)),
            psk_extension(&[&short, &ticket(1), &[2; 32], &ticket(3), &ticket(4)]),
        ],
    );
    let Scan::Complete(hello) = feed_all(&records(&hello, &[16384])) else {
        panic!("not read");
    };
    assert_eq!(hello.offered_tickets(true), [ticket(1), ticket(3)]);
    assert_eq!(hello.offered_tickets(false), [ticket(7)]);
    assert_eq!(hello.identities, [[2; 32]]);
}

#[test]
fn what_is_no_hello_is_left_to_rustls() {
    let unreadable: [&[u8]; 8] = [
        &[22, 3, 1, 0, 0],             // empty handshake record
        &[23, 3, 1, 0, 1, 0],          // application data
        &[22, 2, 0, 0, 1, 1],          // SSLv2-like
        &[22, 3, 1, 0x40, 1],          // fragment too long
        &[22, 3, 1, 0, 4, 2, 0, 0, 0], // ServerHello
        &[22, 3, 1, 0, 4, 1, 1, 0, 1], // longer than 64 KiB
        &[22, 3, 1, 0, 4, 1, 0, 0, 0], // too short to be one
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    for raw in unreadable {
        assert_eq!(feed_all(raw), Scan::Unreadable, "{raw:?}");
    }
}

#[test]
fn short_psk_extensions_are_left_to_rustls() {
    for length in 0..4 {
        let hello = message(&[], &[extension(EXT_PRE_SHARED_KEY, &vec![0xff; length])]);
        assert_eq!(feed_all(&records(&hello, &[16384])), Scan::Unreadable);
    }
}

#[test]
fn endless_one_byte_records_are_bounded() {
    let mut scanner = Scanner::default();
    let mut header = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    header.extend(std::iter::repeat_n([22, 3, 1, 0, 1, 0], 30_000).flatten());
    let mut fed = 0;
    for chunk in header.chunks(1000) {
        fed += chunk.len();
        if scanner.feed(chunk) == Scan::Unreadable {
            assert!(fed <= MAX_RAW + 1000);
            return;
        }
    }
    panic!("no bound");
}

proptest! {
    #[test]
    fn it_never_panics(raw in vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(raw.len() + 1);
        let mut scanner = Scanner::default();
        if scanner.feed(&raw[..cut]) == Scan::Incomplete {
            scanner.feed(&raw[cut..]);
        }
    }

    #[test]
    fn it_never_panics_on_a_damaged_hello(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), length in any::<prop::sample::Index>(),
    ) {
        let mut raw = records(&resumption_hello(), &[16384]);
        let at = at.index(raw.len());
        raw[at] = byte;
        raw.truncate(length.index(raw.len()) + 1);
        feed_all(&raw);
    }

    #[test]
    fn every_split_is_read_alike(
        fragments in vec(1usize..400, 1..8), segments in vec(1usize..400, 1..8),
    ) {
        let hello = resumption_hello();
        let whole = feed_all(&records(&hello, &[16384]));
        let raw = records(&hello, &fragments);
        let mut scanner = Scanner::default();
        let mut last = Scan::Incomplete;
        let mut rest = raw.as_slice();
        let mut sizes = segments.iter().cycle();
        while !rest.is_empty() {
            prop_assert_eq!(&last, &Scan::Incomplete);
            let (segment, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            last = scanner.feed(segment);
            rest = after;
        }
        prop_assert_eq!(last, whole);
        prop_assert_eq!(scanner.into_raw(), raw);
    }
}
