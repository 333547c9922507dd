//! The servers of one broker, of which one is asked at a time.

use super::settings::base_url;
use crate::error::ClientError;
use reqwest::Url;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The addresses, in the order in which they were named, and which of them is asked.
///
/// All requests of a client go to the same one: what one of them finds out about it, the others need not find out again.
#[derive(Debug)]
pub(super) struct Servers {
    urls: Vec<String>,
    asked: AtomicUsize,
}

impl Servers {
    /// Addresses divided by commas, without a slash at their ends.
    pub(super) fn parse(text: &str) -> Result<Self, ClientError> {
        let urls: Vec<&str> = text.split(',').map(str::trim).collect();
        for url in &urls {
            base_url(url)?;
        }
        Ok(Self { urls: urls.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect(), asked: AtomicUsize::new(0) })
    }

    /// The one that is asked.
    pub(super) fn asked(&self) -> &str {
        &self.urls[self.asked.load(Ordering::Relaxed)]
    }

    /// Whether one of them is spoken to by TLS.
    pub(super) fn any_tls(&self) -> bool {
        self.urls.iter().any(|url| Url::parse(url).is_ok_and(|url| url.scheme() == "https"))
    }

    /// An answer came from the one at this address, which another one passed the request on to: it is asked from now on, if it is one of them.
    pub(super) fn passed_on_to(&self, url: &str) {
        // Nobody but those who were named is shown the client's key.
        if let Some(index) = self.urls.iter().position(|known| known == url.trim_end_matches('/')) {
            self.asked.store(index, Ordering::Relaxed);
        }
    }

    /// What one of them answered, or that it did not: whether the next one is asked from now on.
    pub(super) fn learn(&self, url: &str, error: &ClientError) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        if self.urls.len() == 1 || !is_elsewhere(error) {
            return false;
        }
        // Another request may have turned away from it already.
        if self.urls[asked] == url {
            let next = (asked + 1) % self.urls.len();
            let _ = self.asked.compare_exchange(asked, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        true
    }
}

/// Whether another server of the same broker may do what this one does not: it is not there, or it does not serve.
fn is_elsewhere(error: &ClientError) -> bool {
    match error {
        ClientError::Transport { .. } => true,
        ClientError::UnexpectedAnswer { .. } => error.is_retryable(),
        ClientError::Problem(problem) => problem.status == 503 && problem.retryable,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::{ErrorCode, Problem};

    fn problem(code: ErrorCode) -> ClientError {
        ClientError::from(Problem::new(code, "said"))
    }

    fn nothing_there() -> ClientError {
        ClientError::UnexpectedAnswer { url: String::new(), status: 502, body: String::new() }
    }

    #[test]
    fn the_next_one_is_asked_when_one_does_not_serve_and_the_first_one_again_after_the_last() {
        let servers = Servers::parse("http://a/, http://b:1,https://c").expect("addresses");
        assert!(servers.any_tls());
        for (asked, next) in [("http://a", "http://b:1"), ("http://b:1", "https://c"), ("https://c", "http://a")] {
            assert_eq!(servers.asked(), asked);
            assert!(servers.learn(asked, &nothing_there()));
            assert_eq!(servers.asked(), next);
            assert!(servers.learn(asked, &problem(ErrorCode::ShuttingDown)), "who heard it later asks elsewhere too");
            assert_eq!(servers.asked(), next, "and does not send the others on once more");
        }
    }

    #[test]
    fn the_one_that_answered_by_way_of_another_is_asked_if_it_is_known() {
        let servers = Servers::parse("http://a,http://b").expect("addresses");
        servers.passed_on_to("http://evil.example");
        assert_eq!(servers.asked(), "http://a");
        servers.passed_on_to("http://b/");
        assert_eq!(servers.asked(), "http://b");
    }

    #[test]
    fn who_refuses_or_is_busy_is_asked_again() {
        let servers = Servers::parse("http://a,http://b").expect("addresses");
        assert!(!servers.any_tls());
        for code in [ErrorCode::Overloaded, ErrorCode::TopicNotFound, ErrorCode::Forbidden] {
            assert!(!servers.learn("http://a", &problem(code)), "{code}");
        }
        assert_eq!(servers.asked(), "http://a");
        let alone = Servers::parse("http://a").expect("an address");
        assert!(!alone.learn("http://a", &nothing_there()));
        assert_eq!(alone.asked(), "http://a");
    }

    #[test]
    fn each_of_them_has_to_be_an_address() {
        for text in ["", "http://a,", "http://a,,http://b", "http://a,localhost:7070", "http://a http://b"] {
            assert!(matches!(Servers::parse(text), Err(ClientError::InvalidUrl { .. })), "{text}");
        }
    }
}
