//! Requests are passed on over TLS, with certificates on both sides, and the active node judges who asks.

use super::node::Node;
use super::passing::{KEY, key_file, keyed, knows_the_active_one, passed};
use crate::tls::{Authority, Issued};
use crate::tokens::{AUDIENCE, ISSUER, Signer, publish, with};
use sagamq_api::access::{CreateKey, KeyQuota};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{ErrorCode, TopicName};
use sagamq_sdk::{Client, ClientError};
use sagamq_tests::server::eventually;
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What all nodes of a cluster have.
pub(super) struct Ground {
    pub(super) folder: TempDir,
    /// Vouches for all nodes.
    pub(super) authority: Authority,
    key: PathBuf,
}

fn topic(name: &str) -> TopicName {
    name.parse().expect("legal")
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("text").to_owned()
}

impl Ground {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = key_file(folder.path(), KEY);
        Self { folder, authority: Authority::new(), key }
    }

    /// Settings of a certificate and its key.
    fn issued(&self, settings: [&str; 2], of: &str, issued: &Issued) -> [String; 4] {
        let file = |name: String, text: &str| file(self.folder.path(), &name, text);
        let [certificate, key] = settings.map(str::to_owned);
        [certificate, file(format!("{of}.pem"), &issued.certificate), key, file(format!("{of}-key.pem"), &issued.key)]
    }

    /// A node with this certificate that asks its clients for theirs, and trusts the nodes that `trusted` vouches for. It is not started.
    pub(super) fn node(&self, name: &'static str, own: &Issued, trusted: &Authority) -> Node {
        let folder = self.folder.path();
        let own = self.issued(["--tls-cert-file", "--tls-key-file"], name, own);
        let ours = file(folder, "ours.pem", &self.authority.pem());
        let trusted = file(folder, &format!("{name}-trusts.pem"), &trusted.pem());
        let node = keyed(folder, name, &self.key).patient().with(&own.each_ref().map(String::as_str));
        let node = node.with(&["--tls-client-ca-file", &ours, "--cluster-ca-file", &trusted, "--open-metrics"]);
        node.over_tls(self.authority.pem(), self.authority.client().bundle())
    }

    /// The same one that shows other nodes a certificate of its own for that.
    pub(super) fn showing(&self, node: Node, name: &str, shown: &Issued) -> Node {
        let shown = self.issued(["--cluster-client-cert-file", "--cluster-client-key-file"], &format!("{name}-shows"), shown);
        node.with(&shown.each_ref().map(String::as_str))
    }
}

pub(super) async fn stands_by(node: &mut Node) {
    node.start_again();
    node.answers().await;
    knows_the_active_one(node).await;
}

pub(super) async fn make(client: &Client, name: &str) -> Result<(), ClientError> {
    client.create_topic(&topic(name), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_certificates_on_both_sides_the_active_node_judges_keys_and_tokens() {
    let ground = Ground::new();
    let (ours, folder) = (&ground.authority, ground.folder.path());
    let provider = Signer::hs256("h", &[7; 32]);
    let jwks = folder.join("jwks.json");
    publish(&jwks, &[&provider]);
    let keys = ["--authentication", "keys"];
    // Only the active one knows the provider of the tokens.
    let tokens = ["--jwt-jwks", jwks.to_str().expect("text"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE];
    let mut active = ground.node("one", &ours.node(), ours).with(&keys).with(&tokens);
    active.start_again();
    active.is_active().await;
    let secret = std::fs::read_to_string(active.data().join("admin-key")).expect("the first start has made a key");
    // One shows its own certificate, the other one that it has for that.
    let own = ground.node("other", &ours.node(), ours).with(&keys);
    let apart = ground.showing(ground.node("third", &ours.server(), ours).with(&keys), "third", &ours.client());
    for (name, mut standby) in [("own", own), ("apart", apart)] {
        stands_by(&mut standby).await;
        let with_key = |key: &str| standby.client_builder().api_key(key).build().expect("a client");
        let with_token = |token: &str| standby.client_builder().bearer_token(token).build().expect("a client");
        let admin = with_key(secret.trim());
        make(&admin, &format!("{name}.admin")).await.expect("made");
        // A key that was revoked at the active node counts no more at the one that stands by.
        let roles = vec!["manage:topic=*".parse().expect("a role")];
        let request = CreateKey { name: name.parse().expect("a name"), roles, expires_in_ms: None, quota: KeyQuota::default() };
        let made = admin.keys().create(&request).await.expect("made");
        let billing = with_key(&made.secret);
        make(&billing, &format!("{name}.key")).await.expect("made");
        let directly = active.client_builder().api_key(secret.trim()).build().expect("a client");
        directly.keys().revoke(&request.name).await.expect("revoked");
        let refused = make(&billing, &format!("{name}.revoked")).await.expect_err("revoked");
        assert_eq!(refused.code(), Some(ErrorCode::Unauthenticated), "{refused}");
        // Tokens: a good one, one that has expired, one without the role.
        let now = jsonwebtoken::get_current_timestamp();
        make(&with_token(&provider.sign(&with(&json!({})))), &format!("{name}.token")).await.expect("made");
        for (changes, code) in [
            (json!({ "exp": now - 120 }), ErrorCode::Unauthenticated),
            (json!({ "aud": "other" }), ErrorCode::Unauthenticated),
            (json!({ "roles": ["consume:topic=*"] }), ErrorCode::Forbidden),
        ] {
            let refused = make(&with_token(&provider.sign(&with(&changes))), &format!("{name}.refused")).await.expect_err("refused");
            assert_eq!((refused.code(), refused.is_outcome_unknown()), (Some(code), false), "{changes}: {refused}");
        }
        let mut found: Vec<String> = directly.topics().await.expect("listed").topics.iter().map(|topic| topic.name.to_string()).collect();
        found.retain(|found| found.starts_with(name));
        found.sort_unstable();
        assert_eq!(found, ["admin", "key", "token"].map(|made| format!("{name}.{made}")), "what was refused stored nothing");
        assert!(passed(&standby, "answered").await >= 6);
        assert_eq!((passed(&standby, "lost").await, passed(&standby, "certificate").await), (0, 0));
        assert_eq!(standby.terminate().await.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_one_of_two_nodes_does_not_take_is_told_with_what_to_do_and_nothing_is_stored() {
    let ground = Ground::new();
    let (ours, stranger) = (&ground.authority, Authority::new());
    let mut active = ground.node("one", &ours.node(), ours);
    active.start_again();
    active.is_active().await;
    let plain = {
        let trusted = file(ground.folder.path(), "plain-trusts.pem", &ours.pem());
        keyed(ground.folder.path(), "plain", &ground.key).patient().with(&["--cluster-ca-file", &trusted])
    };
    let mut for_servers = ground.node("for-servers", &ours.server(), ours);
    let mut others = [
        (ground.node("trusts-others", &ours.node(), &stranger), "`cluster_ca_file` must"),
        (ground.showing(ground.node("of-others", &ours.node(), ours), "of-others", &stranger.client()), "`cluster_client_cert_file`"),
        (plain, "`cluster_client_cert_file`"),
    ];
    let all = others.iter_mut().map(|(node, what)| (node, *what)).chain([(&mut for_servers, "`cluster_client_cert_file`")]);
    for (node, what_to_do) in all {
        stands_by(node).await;
        let client = node.client();
        eventually(what_to_do, async || {
            let refused = make(&client, "orders").await.expect_err("nobody is let in there");
            let known = (refused.code(), refused.is_outcome_unknown(), refused.is_retryable());
            assert_eq!(known, (Some(ErrorCode::Standby), false, true), "{refused}");
            // The connection may end before that is read which says why.
            refused.to_string().contains(what_to_do).then_some(())
        })
        .await;
        assert!(passed(node, "certificate").await >= 1);
        assert_eq!((passed(node, "lost").await, passed(node, "answered").await), (0, 0));
        assert!(node.says().contains("requests are not passed on to the active node"), "{}", node.says());
        node.kill();
    }
    let none = active.client().describe_topic(&topic("orders")).await.expect_err("nothing is stored");
    assert_eq!(none.code(), Some(ErrorCode::TopicNotFound), "{none}");
    // What the answer says helps.
    let mut mended = ground.showing(for_servers, "for-servers", &ours.client());
    stands_by(&mut mended).await;
    make(&mended.client(), "orders").await.expect("made");
}
