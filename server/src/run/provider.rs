//! Where the keys of an identity provider come from: a file that is read anew when it changes, or an address that is asked now and then.

use crate::web::described;
use sagamq_broker::access::Tokens;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether the file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often the address is asked.
const ASK_EVERY: Duration = Duration::from_secs(300);

/// How often it is asked at the most: when tokens name keys that are not known, or it does not answer.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Largest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Where the keys of a provider come from: an `https` address (`http` on this machine), or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JWKS document. It may have secrets.
    File(PathBuf),
    /// An address that answers with one.
    Address(reqwest::Url),
}

impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected a file or an https address".to_owned());
        }
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let url: reqwest::Url = text.parse().map_err(|_| "expected an https address or a file".to_owned())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("expected an address without user and password: the keys of a provider are for everybody".to_owned());
        }
        let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match url.scheme() {
            "https" => Ok(Self::Address(url)),
            "http" if is_here => Ok(Self::Address(url)),
            _ => Err("expected an https address: whoever answers in the clear could make keys of his own".to_owned()),
        }
    }
}

impl KeySource {
    /// Reads the keys for the first time. A file must be there; an address that does not answer is asked again, and until then no token is taken.
    pub(super) async fn load(&self, tokens: &Tokens) -> Result<(), String> {
        match (self, self.read(tokens).await) {
            (_, Ok(())) => Ok(()),
            (Self::File(path), Err(reason)) => Err(format!("{}: {reason}", path.display())),
            (Self::Address(url), Err(reason)) => {
                tracing::warn!(url = shown(url), %reason, "the keys of the identity provider cannot be had yet, so its tokens are refused until then");
                Ok(())
            }
        }
    }

    /// Keeps the keys up to date until `closing`. What cannot be used changes nothing.
    pub(super) async fn follow(self, tokens: Tokens, closing: CancellationToken) {
        let mut seen = self.changed();
        let mut pause = ASK_AGAIN;
        loop {
            match &self {
                Self::File(_) => tokio::select! {
                    () = closing.cancelled() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                },
                Self::Address(_) => {
                    // Not at once for each token that names what nobody has: that would ask the provider as often as anybody likes.
                    tokio::select! {
                        () = closing.cancelled() => return,
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                    }
                    tokio::select! {
                        () = closing.cancelled() => return,
                        () = tokens.unknown_key() => {}
                        () = tokio::time::sleep(pause.saturating_sub(ASK_AGAIN)) => {}
                    }
                }
            }
            let now = self.changed();
            if matches!(self, Self::File(_)) && now == seen {
                continue;
            }
            seen = now;
            match self.read(&tokens).await {
                Ok(()) => pause = ASK_EVERY,
                Err(reason) => {
                    pause = ASK_AGAIN;
                    tracing::error!(%reason, "the keys of the identity provider cannot be had anew, so those from before stay in use");
                }
            }
        }
    }

    fn changed(&self) -> Option<(SystemTime, u64)> {
        let Self::File(path) = self else { return None };
        let about = std::fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    }

    async fn read(&self, tokens: &Tokens) -> Result<(), String> {
        let document = match self {
            Self::File(path) => tokio::fs::read(path).await.map_err(|error| error.to_string())?,
            Self::Address(url) => ask(url.clone()).await?,
        };
        let usable = tokens.replace_keys(&document, matches!(self, Self::File(_)))?;
        tracing::info!(usable, "the keys of the identity provider are read");
        Ok(())
    }
}

/// An address as the log has it: what stands behind `?` may be a secret.
fn shown(url: &reqwest::Url) -> &str {
    url.as_str().split('?').next().unwrap_or_default()
}

async fn ask(url: reqwest::Url) -> Result<Vec<u8>, String> {
    // Whom the address names is asked, and nobody that it sends on to.
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).redirect(reqwest::redirect::Policy::none()).no_proxy();
    let client = client.build().map_err(described)?;
    let mut answer = client.get(url).send().await.map_err(described)?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let mut document = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(described)? {
        if document.len() + piece.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("its answer has more than {DOCUMENT_BYTES_MAX} bytes"));
        }
        document.extend_from_slice(&piece);
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[test]
    fn keys_come_over_tls_or_from_this_machine_and_the_address_has_no_password() {
        for good in ["https://login.example/keys", "http://localhost:1/keys", "http://127.0.0.1/keys", "http://[::1]:8/keys"] {
            assert!(matches!(good.parse(), Ok(KeySource::Address(_))), "{good}");
        }
        assert_eq!("keys.json".parse(), Ok(KeySource::File("keys.json".into())));
        for bad in [
            "",
            "http://login.example/keys",
            "http://localhost.example/keys",
            "http://10.0.0.1/keys",
            "ftp://login.example/keys",
            "file:///etc/keys",
            "https://",
            "https://user@login.example/keys",
            "https://user:s3cret@login.example/keys",
            "http://localhost@login.example/keys",
        ] {
            let refused = bad.parse::<KeySource>().expect_err(bad);
            assert!(refused.starts_with("expected") && !refused.contains("s3cret"), "{bad}: {refused}");
        }
    }

    /// Answers each request with these bytes; gives its address.
    async fn answering(answer: Vec<u8>) -> reqwest::Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        format!("http://{address}/keys?code=s3cret").parse().expect("an address")
    }

    async fn asked(head: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        ask(answering([head.as_bytes(), b"connection: close\r\n\r\n", body].concat()).await).await
    }

    #[tokio::test]
    async fn a_document_is_bounded_whether_its_length_is_said_or_not_and_nobody_else_is_asked() {
        let large = vec![b' '; DOCUMENT_BYTES_MAX + 1];
        let said = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", large.len());
        for head in ["HTTP/1.1 200 OK\r\n", &said] {
            assert!(asked(head, &large).await.expect_err("too large").contains("more than 1048576 bytes"), "{head}");
        }
        assert_eq!(asked("HTTP/1.1 200 OK\r\n", &large[1..]).await.map(|document| document.len()), Ok(DOCUMENT_BYTES_MAX));
        let elsewhere = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()).await;
        let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n");
        assert_eq!(asked(&redirect, b"").await, Err("it answered 302 Found".to_owned()));
        assert!(asked("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n", b"").await.is_err());
    }

    #[tokio::test]
    async fn what_went_wrong_is_told_without_what_the_address_may_have_of_a_secret() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let url: reqwest::Url = format!("http://{address}/keys?code=s3cret").parse().expect("an address");
        let reason = ask(url.clone()).await.expect_err("nobody listens there");
        assert!(reason.contains("refused") && !reason.contains("s3cret"), "{reason}");
        assert_eq!(shown(&url), format!("http://{address}/keys"));
    }
}
