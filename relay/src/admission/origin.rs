//! What counts as one address.
//!
//! An IPv6 customer gets a /64 or more, so a /64 is one; an IPv4 address is the same one when it
//! comes mapped into IPv6. Addresses are kept in memory only, and only as a hash under a key of
//! this process: neither a dump nor a table tells who was here.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// The name under which an address is counted. Means nothing in another process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(u64);

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Origin([redacted])")
    }
}

/// Names addresses.
#[derive(Debug, Default)]
pub struct Origins(RandomState);

#[derive(Hash)]
enum Counted {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Origins {
    /// The name of this address.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Origin {
        let counted = match address.to_canonical() {
            IpAddr::V4(address) => Counted::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Counted::V6([a, b, c, d, e, f, g, h])
            }
        };
        Origin(self.0.hash_one(counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let origins = Origins::default();
        let of = |text: &str| origins.of(text.parse().expect("an address"));
        of(one) == of(other)
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_it_comes_mapped() {
        assert!(same("192.0.2.7", "::ffff:192.0.2.7"));
        assert!(!same("192.0.2.7", "192.0.2.8"));
        assert!(!same("0.0.0.0", "::"));
    }

    #[test]
    fn names_mean_nothing_elsewhere_and_show_nothing() {
        let address = IpAddr::from([192, 0, 2, 7]);
        assert_ne!(Origins::default().of(address), Origins::default().of(address));
        assert_eq!(format!("{:?}", Origins::default().of(address)), "Origin([redacted])");
    }
}
