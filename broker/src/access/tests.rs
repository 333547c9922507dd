//! Secrets and keys: what is taken, what is not, and when a session ends.

use super::*;
use crate::env::{Clock, ManualClock, Random};
use core::time::Duration;
use sagamq_api::access::{KeyQuota, KeyState};
use std::sync::Arc;

const NOW_MS: u64 = 1_800_000_000_000;

fn secret(seed: u64) -> Secret {
    Secret::new(&mut Random::from_seed(seed))
}

fn entry(name: &str, secret: &Secret) -> KeyEntry {
    KeyEntry {
        id: secret.id(),
        name: name.parse().expect("a name"),
        roles: vec!["admin".parse().expect("a role")],
        hash: secret.hash(),
        created_at_ms: NOW_MS,
        expires_at_ms: None,
        rotated_at_ms: None,
        previous: None,
        revoked_at_ms: None,
        is_brought: false,
        retired: Vec::new(),
        quota: KeyQuota::default(),
    }
}

#[test]
fn a_secret_has_one_text_which_does_not_show() {
    let secret = secret(1);
    let text = secret.reveal();
    assert_eq!(text.len(), 84);
    assert!(text.starts_with("sq_"));
    let read: Secret = text.parse().expect("its own text");
    assert_eq!((read.id(), read.hash()), (secret.id(), secret.hash()));
    let shown = format!("{secret:?} {:?} {:?}", secret.hash(), entry("a", &secret));
    assert!(!shown.contains(&text[20..]) && !shown.contains(&String::from(secret.hash())), "{shown}");
    for wrong in [
        "",
        "sq_",
        "sq_0123456789abcdef_",
        &text[..83],
        &format!("{text}0"),
        &text.to_uppercase(),
        &text.replacen("sq_", "xq_", 1),
        &text.replacen('_', "-", 2),
        &format!("{}é{}", &text[..40], &text[42..]),
    ] {
        assert!(wrong.parse::<Secret>().is_err(), "{wrong}");
    }
}

#[test]
fn the_hash_of_a_secret_is_that_of_all_of_it() {
    let text = secret(1).reveal();
    let changed = |at: usize| {
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..]).parse::<Secret>().expect("the form is right").hash()
    };
    for at in (3..19).chain(20..84) {
        assert_ne!(changed(at), secret(1).hash(), "{at}");
    }
    let golden: Secret = format!("sq_{:016x}_{}", 5, "01".repeat(32)).parse().expect("a secret");
    assert_eq!(String::from(golden.hash()), GOLDEN, "what is stored of secrets must never change");
}

const GOLDEN: &str = "da98a6bad77b1eb3f41780c1a790cc9be548ca1d3c97856db95a2d786fa8a170";

#[test]
fn what_is_stored_of_a_key_is_read_as_it_was_written() {
    let (before, secret) = (secret(2), secret(1));
    let mut entry = entry("a", &secret);
    entry.previous = Some(PreviousSecret { hash: before.hash(), until_ms: 7 });
    let json = serde_json::to_string(&entry).expect("JSON");
    assert!(!json.contains(&secret.reveal()[20..]), "{json}");
    assert_eq!(serde_json::from_str::<KeyEntry>(&json).expect("its own text"), entry);
    assert!(serde_json::from_str::<KeyEntry>(&json.replacen('{', "{\"new\":1,", 1)).is_err(), "what is not known is not dropped");
}

#[test]
fn a_key_is_taken_until_it_is_revoked_expires_or_is_rotated() {
    let (old, new) = (secret(1), secret(1));
    let newer = Secret::of_key(old.id(), &mut Random::from_seed(9));
    let keys = ApiKeys::new(vec![entry("a", &old)]);
    assert_eq!(keys.verify(&new, NOW_MS).expect("valid").principal(), "key:a");
    assert_eq!(keys.verify(&newer, NOW_MS).expect_err("another secret"), KeyRefused::Unknown);
    assert_eq!(keys.verify(&secret(2), NOW_MS).expect_err("another key"), KeyRefused::Unknown);

    let previous = Some(PreviousSecret { hash: old.hash(), until_ms: NOW_MS + 1_000 });
    keys.insert(KeyEntry { hash: newer.hash(), previous, ..entry("a", &old) });
    keys.verify(&newer, NOW_MS).expect("the new one");
    keys.verify(&old, NOW_MS + 999).expect("the one from before, for a while");
    assert!(matches!(keys.verify(&old, NOW_MS + 1_000), Err(KeyRefused::Rotated(_))));

    keys.insert(KeyEntry { expires_at_ms: Some(NOW_MS + 5), ..entry("a", &old) });
    keys.verify(&old, NOW_MS + 4).expect("not yet");
    assert!(matches!(keys.verify(&old, NOW_MS + 5), Err(KeyRefused::Expired(_))));
    keys.insert(KeyEntry { revoked_at_ms: Some(NOW_MS), ..entry("a", &old) });
    assert!(matches!(keys.verify(&old, NOW_MS), Err(KeyRefused::Revoked(_))));
    assert_eq!(keys.all()[0].state(NOW_MS), KeyState::Revoked);

    // Another key of the name takes its place, and its secret is no one's.
    keys.insert(entry("a", &secret(3)));
    assert_eq!(keys.verify(&old, NOW_MS).expect_err("it is gone"), KeyRefused::Unknown);
    assert_eq!(keys.all().len(), 1);
}

#[tokio::test]
async fn a_session_ends_when_its_secret_does_and_not_before() {
    let clock = ManualClock::at(NOW_MS);
    let ended = |session: keys::KeySession| tokio::spawn(session.ended(Arc::new(clock.clone()) as Arc<dyn Clock>));
    let waits = async |task: tokio::task::JoinHandle<()>| {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("it ends").expect("it does not panic");
    };
    let secret = secret(1);
    let keys = ApiKeys::new(vec![entry("a", &secret)]);

    // Rotated: what holds on to the secret from before goes on until its time is over.
    let newer = Secret::of_key(secret.id(), &mut Random::from_seed(9));
    let old = ended(keys.verify(&secret, NOW_MS).expect("valid"));
    let previous = Some(PreviousSecret { hash: secret.hash(), until_ms: NOW_MS + 60_000 });
    keys.insert(KeyEntry { hash: newer.hash(), previous, ..entry("a", &secret) });
    let new = ended(keys.verify(&newer, NOW_MS).expect("valid"));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!old.is_finished() && !new.is_finished(), "both are valid");
    keys.insert(KeyEntry { hash: newer.hash(), ..entry("a", &secret) });
    waits(old).await;
    assert!(!new.is_finished(), "the new secret is valid");

    keys.insert(KeyEntry { hash: newer.hash(), revoked_at_ms: Some(NOW_MS), ..entry("a", &secret) });
    waits(new).await;

    // Expired: seen within about a second.
    keys.insert(KeyEntry { expires_at_ms: Some(NOW_MS + 100), ..entry("a", &secret) });
    let expires = ended(keys.verify(&secret, NOW_MS).expect("valid"));
    tokio::task::yield_now().await;
    assert!(!expires.is_finished());
    clock.advance(Duration::from_millis(100));
    waits(expires).await;
}

/// The provider may have a new key: whoever keeps them asks it.
#[tokio::test]
async fn a_token_of_a_key_that_nobody_knows_is_told_to_whoever_keeps_the_keys() {
    // {"alg":"HS256","kid":"x"} and {}.
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.e30.AA";
    let (issuer, audience) = ("https://login.example".to_owned(), "sagamq".to_owned());
    let tokens = Tokens::new(TokenRules { issuer, audience, roles_claim: "roles".to_owned(), skew: Duration::ZERO });
    let told = tokens.unknown_key();
    tokio::pin!(told);
    assert!(futures_util::poll!(&mut told).is_pending());
    assert!(matches!(Session::by_token(&tokens, TOKEN, NOW_MS), Err(TokenRefused::UnknownKey)));
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("it is told");
}
