//! Whose word about a client's address is taken.
//!
//! A proxy's connections all come from the proxy; without its word all its clients would share one
//! address's limits. The word counts only from networks the operator trusts, in the one header the
//! operator's proxy writes: a header that a proxy merely passes on is the client's own invention.
//! Of several hops the right-most that is not trusted itself is the client; left of it anything may
//! have been made up. What cannot be read is not guessed at: the last hop that was understood
//! counts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderName};

/// A range of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// A text that is no [`Network`] or no [`AddressHeader`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not a network.
    #[error("\"{0}\" is not a network like 192.0.2.0/24, 2001:db8::/32 or 127.0.0.1")]
    Network(String),
    /// Bits are set behind the prefix: another network was meant.
    #[error("\"{text}\" has bits behind its prefix: write {meant}, or the one address without a prefix")]
    HostBits {
        /// What was written.
        text: String,
        /// The network that the address is in.
        meant: Network,
    },
    /// Not a header we can read.
    #[error("\"{0}\" is not x-forwarded-for, cf-connecting-ip or forwarded")]
    Header(String),
}

impl FromStr for Network {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ProxyError::Network(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits_max = bits(address);
        let prefix_bits = match prefix {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_| invalid())?
            }
            Some(_) => return Err(invalid()),
            None => bits_max,
        };
        if prefix_bits > bits_max {
            return Err(invalid());
        }
        let network = masked(address, prefix_bits);
        if network == number(address) {
            Ok(Self { address, prefix_bits })
        } else {
            let meant = Self { address: address_of(network, address), prefix_bits };
            Err(ProxyError::HostBits { text: text.to_owned(), meant })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl Network {
    /// Whether the address is in it. An IPv4 address mapped into IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        bits(address) == bits(self.address) && masked(address, self.prefix_bits) == number(self.address)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address with this number, of the family of `like`.
fn address_of(number: u128, like: IpAddr) -> IpAddr {
    match like {
        // An IPv4 address's number has 32 bits, masked or not.
        IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

fn masked(address: IpAddr, prefix_bits: u8) -> u128 {
    let host_bits = u32::from(bits(address) - prefix_bits);
    // Shifted by all of its bits, a number is gone; `<<` alone would not do that.
    number(address).checked_shr(host_bits).and_then(|network| network.checked_shl(host_bits)).unwrap_or(0)
}

/// The header in which the operator's proxy names the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressHeader {
    /// `X-Forwarded-For`: what Caddy, nginx, HAProxy, Traefik and cloudflared write.
    #[default]
    XForwardedFor,
    /// `CF-Connecting-IP`: Cloudflare's.
    CfConnectingIp,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl FromStr for AddressHeader {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::XForwardedFor, Self::CfConnectingIp, Self::Forwarded];
        all.into_iter()
            .find(|header| header.name().as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ProxyError::Header(text.to_owned()))
    }
}

impl AddressHeader {
    /// Its name.
    #[must_use]
    pub fn name(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::CfConnectingIp => "cf-connecting-ip",
            Self::Forwarded => "forwarded",
        })
    }

    /// The address that one element of the header's list names.
    fn read(self, element: &str) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor | Self::CfConnectingIp => hop(element.trim()),
            Self::Forwarded => element.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                let value = value.trim();
                let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
                name.trim().eq_ignore_ascii_case("for").then(|| hop(value)).flatten()
            }),
        }
    }
}

/// An address as proxies write it: bare, in brackets, with or without a port.
fn hop(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

/// The networks whose word is taken, and the header it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where proxies are.
    pub networks: Vec<Network>,
    /// What they write.
    pub header: AddressHeader,
}

impl Default for TrustedProxies {
    /// This machine: a proxy in front of the relay is usually here, and whoever can connect from
    /// here need not lie about an address.
    fn default() -> Self {
        let networks = ["127.0.0.0/8", "::1"].map(|text| text.parse().expect("these are networks"));
        Self { networks: networks.into(), header: AddressHeader::default() }
    }
}

impl TrustedProxies {
    /// Nobody's word is taken.
    #[must_use]
    pub fn none() -> Self {
        Self { networks: Vec::new(), header: AddressHeader::default() }
    }

    /// Whether this peer's word about its clients is taken.
    #[must_use]
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(peer))
    }

    /// The address of the client whose request `peer` brought.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let values = headers.get_all(self.header.name());
        let mut elements = values.iter().rev().flat_map(|value| value.to_str().unwrap_or("").rsplit(','));
        while self.trust(client) {
            match elements.next().and_then(|element| self.header.read(element)) {
                Some(hop) => client = hop,
                None => break,
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    fn proxies(header: AddressHeader) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "2001:db8:ff::/48", "192.0.2.1"];
        TrustedProxies { networks: networks.map(|text| text.parse().expect("a network")).into(), header }
    }

    fn client(header: AddressHeader, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), HeaderValue::from_str(line).expect("printable"));
        }
        proxies(header).client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn nobody_but_a_trusted_proxy_is_believed() {
        assert_eq!(client(AddressHeader::XForwardedFor, "203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client(AddressHeader::XForwardedFor, "10.1.2.3", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client(AddressHeader::XForwardedFor, "::ffff:10.1.2.3", &["198.51.100.1"]), "198.51.100.1");
    }

    #[test]
    fn the_right_most_hop_that_is_not_trusted_is_the_client() {
        let read = |lines: &[&str]| client(AddressHeader::XForwardedFor, "10.1.2.3", lines);
        assert_eq!(read(&["1.1.1.1, 198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(read(&["1.1.1.1", "198.51.100.1,192.0.2.1"]), "198.51.100.1");
        assert_eq!(read(&["10.0.0.1, 10.0.0.2"]), "10.0.0.1", "all trusted: the first of them");
        assert_eq!(read(&["[2001:db8::7]:443, 2001:db8:ff::1"]), "2001:db8::7");
        assert_eq!(read(&["198.51.100.1:5123"]), "198.51.100.1");
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        for line in ["", "unknown", "198.51.100", "198.51.100.1 evil", ",", "_hidden", "1.1.1.1, unknown", "1.1.1.1,"] {
            assert_eq!(client(AddressHeader::XForwardedFor, "10.1.2.3", &[line]), "10.1.2.3", "{line:?}");
        }
        assert_eq!(client(AddressHeader::XForwardedFor, "10.1.2.3", &["1.1.1.1, junk, 10.0.0.9"]), "10.0.0.9");
        assert_eq!(client(AddressHeader::XForwardedFor, "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn only_the_configured_header_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("1.1.1.1"));
        headers.insert("cf-connecting-ip", HeaderValue::from_static("2.2.2.2"));
        headers.insert("forwarded", HeaderValue::from_static("for=\"[2001:db8::3]:80\";proto=https, for=10.0.0.1"));
        for (header, expected) in [
            (AddressHeader::XForwardedFor, "1.1.1.1"),
            (AddressHeader::CfConnectingIp, "2.2.2.2"),
            (AddressHeader::Forwarded, "2001:db8::3"),
        ] {
            let peer = IpAddr::from([10, 0, 0, 1]);
            assert_eq!(proxies(header).client(peer, &headers).to_string(), expected);
        }
    }

    #[test]
    fn whatever_a_client_makes_up_its_proxys_word_stands() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let alphabet = b"0123456789.:,;=[]\" fF/for";
        for _ in 0..5_000 {
            let line = (0..rng.next_u32() % 40).map(|_| alphabet[rng.next_u32() as usize % alphabet.len()]).collect();
            let made_up = String::from_utf8(line).expect("ASCII");
            for (header, added) in
                [(AddressHeader::XForwardedFor, "198.51.100.1"), (AddressHeader::Forwarded, "for=198.51.100.1")]
            {
                let line = format!("{made_up}, {added}");
                assert_eq!(client(header, "10.1.2.3", &[&line]), "198.51.100.1", "{line:?}");
            }
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "2001:db8::/32", "127.0.0.1", "::1/128"] {
            assert!(text.parse::<Network>().is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "10.0.0.0/", "10.0.0.0/+8", "localhost", "10.0.0.0/8 "] {
            assert!(matches!(text.parse::<Network>(), Err(ProxyError::Network(_))), "{text}");
        }
        for (text, meant) in [("10.0.0.1/8", "10.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32")] {
            let error = text.parse::<Network>().expect_err("bits behind the prefix");
            assert!(error.to_string().contains(&format!("write {meant},")), "{error}");
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().expect("a network").contains(address.parse().expect("an address"))
        };
        assert!(holds("10.0.0.0/8", "10.255.255.255") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "2001:db8::1") && !holds("::1", "::2"));
        assert!(holds("10.0.0.0/8", "::ffff:10.0.0.1"));
    }
}
