//! No secret stands where it does not belong: a server is run with secrets of every kind, all goes well and all goes wrong, and then everything
//! that it wrote, answered and logged at the finest level is looked through for each of them.

mod guarded;
mod hunt;

use guarded::{Guarded, PAYMENTS, Run};
use hunt::{Heard, Secret};
use sagamq_api::access::{CreateKey, KeyQuota, RotateKey};
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_sdk::Client;

/// What is no secret and stands in a record, a log and an answer: if this is not found, the search sees nothing.
const CANARY: &str = "canary-of-a-record-1234";

async fn key(admin: &Client, name: &str, roles: &[&str]) -> String {
    let roles = roles.iter().map(|role| role.parse().expect("a role")).collect();
    let request = CreateKey { name: name.parse().expect("a name"), roles, expires_in_ms: None, quota: KeyQuota::default() };
    admin.keys().create(&request).await.expect("made").secret
}

/// The part of a key's text that is secret: the id in front is not.
fn random(secret: &str) -> &str {
    &secret[20..]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_stands_in_logs_answers_histories_metrics_messages_and_data() {
    let mut guarded = Guarded::start().await;
    let mut heard = Heard::default();
    let admin = guarded.client(&guarded.bootstrap);

    // Keys in all their states.
    let shop = key(&admin, "shop", &["produce", "consume", "manage", "operate"]).await;
    let rotated = key(&admin, "rotated", &["produce"]).await;
    let (keys, at_once) = (admin.keys(), RotateKey { grace_ms: Some(0) });
    let renewed = keys.rotate(&"rotated".parse().expect("a name"), &at_once).await.expect("rotated").secret;
    let revoked = key(&admin, "revoked", &["produce"]).await;
    admin.keys().revoke(&"revoked".parse().expect("a name")).await.expect("revoked");
    let token = guarded.token("ann", 600);
    let old = guarded.token("ben", -600);
    let forged = format!("{}{}", &token[..token.len() - 20], &"A".repeat(20));

    // Records, and receipts that hold, do not hold and are over.
    let client = guarded.client(&shop);
    let (topic, group) = ("orders".parse().expect("a name"), "billing".parse().expect("a name"));
    client.create_topic(&topic, TopicConfig::default()).await.expect("made");
    client.produce(&topic, vec![ProduceRecord::text(CANARY)], None).await.expect("stored");
    let received = client.receive(&topic, &group, &ReceiveRequest::default()).await.expect("received");
    let receipt = received.deliveries[0].receipt.clone();
    let other = "other".parse().expect("a name");
    for (group, receipts) in [(&other, vec![receipt.clone()]), (&group, vec![receipt.replace('A', "B")]), (&group, vec![receipt.clone()])] {
        heard.hear("an answer to :ack", format!("{:?}", client.ack(&topic, group, receipts).await));
    }

    // Requests with the right to something, to nothing, with what is no key and in the wrong place.
    let shown = [&shop, &renewed, &rotated, &revoked, &token, &old, &forged, &shop.replace("sq_", "sq-"), &shop[..60].to_owned()];
    for shown in shown.map(String::as_str).into_iter().chain([guarded.bootstrap.as_str()]) {
        for scheme in ["Bearer ", "Basic ", ""] {
            for path in ["/v1/topics", "/v1/keys", "/v1/services", "/metrics", "/nowhere", "/v1/sagas?state=none", "/v1/topics/orders"] {
                let said = guarded.ask("GET", path, &format!("{scheme}{shown}"), "").await;
                heard.hear(format!("the answer to GET {path}"), said);
            }
        }
        heard.hear("the answer to a wrong body", guarded.ask("POST", "/v1/topics", &format!("Bearer {shown}"), "{\"name\": 1").await);
    }

    // A service that is shown secrets: it answers, refuses, fails and repeats what it was shown; it is not there; a secret is not; TLS fails.
    guarded.put_service(&admin).await;
    client.sagas().publish(PAYMENTS).await.expect("legal");
    for behave in ["well", "refuse", "fail", "shout", "hang_up", "redirect"] {
        guarded.run_saga(&client, behave, Run::ToItsEnd).await;
    }
    guarded.break_service(&admin, &client).await;
    for path in
        ["/v1/sagas", "/v1/sagas/incidents", "/v1/services", "/v1/services/payments", "/v1/saga-definitions", "/openapi.json", "/metrics"]
    {
        heard.hear(format!("the answer to GET {path}"), guarded.ask("GET", path, &format!("Bearer {}", guarded.bootstrap), "").await);
    }
    for id in guarded.started() {
        for path in [format!("/v1/sagas/{id}"), format!("/v1/sagas/{id}/history")] {
            heard.hear(format!("the answer to GET {path}"), guarded.ask("GET", &path, &format!("Bearer {shop}"), "").await);
        }
    }

    // The command, by flags and by variables, with and without success.
    for key in [&shop, &revoked, &renewed, &token, &forged] {
        for arguments in [
            &["topic", "list"][..],
            &["topic", "list", "--verbose"],
            &["topic", "describe", "nowhere", "--output", "json"],
            &["key", "list", "--output", "json"],
            &["service", "get", "payments"],
            &["saga", "list"],
            &["saga", "show", "00000000-0000-0000-0000-000000000000"],
            &["produce", "orders", "--value", "1", "--partition", "x"],
        ] {
            for by_flag in [true, false] {
                let said = guarded.command(key, by_flag, arguments).await;
                heard.hear(format!("what `sagamq {}` said", arguments.join(" ")), said);
            }
        }
    }
    let wrong = guarded.refused_starts().await;
    heard.hear("what a server said that did not start", wrong);

    // Killed, so that what was not yet compressed into tables is there to be read.
    guarded.kill();
    heard.hear_files(&guarded.data(), None);
    let log = guarded.log();
    assert!(log.contains("TRACE") && log.lines().count() > 1_000, "it was logged at the finest level: {} lines", log.lines().count());
    heard.hear("the log", log);

    let signature = |token: &str| token.rsplit('.').next().expect("it has three parts").to_owned();
    let mut secrets = vec![
        Secret::new("the key of the start", random(&guarded.bootstrap)),
        Secret::new("a key", random(&shop)),
        Secret::new("a key from before its rotation", random(&rotated)),
        Secret::new("a key from after its rotation", random(&renewed)),
        Secret::new("a revoked key", random(&revoked)),
        Secret::new("a token", signature(&token)),
        Secret::new("an old token", signature(&old)),
    ];
    for (name, text) in [("a key", &shop), ("a revoked key", &revoked), ("the key of the start", &guarded.bootstrap)] {
        let text = random(text).as_bytes().chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).expect("hex"), 16));
        secrets.push(Secret::new(name, text.collect::<Result<Vec<u8>, _>>().expect("hex")));
    }
    secrets.extend(guarded.secrets());
    assert_eq!(heard.found(&secrets), Vec::<String>::new(), "in {} bytes", heard.bytes());

    // What signs receipts lies in the data, as it is documented, and nowhere else; and no receipt is logged.
    let mut elsewhere = Heard::default();
    elsewhere.hear("the log", guarded.log());
    let receipts = [Secret::new("a receipt", &receipt), Secret::new("what signs receipts", guarded.signs_receipts())];
    assert_eq!(elsewhere.found(&receipts), Vec::<String>::new());
    assert!(heard.found(&receipts).iter().any(|found| found.starts_with("what signs receipts") && found.contains("rocksdb")));

    // The search sees what is there: in the data, in a log and in an answer.
    let canary = heard.found(&[Secret::new("the canary", CANARY)]);
    assert!(canary.iter().any(|found| found.contains("rocksdb")), "{canary:?}");
    let shown = heard.found(&[Secret::new("the service", "Bearer ${secret:payment-token}")]);
    assert!(
        shown.iter().any(|found| found.contains("GET /v1/services")) && shown.iter().any(|found| found.contains("rocksdb")),
        "{shown:?}"
    );
}
