//! Keys: how they are made, rotated and revoked, and which cannot be.

use super::*;

#[tokio::test]
async fn a_key_is_made_once_rotated_and_revoked_and_survives_a_restart() {
    let storage = Arc::new(MemoryStorage::new());
    let config = || BrokerConfig { shards: 2, ..BrokerConfig::default() };
    let keys = |broker: &sagamq_broker::Broker| HttpConfig {
        authentication: Some(Authentication::by_keys(broker, false)),
        ..HttpConfig::default()
    };
    let server = Server::with_keys(storage.clone(), config(), keys);
    let secret = Secret::new(&mut Random::from_seed(7));
    let admin = secret.reveal();
    let brought = server.broker.bring_key("admin".parse().expect("a name"), vec!["admin".parse().expect("a role")], secret.clone()).await;
    assert!(brought.expect("stored").is_some());
    let guarded = Guarded { server, admin };
    let again = guarded.server.broker.bring_key("admin".parse().expect("a name"), vec!["admin".parse().expect("a role")], secret).await;
    assert!(again.expect("nothing to do").is_none(), "the same secret again changes nothing");

    let first = guarded.key("a", &["operate"]).await;
    let twice = guarded.ask(&guarded.admin, "POST", "/v1/keys", json!({ "name": "a", "roles": ["admin"] })).await;
    assert_eq!(twice.code(), ErrorCode::KeyExists);
    let rotate = async |grace_ms: u64| {
        guarded.ask(&guarded.admin, "POST", "/v1/keys/a:rotate", json!({ "grace_ms": grace_ms })).await.ok()["secret"]
            .as_str()
            .expect("a secret")
            .to_owned()
    };
    let second = rotate(60_000).await;
    assert_ne!(first, second);
    let metrics = async |server: &Server, key: &str| server.send(request(key, "GET", "/metrics", &Value::Null)).await;
    for key in [&first, &second] {
        assert_eq!(metrics(&guarded.server, key).await.status, StatusCode::OK, "both work");
    }
    guarded.server.clock.advance(Duration::from_secs(60));
    assert_eq!(metrics(&guarded.server, &first).await.code(), ErrorCode::Unauthenticated, "its time is over");
    let third = rotate(0).await;
    assert_eq!(metrics(&guarded.server, &second).await.code(), ErrorCode::Unauthenticated, "at once");
    let list = guarded.ask(&guarded.admin, "GET", "/v1/keys", Value::Null).await.ok();
    let text = list.to_string();
    assert_eq!(list["keys"][0]["name"], "a");
    assert!([&first, &second, &third, &guarded.admin].iter().all(|secret| !text.contains(&secret[20..])), "{text}");

    guarded.server.broker.shutdown().await;
    let restarted = Server::with_keys(storage, config(), keys);
    assert_eq!(metrics(&restarted, &third).await.status, StatusCode::OK, "it is stored");
    assert_eq!(metrics(&restarted, &second).await.code(), ErrorCode::Unauthenticated);
    let guarded = Guarded { server: restarted, admin: guarded.admin };
    let revoked = guarded.ask(&guarded.admin, "POST", "/v1/keys/a:revoke", Value::Null).await.ok();
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(guarded.ask(&guarded.admin, "POST", "/v1/keys/a:revoke", Value::Null).await.ok(), revoked, "once more changes nothing");
    assert_eq!(metrics(&guarded.server, &third).await.code(), ErrorCode::Unauthenticated);
    assert_eq!(guarded.ask(&guarded.admin, "POST", "/v1/keys/a:rotate", Value::Null).await.code(), ErrorCode::KeyExists);
    assert_eq!(guarded.ask(&guarded.admin, "POST", "/v1/keys/b:revoke", Value::Null).await.code(), ErrorCode::KeyNotFound);
    let anew = guarded.key("a", &["operate"]).await;
    assert_eq!(metrics(&guarded.server, &anew).await.status, StatusCode::OK, "the name of a revoked key can be given anew");
    assert_eq!(metrics(&guarded.server, &third).await.code(), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused_with_the_reason() {
    let guarded = Guarded::new().await;
    for (body, said) in [
        (json!({ "name": "a", "roles": [] }), "1 to 64"),
        (json!({ "name": "a", "roles": ["root"] }), "is no role"),
        (json!({ "name": "a", "roles": ["consume:topic=a,saga=b"] }), "sagas"),
        (json!({ "name": "a", "roles": vec!["admin"; 65] }), "1 to 64"),
        (json!({ "name": "a", "roles": ["admin"], "expires_in_ms": 999 }), "1000"),
        (json!({ "name": "x".repeat(65), "roles": ["admin"] }), "64"),
        (json!({ "name": "a b", "roles": ["admin"] }), "character"),
        (json!({ "name": "a", "roles": ["admin"], "secret": "sq_mine" }), "secret"),
    ] {
        let problem = guarded.ask(&guarded.admin, "POST", "/v1/keys", body).await.problem();
        assert_eq!(problem.status, 400, "{problem}");
        assert!(problem.detail.contains(said), "{said}: {problem}");
    }
    let grace = guarded.ask(&guarded.admin, "POST", "/v1/keys/admin:rotate", json!({ "grace_ms": 2_592_000_001_u64 })).await;
    assert!(grace.problem().detail.contains("at most"));
    let expiring =
        guarded.ask(&guarded.admin, "POST", "/v1/keys", json!({ "name": "a", "roles": ["operate"], "expires_in_ms": 5_000 })).await;
    let key = expiring.json()["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(guarded.ask(&key, "GET", "/metrics", Value::Null).await.status, StatusCode::OK);
    guarded.server.clock.advance(Duration::from_secs(5));
    let expired = guarded.ask(&key, "GET", "/metrics", Value::Null).await.problem();
    assert!(expired.detail.contains("expired"), "{expired}");
}

#[tokio::test]
async fn what_a_revoked_key_waits_for_is_cut_off() {
    let guarded = Guarded::new().await;
    guarded.ask(&guarded.admin, "POST", "/v1/topics", json!({ "name": "t", "config": { "partitions": 1 } })).await;
    let key = guarded.key("c", &["consume:topic=t"]).await;
    let mut events = request(&key, "GET", "/v1/topics/t/partitions/0/records", &Value::Null);
    events.headers_mut().insert("accept", "text/event-stream".parse().expect("a type"));
    let stream = guarded.server.app.clone().oneshot(events).await.expect("answered");
    assert_eq!(stream.status(), StatusCode::OK);
    let receive = request(&key, "POST", "/v1/topics/t/groups/g:receive", &json!({ "wait_ms": 20_000 }));
    let read = request(&key, "GET", "/v1/topics/t/partitions/0/records?wait_ms=20000", &Value::Null);
    let polls = futures_util::future::join(guarded.server.send(receive), guarded.server.send(read));
    let revoke = async {
        // The polls have begun: they are polled first, and the group is there.
        while guarded.ask(&guarded.admin, "GET", "/v1/topics/t/groups/g", Value::Null).await.status != StatusCode::OK {
            tokio::task::yield_now().await;
        }
        guarded.ask(&guarded.admin, "POST", "/v1/keys/c:revoke", Value::Null).await.ok();
    };
    let both = futures_util::future::join(polls, revoke);
    // Far less than the polls would wait: they ended because of the key.
    let ((received, read), ()) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("they end");
    assert_eq!((received.code(), read.code()), (ErrorCode::Unauthenticated, ErrorCode::Unauthenticated));
    let rest = tokio::time::timeout(Duration::from_secs(10), axum::body::to_bytes(stream.into_body(), usize::MAX)).await;
    rest.expect("the stream ends").expect("and well");
}

#[tokio::test]
async fn where_nobody_is_asked_for_a_key_none_can_be_planted() {
    let server = Server::new();
    let secret = Secret::new(&mut Random::from_seed(7));
    server
        .broker
        .bring_key("admin".parse().expect("a name"), vec!["admin".parse().expect("a role")], secret.clone())
        .await
        .expect("stored");
    for (path, body) in [
        ("/v1/keys", json!({ "name": "backup", "roles": ["admin"] })),
        ("/v1/keys/admin:rotate", json!({ "grace_ms": 0 })),
        ("/v1/keys/admin:revoke", Value::Null),
    ] {
        let refused = server.send(request("", "POST", path, &body)).await.problem();
        assert_eq!(refused.code, ErrorCode::Forbidden, "{path}");
        assert!(refused.detail.contains("authentication"), "{refused}");
    }
    let keys = server.broker.keys();
    assert_eq!(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["admin"]);
    assert!(Session::by_key(&server.broker.api_keys(), &secret, crate::NOW_MS).is_ok(), "and the key that is there is as it was");
}

#[tokio::test]
async fn a_brought_secret_that_was_rotated_revoked_or_replaced_never_counts_again() {
    let storage = Arc::new(MemoryStorage::new());
    let start = || {
        let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
        Server::with_keys(storage.clone(), config, |broker| HttpConfig {
            authentication: Some(Authentication::by_keys(broker, false)),
            ..HttpConfig::default()
        })
    };
    let name = |text: &str| -> sagamq_api::KeyName { text.parse().expect("a name") };
    let bring = async |server: &Server, to: &str, secret: &Secret| {
        let brought = server.broker.bring_key(name(to), vec!["admin".parse().expect("a role")], secret.clone()).await;
        brought.expect("stored").is_some()
    };
    let counts = |server: &Server, secret: &Secret| Session::by_key(&server.broker.api_keys(), secret, crate::NOW_MS).is_ok();
    let [first, second, third, made] = [1, 2, 3, 4].map(|seed| Secret::new(&mut Random::from_seed(seed)));

    // Rotated: the file still has the secret from before.
    let server = start();
    assert!(bring(&server, "bootstrap", &first).await && counts(&server, &first));
    let rotated = server.broker.rotate_key(&name("bootstrap"), sagamq_api::access::RotateKey { grace_ms: Some(0) }).await.expect("rotated");
    let rotated: Secret = rotated.secret.parse().expect("a secret");
    assert!(!bring(&server, "bootstrap", &first).await && !counts(&server, &first) && counts(&server, &rotated));
    // Rotated and revoked, over a restart.
    server.broker.revoke_key(&name("bootstrap")).await.expect("revoked");
    server.broker.shutdown().await;
    let server = start();
    assert!(!bring(&server, "bootstrap", &first).await && !counts(&server, &first) && !counts(&server, &rotated));
    // Its name is no other key's.
    let taken = sagamq_api::access::CreateKey {
        name: name("bootstrap"),
        roles: vec!["operate".parse().expect("a role")],
        expires_in_ms: None,
        quota: sagamq_api::access::KeyQuota::default(),
    };
    assert!(server.broker.create_key(taken).await.is_err_and(|error| error.to_string().contains("bootstrap_key_file")));
    // Replaced twice, and the first file again, over a restart.
    assert!(bring(&server, "bootstrap", &second).await && bring(&server, "bootstrap", &third).await);
    server.broker.shutdown().await;
    let server = start();
    for old in [&first, &second] {
        assert!(!bring(&server, "bootstrap", old).await && !counts(&server, old));
    }
    assert!(counts(&server, &third));
    // The secret of the key that a start made, as a file's, after that key was revoked and its name given anew.
    assert!(bring(&server, "admin", &made).await);
    server.broker.revoke_key(&name("admin")).await.expect("revoked");
    assert!(!bring(&server, "bootstrap", &made).await && !counts(&server, &made));
    let anew = sagamq_api::access::CreateKey {
        name: name("admin"),
        roles: vec!["operate".parse().expect("a role")],
        expires_in_ms: None,
        quota: sagamq_api::access::KeyQuota::default(),
    };
    server.broker.create_key(anew).await.expect("the name of a revoked key");
    assert!(!bring(&server, "bootstrap", &made).await && !counts(&server, &made));
    assert_eq!(server.broker.keys().iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["admin", "bootstrap"]);
}
