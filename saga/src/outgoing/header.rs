//! [`HeaderTemplate`]: the value of a header with the names of secrets in it, `Bearer ${secret:payment_token}`.

use super::secret::SecretText;
use super::source::SecretError;
use http::{HeaderName, HeaderValue};
use sagamq_api::SecretName;

/// Most headers of a service.
pub(crate) const HEADERS_MAX: usize = 32;

/// Longest value of a header, in bytes, as it is written.
const VALUE_BYTES_MAX: usize = 4_096;

/// How a secret is referred to.
const BEGINS: &str = "${secret:";

/// What the server and the connection say themselves.
const TAKEN: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What headers are called that have a secret, with `-` for `_`.
const OF_SECRETS: [&str; 14] = [
    "access-key",
    "api-key",
    "apikey",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "subscription-key",
    "token",
];

/// The value of a header, with secrets by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Secret(SecretName),
}

/// The name of a header that may be set, or why it may not.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed: HeaderName = name.parse().map_err(|_| "it is no name of a header".to_owned())?;
    let lower = parsed.as_str();
    if TAKEN.contains(&lower) || lower.starts_with("saga-") || lower == sagamq_api::headers::IDEMPOTENCY_KEY {
        return Err("the server sets it itself".to_owned());
    }
    Ok(parsed)
}

/// Whether a header of this name has a secret, so that its value must not stand where everybody can read it.
pub(crate) fn needs_a_secret(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    OF_SECRETS.iter().any(|part| name.contains(part))
}

impl HeaderTemplate {
    /// Reads a value, or says why it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > VALUE_BYTES_MAX {
            return Err(format!("it has {} bytes, at most {VALUE_BYTES_MAX} are allowed", text.len()));
        }
        if HeaderValue::from_str(text).is_err() {
            return Err("it has a character that no header may have".to_owned());
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, behind)) = rest.split_once("${") {
            let reference = behind.strip_prefix(&BEGINS[2..]).and_then(|behind| behind.split_once('}'));
            let Some((name, behind)) = reference else {
                return Err("a secret is written `${secret:NAME}`, and nothing else may stand behind `${`".to_owned());
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Secret(name.parse().map_err(|error: sagamq_api::NameError| error.to_string())?));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() { Err("it is empty".to_owned()) } else { Ok(Self(parts)) }
    }

    /// The secrets in it.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// The value with its secrets put in. Whoever shows headers leaves out one that has any.
    pub(crate) fn render<'a>(&self, content: impl Fn(&SecretName) -> &'a SecretText) -> Result<HeaderValue, SecretError> {
        let mut bytes = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::Secret(name) => {
                    let line = content(name).line();
                    HeaderValue::from_bytes(line).map_err(|_| SecretError::NotAHeader(name.clone()))?;
                    bytes.extend_from_slice(line);
                }
            }
        }
        let mut value = HeaderValue::from_bytes(&bytes).expect("each of its parts is the value of a header");
        value.set_sensitive(self.secrets().next().is_some());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stand_by_their_names_and_are_put_in_for_the_request() {
        let template = HeaderTemplate::parse("Bearer ${secret:a}.${secret:b-c}!").expect("legal");
        assert_eq!(template.secrets().map(SecretName::as_str).collect::<Vec<_>>(), ["a", "b-c"]);
        let (a, b) = (SecretText::new(b"first\n"), SecretText::new(b"second"));
        let rendered = template.render(|name| if name.as_str() == "a" { &a } else { &b }).expect("legal");
        assert_eq!(rendered.as_bytes(), b"Bearer first.second!");
        assert!(rendered.is_sensitive() && !format!("{rendered:?}{template:?}").contains("first"), "{rendered:?}");
        let broken = SecretText::new(b"two\nlines");
        let refused = template.render(|_| &broken).expect_err("no header has lines");
        assert!(matches!(&refused, SecretError::NotAHeader(name) if name.as_str() == "a") && !refused.to_string().contains("lines"));
        let plain = HeaderTemplate::parse("team shop").expect("legal");
        assert!(plain.secrets().next().is_none() && !plain.render(|_| unreachable!("it has none")).expect("legal").is_sensitive());
    }

    #[test]
    fn what_is_no_value_and_no_name_is_refused() {
        for (bad, why) in [
            ("", "empty"),
            ("a\nb", "character"),
            ("${secret:}", "empty"),
            ("${secret:../etc}", "character"),
            ("${secret:.hidden}", "`.`"),
            ("${secret:a", "`${secret:NAME}`"),
            ("${env:HOME}", "`${secret:NAME}`"),
        ] {
            let refused = HeaderTemplate::parse(bad).expect_err(bad);
            assert!(refused.contains(why), "{bad}: {refused}");
        }
        assert!(HeaderTemplate::parse(&"x".repeat(4_097)).is_err());
        for bad in ["", "a b", "Content-Type", "saga-id", "Host", "idempotency-key", "transfer-encoding", "traceparent"] {
            assert!(header_name(bad).is_err(), "{bad}");
        }
        let needs =
            ["Authorization", "x-api-key", "X_Api_Key", "x-auth-token", "cookie", "Ocp-Apim-Subscription-Key", "x-access-key", "x-jwt"];
        for (name, needs) in needs.map(|name| (name, true)).into_iter().chain([("x-team", false), ("x-routing-key", false)]) {
            assert_eq!(needs_a_secret(&header_name(name).expect(name)), needs, "{name}");
        }
    }
}
