//! The audit log of a server as it is shipped: read by its command, told of as it comes, and right over `kill -9`.

use sagamq_api::TopicName;
use sagamq_api::access::{CreateKey, KeyQuota};
use sagamq_api::audit::{AuditEntry, AuditOutcome, AuditQuery};
use sagamq_api::topic::TopicConfig;
use sagamq_sdk::{Client, RetryPolicy};
use sagamq_tests::server::{ServerProcess, binary, eventually};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

async fn start() -> (ServerProcess, String) {
    let server = ServerProcess::start_in(&std::env::temp_dir(), &["--authentication", "keys", "--shards", "2"]).await;
    let secret = std::fs::read_to_string(server.data().join("admin-key")).expect("the first start has made a key");
    (server, secret.trim().to_owned())
}

fn client(server: &ServerProcess, secret: &str) -> Client {
    Client::builder(server.url()).retry(RetryPolicy::none()).api_key(secret).build().expect("a client")
}

fn command(server: &ServerProcess, secret: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("sagamq"));
    command.args(["--server", &server.url(), "audit"]).args(arguments).env("SAGAMQ_API_KEY", secret);
    command
}

/// What the command prints as JSON.
fn audit(server: &ServerProcess, secret: &str, arguments: &[&str]) -> Vec<Value> {
    let ran = command(server, secret, arguments).args(["--output", "json"]).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let answer: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    answer["entries"].as_array().expect("a list").clone()
}

fn name(text: &str) -> TopicName {
    text.parse().expect("a legal name")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_deleted_the_topic_is_answered_by_the_command_and_told_as_it_comes() {
    let (server, secret) = start().await;
    let admin = client(&server, &secret);
    let request = CreateKey {
        name: "ann".parse().expect("a name"),
        roles: vec!["manage:topic=*".parse().expect("a role")],
        expires_in_ms: None,
        quota: KeyQuota::default(),
    };
    let ann = admin.keys().create(&request).await.expect("made").secret;
    let of_ann = client(&server, &ann);
    let orders = name("orders");
    of_ann.create_topic(&orders, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("made");
    let mut following = command(&server, &secret, &["--follow", "--operation", "topic.delete", "--output", "json"]);
    let mut following = following.stdout(Stdio::piped()).spawn().expect("it runs");
    of_ann.delete_topic(&orders).await.expect("deleted");
    let lines = BufReader::new(following.stdout.take().expect("it is piped"));
    let told = tokio::task::spawn_blocking(move || lines.lines().next());
    let told = tokio::time::timeout(Duration::from_secs(60), told).await.expect("it is told").expect("no panic");
    let told: AuditEntry = serde_json::from_str(&told.expect("a line").expect("text")).expect("an entry");
    following.kill().expect("it runs");
    following.wait().expect("it ends");
    assert_eq!((told.actor.as_str(), told.outcome, told.on["topic"].as_str()), ("key:ann", AuditOutcome::Deleted, "orders"));
    let found = audit(&server, &secret, &["--operation", "topic.delete", "--on", "topic=orders", "--since", "1h"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["actor"], &found[0]["id"]), (&Value::from("key:ann"), &Value::from(told.id)));
    assert!(found[0]["address"].as_str().is_some_and(|address| address.starts_with("127.")), "{found:?}");
    assert_eq!(audit(&server, &secret, &["--actor", "key:ann", "--tail", "1"]).len(), 1);
    assert_eq!(audit(&server, &secret, &["--actor", "key:ann"]).len(), 2);
    let made = audit(&server, &secret, &["--operation", "key.create", "--actor", "config"]);
    assert_eq!(made[0]["on"]["key"], "admin", "the key of the first start: {made:?}");
    let table = command(&server, &secret, &["--operation", "topic.*"]).output().expect("it runs");
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(table.contains("ACTOR") && table.contains("topic=orders") && table.contains("deleted"), "{table}");
    // Who may not is told so, and that is in it.
    let refused = command(&server, &ann, &[]).output().expect("it runs");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("operate"), "{refused:?}");
    let seen = eventually("the refusal is written down", async || {
        audit(&server, &secret, &["--outcome", "refused", "--operation", "audit.read"]).into_iter().next()
    });
    assert_eq!(seen.await["actor"], "key:ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_their_entries_are_the_same_ones_over_kill_9() {
    let (mut server, secret) = start().await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..4_u32 {
        let admin = client(&server, &secret);
        // Made one after the other until the server is gone.
        let making = tokio::spawn(async move {
            let mut made = BTreeSet::new();
            for number in 0..10_000 {
                let topic = format!("r{round}-{number}");
                if admin.create_topic(&name(&topic), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.is_err() {
                    break;
                }
                made.insert(topic);
            }
            made
        });
        let wanted = 20 + 7 * round as usize;
        let looking = client(&server, &secret);
        let of_round = format!("r{round}-");
        let is_of_round = |topic: &TopicName| topic.as_str().starts_with(&of_round);
        let count = async || Some(looking.topics().await.ok()?.topics.iter().filter(|topic| is_of_round(&topic.name)).count());
        eventually("some are made", async || count().await.filter(|made| *made >= wanted)).await;
        server.kill();
        acknowledged.extend(making.await.expect("no panic"));
        server.restart().await;
        let admin = client(&server, &secret);
        let there: BTreeSet<String> = admin
            .topics()
            .await
            .expect("a list")
            .topics
            .iter()
            .map(|topic| topic.name.to_string())
            .filter(|name| name.starts_with('r'))
            .collect();
        let mut query = AuditQuery { operation: Some("topic.create".to_owned()), limit: Some(1_000), ..AuditQuery::default() };
        let mut logged = BTreeSet::new();
        loop {
            let page = admin.audit(&query).await.expect("it is kept");
            for entry in page.entries {
                assert_eq!(entry.actor, "key:admin");
                assert!(logged.insert(entry.on["topic"].clone()), "{entry:?} is there twice");
            }
            query.after = Some(page.next);
            if !page.has_more {
                break;
            }
        }
        assert_eq!(logged, there, "round {round}");
        assert!(acknowledged.is_subset(&logged), "round {round}: what was answered is there");
    }
    assert!(acknowledged.len() > 80, "{}", acknowledged.len());
}
