//! Which addresses are the public internet's, by the IANA special-purpose registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A block of IPv4, for the table below.
const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

/// A block of IPv6 by its first two groups, for the table below.
const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 that is not globally reachable (RFC 6890 and the registry it founded), and what looks public but is a cloud's
/// inside. The registry's two anycast exceptions in 192.0.0.0/24 serve no HTTP and stay refused.
const NOT_PUBLIC_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),          // this network
    v4(10, 0, 0, 0, 8),         // private
    v4(100, 64, 0, 0, 10),      // shared by carriers; also a cloud's metadata
    v4(127, 0, 0, 0, 8),        // loopback
    v4(168, 63, 129, 16, 32),   // Azure's host agent: routed inside only, in spite of its number
    v4(169, 254, 0, 0, 16),     // link-local, with the metadata services
    v4(172, 16, 0, 0, 12),      // private
    v4(192, 0, 0, 0, 24),       // protocol assignments
    v4(192, 0, 2, 0, 24),       // documentation
    v4(192, 88, 99, 0, 24),     // 6to4 relays, deprecated
    v4(192, 168, 0, 0, 16),     // private
    v4(198, 18, 0, 0, 15),      // benchmarking
    v4(198, 51, 100, 0, 24),    // documentation
    v4(203, 0, 113, 0, 24),     // documentation
    v4(224, 0, 0, 0, 4),        // multicast
    v4(240, 0, 0, 0, 4),        // reserved
    v4(255, 255, 255, 255, 32), // broadcast
];

/// All that IANA has given out as global unicast.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// IPv6 within [`GLOBAL_V6`] that is not globally reachable, or that tunnels to IPv4 addresses. The registry's few
/// exceptions in 2001::/23 serve no HTTP and stay refused.
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),     // protocol assignments, with Teredo
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

/// The prefix of NAT64 (RFC 6052), whose last 32 bits are an IPv4 address.
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// The address that is meant: IPv4 inside of the mapped and NAT64 forms is taken out.
pub(super) fn meant(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        other => other.to_canonical(),
    }
}

/// Whether `address` is the public internet's.
pub(super) fn is_public(address: IpAddr) -> bool {
    match meant(address) {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4.iter().any(|block| block.contains(&v4)),
        IpAddr::V6(v6) => {
            GLOBAL_V6.contains(&v6) && !NOT_PUBLIC_V6.iter().any(|block| block.contains(&v6))
        }
    }
}

/// Whether `address`, or the IPv4 address that it stands for, is in one of `ranges`.
pub(super) fn is_in(ranges: &[IpNet], address: IpAddr) -> bool {
    let meant = meant(address);
    ranges
        .iter()
        .any(|range| range.contains(&address) || range.contains(&meant))
}

/// Whether a connection to `address` and `port` reaches `backend`. All of loopback is one machine, and so is the
/// unspecified address; with an unknown port every port counts.
pub(super) fn reaches(backend: SocketAddr, address: IpAddr, port: Option<u16>) -> bool {
    let here = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    let (own, address) = (meant(backend.ip()), meant(address));
    port.is_none_or(|port| port == backend.port())
        && (own == address || (here(own) && here(address)))
}

/// The ports that browsers refuse, since they speak other protocols (Fetch standard, "port blocking").
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080,
];

/// Whether `port` is one that speaks another protocol than HTTP.
pub(super) fn is_bad_port(port: u16) -> bool {
    BAD_PORTS.contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn all_others_are_not() {
        for refused in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.0.0",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.9",
            "192.0.0.192",
            "192.0.0.255",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.1.2.3",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:1::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(refused.parse().unwrap()), "{refused}");
        }
    }

    #[test]
    fn a_range_covers_what_stands_for_its_addresses() {
        let ranges = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for inside in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "fd12::1",
        ] {
            assert!(is_in(&ranges, inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "fc00::1", "127.0.0.1", "::ffff:11.0.0.1"] {
            assert!(!is_in(&ranges, outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn a_backend_is_reached_by_each_of_its_names() {
        let reached = |backend: &str, address: &str, port| {
            reaches(backend.parse().unwrap(), address.parse().unwrap(), port)
        };
        assert!(reached("127.0.0.1:5432", "127.0.0.1", Some(5432)));
        assert!(reached("127.0.0.1:5432", "127.8.8.8", Some(5432)));
        assert!(reached("127.0.0.1:5432", "::1", Some(5432)));
        assert!(reached("127.0.0.1:5432", "::ffff:127.0.0.1", Some(5432)));
        assert!(reached("0.0.0.0:8080", "127.0.0.1", Some(8080)));
        assert!(reached("127.0.0.1:5432", "0.0.0.0", Some(5432)));
        assert!(reached("10.0.0.5:6379", "64:ff9b::10.0.0.5", Some(6379)));
        assert!(reached("10.0.0.5:6379", "10.0.0.5", None));
        assert!(!reached("10.0.0.5:6379", "10.0.0.5", Some(6380)));
        assert!(!reached("10.0.0.5:6379", "10.0.0.6", None));
        assert!(!reached("0.0.0.0:443", "8.8.8.8", Some(443)));
    }

    #[test]
    fn ports_of_other_protocols_are_bad() {
        assert!(BAD_PORTS.is_sorted());
        for bad in [0, 22, 25, 53, 6000, 6667, 10080] {
            assert!(is_bad_port(bad), "{bad}");
        }
        for good in [80, 443, 3000, 8080, 8443, 11434] {
            assert!(!is_bad_port(good), "{good}");
        }
    }
}
