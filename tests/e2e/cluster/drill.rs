//! The bounded form of `make drill-cluster`: without namespaces and over a folder, with short times.

use sagamq_sdk::CancellationToken;
use sagamq_tests::cluster_drill::{Event, LogPlace, Options, Outcome, Times, run};
use sagamq_tests::server::binary;
use std::time::Duration;

/// Short times, over a folder, without namespaces; the machine may be busy.
fn bounded(events: Vec<Event>) -> Options {
    let ms = Duration::from_millis;
    Options {
        runs: 0,
        seed: 0,
        namespaces: false,
        log: LogPlace::Folder,
        times: Times { lease: ms(800), heartbeat: ms(100), claim_after: ms(1_200) },
        pause: [ms(3_000), ms(4_000)],
        calm: ms(500),
        takeover_max: ms(60_000),
        tickets: 0,
        kinds: 0,
        events,
        other_binary: None,
        folder: None,
    }
}

async fn nothing_is_wrong_after(options: Options) -> Outcome {
    let outcome = run(&binary("sagamq-drill-cluster"), &options, &CancellationToken::new()).await.expect("it needs nothing but processes");
    println!("{} in {:?}\n{}", outcome.summary(), outcome.took, outcome.tables());
    assert_eq!(outcome.wrong, []);
    assert_eq!(outcome.missing(), Vec::<&str>::new());
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_under_load_loses_and_doubles_nothing_whatever_happens_to_its_nodes_and_its_log() {
    let events = vec![Event::Kill, Event::Pause, Event::LoseLog, Event::LoseDisk];
    let outcome = nothing_is_wrong_after(Options { runs: 4, seed: 3, tickets: 30, kinds: 2, ..bounded(events) }).await;
    assert_eq!(outcome.runs.len(), 4);
}

/// Two different binaries are for whoever has an older one (`--other-binary`); here both are the same version, in two places.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_replaced_by_those_of_another_binary_one_at_a_time_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("sagamq-before");
    std::fs::copy(binary("sagamq"), &other).expect("it can be copied");
    let events = vec![Event::Kill, Event::Upgrade];
    let options = Options { runs: 2, seed: 5, tickets: 10, kinds: 1, other_binary: Some(other), ..bounded(events) };
    let outcome = nothing_is_wrong_after(options).await;
    assert_eq!(outcome.runs.iter().map(|run| run.event).collect::<Vec<_>>(), [Event::Upgrade, Event::Kill]);
    assert_eq!(outcome.occurred.get("node replaced by one of the other version"), Some(&3));
}
