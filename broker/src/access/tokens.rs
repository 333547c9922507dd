//! [`Tokens`]: signed tokens (JWT) of an identity provider, in the place of keys. Each key of the provider has one algorithm, and a token that
//! names another is refused, whatever it would verify with.

use core::time::Duration;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use sagamq_api::access::{Grant, KeyQuota, Rights};
use sagamq_api::limits::{QUOTA_BYTES_MAX, QUOTA_REQUESTS_MAX};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Notify;

/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Longest name of who a token is for, in bytes: it stands in histories.
const SUBJECT_BYTES_MAX: usize = 128;

/// The claim that says how much whoever shows the token may have, as a key does: an object with `requests_per_second` and `bytes_per_second`.
const QUOTA_CLAIM: &str = "sagamq_quota";

/// Least bytes of a secret that signs: as many as its hash has (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// What a token must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// Who made it (`iss`).
    pub issuer: String,
    /// For whom it is (`aud`).
    pub audience: String,
    /// The claim that has the roles, as keys have them: a list of texts, or a text with spaces between them.
    pub roles_claim: String,
    /// How far the clocks of provider and server may be apart.
    pub skew: Duration,
}

/// Why a token is not taken. Nothing of the token is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// It is no token, or has no signature.
    #[error("it is no token that is signed with HS256, RS256 or EdDSA")]
    Malformed,
    /// The provider has no such key, or none are known yet.
    #[error("it is signed with a key that the provider does not have (`kid`)")]
    UnknownKey,
    /// The algorithm is not the key's.
    #[error("it names an algorithm that is not the key's (`alg`)")]
    WrongAlgorithm,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    WrongSignature,
    /// It was made by somebody else.
    #[error("it was made by another issuer (`iss`)")]
    WrongIssuer,
    /// It is for somebody else.
    #[error("it is for another audience (`aud`)")]
    WrongAudience,
    /// It does not say what it must.
    #[error("it lacks one of `iss`, `aud`, `exp`, `sub`, or one of them cannot be read")]
    Claims,
    /// How much he may have cannot be read: to take that for no bound would give him all.
    #[error("its quota cannot be read (`sagamq_quota`): expected an object with `requests_per_second`, `bytes_per_second`, or both")]
    Quota,
    /// Its time is over.
    #[error("it has expired (`exp`)")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet (`nbf`)")]
    NotYet,
}

/// Whose token it is, and what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(super) subject: String,
    pub(super) rights: Rights,
    pub(super) quota: KeyQuota,
    pub(super) until_ms: u64,
}

/// The keys of an identity provider, and what its tokens must say; clones are the same ones.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    rules: TokenRules,
    keys: RwLock<Arc<Vec<ProviderKey>>>,
    /// Told when a token names a key that is not known.
    unknown: Notify,
}

struct ProviderKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl core::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tokens").field("rules", &self.0.rules).finish_non_exhaustive()
    }
}

/// What a token says.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Tokens {
    /// Without keys: all tokens are refused until there are some.
    #[must_use]
    pub fn new(rules: TokenRules) -> Self {
        Self(Arc::new(Inner { rules, keys: RwLock::default(), unknown: Notify::new() }))
    }

    /// The keys are those of this JWKS document from now on; how many of them can be used. A document that everybody can read must have no
    /// secrets (`kty` `oct`).
    ///
    /// # Errors
    /// Why it cannot be used. Nothing of it is repeated, and the keys stay as they are.
    pub fn replace_keys(&self, document: &[u8], may_have_secrets: bool) -> Result<usize, String> {
        let set: JwkSet = serde_json::from_slice(document)
            .map_err(|error| format!("it is no JWKS document (line {} column {})", error.line(), error.column()))?;
        let has_secrets = set.keys.iter().any(|jwk| matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)));
        if has_secrets && !may_have_secrets {
            return Err(
                "it has a secret (`kty` `oct`), which is none where everybody can read it: use a file, or a pair of keys".to_owned()
            );
        }
        let keys: Vec<ProviderKey> = set.keys.iter().filter_map(ProviderKey::of).collect();
        if keys.is_empty() {
            return Err("it has no key for signatures with HS256 (at least 256 bits), RS256 or EdDSA (Ed25519)".to_owned());
        }
        let usable = keys.len();
        *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(usable)
    }

    /// Waits until a token names a key that is not known: the provider may have a new one.
    pub async fn unknown_key(&self) {
        self.0.unknown.notified().await;
    }

    /// Looks whether a token is valid now.
    pub(crate) fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, TokenRefused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefused::Malformed);
        }
        // `none` is no algorithm that the library has.
        let header = decode_header(token).map_err(|_| TokenRefused::Malformed)?;
        // What it says must be understood (RFC 7515, 4.1.11), and nothing of it is.
        if header.crit.is_some() {
            return Err(TokenRefused::Malformed);
        }
        let keys = Arc::clone(&self.0.keys.read().unwrap_or_else(PoisonError::into_inner));
        let found = match (&header.kid, &keys[..]) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_ref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let Some(key) = found else {
            self.0.unknown.notify_one();
            return Err(TokenRefused::UnknownKey);
        };
        if header.alg != key.algorithm {
            return Err(TokenRefused::WrongAlgorithm);
        }
        let claims = decode::<Claims>(token, &key.key, &self.validation(key.algorithm)).map_err(|error| refused(&error))?.claims;
        let skew_ms = u64::try_from(self.0.rules.skew.as_millis()).unwrap_or(u64::MAX);
        let until_ms = millis(claims.exp).ok_or(TokenRefused::Claims)?.saturating_add(skew_ms);
        if until_ms <= now_ms {
            return Err(TokenRefused::Expired);
        }
        if let Some(from) = claims.nbf
            && millis(from).ok_or(TokenRefused::Claims)? > now_ms.saturating_add(skew_ms)
        {
            return Err(TokenRefused::NotYet);
        }
        let is_legal = (1..=SUBJECT_BYTES_MAX).contains(&claims.sub.len()) && !claims.sub.chars().any(char::is_control);
        if !is_legal {
            return Err(TokenRefused::Claims);
        }
        let rights = Rights::new(grants(claims.others.get(&self.0.rules.roles_claim)));
        let quota = quota(claims.others.get(QUOTA_CLAIM))?;
        Ok(Identity { subject: claims.sub, rights, quota, until_ms })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.0.rules.issuer]);
        validation.set_audience(&[&self.0.rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library asks the system for the time; here it comes from the server's clock.
        validation.validate_exp = false;
        validation
    }
}

impl ProviderKey {
    /// A key for signatures of an algorithm that is taken; of others nothing is known.
    fn of(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::OctetKeyPair(pair) if matches!(pair.curve, EllipticCurve::Ed25519) => Algorithm::EdDSA,
            _ => return None,
        };
        let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|usage| matches!(usage, PublicKeyUse::Signature));
        let said = jwk.common.key_algorithm.as_ref();
        let is_its_own = said.is_none_or(|said| match algorithm {
            Algorithm::HS256 => matches!(said, KeyAlgorithm::HS256),
            Algorithm::RS256 => matches!(said, KeyAlgorithm::RS256),
            _ => matches!(said, KeyAlgorithm::EdDSA),
        });
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let is_short = algorithm == Algorithm::HS256 && key.try_get_as_bytes().is_ok_and(|secret| secret.len() < SECRET_BYTES_MIN);
        (is_for_signatures && is_its_own && !is_short).then(|| Self { id: jwk.common.key_id.clone(), algorithm, key })
    }
}

fn refused(error: &jsonwebtoken::errors::Error) -> TokenRefused {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenRefused::WrongSignature,
        ErrorKind::InvalidIssuer => TokenRefused::WrongIssuer,
        ErrorKind::InvalidAudience => TokenRefused::WrongAudience,
        ErrorKind::InvalidAlgorithm | ErrorKind::MissingAlgorithm => TokenRefused::WrongAlgorithm,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => TokenRefused::Claims,
        _ => TokenRefused::Malformed,
    }
}

/// A time in seconds since 1970, which may have a fraction.
fn millis(seconds: f64) -> Option<u64> {
    /// The year 10000 or so: what is beyond is no time.
    const MAX: f64 = 253_402_300_800.0;
    (0.0..=MAX).contains(&seconds).then_some((seconds * 1_000.0) as u64)
}

/// What a claim says of how much he may have; without one it is the server's bound for each client.
fn quota(claim: Option<&Value>) -> Result<KeyQuota, TokenRefused> {
    let Some(claim) = claim else { return Ok(KeyQuota::default()) };
    // A list would be read in the order of the fields.
    let said = claim.is_object().then(|| KeyQuota::deserialize(claim).ok()).flatten().ok_or(TokenRefused::Quota)?;
    let is_within = |said: Option<u64>, most| said.is_none_or(|said| said <= most);
    let is_legal = is_within(said.requests_per_second, QUOTA_REQUESTS_MAX) && is_within(said.bytes_per_second, QUOTA_BYTES_MAX);
    is_legal.then_some(said).ok_or(TokenRefused::Quota)
}

/// The roles in a claim. A provider has roles for others too, which are none here.
fn grants(claim: Option<&Value>) -> Vec<Grant> {
    let texts: Vec<&str> = match claim {
        Some(Value::String(text)) => text.split_whitespace().collect(),
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}
