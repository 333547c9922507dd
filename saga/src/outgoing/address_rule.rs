//! [`AddressRule`]: addresses that are not called, whatever name leads there.

use core::fmt;
use core::str::FromStr;
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that are not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRule {
    /// Those of this machine: `127.0.0.0/8`, `::1`, and "this host" (`0.0.0.0/8`, `::`), at which the same programs listen.
    Loopback,
    /// Those of the next cable, `169.254.0.0/16` and `fe80::/10`, where clouds keep what a machine is told of itself; and the other places
    /// where they do: `fd00:ec2::254`, `fd20:ce::254`, `100.100.100.200`, `168.63.129.16` and `192.0.0.192`.
    LinkLocal,
    /// Those of an organisation: `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16`, `100.64.0.0/10`, `fc00::/7`, `fec0::/10`.
    Private,
    /// Those of a network, or one.
    Network(IpNet),
}

/// Why a text names no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected loopback, link-local, private, an address or a network such as 10.1.0.0/16, or none alone")]
pub struct AddressRuleError;

/// Where clouds keep what a machine is told of itself, beside the link-local addresses.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl AddressRule {
    /// Whether an address is one of them, in whichever form it stands.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        // What is denied as it is written, as `64:ff9b::/96`, is so too; and so is what stands within an address that leads nowhere today.
        forms(address).any(|form| self.covers_form(form)) || within(address).any(|v4| self.covers_form(v4.into()))
    }

    fn covers_form(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Loopback, IpAddr::V4(v4)) => v4.is_loopback() || v4.octets()[0] == 0,
            (Self::Loopback, IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unspecified(),
            (Self::LinkLocal, IpAddr::V4(v4)) => v4.is_link_local() || METADATA.contains(&address),
            (Self::LinkLocal, IpAddr::V6(v6)) => v6.is_unicast_link_local() || METADATA.contains(&address),
            (Self::Private, IpAddr::V4(v4)) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
            (Self::Private, IpAddr::V6(v6)) => v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
            (Self::Network(network), address) => network.contains(&address),
        }
    }
}

/// The address that is meant: an IPv4 address is reached in the clothes of an IPv6 address as well, by itself (`::ffff:0:0/96`) and through a
/// translator (`64:ff9b::/96`).
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        address => address,
    }
}

/// An address as it is written, and as it is meant if that is something else.
pub(super) fn forms(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    core::iter::once(address).chain(Some(canonical(address)).filter(|meant| *meant != address))
}

/// IPv4 addresses that stand within an IPv6 address in ways that some networks follow: through a translator of their own (`64:ff9b:1::/48`, RFC
/// 8215), through a tunnel (`2002::/16`), or as the oldest form has it (`::a.b.c.d`).
fn within(address: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let found = match address {
        IpAddr::V4(_) => [None; 2],
        IpAddr::V6(v6) => {
            let octets = v6.octets();
            let at = |places: [usize; 4]| Some(Ipv4Addr::from(places.map(|place| octets[place])));
            match v6.segments() {
                [0x64, 0xff9b, 1, ..] => [at([12, 13, 14, 15]), at([6, 7, 9, 10])],
                [0x2002, ..] => [at([2, 3, 4, 5]), None],
                // `::1` and its neighbours are none.
                [0, 0, 0, 0, 0, 0, high, _] if high != 0 => [at([12, 13, 14, 15]), None],
                _ => [None; 2],
            }
        }
    };
    // Of two ways to read it one may have nothing.
    found.into_iter().flatten().filter(|v4| v4.octets()[0] != 0)
}

impl FromStr for AddressRule {
    type Err = AddressRuleError;

    fn from_str(text: &str) -> Result<Self, AddressRuleError> {
        match text {
            "loopback" => Ok(Self::Loopback),
            "link-local" => Ok(Self::LinkLocal),
            "private" => Ok(Self::Private),
            text => network(text).map(Self::Network).ok_or(AddressRuleError),
        }
    }
}

/// A network, or an address as a network of one.
pub(super) fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(IpNet::V6(net)) => {
            // A network of IPv4 addresses in the clothes of IPv6 ones is a network of IPv4 addresses.
            let bare = net.addr().to_ipv4_mapped().zip(net.prefix_len().checked_sub(96));
            Some(bare.and_then(|(v4, length)| Ipv4Net::new(v4, length).ok()).map_or(IpNet::V6(net), IpNet::V4))
        }
        Ok(net @ IpNet::V4(_)) => Some(net),
        Err(_) => text.parse::<IpAddr>().ok().map(|address| IpNet::from(canonical(address))),
    }
}

impl fmt::Display for AddressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::LinkLocal => f.write_str("link-local"),
            Self::Private => f.write_str("private"),
            Self::Network(network) => write!(f, "{network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_covered_in_whichever_form_it_stands() {
        let rows: [(&str, &[&str], &[&str]); 8] = [
            (
                "loopback",
                &[
                    "127.0.0.1",
                    "127.255.0.9",
                    "0.0.0.0",
                    "0.1.2.3",
                    "::1",
                    "::",
                    "::ffff:127.0.0.1",
                    "64:ff9b::7f00:1",
                    "::127.0.0.1",
                    "2002:7f00:1::1",
                    "64:ff9b:1::7f00:1",
                ],
                &["128.0.0.1", "::2", "10.0.0.1", "64:ff9b:1::808:808", "64:ff9b:1:808:8:800::"],
            ),
            (
                "link-local",
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "::ffff:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "100.100.100.200",
                    "168.63.129.16",
                    "192.0.0.192",
                    "2002:a9fe:a9fe::",
                    "64:ff9b:1::a9fe:a9fe",
                    "64:ff9b:1:a9fe:a9:fe00::",
                ],
                &["169.253.0.1", "fec0::1", "100.100.100.201", "2002:808:808::", "64:ff9b:1::808:808", "168.63.129.17"],
            ),
            (
                "private",
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "100.64.0.1",
                    "100.127.255.255",
                    "fc00::1",
                    "fec0::1",
                    "::ffff:10.0.0.1",
                    "::10.0.0.1",
                ],
                &["172.32.0.1", "100.128.0.1", "100.63.0.1", "11.0.0.1", "2001:db8::1"],
            ),
            ("10.1.0.0/16", &["10.1.2.3", "::ffff:10.1.2.3"], &["10.2.0.1"]),
            ("::ffff:10.0.0.9", &["10.0.0.9", "::ffff:10.0.0.9"], &["10.0.0.8"]),
            ("::ffff:10.0.0.0/104", &["10.9.9.9", "::ffff:10.9.9.9"], &["11.0.0.1"]),
            ("64:ff9b::/96", &["64:ff9b::808:808", "64:ff9b::a00:1"], &["8.8.8.8", "64:ff9c::808:808"]),
            ("::/0", &["2001:db8::1", "64:ff9b::808:808", "::ffff:8.8.8.8"], &["8.8.8.8"]),
        ];
        for (rule, covered, others) in rows {
            let parsed: AddressRule = rule.parse().expect(rule);
            for address in covered {
                assert!(parsed.covers(address.parse().expect(address)), "{rule} covers {address}");
            }
            for address in others {
                assert!(!parsed.covers(address.parse().expect(address)), "{rule} does not cover {address}");
            }
        }
        for bad in ["", "none", "public", "10.0.0.0/33", "shop.example", "127.0.0.1:80"] {
            assert_eq!(bad.parse::<AddressRule>(), Err(AddressRuleError), "{bad}");
        }
    }
}
