//! Every kind of step under kills: the bounded form of `make drill-kinds`.

use sagamq_tests::kinds::{Plan, run};
use sagamq_tests::server::binary;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn sagas_with_every_kind_of_step_survive_kills_and_the_books_balance_effect_by_effect() {
    let plan = Plan { sagas: 160, in_flight: 32, every: Duration::from_millis(1_500), kills: 2, seed: 5 };
    let outcome = run(&binary("sagamq-drill-kinds"), plan).await;
    println!("{}", outcome.table());
    assert_eq!(outcome.wrong, Vec::<String>::new());
    let must_occur = [
        "saga COMPLETED",
        "saga COMPENSATED",
        "step SKIPPED",
        "item SUCCEEDED",
        "item COMPENSATED",
        "items side by side",
        "lock waited for",
        "lock held over steps",
        "key passed on at a service",
        "lock broken",
        "call fenced",
        "signal taken by its step",
        "records told",
        "broker killed",
        "stock killed",
    ];
    assert_eq!(outcome.missing(&must_occur), Vec::<&str>::new());
}
