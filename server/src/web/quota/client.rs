//! Who a request comes from, as far as that is known.

use crate::web::access::Caller;
use axum::extract::Request;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use sagamq_api::headers::CLIENT_ID;

/// Longest name of a client, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The address that a request comes from: put into its extensions by whoever has the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteAddress(pub IpAddr);

impl RemoteAddress {
    /// What is one client to whoever counts by address: the address, of IPv6 its network of 64 bits, because whoever has one address there has
    /// them all.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address @ IpAddr::V4(_) => address,
        }
    }
}

/// A client, as quotas tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ClientId {
    /// It has shown a key, or a token.
    Known(Box<str>),
    /// It has said its name.
    Named(Box<str>),
    /// It has not.
    Address(IpAddr),
    /// It is one too many, or nothing is known of it.
    Others,
}

impl ClientId {
    /// What is no name (empty, too long, not visible ASCII) is not taken for one; and none is where keys are asked for, or whoever has no key
    /// would be as many clients as he likes.
    pub(super) fn of(request: &Request, asks_for_keys: bool) -> Self {
        if let Some(principal) = request.extensions().get::<Caller>().and_then(Caller::principal) {
            return Self::Known(principal.into());
        }
        let name = request.headers().get(CLIENT_ID).and_then(|name| name.to_str().ok());
        let is_legal = |name: &&str| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        match (name.filter(is_legal).filter(|_| !asks_for_keys), request.extensions().get::<RemoteAddress>()) {
            (Some(name), _) => Self::Named(name.into()),
            (None, Some(remote)) => Self::Address(remote.network()),
            (None, None) => Self::Others,
        }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(principal) => write!(f, "`{principal}`"),
            Self::Named(name) => write!(f, "the client `{name}`"),
            Self::Address(address) => write!(f, "the client at {address}"),
            Self::Others => f.write_str("all other clients together"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn a_client_is_its_name_else_its_address() {
        let asked = |name: Option<&str>, address: Option<&str>, asks_for_keys: bool| {
            let mut request = Request::new(Body::empty());
            if let Some(name) = name {
                request.headers_mut().insert(CLIENT_ID, name.parse().expect("a header"));
            }
            if let Some(address) = address {
                request.extensions_mut().insert(RemoteAddress(address.parse().expect("an address")));
            }
            ClientId::of(&request, asks_for_keys)
        };
        let request = |name: Option<&str>, address: Option<&str>| asked(name, address, false);
        let at = |address: &str| ClientId::Address(address.parse().expect("an address"));
        assert_eq!(request(Some("billing"), Some("10.0.0.7")), ClientId::Named("billing".into()));
        assert_eq!(request(None, Some("10.0.0.7")), at("10.0.0.7"));
        assert_eq!(request(None, Some("::ffff:10.0.0.7")), at("10.0.0.7"), "the same one over another socket");
        assert_eq!(
            request(None, Some("2001:db8::7")),
            request(None, Some("2001:db8::8")),
            "whoever has a network has all of its addresses"
        );
        assert_ne!(request(None, Some("2001:db8::7")), request(None, Some("2001:db8:0:1::7")));
        for name in ["", "a b", &"x".repeat(65)] {
            assert_eq!(request(Some(name), Some("10.0.0.7")), at("10.0.0.7"), "{name:?}");
        }
        assert_eq!(request(None, None), ClientId::Others);
        assert_eq!(asked(Some("billing"), Some("10.0.0.7"), true), at("10.0.0.7"), "where keys are asked for, a name is none");
    }
}
