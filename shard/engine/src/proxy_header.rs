//! The PROXY protocol's header, as a load balancer sends it before the client's first byte
//! (HAProxy's specification, versions 1 and 2): whose connection it passes on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A line of version 1 (§2.1), its CRLF included.
const V1_LONGEST: usize = 107;
/// Accepted of version 2, whose length may be anything up to 64 KiB; known TLVs need far less.
const V2_LONGEST: usize = 4096;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

/// Source and destination of the client's connection; None if the balancer speaks for itself
/// (`LOCAL`, as for its health checks) or names no IP addresses.
pub type Announced = Option<(SocketAddr, SocketAddr)>;

#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It goes on.
    Incomplete,
    /// It is so long.
    Complete(usize, Announced),
    /// It is none.
    Invalid,
}

/// Read a header from the first bytes of a connection. There has to be one: "the receiver […] must
/// not try to guess whether the protocol header is present or not" (§2).
pub fn parse(bytes: &[u8]) -> Parsed {
    let signature = bytes.len().min(V2_SIGNATURE.len());
    if bytes[..signature] == V2_SIGNATURE[..signature] {
        return parse_v2(bytes);
    }
    let start = bytes.len().min(6);
    if bytes[..start] == b"PROXY "[..start] {
        return parse_v1(bytes);
    }
    Parsed::Invalid
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let line = &bytes[..bytes.len().min(V1_LONGEST)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < V1_LONGEST {
            true => Parsed::Incomplete,
            false => Parsed::Invalid,
        };
    };
    let words: Vec<&str> = match std::str::from_utf8(&line[..end]) {
        Ok(text) => text.split(' ').collect(),
        Err(_) => return Parsed::Invalid,
    };
    let announced = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            endpoints::<Ipv4Addr>(from, to, from_port, to_port)
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            endpoints::<Ipv6Addr>(from, to, from_port, to_port)
        }
        _ => None,
    };
    announced.map_or(Parsed::Invalid, |announced| {
        Parsed::Complete(end + 2, announced)
    })
}

fn endpoints<A: std::str::FromStr + Into<IpAddr>>(
    from: &str,
    to: &str,
    from_port: &str,
    to_port: &str,
) -> Option<Announced> {
    let endpoint = |address: &str, port: &str| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = port.parse().ok().filter(|_| digits)?;
        Some(SocketAddr::new(address.parse::<A>().ok()?.into(), port))
    };
    Some(Some((endpoint(from, from_port)?, endpoint(to, to_port)?)))
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED>() else {
        return Parsed::Incomplete;
    };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let (command, family) = (fixed[12], fixed[13]);
    if !matches!(command, 0x20 | 0x21) || length > V2_LONGEST {
        return Parsed::Invalid;
    }
    let Some(addresses) = bytes.get(V2_FIXED..length) else {
        return Parsed::Incomplete;
    };
    let announced = match (command, family) {
        (0x21, 0x11) => v2_endpoints::<4>(addresses),
        (0x21, 0x21) => v2_endpoints::<16>(addresses),
        // LOCAL, or a family that says nothing here: "must skip" (§2.2).
        _ => return Parsed::Complete(length, None),
    };
    announced.map_or(Parsed::Invalid, |announced| {
        Parsed::Complete(length, Some(announced))
    })
}

fn v2_endpoints<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = bytes.split_first_chunk::<N>()?;
    let (to, rest) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = *rest.first_chunk::<4>()?;
    Some((
        SocketAddr::new((*from).into(), u16::from_be_bytes([a, b])),
        SocketAddr::new((*to).into(), u16::from_be_bytes([c, d])),
    ))
}

/// Addresses that are believed: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// None if it is not written so.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |digits| digits.parse().ok())?;
        (prefix <= bits).then_some(Self { address, prefix })
    }

    pub fn contains(&self, other: IpAddr) -> bool {
        let (ours, theirs, bits) = match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        self.prefix == 0 || (ours ^ theirs) >> (bits - self.prefix) == 0_u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(from: &str, to: &str) -> Announced {
        Some((from.parse().unwrap(), to.parse().unwrap()))
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    /// Whole; cut anywhere; and followed by something.
    fn check(header: &[u8], announced: Announced) {
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Parsed::Incomplete, "{cut}");
        }
        let followed = [header, b"\x16\x03\x01"].concat();
        assert_eq!(parse(&followed), Parsed::Complete(header.len(), announced));
    }

    #[test]
    fn version_1() {
        check(
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            pair("192.0.2.1:56324", "198.51.100.7:443"),
        );
        check(
            b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            pair("[2001:db8::1]:1", "[2001:db8::2]:65535"),
        );
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
    }

    #[test]
    fn version_2() {
        let addresses = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
        let tlvs = [&addresses[..], &[1, 0, 2, b'h', b'2']].concat();
        for rest in [&addresses[..], &tlvs] {
            check(
                &v2(0x21, 0x11, rest),
                pair("192.0.2.1:56324", "198.51.100.7:443"),
            );
        }
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 3, 4);
        check(&v2(0x21, 0x21, &six), pair("[::1]:3", "[::2]:4"));
        check(&v2(0x20, 0x11, &addresses), None);
        check(&v2(0x21, 0x00, b""), None);
        check(&v2(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn what_is_none() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
        for wrong in [
            b"GET / HTTP/1.1\r\n".as_slice(),
            b"\x16\x03\x01\x02\x00",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 +56324 443\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
            b"PROXY \xff\r\n",
            &long,
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(parse(wrong), Parsed::Invalid, "{wrong:?}");
        }
    }

    #[test]
    fn networks() {
        let within = |network: &str, address: &str| {
            let network = Network::parse(network).unwrap();
            network.contains(address.parse().unwrap())
        };
        assert!(within("10.0.0.0/8", "10.255.0.1"));
        assert!(!within("10.0.0.0/8", "11.0.0.1"));
        assert!(within("0.0.0.0/0", "192.0.2.1") && !within("0.0.0.0/0", "::1"));
        assert!(within("::1", "::1") && !within("::1", "::2"));
        assert!(within("2001:db8::/32", "2001:db8:1::"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "x", "::/129", "::1/"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_can_come(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            parse(&bytes);
            let signed = [V2_SIGNATURE.as_slice(), &bytes].concat();
            if let Parsed::Complete(length, _) = parse(&signed) {
                proptest::prop_assert!(length <= signed.len());
            }
        }
    }
}
