//! The stored form of events: its text never changes.

use crate::protocol::twopc::{Contradiction, TransactionEvent, Vote};
use crate::protocol::{Event, Heuristic, Protocol, RecordedEvent, ResolvedOutcome};
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{Failure, Operation, StepAttempt};
use sagamq_api::{JsonText, TraceContext};
use uuid::Uuid;

/// Every kind with every field, and those that may be absent without them, with its stored text.
fn golden() -> Vec<(TransactionEvent, &'static str)> {
    let failure = || Failure { code: "NO".to_owned(), message: "not today".to_owned() };
    let of = |operation| StepAttempt { step: "pay".parse().expect("legal"), item: None, operation, epoch: 2 };
    let (action, prepare, commit, rollback) =
        (|| of(Operation::Action), || of(Operation::Prepare), || of(Operation::Commit), || of(Operation::Rollback));
    let text = || JsonText::parse(br#"{"id":12345678901234567890123, "x":1.50}"#).expect("JSON");
    let some = |text: &str| Some(text.to_owned());
    vec![
        (
            TransactionEvent::TransactionStarted {
                saga: "s".parse().expect("legal"),
                version: 3,
                key: "k".to_owned(),
                generation: 1,
                cluster: Uuid::from_u128(5),
                input: text(),
                timeout_at_ms: 9,
                trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None).ok().map(Box::new),
            },
            r#"{"type":"transaction_started","data":{"saga":"s","version":3,"key":"k","generation":1,"cluster":"00000000-0000-0000-0000-000000000005","input":{"id":12345678901234567890123, "x":1.50},"timeout_at_ms":9,"trace":{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}}"#,
        ),
        (
            TransactionEvent::ActionCalled { attempt: action(), deadline_ms: 7, arguments: text() },
            r#"{"type":"action_called","data":{"step":"pay","operation":"action","epoch":2,"deadline_ms":7,"arguments":{"id":12345678901234567890123, "x":1.50}}}"#,
        ),
        (
            TransactionEvent::CallNotSent { attempt: action(), failure: failure() },
            r#"{"type":"call_not_sent","data":{"step":"pay","operation":"action","epoch":2,"failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::BranchLocated { branch: "b".to_owned(), address: "http://h".to_owned(), is_foreign: false },
            r#"{"type":"branch_located","data":{"branch":"b","address":"http://h"}}"#,
        ),
        (
            TransactionEvent::BranchLocated { branch: "b".to_owned(), address: "http://h".to_owned(), is_foreign: true },
            r#"{"type":"branch_located","data":{"branch":"b","address":"http://h","is_foreign":true}}"#,
        ),
        (
            TransactionEvent::ActionSucceeded { attempt: action(), output: text(), note: None },
            r#"{"type":"action_succeeded","data":{"step":"pay","operation":"action","epoch":2,"output":{"id":12345678901234567890123, "x":1.50}}}"#,
        ),
        (
            TransactionEvent::ActionSucceeded { attempt: action(), output: JsonText::null(), note: Some(failure()) },
            r#"{"type":"action_succeeded","data":{"step":"pay","operation":"action","epoch":2,"output":null,"note":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::ActionFailed { attempt: action(), failure: failure() },
            r#"{"type":"action_failed","data":{"step":"pay","operation":"action","epoch":2,"failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::ActionUnknown { attempt: action(), failure: failure() },
            r#"{"type":"action_unknown","data":{"step":"pay","operation":"action","epoch":2,"failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::BranchCalled { attempt: of(Operation::CommitOnePhase), deadline_ms: 7, detour: false },
            r#"{"type":"branch_called","data":{"step":"pay","operation":"commit_one_phase","epoch":2,"deadline_ms":7}}"#,
        ),
        (
            TransactionEvent::BranchCalled { attempt: commit(), deadline_ms: 7, detour: true },
            r#"{"type":"branch_called","data":{"step":"pay","operation":"commit","epoch":2,"deadline_ms":7,"detour":true}}"#,
        ),
        (
            TransactionEvent::BranchAttemptFailed { attempt: prepare(), failure: failure(), refused: true, retry_at_ms: 8 },
            r#"{"type":"branch_attempt_failed","data":{"step":"pay","operation":"prepare","epoch":2,"failure":{"code":"NO","message":"not today"},"refused":true,"retry_at_ms":8}}"#,
        ),
        (
            TransactionEvent::BranchVoted { attempt: prepare(), vote: Vote::Yes, held_ms: None },
            r#"{"type":"branch_voted","data":{"step":"pay","operation":"prepare","epoch":2,"vote":"yes"}}"#,
        ),
        (
            TransactionEvent::BranchVoted { attempt: prepare(), vote: Vote::ReadOnly, held_ms: Some(4) },
            r#"{"type":"branch_voted","data":{"step":"pay","operation":"prepare","epoch":2,"vote":"read_only","held_ms":4}}"#,
        ),
        (
            TransactionEvent::BranchRefused { attempt: prepare(), failure: failure(), held_ms: 4 },
            r#"{"type":"branch_refused","data":{"step":"pay","operation":"prepare","epoch":2,"failure":{"code":"NO","message":"not today"},"held_ms":4}}"#,
        ),
        (TransactionEvent::CommitDecided, r#"{"type":"commit_decided"}"#),
        (
            TransactionEvent::AbortDecided { failure: failure(), actor: None },
            r#"{"type":"abort_decided","data":{"failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::AbortDecided { failure: failure(), actor: some("ann") },
            r#"{"type":"abort_decided","data":{"failure":{"code":"NO","message":"not today"},"actor":"ann"}}"#,
        ),
        (
            TransactionEvent::BranchCommitted { attempt: commit(), held_ms: 4 },
            r#"{"type":"branch_committed","data":{"step":"pay","operation":"commit","epoch":2,"held_ms":4}}"#,
        ),
        (
            TransactionEvent::BranchRolledBack { attempt: rollback(), held_ms: 4 },
            r#"{"type":"branch_rolled_back","data":{"step":"pay","operation":"rollback","epoch":2,"held_ms":4}}"#,
        ),
        (
            TransactionEvent::BranchUnacknowledged { attempt: rollback(), failure: failure() },
            r#"{"type":"branch_unacknowledged","data":{"step":"pay","operation":"rollback","epoch":2,"failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::BranchDisagrees { attempt: commit(), failure: failure() },
            r#"{"type":"branch_disagrees","data":{"step":"pay","operation":"commit","epoch":2,"failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::BranchContradicted { attempt: prepare(), contradiction: Contradiction::LateVote, failure: failure() },
            r#"{"type":"branch_contradicted","data":{"step":"pay","operation":"prepare","epoch":2,"contradiction":"late_vote","failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (
            TransactionEvent::BranchResolved {
                branch: "b".to_owned(),
                outcome: ResolvedOutcome::RolledBack,
                heuristic: Some(Heuristic::Mixed),
                actor: some("ann"),
                reason: "looked".to_owned(),
            },
            r#"{"type":"branch_resolved","data":{"branch":"b","outcome":"rolled_back","heuristic":"mixed","actor":"ann","reason":"looked"}}"#,
        ),
        (
            TransactionEvent::BranchResolved {
                branch: "b".to_owned(),
                outcome: ResolvedOutcome::Committed,
                heuristic: None,
                actor: None,
                reason: String::new(),
            },
            r#"{"type":"branch_resolved","data":{"branch":"b","outcome":"committed","reason":""}}"#,
        ),
        (TransactionEvent::TransactionCommitted { output: None, failure: None }, r#"{"type":"transaction_committed","data":{}}"#),
        (
            TransactionEvent::TransactionCommitted { output: Some(JsonText::null()), failure: Some(failure()) },
            r#"{"type":"transaction_committed","data":{"output":null,"failure":{"code":"NO","message":"not today"}}}"#,
        ),
        (TransactionEvent::TransactionAborted, r#"{"type":"transaction_aborted"}"#),
        (TransactionEvent::TransactionUnknown, r#"{"type":"transaction_unknown"}"#),
    ]
}

#[test]
fn every_kind_has_its_golden_text_and_the_history_shows_it() {
    for (event, text) in golden() {
        let recorded = RecordedEvent { at_ms: 5, event: Event::TwoPc(event) };
        let stored = format!(r#"{{"at_ms":5,"event":{text}}}"#);
        assert_eq!(String::from_utf8(recorded.to_json()).expect("JSON"), stored);
        assert_eq!(RecordedEvent::from_json(Protocol::TwoPc, stored.as_bytes()).expect("its own form"), recorded);
        assert!(RecordedEvent::from_json(Protocol::Saga, stored.as_bytes()).is_err(), "no saga has it: {text}");
        let shown = recorded.to_history(3);
        assert!(
            text.contains(&format!(r#""type":"{}""#, shown.r#type)) && text.contains(shown.data.as_str().trim_matches(['{', '}'])),
            "{text}"
        );
    }
}

#[test]
fn an_event_that_says_more_than_we_know_is_refused_not_misread() {
    for wrong in [
        r#"{"type":"transaction_paused"}"#,
        r#"{"type":"branch_located","data":{"branch":"b","address":"a","more":1}}"#,
        r#"{"type":"branch_voted","data":{"step":"a","operation":"prepare","epoch":1,"vote":"perhaps"}}"#,
        r#"{"type":"branch_called","data":{"step":"a","operation":"undo","epoch":1,"deadline_ms":1}}"#,
    ] {
        assert!(serde_json::from_str::<TransactionEvent>(wrong).is_err(), "{wrong}");
    }
    let item = StepAttempt { step: "a".parse().expect("legal"), item: Some(ItemIndex(3)), operation: Operation::Commit, epoch: 1 };
    let event = TransactionEvent::BranchCommitted { attempt: item, held_ms: 1 };
    let text = serde_json::to_string(&event).expect("JSON");
    assert_eq!(serde_json::from_str::<TransactionEvent>(&text).expect("its own form"), event);
}
