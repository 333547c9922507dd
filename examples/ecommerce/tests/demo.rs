//! The demo as a test: real processes, both kills, and the books. Small, because the machine of a test may be slow.

use std::path::Path;
use std::process::Command;

#[test]
fn the_books_of_a_small_shop_balance_after_both_kills() {
    let shop = Path::new(env!("CARGO_BIN_EXE_sagamq-shop"));
    let sagamq = shop.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX));
    assert!(sagamq.is_file(), "{} is not built; `make test` builds it first", sagamq.display());
    let run = Command::new(shop)
        .args(["demo", "--orders", "150", "--seed", "11", "--lose-replies", "0.03", "--time-limit", "300", "--sagamq"])
        .arg(&sagamq)
        .output()
        .expect("the demo starts");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    assert!(out.contains("The books balance."), "{out}");
    assert!(out.contains("kill -9 payment") && out.contains("kill -9 broker"), "both were killed: {out}");
}

#[test]
fn a_demo_without_a_broker_says_what_is_missing_and_fails() {
    let run = Command::new(env!("CARGO_BIN_EXE_sagamq-shop"))
        .args(["demo", "--orders", "1", "--sagamq", "no-such-program"])
        .output()
        .expect("the demo starts");
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stderr).contains("there is no program no-such-program"), "{run:?}");
}
