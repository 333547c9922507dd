//! Each level of delivery under kills: the bounded form of `make drill-levels`.

use sagamq_tests::levels::{Plan, Row, run, table};
use sagamq_tests::server::binary;

#[tokio::test(flavor = "multi_thread")]
async fn each_level_of_delivery_loses_and_repeats_under_kills_what_it_says_and_nothing_else() {
    let plan = Plan { records: 120, deaths: 4, kills: 2, seed: 3 };
    let (rows, kills) = run(&binary("sagamq-drill-levels"), plan).await;
    println!("{}", table(&rows));
    assert!(kills > 0, "the server was killed as well");
    assert_eq!(rows.iter().flat_map(Row::faults).collect::<Vec<_>>(), Vec::<String>::new());
}
