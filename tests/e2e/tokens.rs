//! Tokens of an identity provider: what is taken, and every way in which one is forged, is old or is meant for somebody else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256};
use sagamq_api::topic::TopicConfig;
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::{Client, ClientError, RetryPolicy};
use sagamq_server::run::{AuthenticationMode, KeySource, ServeConfig, Server, StartError};
use sagamq_tests::server::eventually;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const ISSUER: &str = "https://login.example";
pub(crate) const AUDIENCE: &str = "sagamq-test";

/// What the provider signs with.
pub(crate) struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    pub(crate) fn hs256(id: &'static str, secret: &[u8]) -> Self {
        let jwk = json!({ "kty": "oct", "alg": "HS256", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret) });
        Self { id, algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret).expect("a secret"), jwk }
    }

    fn rs256(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
        // Behind the frame of PKCS #8, which says what it is, lies the key of PKCS #1.
        let key = EncodingKey::from_rsa_der(&pair.serialize_der()[26..]);
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::RS256).expect("a key")).expect("JSON");
        jwk["kid"] = id.into();
        Self { id, algorithm: Algorithm::RS256, key, jwk }
    }

    pub(crate) fn eddsa(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw()) });
        Self { id, algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(&pair.serialize_der()), jwk }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).expect("signed")
    }
}

pub(crate) fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": get_current_timestamp() + 600, "roles": ["manage:topic=*", "gardener"] })
}

/// The claims with others in their place; null takes one away.
pub(crate) fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("claims") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("claims").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

pub(crate) fn publish(path: &Path, signers: &[&Signer]) {
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
    let next = path.with_extension("new");
    std::fs::write(&next, json!({ "keys": keys }).to_string()).expect("written");
    std::fs::rename(next, path).expect("in its place");
}

struct Guarded {
    folder: TempDir,
    server: Server,
    shutdown: CancellationToken,
}

impl Guarded {
    async fn start(signers: &[&Signer]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("jwks.json");
        publish(&file, signers);
        Self::start_from(folder, KeySource::File(file)).await.expect("it starts")
    }

    async fn start_from(folder: TempDir, source: KeySource) -> Result<Self, StartError> {
        let mut config = ServeConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: folder.path().join("data"),
            shards: 1,
            authentication: Some(AuthenticationMode::Keys),
            jwt_jwks: Some(source),
            ..ServeConfig::default()
        };
        (config.jwt.issuer, config.jwt.audience) = (ISSUER.to_owned(), AUDIENCE.to_owned());
        let shutdown = CancellationToken::new();
        let server = Server::start(config, shutdown.clone()).await?;
        Ok(Self { folder, server, shutdown })
    }

    /// What a request with this token is answered.
    async fn ask(&self, token: &str) -> Result<(), ClientError> {
        let client = Client::builder(self.server.url()).retry(RetryPolicy::none()).bearer_token(token).build().expect("a client");
        client.create_topic(&"t".parse().expect("a name"), TopicConfig::default()).await.map(drop)
    }

    async fn refuses(&self, why: &str, token: &str, said: &str) {
        let error = self.ask(token).await.expect_err(why);
        assert_eq!(error.code(), Some(ErrorCode::Unauthenticated), "{why}: {error}");
        let text = error.to_string();
        assert!(text.contains(said), "{why}: {text}");
        assert!(token.split('.').all(|part| part.len() < 8 || !text.contains(part)), "{why}: nothing of the token is told: {text}");
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.server.join().await.expect("it ends well");
    }
}

fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_each_algorithm_is_taken_and_does_what_its_roles_allow() {
    let signers = [&Signer::hs256("h", &[7; 32]), &Signer::rs256("r"), &Signer::eddsa("e")];
    let guarded = Guarded::start(&signers).await;
    for signer in signers {
        guarded.ask(&signer.sign(&claims())).await.unwrap_or_else(|error| panic!("{}: {error}", signer.id));
        guarded.ask(&signer.sign(&with(&json!({ "aud": ["other", AUDIENCE], "roles": "x manage" })))).await.expect("lists and texts");
        for (why, roles) in [("another topic", json!(["manage:topic=other"])), ("none of ours", json!(["gardener"])), ("none", Value::Null)]
        {
            let error = guarded.ask(&signer.sign(&with(&json!({ "roles": roles })))).await.expect_err(why);
            assert_eq!(error.code(), Some(ErrorCode::Forbidden), "{why}: {error}");
            assert!(error.to_string().contains("token:ann"), "{why}: {error}");
        }
    }
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_old_and_foreign_tokens_are_refused() {
    let (h, r, e) = (Signer::hs256("h", &[7; 32]), Signer::rs256("r"), Signer::eddsa("e"));
    let guarded = Guarded::start(&[&h, &r, &e]).await;
    let now = get_current_timestamp();

    guarded.refuses("unsigned", &forged(&json!({ "alg": "none", "typ": "JWT" }), &claims(), ""), "no token that is signed").await;
    guarded.refuses("unsigned, of a key", &forged(&json!({ "alg": "none", "kid": "r" }), &claims(), ""), "no token that is signed").await;
    guarded.refuses("without a signature", &forged(&json!({ "alg": "RS256", "kid": "r" }), &claims(), ""), "").await;
    for (signer, impostor) in [(&h, Signer::hs256("h", &[8; 32])), (&r, Signer::rs256("r")), (&e, Signer::eddsa("e"))] {
        guarded.refuses("signed by somebody else", &impostor.sign(&claims()), "signature is wrong").await;
        let (good, other) = (signer.sign(&claims()), signer.sign(&with(&json!({ "sub": "bob" }))));
        let (good, other): (Vec<&str>, Vec<&str>) = (good.split('.').collect(), other.split('.').collect());
        guarded.refuses("changed behind its signature", &[good[0], other[1], good[2]].join("."), "signature is wrong").await;
        let expired = signer.sign(&with(&json!({ "exp": now - 120 })));
        guarded.refuses("expired", &expired, "has expired").await;
    }

    // The public key of RS256, which everybody has, as the secret of HS256: as it stands in the document, and decoded.
    let modulus = r.jwk["n"].as_str().expect("a modulus");
    for secret in [modulus.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(modulus).expect("base64")] {
        let swapped = Signer { id: "r", ..Signer::hs256("r", &secret) };
        guarded.refuses("the algorithm is swapped", &swapped.sign(&claims()), "algorithm that is not the key's").await;
    }
    let header = Header { kid: Some("r".to_owned()), ..Header::new(Algorithm::RS512) };
    let other = encode(&header, &claims(), &r.key).expect("signed");
    guarded.refuses("another algorithm of the same family", &other, "algorithm that is not the key's").await;
    let header = Header { kid: Some("h".to_owned()), ..Header::new(Algorithm::RS256) };
    let other = encode(&header, &claims(), &r.key).expect("signed");
    guarded.refuses("the id of another key", &other, "algorithm that is not the key's").await;
    // A key that the token brings itself counts for nothing.
    let impostor = Signer::rs256("r");
    let jwk = serde_json::from_value(impostor.jwk.clone()).expect("a key");
    let header = Header { kid: Some("r".to_owned()), jwk: Some(jwk), ..Header::new(Algorithm::RS256) };
    guarded.refuses("it brings its key", &encode(&header, &claims(), &impostor.key).expect("signed"), "signature is wrong").await;
    let header = Header { kid: Some("h".to_owned()), crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
    guarded.refuses("it asks for what is not known", &encode(&header, &claims(), &h.key).expect("signed"), "no token that is signed").await;
    let nameless = encode(&Header::new(Algorithm::HS256), &claims(), &h.key).expect("signed");
    guarded.refuses("it names no key, and there are several", &nameless, "key that the provider does not have").await;
    guarded.refuses("an unknown key", &Signer::hs256("x", &[7; 32]).sign(&claims()), "key that the provider does not have").await;

    for (changes, said) in [
        (json!({ "aud": "other" }), "another audience"),
        (json!({ "aud": ["other", "another"] }), "another audience"),
        (json!({ "aud": null }), "lacks one"),
        (json!({ "iss": "https://evil.example" }), "another issuer"),
        (json!({ "iss": null }), "lacks one"),
        (json!({ "exp": null }), "lacks one"),
        (json!({ "exp": "soon" }), "lacks one"),
        (json!({ "sub": null }), "lacks one"),
        (json!({ "sub": "" }), "lacks one"),
        (json!({ "sub": "x".repeat(129) }), "lacks one"),
        (json!({ "sub": "ann\nkey:admin" }), "lacks one"),
        (json!({ "exp": 1e300 }), "lacks one"),
        (json!({ "nbf": -1 }), "lacks one"),
        (json!({ "pad": "x".repeat(20_000) }), "no token that is signed"),
        (json!({ "nbf": now + 120 }), "not valid yet"),
    ] {
        guarded.refuses(&changes.to_string(), &h.sign(&with(&changes)), said).await;
    }
    // Within the skew of the clocks, both ways.
    guarded.ask(&h.sign(&with(&json!({ "exp": now - 30, "nbf": now - 600 })))).await.expect("a little old");
    guarded.ask(&h.sign(&with(&json!({ "nbf": now + 30 })))).await.expect("a little early");
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_say_how_much_its_subject_may_have_and_nobody_else_has_less() {
    let signer = Signer::hs256("h", &[7; 32]);
    let guarded = Guarded::start(&[&signer]).await;
    let sign = |subject: &str, quota: Value| signer.sign(&with(&json!({ "sub": subject, "sagamq_quota": quota })));
    let slow = sign("ann", json!({ "requests_per_second": 1 }));
    let refused = eventually("she has used it up", async || guarded.ask(&slow).await.err()).await;
    assert_eq!(refused.code(), Some(ErrorCode::QuotaExceeded), "{refused}");
    assert!(refused.to_string().contains("token:ann") && refused.to_string().contains("1 requests a second"), "{refused}");
    // The bound is the subject's, whichever of her tokens says it, and in force from then on.
    let again = with(&json!({ "sub": "ann", "sagamq_quota": { "requests_per_second": 1 }, "jti": "2" }));
    let again = signer.sign(&again);
    let refused = eventually("another token of hers is no other client", async || guarded.ask(&again).await.err()).await;
    assert_eq!(refused.code(), Some(ErrorCode::QuotaExceeded), "{refused}");
    for free in [sign("bob", json!({})), signer.sign(&with(&json!({ "sub": "bob" }))), sign("carol", json!({ "requests_per_second": 0 }))] {
        for _ in 0..20 {
            guarded.ask(&free).await.expect("others have what each client has");
        }
    }
    let bytes = sign("dan", json!({ "bytes_per_second": 1 }));
    let refused = eventually("bytes count as well", async || guarded.ask(&bytes).await.err()).await;
    assert!(refused.code() == Some(ErrorCode::QuotaExceeded) && refused.to_string().contains("1 bytes a second"), "{refused}");
    // What cannot be read is not taken for no bound.
    for wrong in [
        json!(1),
        json!("1"),
        json!([1]),
        json!({ "requests_per_second": "1" }),
        json!({ "requests_per_second": -1 }),
        json!({ "requests_per_second": 1_000_000_001_u64 }),
        json!({ "bytes_per_second": (1_u64 << 40) + 1 }),
        json!({ "requests_per_minute": 1 }),
    ] {
        guarded.refuses(&wrong.to_string(), &sign("eve", wrong), "sagamq_quota").await;
    }
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_provider_change_without_a_restart() {
    let (first, second) = (Signer::eddsa("1"), Signer::rs256("2"));
    let guarded = Guarded::start(&[&first]).await;
    guarded.ask(&first.sign(&claims())).await.expect("taken");
    let nameless = encode(&Header::new(Algorithm::EdDSA), &claims(), &first.key).expect("signed");
    guarded.ask(&nameless).await.expect("there is one key, so its name is not needed");
    guarded.refuses("not known yet", &second.sign(&claims()), "key that the provider does not have").await;
    let file = guarded.folder.path().join("jwks.json");
    publish(&file, &[&second]);
    eventually("the new key is known", async || guarded.ask(&second.sign(&claims())).await.ok()).await;
    guarded.refuses("taken away", &first.sign(&claims()), "key that the provider does not have").await;
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_an_address_which_must_have_no_secrets() {
    let (public, secret) = (Signer::rs256("r"), Signer::hs256("h", &[7; 32]));
    for (signers, is_taken) in [(vec![&public], true), (vec![&public, &secret], false)] {
        let document = json!({ "keys": signers.iter().map(|signer| signer.jwk.clone()).collect::<Vec<_>>() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let routes = axum::Router::new().route("/keys", axum::routing::get(move || async move { axum::Json(document) }));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
        let folder = tempfile::tempdir().expect("a folder");
        let source: KeySource = format!("http://{address}/keys").parse().expect("on this machine");
        let guarded = Guarded::start_from(folder, source).await.expect("it starts, with the keys or without");
        if is_taken {
            guarded.ask(&public.sign(&claims())).await.expect("taken");
        } else {
            guarded.refuses("a secret that everybody can read", &secret.sign(&claims()), "key that the provider does not have").await;
            guarded.refuses("nothing of it is used", &public.sign(&claims()), "key that the provider does not have").await;
        }
        guarded.end().await;
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_keys_that_cannot_be_used_keeps_the_server_from_starting() {
    let short = Signer::hs256("h", &[7; 31]);
    for (why, text, said) in [
        ("no JSON", "secret".to_owned(), "no JWKS"),
        ("no keys", json!({ "keys": [] }).to_string(), "no key"),
        ("a short secret", json!({ "keys": [short.jwk] }).to_string(), "256 bits"),
        (
            "for another use",
            json!({ "keys": [{ "kty": "oct", "use": "enc", "k": URL_SAFE_NO_PAD.encode([7; 32]) }] }).to_string(),
            "no key",
        ),
        (
            "another algorithm",
            json!({ "keys": [{ "kty": "oct", "alg": "HS512", "k": URL_SAFE_NO_PAD.encode([7; 64]) }] }).to_string(),
            "no key",
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, text).expect("written");
        let Err(error) = Guarded::start_from(folder, KeySource::File(file)).await else { panic!("{why}: it starts") };
        assert!(matches!(&error, StartError::Provider(reason) if reason.contains(said) && !reason.contains("secret")), "{why}: {error}");
    }
}
