//! A disk that gets full under a real server: the drill, small.

use sagamq_tests::disk_drill::{Outcome, Plan, run};
use sagamq_tests::server::is_left_out_over_a_cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_gets_full_loses_nothing_and_serves_again_without_a_restart() {
    if is_left_out_over_a_cluster("all nodes and their log would be on the one disk that gets full") {
        return;
    }
    match run(Plan::SMALL).await {
        Outcome::Run(table, is_good) => assert!(is_good, "{table}"),
        Outcome::NotRun(reason) => eprintln!("NOT RUN: the disk drill, because {reason}"),
    }
}
