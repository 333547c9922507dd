//! Headers that belong to one connection and not to the request (RFC 9110, 7.6.1).

use axum::http::header::{CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderMap, HeaderName};
use sagamq_api::headers::{NODE_REFUSED, PASSED_ON};

/// Takes them out: those that are known, and those that `connection` names.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let known = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION];
    let others = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.into_iter().chain(known).chain(others) {
        headers.remove(name);
    }
}

/// Takes out of a request also what is said anew to the next node.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(HOST);
    headers.remove(PASSED_ON);
}

/// Takes out of an answer also what is said to a node alone.
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(NODE_REFUSED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn what_belongs_to_a_connection_stays_there_and_all_else_goes_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own"),
            ("connection", "keep-alive"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("host", "b:7070"),
            ("authorization", "Bearer sq_1"),
            ("content-length", "7"),
            ("x-request-id", "7"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_request(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "x-request-id"]);
    }
}
