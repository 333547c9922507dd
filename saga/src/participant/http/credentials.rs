//! [`Credentials`]: what calls to a service show, and whom they trust: headers and certificates with secrets by their names. A secret is read
//! when a call is made, and looked at again a second later: so it is changed by whoever has the file, while sagas run.

use crate::definition::ServiceAddress;
use crate::outgoing::{HeaderTemplate, SecretError, SecretSource, SecretText, header_name, is_in_the_clear};
use http::{HeaderMap, HeaderName};
use memchr::memmem::Finder;
use reqwest::{Certificate, Client, ClientBuilder, Identity};
use sagamq_api::SecretName;
use sagamq_api::service::ServiceTls;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long what was read counts as what is there, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// From how many bytes on a secret that a participant repeats is taken out of what it says: shorter ones stand in other texts by chance.
const MASKED_BYTES_MIN: usize = 8;

/// What calls to a service show.
#[derive(Debug)]
pub(crate) struct Credentials {
    service: String,
    headers: Vec<(HeaderName, HeaderTemplate)>,
    tls: ServiceTls,
    allow_plain_http: bool,
    /// Why what is stored cannot be used by this version, if it cannot.
    unusable: Option<String>,
    /// What was made of the secrets when they were last looked at.
    ready: Mutex<Option<Looked>>,
}

#[derive(Clone, Debug)]
struct Looked {
    at_ms: u64,
    contents: BTreeMap<SecretName, SecretText>,
    ready: Arc<Ready>,
}

/// What a call shows now.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) headers: HeaderMap,
    /// With certificates of its own; `None`: the one that all have.
    pub(super) client: Option<Client>,
    masks: Vec<Mask>,
}

/// A secret as it may stand in an answer, and what is put in its place.
struct Mask {
    content: Finder<'static>,
    name: String,
}

impl core::fmt::Debug for Mask {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Mask({})", self.name)
    }
}

impl Credentials {
    /// Those of what is stored; `None`: its calls show nothing.
    pub(super) fn of(service: &str, stored: &ServiceAddress) -> Option<Arc<Self>> {
        let ServiceAddress { headers, tls, allow_plain_http, .. } = stored;
        if headers.is_empty() && *tls == ServiceTls::default() {
            return None;
        }
        let read = |(name, value): (&String, &String)| Ok::<_, String>((header_name(name)?, HeaderTemplate::parse(value)?));
        let (headers, unusable) = match headers.iter().map(read).collect::<Result<Vec<_>, _>>() {
            Ok(headers) => (headers, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let (service, tls, allow_plain_http) = (service.to_owned(), tls.clone(), *allow_plain_http);
        Some(Arc::new(Self { service, headers, tls, allow_plain_http, unusable, ready: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Looked>> {
        // Every change under this lock is a single assignment.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why they must not be shown at this base URL, if they must not: a secret could be read on its way.
    pub(super) fn forbid(&self, base: &str) -> Option<String> {
        let has_secrets = self.headers.iter().any(|(_, value)| value.secrets().next().is_some());
        (has_secrets && !self.allow_plain_http && is_in_the_clear(base))
            .then(|| format!("calls to the service `{}` show a secret, and `{base}` is not https (`allow_plain_http`)", self.service))
    }

    /// What a call shows now. `build` makes a client with certificates of its own.
    ///
    /// # Errors
    /// When a secret is not there, or cannot be used.
    pub(super) async fn ready(
        self: Arc<Self>,
        source: Arc<SecretSource>,
        now_ms: u64,
        build: impl FnOnce() -> Result<ClientBuilder, reqwest::Error> + Send + 'static,
    ) -> Result<Arc<Ready>, SecretError> {
        {
            let mut looked = self.lock();
            if let Some(looked) = looked.as_mut() {
                // A clock that was set back makes nothing fresh.
                if (looked.at_ms..looked.at_ms.saturating_add(LOOK_MS)).contains(&now_ms) {
                    return Ok(Arc::clone(&looked.ready));
                }
                // One call looks, the others go on with what is there.
                looked.at_ms = now_ms;
            }
        }
        let read = tokio::task::spawn_blocking(move || self.look(&source, now_ms, build));
        read.await.expect("reading secrets neither panics nor is aborted")
    }

    /// Reads the secrets, and makes anew what follows from those that have changed.
    fn look(
        &self,
        source: &SecretSource,
        now_ms: u64,
        build: impl FnOnce() -> Result<ClientBuilder, reqwest::Error>,
    ) -> Result<Arc<Ready>, SecretError> {
        let before = self.lock().clone();
        let made = self.contents(source).and_then(|contents| match before {
            Some(before) if before.contents == contents => Ok(Looked { at_ms: now_ms, ..before }),
            before => {
                let is_same = |name: &SecretName| before.as_ref().is_some_and(|before| before.contents.get(name) == contents.get(name));
                let client = match before.as_ref().and_then(|before| before.ready.client.clone()) {
                    Some(client) if self.of_tls().all(is_same) => Some(client),
                    _ => self.client(&contents, build)?,
                };
                let ready = Arc::new(Ready { headers: self.headers(&contents)?, client, masks: masks(&contents, &self.headers) });
                Ok(Looked { at_ms: now_ms, contents, ready })
            }
        });
        match made {
            Ok(looked) => {
                let ready = Arc::clone(&looked.ready);
                *self.lock() = Some(looked);
                Ok(ready)
            }
            // What was taken away is not shown any more.
            Err(error) => {
                *self.lock() = None;
                Err(error)
            }
        }
    }

    fn of_tls(&self) -> impl Iterator<Item = &SecretName> {
        let ServiceTls { ca, certificate, key } = &self.tls;
        [ca, certificate, key].into_iter().flatten()
    }

    fn contents(&self, source: &SecretSource) -> Result<BTreeMap<SecretName, SecretText>, SecretError> {
        if let Some(reason) = &self.unusable {
            return Err(SecretError::Unusable { service: self.service.clone(), reason: reason.clone() });
        }
        let names = self.headers.iter().flat_map(|(_, value)| value.secrets()).chain(self.of_tls());
        names.map(|name| Ok((name.clone(), source.read(name)?))).collect()
    }

    fn headers(&self, contents: &BTreeMap<SecretName, SecretText>) -> Result<HeaderMap, SecretError> {
        let of = |name: &SecretName| contents.get(name).expect("each was read");
        self.headers.iter().map(|(name, value)| Ok((name.clone(), value.render(of)?))).collect()
    }

    fn client(
        &self,
        contents: &BTreeMap<SecretName, SecretText>,
        build: impl FnOnce() -> Result<ClientBuilder, reqwest::Error>,
    ) -> Result<Option<Client>, SecretError> {
        let of = |name: &Option<SecretName>| name.as_ref().and_then(|name| contents.get(name)).map(SecretText::reveal);
        let (ca, certificate, key) = (of(&self.tls.ca), of(&self.tls.certificate), of(&self.tls.key));
        if ca.is_none() && certificate.is_none() {
            return Ok(None);
        }
        // What the library says of a key has nothing of it.
        let unusable = |error: reqwest::Error| self.unusable(&super::causes::describe(&error));
        let mut builder = build().map_err(unusable)?;
        if let Some(ca) = ca {
            let authorities = Certificate::from_pem_bundle(ca).map_err(unusable)?;
            if authorities.is_empty() {
                return Err(self.unusable("there is no certificate in what is to be trusted"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(certificate) = certificate {
            let pem = [certificate, b"\n", key.unwrap_or_default()].concat();
            builder = builder.identity(Identity::from_pem(&pem).map_err(unusable)?);
        }
        builder.build().map(Some).map_err(unusable)
    }

    fn unusable(&self, reason: &str) -> SecretError {
        SecretError::Tls { service: self.service.clone(), reason: reason.to_owned() }
    }
}

fn masks(contents: &BTreeMap<SecretName, SecretText>, headers: &[(HeaderName, HeaderTemplate)]) -> Vec<Mask> {
    let shown = headers.iter().flat_map(|(_, value)| value.secrets());
    let mut masks: Vec<Mask> = shown.flat_map(|name| forms(contents[name].line()).into_iter().map(move |form| mask(&form, name))).collect();
    // The longest first: one may hold another.
    masks.sort_by_key(|mask| core::cmp::Reverse(mask.content.needle().len()));
    masks
}

fn mask(form: &[u8], name: &SecretName) -> Mask {
    Mask { content: Finder::new(form).into_owned(), name: format!("[secret {name}]") }
}

/// A secret as it is, and as it stands in JSON.
fn forms(content: &[u8]) -> Vec<Vec<u8>> {
    if content.len() < MASKED_BYTES_MIN {
        return Vec::new();
    }
    let quoted = serde_json::to_vec(&String::from_utf8_lossy(content)).expect("a text is JSON");
    let in_json = quoted[1..quoted.len() - 1].to_vec();
    if in_json == content { vec![in_json] } else { vec![in_json, content.to_vec()] }
}

impl Ready {
    /// Whether a participant repeats a secret that was shown to it, where nothing can be taken out.
    pub(super) fn is_repeated_in(&self, said: &[u8]) -> bool {
        self.masks.iter().any(|Mask { content, .. }| content.find(said).is_some())
    }

    /// What a participant said, without the secrets that were shown to it: what it says is kept, and shown to whoever may see the saga.
    pub(super) fn without_secrets(&self, said: Vec<u8>) -> Vec<u8> {
        self.masks.iter().fold(said, |said, Mask { content, name }| {
            let mut found = content.find_iter(&said).peekable();
            if found.peek().is_none() {
                drop(found);
                return said;
            }
            let (mut kept, mut from) = (Vec::with_capacity(said.len()), 0);
            for at in found {
                kept.extend_from_slice(&said[from..at]);
                kept.extend_from_slice(name.as_bytes());
                from = at + content.needle().len();
            }
            kept.extend_from_slice(&said[from..]);
            kept
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(headers: &[(&str, &str)], tls: ServiceTls) -> ServiceAddress {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        ServiceAddress { headers, tls, ..ServiceAddress::at(&["https://a"]) }
    }

    fn source(secrets: &[(&str, &str)]) -> Arc<SecretSource> {
        let environment = secrets.iter().map(|&(name, content)| (SecretSource::variable(name), SecretText::new(content.as_bytes())));
        Arc::new(SecretSource { directory: None, environment: environment.collect() })
    }

    async fn shown(credentials: &Arc<Credentials>, source: &Arc<SecretSource>, now_ms: u64) -> Result<Arc<Ready>, SecretError> {
        Arc::clone(credentials).ready(Arc::clone(source), now_ms, || Ok(Client::builder())).await
    }

    #[tokio::test]
    async fn a_secret_that_changes_is_shown_a_second_later_and_one_that_is_taken_away_is_not_shown_any_more() {
        let credentials = Credentials::of("pay", &stored(&[("authorization", "Bearer ${secret:token}")], ServiceTls::default()));
        let credentials = credentials.expect("it has some");
        let of = async |secrets: &[(&str, &str)], now_ms| {
            let ready = shown(&credentials, &source(secrets), now_ms).await;
            ready.map(|ready| ready.headers["authorization"].to_str().expect("a text").to_owned())
        };
        assert_eq!(of(&[("token", "first-one")], 0).await.as_deref(), Ok("Bearer first-one"));
        assert_eq!(of(&[("token", "other-one")], 999).await.as_deref(), Ok("Bearer first-one"), "it is not looked at for each call");
        assert_eq!(of(&[("token", "other-one")], 1_000).await.as_deref(), Ok("Bearer other-one"));
        assert_eq!(of(&[("token", "third-one")], 10).await.as_deref(), Ok("Bearer third-one"), "nor is a look of the future one");
        assert!(matches!(of(&[], 2_000).await, Err(SecretError::Missing { .. })));
        assert!(of(&[], 2_001).await.is_err(), "and what was there is forgotten");
        assert_eq!(of(&[("token", "first-one")], 2_002).await.as_deref(), Ok("Bearer first-one"), "it is back at once");
    }

    #[tokio::test]
    async fn what_is_no_certificate_is_told_without_its_content() {
        let tls = ServiceTls { ca: Some("ca".parse().expect("legal")), ..ServiceTls::default() };
        let credentials = Credentials::of("pay", &stored(&[], tls)).expect("it has some");
        let refused = shown(&credentials, &source(&[("ca", "not a certificate")]), 0).await.expect_err("it is none");
        assert!(matches!(&refused, SecretError::Tls { service, .. } if service == "pay"), "{refused}");
        assert!(!refused.to_string().contains("not a certificate"), "{refused}");
        assert!(Credentials::of("pay", &stored(&[], ServiceTls::default())).is_none(), "nothing is shown");
    }

    #[tokio::test]
    async fn what_a_participant_repeats_of_a_secret_is_taken_out_of_what_it_says() {
        let headers = [("authorization", "Bearer ${secret:token}"), ("x-pin", "${secret:pin}"), ("x-quoted", "${secret:quoted}")];
        let credentials = Credentials::of("pay", &stored(&headers, ServiceTls::default())).expect("it has some");
        let secrets = source(&[("token", "s3cr3t-token"), ("pin", "1234"), ("quoted", "with \"quotes\" in it")]);
        let ready = shown(&credentials, &secrets, 0).await.expect("they are there");
        let kept = |said: &str| String::from_utf8(ready.without_secrets(said.as_bytes().to_vec())).expect("a text");
        assert_eq!(kept("s3cr3t-token, s3cr3t-token!"), "[secret token], [secret token]!");
        assert_eq!(kept(r#"{"was": "with \"quotes\" in it"}"#), r#"{"was": "[secret quoted]"}"#);
        assert_eq!(kept("with \"quotes\" in it"), "[secret quoted]");
        assert_eq!(kept("1234 and nothing"), "1234 and nothing", "what is so short stands anywhere");
        assert!(!format!("{ready:?}{credentials:?}").contains("s3cr3t"), "{ready:?}");
    }

    #[test]
    fn a_secret_is_not_shown_where_it_can_be_read_on_its_way() {
        let with = |value: &str, allow_plain_http| {
            let stored = ServiceAddress { allow_plain_http, ..stored(&[("x-team", value)], ServiceTls::default()) };
            Credentials::of("pay", &stored).expect("it has some")
        };
        assert!(with("${secret:token}", false).forbid("http://pay.example").is_some_and(|why| why.contains("allow_plain_http")));
        for base in ["https://pay.example", "http://127.0.0.1:1", "http://localhost", "http://[::1]"] {
            assert_eq!(with("${secret:token}", false).forbid(base), None, "{base}");
        }
        assert_eq!(with("${secret:token}", true).forbid("http://pay.example"), None);
        assert_eq!(with("shop", false).forbid("http://pay.example"), None, "it is no secret");
    }
}
