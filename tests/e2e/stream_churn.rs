//! Members of a stream group come and go for a while, and the server is killed once: the bounded form of `make drill-streams`.

use sagamq_tests::ServerProcess;
use sagamq_tests::stream_churn::{Plan, run, server_command};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_processed_and_nobody_who_lost_a_partition_commits_in_it() {
    let mut server = ServerProcess::start().await;
    server.kill();
    server.restart_as(server_command(&server)).await;
    let plan = Plan { members: 12, partitions: 16, time: Duration::from_secs(15), rate: 400, kills: 1, seed: 7 };
    let outcome = run(&mut server, plan).await;
    assert_eq!(outcome.violations, Vec::<String>::new(), "{outcome:?}");
    assert!(outcome.records > 1_000 && outcome.accepted > 100 && outcome.died > 3 && outcome.left > 3, "it was a churn: {outcome:?}");
    assert!(outcome.refused > 0, "the dead spoke, and were not heard: {outcome:?}");
}
