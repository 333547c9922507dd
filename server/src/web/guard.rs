//! Keeps web pages from commanding the server. A browser lets any page send requests to any address, a server on this machine included;
//! only reading the answers is forbidden to it. So what a page cannot have is asked for:
//!
//! - **A foreign `Origin` is refused** unless it is listed. Browsers send the header with every request that a page makes to another origin,
//!   save for plain reading.
//! - **An unknown `Host` is refused** where the server listens on loopback: a page whose name was made to point to 127.0.0.1 after it was
//!   loaded (DNS rebinding) is of the same origin for the browser, but its requests still carry its name. Whether the server lives and is ready
//!   anybody may ask under any name: what looks after it knows its address only.
//! - **A body needs its content type** ([`super::extract`]), which no page can send without asking first.

use crate::web::config::HttpConfig;
use crate::web::names;
use crate::web::problem::ApiError;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use core::net::IpAddr;
use sagamq_api::{ErrorCode, routes};

/// Who may ask.
#[derive(Debug)]
pub(super) struct Guard {
    checks_hosts: bool,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    pub(super) fn new(config: &HttpConfig) -> Self {
        Self {
            checks_hosts: config.is_local || !config.allow_hosts.is_empty(),
            hosts: config.allow_hosts.iter().map(|host| bare(host)).collect(),
            origins: config.allow_origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect(),
        }
    }

    /// Refuses what comes from a page that may not ask.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let named = || headers.get_all(HOST).iter().map(text).chain(uri.authority().map(Authority::as_str));
        if self.checks_hosts
            && !matches!(uri.path(), routes::HEALTHZ | routes::READYZ)
            && let Some(host) = named().find(|host| !self.knows(host))
        {
            let detail = format!(
                "the request is addressed to `{}`, which is no name of this server: use localhost or the address it listens on, or start the \
                 server with --allow-host",
                shown(host)
            );
            return Err(ApiError::new(ErrorCode::HostNotAllowed, detail));
        }
        let mut origins = headers.get_all(ORIGIN).iter().map(text).peekable();
        let is_page_elsewhere = origins.peek().is_none()
            && !method.is_safe()
            && headers.get(&names::SEC_FETCH_SITE).is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
        let foreign = origins.find(|origin| !self.is_listed(origin) && !named().any(|host| is_same(origin, host)));
        if let Some(origin) = foreign.or(is_page_elsewhere.then_some("another site")) {
            let detail = format!(
                "the request comes from a page of `{}` in a browser: start the server with --allow-origin to let such pages use it",
                shown(origin)
            );
            return Err(ApiError::new(ErrorCode::OriginNotAllowed, detail));
        }
        Ok(())
    }

    /// Whether this is a name of the server, with or without a port.
    fn knows(&self, authority: &str) -> bool {
        // As nearly every client writes them, which is seen without taking the authority apart.
        let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
        if matches!(host, "localhost" | "127.0.0.1") && (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()) {
            return true;
        }
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = bare(authority.host());
        let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        host == "localhost" || is_loopback || self.hosts.contains(&host)
    }

    fn is_listed(&self, origin: &str) -> bool {
        self.origins.contains(&origin.to_ascii_lowercase())
    }
}

/// The host without brackets, final dot and capitals.
fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether the origin is the server itself, as the request addresses it.
fn is_same(origin: &str, host: &str) -> bool {
    let (Ok(origin), Ok(host)) = (origin.parse::<Uri>(), host.parse::<Authority>()) else { return false };
    let default = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let Some(own) = origin.authority() else { return false };
    bare(own.host()) == bare(host.host()) && own.port_u16().unwrap_or(default) == host.port_u16().unwrap_or(default)
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("(not text)")
}

/// As much of a header as an answer repeats.
fn shown(value: &str) -> &str {
    value.get(..100).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(config: &HttpConfig, method: &Method, headers: &[(&str, &str)]) -> Option<ErrorCode> {
        checked_at("/v1/topics", config, method, headers)
    }

    fn checked_at(path: &'static str, config: &HttpConfig, method: &Method, headers: &[(&str, &str)]) -> Option<ErrorCode> {
        let header = |&(name, value): &(&str, &str)| {
            (axum::http::HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_str(value).expect("a value"))
        };
        let headers: HeaderMap = headers.iter().map(header).collect();
        let uri = Uri::from_static(path);
        Guard::new(config).check(method, &uri, &headers).err().map(|error| error.into_problem().code)
    }

    fn local() -> HttpConfig {
        HttpConfig { is_local: true, ..HttpConfig::default() }
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_taken() {
        for known in ["localhost", "LocalHost:7070", "127.0.0.1:7070", "127.8.9.1", "[::1]:7070", "localhost.:1", "[::ffff:127.0.0.1]"] {
            assert_eq!(checked(&local(), &Method::GET, &[("host", known)]), None, "{known}");
        }
        for unknown in
            ["evil.example", "evil.example:7070", "127.0.0.1.evil.example", "192.168.1.1", "localhost.evil.example", "", "a b", "[::2]"]
        {
            assert_eq!(checked(&local(), &Method::GET, &[("host", unknown)]), Some(ErrorCode::HostNotAllowed), "{unknown}");
            assert_eq!(
                checked(&HttpConfig::default(), &Method::GET, &[("host", unknown)]),
                None,
                "{unknown}: others see to who reaches them"
            );
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(checked(&local(), &Method::POST, &two), Some(ErrorCode::HostNotAllowed));
        assert_eq!(checked(&local(), &Method::POST, &[]), None, "no browser leaves the host out");
        // HTTP/2, and whoever writes the whole address, says the host there.
        for (address, refused) in [("http://evil.example/v1/topics", true), ("http://localhost:7070/v1/topics", false)] {
            let refused = refused.then_some(ErrorCode::HostNotAllowed);
            assert_eq!(checked_at(address, &local(), &Method::GET, &[]), refused, "{address}");
            assert_eq!(checked_at(address, &local(), &Method::GET, &[("host", "localhost")]), refused, "{address}");
        }
        let listed = || HttpConfig { allow_hosts: vec!["Broker.example".to_owned()], ..HttpConfig::default() };
        assert_eq!(checked(&listed(), &Method::GET, &[("host", "broker.example:80")]), None);
        assert_eq!(checked(&listed(), &Method::GET, &[("host", "other.example")]), Some(ErrorCode::HostNotAllowed));
    }

    #[test]
    fn probes_by_address_are_answered_and_nothing_else_is() {
        let listed = HttpConfig { allow_hosts: vec!["broker.example".to_owned()], ..HttpConfig::default() };
        for config in [&listed, &local()] {
            for path in ["/healthz", "/readyz", "/readyz?verbose"] {
                assert_eq!(checked_at(path, config, &Method::GET, &[("host", "10.1.2.3:7070")]), None, "{path}");
                let page = [("host", "10.1.2.3:7070"), ("origin", "https://evil.example")];
                assert_eq!(checked_at(path, config, &Method::GET, &page), Some(ErrorCode::OriginNotAllowed), "{path}");
            }
            for path in ["/metrics", "/openapi.json", "/v1/topics", "/healthz/x", "/"] {
                assert_eq!(checked_at(path, config, &Method::GET, &[("host", "10.1.2.3")]), Some(ErrorCode::HostNotAllowed), "{path}");
            }
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_listed() {
        let own = ("host", "localhost:7070");
        for origin in ["http://localhost:7070", "HTTP://LOCALHOST:7070"] {
            assert_eq!(checked(&local(), &Method::POST, &[own, ("origin", origin)]), None, "{origin}");
        }
        assert_eq!(checked(&HttpConfig::default(), &Method::POST, &[("host", "b.example"), ("origin", "https://b.example")]), None);
        for origin in ["null", "http://localhost:3000", "http://localhost", "https://evil.example", "http://127.0.0.1:7070", "file://"] {
            for method in [Method::POST, Method::DELETE, Method::GET] {
                assert_eq!(checked(&local(), &method, &[own, ("origin", origin)]), Some(ErrorCode::OriginNotAllowed), "{origin}");
            }
        }
        let listed = || HttpConfig { allow_origins: vec!["https://Console.example/".to_owned()], ..local() };
        assert_eq!(checked(&listed(), &Method::POST, &[own, ("origin", "https://console.example")]), None);
        assert_eq!(
            checked(&listed(), &Method::POST, &[own, ("origin", "https://console.example.evil")]),
            Some(ErrorCode::OriginNotAllowed)
        );
        for (site, method, refused) in [
            ("cross-site", Method::POST, true),
            ("same-site", Method::DELETE, true),
            ("none", Method::POST, false),
            ("same-origin", Method::POST, false),
            ("cross-site", Method::GET, false),
        ] {
            assert_eq!(checked(&local(), &method, &[own, ("sec-fetch-site", site)]).is_some(), refused, "{site}");
        }
    }
}
