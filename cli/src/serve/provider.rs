//! Where the keys of an identity provider come from: a file that is read anew when it changes, or an address that is asked now and then.

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
                tracing::warn!(%url, %reason, "the keys of the identity provider cannot be had yet, so its tokens are refused until then");
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

async fn ask(url: reqwest::Url) -> Result<Vec<u8>, String> {
    // Whom the address names is asked, and nobody that it sends on to.
    let client = reqwest::Client::builder().timeout(ANSWER_MAX).redirect(reqwest::redirect::Policy::none()).no_proxy();
    let client = client.build().map_err(|error| error.to_string())?;
    let mut answer = client.get(url).send().await.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let mut document = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| error.to_string())? {
        if document.len() + piece.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("its answer has more than {DOCUMENT_BYTES_MAX} bytes"));
        }
        document.extend_from_slice(&piece);
    }
    Ok(document)
}
