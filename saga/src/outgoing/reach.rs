//! [`Reach`]: whom the server may call. Asked twice: for the text of a URL, before it is stored or called, and for the address that its name led
//! to, at each connection, so that a name that leads elsewhere by then leads nowhere. Pure.

use super::address_rule::{AddressRule, canonical};
use super::host_rule::{HostRule, Named};
use std::net::IpAddr;

/// Whom the server may call.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Empty: any host.
    hosts: Vec<HostRule>,
    denied: Vec<AddressRule>,
}

/// Why a host is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// It is none of those that are listed.
    #[error("`{0}` is not among the hosts that participants may have (setting `participant_allow_host`)")]
    Host(String),
    /// Its address is one of those that are not called.
    #[error(
        "`{host}` leads to {address}, and such addresses are not called (setting `participant_deny_address`, {rule}; `participant_allow_host` \
         can name the address itself)"
    )]
    Address {
        /// As the URL names it.
        host: String,
        /// Where it leads.
        address: String,
        /// What denies it.
        rule: AddressRule,
    },
}

impl Reach {
    pub(crate) fn new(hosts: Vec<HostRule>, denied: Vec<AddressRule>) -> Self {
        Self { hosts, denied }
    }

    /// Whether a base URL may be called, as far as its text tells.
    ///
    /// # Errors
    /// When its host is not listed, or is an address that is denied.
    pub(crate) fn judge(&self, base: &str) -> Result<(), Denied> {
        let Some((host, port)) = Named::of(base) else { return Err(Denied::Host(base.to_owned())) };
        if !self.hosts.is_empty() && !self.hosts.iter().any(|rule| rule.allows(&host, port)) {
            return Err(Denied::Host(host.to_string()));
        }
        match host {
            Named::Address(address) => self.judge_address(&host, address),
            Named::Name(_) if host.is_localhost() => self.judge_address(&host, IpAddr::from([127, 0, 0, 1])),
            Named::Name(_) => Ok(()),
        }
    }

    /// Whether an address may be connected to, to which a name has led.
    ///
    /// # Errors
    /// When it is denied.
    pub(crate) fn judge_found(&self, name: &str, address: IpAddr) -> Result<(), Denied> {
        self.judge_address(&Named::Name(name.trim_end_matches('.').to_owned()), address)
    }

    fn judge_address(&self, host: &Named, address: IpAddr) -> Result<(), Denied> {
        let Some(rule) = self.denied.iter().find(|rule| rule.covers(address)) else { return Ok(()) };
        if self.hosts.iter().any(|rule| rule.says(host, address)) {
            return Ok(());
        }
        Err(Denied::Address { host: host.to_string(), address: canonical(address).to_string(), rule: *rule })
    }
}

/// Whether what is sent to a base URL can be read on its way: it is no https, and does not stay on this machine.
pub(crate) fn is_in_the_clear(base: &str) -> bool {
    let stays = |host: &Named| host.is_localhost() || matches!(host, Named::Address(address) if address.to_canonical().is_loopback());
    !base.starts_with("https://") && !Named::of(base).is_some_and(|(host, _)| stays(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(hosts: &[&str], denied: &[&str]) -> Reach {
        let hosts = hosts.iter().map(|rule| rule.parse().expect(rule)).collect();
        Reach::new(hosts, denied.iter().map(|rule| rule.parse().expect(rule)).collect())
    }

    fn found(reach: &Reach, name: &str, address: &str) -> bool {
        reach.judge_found(name, address.parse().expect(address)).is_ok()
    }

    #[test]
    fn the_text_of_a_url_is_judged_by_host_port_and_address() {
        let any = reach(&[], &["link-local"]);
        for base in ["http://shop.example", "http://127.0.0.1:1", "http://localhost", "http://10.0.0.1"] {
            assert_eq!(any.judge(base), Ok(()), "{base}");
        }
        for base in ["http://169.254.169.254/latest", "http://[::ffff:169.254.169.254]", "http://[fe80::1]", "http://0xa9fea9fe"] {
            assert!(matches!(any.judge(base), Err(Denied::Address { rule: AddressRule::LinkLocal, .. })), "{base}");
        }
        let listed = reach(&["shop.example", "10.0.0.7"], &["loopback", "link-local", "private"]);
        assert_eq!(listed.judge("http://shop.example:8080"), Ok(()));
        assert_eq!(listed.judge("http://10.0.0.7"), Ok(()), "an address that is listed is meant");
        for base in ["http://10.0.0.8", "http://localhost", "http://elsewhere.example", "no url"] {
            assert!(matches!(listed.judge(base), Err(Denied::Host(_))), "{base}");
        }
        let own = reach(&[], &["loopback"]);
        for base in ["http://localhost", "http://LOCALHOST.:80", "http://a.localhost", "http://0.0.0.0", "http://[::]", "http://127.1"] {
            assert!(matches!(own.judge(base), Err(Denied::Address { .. })), "{base}");
        }
        assert_eq!(reach(&["localhost"], &["loopback"]).judge("http://localhost:8080"), Ok(()));
    }

    #[test]
    fn what_is_sent_to_this_machine_alone_is_not_in_the_clear() {
        for base in ["https://shop.example", "http://localhost:80", "http://127.0.0.1", "http://[::1]", "http://[::ffff:127.0.0.1]"] {
            assert!(!is_in_the_clear(base), "{base}");
        }
        // The last one is where a translator leads.
        for base in ["http://shop.example", "http://10.0.0.1", "http://localhost.example", "http://0.0.0.0", "http://[64:ff9b::7f00:1]"] {
            assert!(is_in_the_clear(base), "{base}");
        }
    }

    #[test]
    fn where_a_name_leads_is_judged_whatever_the_name_is() {
        let listed = reach(&["shop.example", "10.1.0.0/16"], &["loopback", "link-local", "private"]);
        assert!(found(&listed, "shop.example", "93.184.216.34"));
        assert!(found(&listed, "shop.example", "10.1.2.3"), "that network is listed");
        for address in ["127.0.0.1", "::1", "169.254.169.254", "10.2.0.1", "::ffff:192.168.0.1"] {
            assert!(!found(&listed, "shop.example", address), "{address}");
        }
        let at_a_port = reach(&["shop.example", "10.1.2.3:8443"], &["private"]);
        assert_eq!(at_a_port.judge("https://10.1.2.3:8443"), Ok(()), "the address is meant, at that port");
        assert!(at_a_port.judge("https://10.1.2.3:22").is_err());
        assert!(!found(&at_a_port, "shop.example", "10.1.2.3"), "a name that leads there may be called at any port");
        let translated = reach(&["shop.example"], &["64:ff9b::/96"]);
        assert!(!found(&translated, "shop.example", "64:ff9b::808:808") && found(&translated, "shop.example", "8.8.8.8"));
        let localhost = reach(&["localhost", "shop.example"], &["loopback", "private"]);
        assert!(found(&localhost, "localhost", "::1"));
        assert!(!found(&localhost, "localhost", "10.0.0.1"), "it means this machine and nothing else");
        assert!(!found(&localhost, "shop.example", "127.0.0.1"), "and only by its own name");
    }
}
