//! [`HostRule`]: hosts that may be called, and at which port.

use super::address_rule::{canonical, forms, network};
use core::fmt;
use core::str::FromStr;
use ipnet::IpNet;
use reqwest::Url;
use std::net::IpAddr;

/// Hosts that may be called: a name, the names below one (`*.shop.example`), an address or a network, all with a port or with any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    host: Host,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// In the one form that URLs have: small letters, Punycode, no dot at its end.
    Name(String),
    /// What ends so, with at least one label in front.
    Below(String),
    Network(IpNet),
}

/// Why a text names no hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a name, *.name for all names below it, an address or a network, without a scheme, such as payments.internal:8443, \
     *.shop.example or 10.0.0.0/8"
)]
pub struct HostRuleError;

/// The host that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A name, in the form of [`Host::Name`].
    Name(String),
    /// An address: nobody has to be asked where it is.
    Address(IpAddr),
}

impl Named {
    /// The host and the port that a URL leads to.
    pub(super) fn of(base: &str) -> Option<(Self, u16)> {
        let url = Url::parse(base).ok()?;
        Some((Self::read(url.host_str()?), url.port_or_known_default()?))
    }

    fn read(host: &str) -> Self {
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(host.trim_end_matches('.').to_owned()),
        }
    }

    /// Whether it means this machine wherever it is asked (RFC 6761).
    pub(super) fn is_localhost(&self) -> bool {
        matches!(self, Self::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl HostRule {
    /// Whether a host may be called at a port.
    pub(super) fn allows(&self, host: &Named, port: u16) -> bool {
        let is_host = match (&self.host, host) {
            (Host::Name(name), Named::Name(host)) => name == host,
            (Host::Below(end), Named::Name(host)) => host.strip_suffix(end.as_str()).is_some_and(|front| front.ends_with('.')),
            (Host::Network(network), Named::Address(address)) => forms(*address).any(|form| network.contains(&form)),
            _ => false,
        };
        is_host && self.port.is_none_or(|allowed| allowed == port)
    }

    /// Whether it says an address in so many words: then that is meant, whatever is denied in general. `localhost` says those of this machine.
    ///
    /// With a port it says no more than the address at that port, and where a name leads is judged without one: so it does for URLs that have the
    /// address themselves, whose port was looked at with them.
    pub(super) fn says(&self, host: &Named, address: IpAddr) -> bool {
        match &self.host {
            Host::Network(network) => {
                let is_meant = self.port.is_none() || matches!(host, Named::Address(_));
                is_meant && forms(address).any(|form| network.contains(&form))
            }
            Host::Name(name) => name == "localhost" && host.is_localhost() && address.is_loopback(),
            Host::Below(_) => false,
        }
    }
}

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        if let Some(network) = network(text) {
            return Ok(Self { host: Host::Network(network), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(port.parse::<u16>().map_err(|_| HostRuleError)?))
            }
            _ => (text, None),
        };
        if port == Some(0) {
            return Err(HostRuleError);
        }
        let (host, is_below) = host.strip_prefix("*.").map_or((host, false), |end| (end, true));
        let url = Url::parse(&format!("http://{host}/")).map_err(|_| HostRuleError)?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.path() == "/" && url.port().is_none();
        let named = url.host_str().filter(|_| is_plain && !host.contains(['/', '?', '#', '@', '*', '\\'])).map(Named::read);
        let host = match (named.ok_or(HostRuleError)?, is_below) {
            (Named::Name(name), false) => Host::Name(name),
            (Named::Name(name), true) => Host::Below(name),
            (Named::Address(address), false) => Host::Network(IpNet::from(canonical(address))),
            (Named::Address(_), true) => return Err(HostRuleError),
        };
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, base: &str) -> bool {
        let (host, port) = Named::of(base).expect(base);
        rule.parse::<HostRule>().expect(rule).allows(&host, port)
    }

    #[test]
    fn hosts_are_compared_in_the_form_that_urls_have() {
        for (rule, base) in [
            ("Shop.Example", "http://shop.example/base"),
            ("shop.example", "https://SHOP.example:8080"),
            ("shop.example.", "http://shop.example"),
            ("shop.example", "http://shop.example."),
            ("bücher.example", "http://bücher.example"),
            ("10.0.0.1", "http://10.0.0.1:9"),
            ("10.0.0.1", "http://[::ffff:10.0.0.1]"),
            ("[::ffff:10.0.0.1]", "http://10.0.0.1"),
            ("::ffff:10.0.0.0/104", "http://10.9.8.7"),
            ("64:ff9b::/96", "http://[64:ff9b::808:808]"),
            ("127.0.0.1", "http://0x7f000001"),
            ("127.0.0.1", "http://2130706433"),
            ("[2001:DB8::1]", "http://[2001:db8:0::1]:80/x"),
            ("2001:db8::/32", "http://[2001:db8::9]"),
            ("10.0.0.0/8", "http://10.9.8.7"),
            ("shop.example:80", "http://shop.example"),
            ("shop.example:443", "https://shop.example"),
            ("[::1]:7070", "http://[::1]:7070"),
            ("*.shop.example", "http://a.shop.example"),
            ("*.shop.example:8080", "http://a.b.shop.example:8080"),
        ] {
            assert!(allows(rule, base), "{rule} allows {base}");
        }
        for (rule, base) in [
            ("shop.example", "http://shop.example.org"),
            ("shop.example", "http://a.shop.example"),
            ("*.shop.example", "http://shop.example"),
            ("*.shop.example", "http://eshop.example"),
            ("*.shop.example", "http://a.shop.example.org"),
            ("shop.example:443", "http://shop.example"),
            ("shop.example:8080", "http://shop.example:8081"),
            ("10.0.0.1", "http://10.0.0.2"),
            ("10.0.0.0/8", "http://11.0.0.1"),
            ("10.0.0.0/8", "http://[2002:a00:1::]"),
            ("[::1]", "http://[::2]"),
            ("shop.example", "http://shop.example@evil.example"),
            ("10.0.0.1", "http://ten.example"),
        ] {
            assert!(!allows(rule, base), "{rule} does not allow {base}");
        }
    }

    #[test]
    fn what_names_no_host_is_no_rule() {
        for bad in [
            "",
            "*",
            "*.",
            "http://h",
            "h/path",
            "u@h",
            "h:0",
            "h:x",
            "h:99999",
            "a.*.example",
            "*.10.0.0.1",
            "10.0.0.0/33",
            "h?q",
            "h#f",
            "[::1",
            "a b",
            "h\\x",
        ] {
            assert_eq!(bad.parse::<HostRule>(), Err(HostRuleError), "{bad}");
        }
    }
}
