//! Certificates between nodes change without a restart, as the server's own do, and wrong ones change nothing.

use super::node::Node;
use super::secured::{Ground, make, stands_by};
use crate::tls::{Authority, Issued};
use sagamq_api::{ErrorCode, routes};
use sagamq_tests::server::{eventually, wait_until};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

const SHOWN: &str = "sagamq_cluster_certificate_expiry_timestamp_seconds";
const OWN: &str = "sagamq_tls_certificate_expiry_timestamp_seconds";

/// Puts a certificate and its key in the place of those that other nodes are shown.
fn shows(folder: &Path, issued: &Issued) {
    std::fs::write(folder.join("other-shows.pem"), &issued.certificate).expect("written");
    std::fs::write(folder.join("other-shows-key.pem"), &issued.key).expect("written");
}

/// Whom a node trusts from now on.
fn trusts(folder: &Path, authorities: &[&Authority]) {
    let all: String = authorities.iter().map(|authority| authority.pem()).collect();
    std::fs::write(folder.join("other-trusts.pem"), all).expect("written");
}

async fn shown(node: &Node, name: &str) -> Option<String> {
    let metrics = node.get(routes::METRICS).await.expect("answered").text().await.expect("text");
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

/// The name of a topic that is not there yet.
fn next(number: &AtomicU32) -> String {
    format!("topic-{}", number.fetch_add(1, Ordering::Relaxed))
}

/// Asks for something again and again until it is passed on, or refused with these words.
async fn until(node: &Node, number: &AtomicU32, what: &str, refused_with: Option<&str>) {
    let client = node.client();
    eventually(what, async || {
        let made = make(&client, &next(number)).await;
        match (made, refused_with) {
            (Ok(()), None) => Some(()),
            (Err(error), Some(words)) if error.code() == Some(ErrorCode::Standby) => error.to_string().contains(words).then_some(()),
            _ => None,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_between_nodes_change_without_a_restart_and_wrong_ones_change_nothing() {
    let ground = Ground::new();
    let (ours, other, folder) = (&ground.authority, Authority::new(), ground.folder.path());
    let mut active = ground.node("one", &ours.node(), ours);
    active.start_again();
    active.is_active().await;
    let mut standby = ground.showing(ground.node("other", &ours.node(), ours), "other", &ours.client_until(2090));
    stands_by(&mut standby).await;
    let number = AtomicU32::new(0);
    until(&standby, &number, "it is let in", None).await;
    // Whoever watches it sees both run out, although it stands by.
    assert_eq!(shown(&standby, SHOWN).await.as_deref(), Some("3786912000"));
    assert!(shown(&standby, OWN).await.is_some());

    // One that another authority vouches for, which the active node does not know yet.
    shows(folder, &other.client_until(2100));
    until(&standby, &number, "the new certificate is shown", Some("`cluster_client_cert_file`")).await;
    assert_eq!(shown(&standby, SHOWN).await.as_deref(), Some("4102444800"));
    std::fs::write(folder.join("ours.pem"), ours.pem() + &other.pem()).expect("written");
    until(&standby, &number, "the active node knows it too", None).await;

    // Whom it trusts.
    trusts(folder, &[&other]);
    until(&standby, &number, "the certificate of the active node is not taken any more", Some("`cluster_ca_file` must")).await;
    trusts(folder, &[&other, ours]);
    until(&standby, &number, "it is taken again", None).await;

    // What cannot be used: the ones from before stay, and the log says which file it is.
    trusts(folder, &[]);
    wait_until("it is told", || standby.says().contains("other-trusts.pem cannot be used").then_some(())).await;
    std::fs::write(folder.join("other-shows-key.pem"), &other.client().key).expect("written");
    trusts(folder, &[&other, ours]);
    wait_until("it is told", || standby.says().contains("other-shows-key.pem do not go together").then_some(())).await;
    assert!(standby.says().contains("those from before stay in use"));
    for _ in 0..20 {
        make(&standby.client(), &next(&number)).await.expect("what cannot be used changes nothing");
    }
    assert_eq!(shown(&standby, SHOWN).await.as_deref(), Some("4102444800"));
    shows(folder, &ours.client_until(2090));
    eventually("what can be used is used", async || (shown(&standby, SHOWN).await.as_deref() == Some("3786912000")).then_some(())).await;
    until(&standby, &number, "it is let in with it", None).await;
    assert_eq!(standby.terminate().await.code(), Some(0), "it is the same process as at the beginning");
}
