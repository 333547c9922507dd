//! The suite finds each of five ways to be wrong, says why, and finds nothing at a participant that is right.

use super::stock::{TOO_MANY, Wrong, start};
use super::{conformance, conforms, with};
use sagamq_sdk::conformance::{Report, Verdict, list};
use sagamq_tests::server::{binary, free_address};
use std::process::Command;

async fn judged(wrong: Option<Wrong>) -> (Option<i32>, Report) {
    let url = start(wrong).await;
    let probe = format!("{url}/stock");
    let refused = format!(r#"{{"pieces": {TOO_MANY}}}"#);
    let args = [
        "--operation",
        "reserve",
        "--compensation",
        "release",
        "--arguments",
        r#"{"pieces": 2}"#,
        "--refused",
        &refused,
        "--doubtful",
        r#"{"silent": true}"#,
        "--ongoing",
        r#"{"ongoing": true, "pieces": 2}"#,
        "--large",
        r#"{"pieces": 2, "output_bytes": 1000000}"#,
        "--probe",
        &probe,
        "--probe-pointer",
        "/reserved",
    ];
    conformance(&format!("{url}/saga"), &args).await
}

/// It fails these checks and no other, and the first for this reason.
fn fails((code, report): &(Option<i32>, Report), checks: &[&str], reason: &str) {
    assert_eq!(with(report, Verdict::Fail), checks, "{report:#?}");
    let why = &report.checks.iter().find(|check| check.verdict == Verdict::Fail).expect("one fails").why;
    assert!(why.contains(reason), "{why}");
    assert_eq!(*code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_right_passes_every_check() {
    let judged = judged(None).await;
    conforms("the reference", &judged, &[]);
    assert_eq!(
        judged.1.checks.iter().map(|check| check.check.as_str()).collect::<Vec<_>>(),
        list().iter().map(|row| row.0).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_forgets_duplicates_is_found() {
    let checks = ["duplicate", "other-arguments", "older-attempt", "concurrent-duplicates", "deadline", "ongoing", "large-output"];
    fails(&judged(Some(Wrong::ForgetsDuplicates)).await, &checks, "got another answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_runs_an_action_behind_its_compensation_is_found() {
    let checks = ["action-after-compensation", "late-action", "race"];
    fails(&judged(Some(Wrong::RunsLateActions)).await, &checks, "the action took effect behind its compensation");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_compensation_needs_an_action_is_found() {
    let checks = ["empty-compensation", "action-after-compensation", "compensation-of-refused"];
    fails(&judged(Some(Wrong::NeedsAnAction)).await, &checks, "the compensation of an action that never came did not succeed: 404");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_409_for_doubt_is_found() {
    let judged = judged(Some(Wrong::RefusesInDoubt)).await;
    fails(&judged, &["concurrent-duplicates", "doubt"], "the saga would be undone while the others take effect");
    let doubt = judged.1.checks.iter().find(|check| check.check == "doubt").expect("it is there");
    assert!(doubt.why.contains("the participant does not know that; answer 503"), "{}", doubt.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_answers_200_to_what_it_refuses_is_found() {
    let judged = judged(Some(Wrong::SaysYesToRefusals)).await;
    fails(&judged, &["refusal"], "which says that it is done; what is refused is 409");
    assert_eq!(with(&judged.1, Verdict::NotRun), ["compensation-of-refused"]);
}

/// Whether the compensation or the action is first, in the check named `race`, is nobody's to say: it is left out where that decides.
const RACE: &str = "race";

#[tokio::test(flavor = "multi_thread")]
async fn every_check_finds_what_it_is_there_for() {
    let undone = ["doubt", "compensation", "compensation-twice", "late-action", RACE, "deadline"];
    let cases: [(Wrong, &[&str], &str); 8] = [
        (Wrong::RefusesWhatItDoesNotKnow, &["malformed-body", "unknown-operation"], "it must be 4xx, and neither 409 nor 425"),
        (Wrong::KeysByArguments, &["other-arguments"], "the key with other arguments got another answer"),
        (Wrong::RefusesOlderAttempts, &["older-attempt"], "a refusal says that nothing took effect, and it has"),
        (Wrong::RefusesLateCalls, &["deadline"], "a call that only comes too late must not be refused"),
        (Wrong::UndoesTwice, &["compensation-twice", "empty-compensation", RACE], "there must be 0 effects of this call"),
        (Wrong::NeverUndoes, &undone, "after the compensation of an action in doubt there must be 0 effects"),
        (Wrong::SaysLaterByDate, &["ongoing"], "is read in whole seconds only"),
        (Wrong::SendsTooMuch, &["large-output"], "the saga would see null instead"),
    ];
    for (wrong, checks, reason) in cases {
        let (code, report) = judged(Some(wrong)).await;
        let but_race = |checks: Vec<&str>| checks.into_iter().filter(|check| *check != RACE).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(but_race(with(&report, Verdict::Fail)), but_race(checks.to_vec()), "{wrong:?}: {report:#?}");
        let why = &report.checks.iter().find(|check| check.verdict == Verdict::Fail).expect("one fails").why;
        assert!(why.contains(reason), "{wrong:?}: {why}");
        assert_eq!(code, Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_counts_nothing_is_found_before_it_could_hide_anything() {
    let url = start(None).await;
    let probe = format!("{url}/stock");
    let args = ["--operation", "reserve", "--arguments", r#"{"pieces": 2}"#, "--probe", &probe, "--probe-pointer", "/nothing"];
    let judged = conformance(&format!("{url}/saga"), &args).await;
    fails(&judged, &["first-call"], "the probe counts no effect");
    assert_eq!((judged.1.passed, judged.1.not_run), (2, 16), "what needs no success is looked at: {:#?}", judged.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_given_is_not_run_and_with_strict_that_is_a_failure() {
    let url = format!("{}/saga", start(None).await);
    let args = ["--operation", "reserve", "--arguments", r#"{"pieces": 2}"#];
    let judged = conformance(&url, &args).await;
    let compensations = ["compensation", "compensation-twice", "empty-compensation", "action-after-compensation", "late-action"];
    let not_run = [&["refusal", "doubt"], &compensations[..], &["compensation-of-refused", "race", "ongoing", "large-output"]].concat();
    conforms("answers alone", &judged, &not_run);
    assert!(!judged.1.effects_counted);
    let strict = conformance(&url, &[&args[..], &["--strict"]].concat()).await;
    assert_eq!((strict.0, strict.1.failed), (Some(1), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_no_verdict_and_wrong_use_is_told() {
    let run = |args: &[&str]| Command::new(binary("sagamq")).arg("conformance").args(args).output().expect("it runs");
    let nobody = format!("http://{}", free_address());
    let absent = run(&[&nobody, "--operation", "reserve"]);
    assert_eq!(absent.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("nobody answers"), "{absent:?}");
    assert_eq!(run(&[&nobody]).status.code(), Some(2), "an operation is needed");
    let listed = run(&["--list"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("concurrent-duplicates"), "{listed:?}");
}
