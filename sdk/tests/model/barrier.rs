//! A barrier before a payment provider: random orders of actions, compensations, duplicates, late calls, lost answers, panics, crashes
//! and sweeps. Whatever happens, the books balance at the end, or somebody is asked to look. Run over each database by its own test.

use proptest::prelude::*;
use sagamq_sdk::api::PartitionId;
use sagamq_sdk::api::saga::{AttemptId, Call, CallId, Operation};
use sagamq_sdk::barrier::{COMPENSATED, Known, Recorded, SWEPT};
use sagamq_sdk::{CallError, JsonText};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A participant's database with its barrier, and one number in it.
pub(crate) trait Books {
    /// Serves a call by business that may have effects outside: `before` runs first and says by how much the number changes, then the
    /// number is changed, then `after` runs. A panic of either is an unknown outcome.
    fn run(
        &mut self,
        call: &Call,
        before: &(dyn Fn(&Known) -> Result<i64, CallError> + Sync),
        after: &(dyn Fn() -> Result<Value, CallError> + Sync),
    ) -> Result<JsonText, CallError>;
    /// The participant's process dies and comes back.
    fn crash(&mut self);
    fn sweep(&mut self, before_ms: u64);
    fn recorded(&mut self, call: &CallId) -> Option<Recorded>;
    fn reserved(&mut self) -> i64;
    /// Sets the time by which rows are dated.
    fn set_now_ms(&self, now_ms: u64);
}

/// A provider of payments: charges once a key, never a key that was voided.
#[derive(Debug, Default)]
struct Provider {
    keys: BTreeMap<String, Payment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payment {
    Charged,
    Declined,
    Voided,
}

impl Provider {
    fn charge(&mut self, key: &str, declines: bool) -> Payment {
        *self.keys.entry(key.to_owned()).or_insert(if declines { Payment::Declined } else { Payment::Charged })
    }

    fn void(&mut self, key: &str) {
        self.keys.insert(key.to_owned(), Payment::Voided);
    }

    fn is_charged(&self, key: &str) -> bool {
        self.keys.get(key) == Some(&Payment::Charged)
    }
}

/// What goes wrong in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The provider never got the request.
    NotSent,
    /// The provider did what was asked, its answer was lost.
    AnswerLost,
    /// The handler panics after the provider answered.
    Panic,
    /// The provider works on; it has charged.
    Ongoing,
    /// The business says no before it asks the provider.
    Refused,
    /// The provider declines.
    Declined,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        4 => Just(Trouble::None),
        1 => Just(Trouble::NotSent),
        2 => Just(Trouble::AnswerLost),
        1 => Just(Trouble::Panic),
        1 => Just(Trouble::Ongoing),
        1 => Just(Trouble::Refused),
        1 => Just(Trouble::Declined),
    ]
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Call {
        instance: u128,
        operation: Operation,
        trouble: Trouble,
    },
    Crash,
    /// Time goes on, and what is older than so much is swept.
    Sweep {
        keep_ms: u64,
    },
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let operation = prop_oneof![2 => Just(Operation::Action), 1 => Just(Operation::Compensation)];
    prop_oneof![
        16 => (0u128..3, operation, trouble()).prop_map(|(instance, operation, trouble)| Event::Call { instance, operation, trouble }),
        1 => Just(Event::Crash),
        1 => (0u64..40).prop_map(|keep_ms| Event::Sweep { keep_ms }),
    ]
}

struct World<B> {
    books: B,
    provider: std::sync::Mutex<Provider>,
    must_succeed: bool,
}

impl<B: Books> World<B> {
    fn call(&self, instance: u128, operation: Operation) -> Call {
        let must_succeed = self.must_succeed || operation == Operation::Compensation;
        let (id, step) = (Uuid::from_u128(instance), "pay".parse().expect("legal"));
        let attempt = AttemptId { instance: id, step, item: None, operation, epoch: 1 };
        Call {
            saga: "checkout".parse().expect("legal"),
            version: 1,
            key: "order-1".into(),
            idempotency_key: attempt.call().to_string(),
            attempt,
            call: "pay".into(),
            must_succeed,
            // Instance n starts at time 10·n.
            started_at_ms: u64::try_from(instance).expect("small") * 10,
            deadline_ms: 0,
            timeout_ms: 30_000,
            arguments: Value::Null.into(),
            action_output: None,
            lock: None,
            transaction: None,
            reply_partition: PartitionId(0),
        }
    }

    fn serve(&mut self, instance: u128, operation: Operation, trouble: Trouble) -> Result<JsonText, CallError> {
        let call = self.call(instance, operation);
        let provider = &self.provider;
        let before = |known: &Known| ask(&mut provider.lock().expect("it panics behind the lock"), known, &call, trouble);
        let after = || match trouble {
            Trouble::AnswerLost => Err(CallError::unknown("LOST", "")),
            Trouble::Ongoing => Err(CallError::ongoing(None)),
            Trouble::Panic => panic!("scripted"),
            Trouble::None | Trouble::NotSent | Trouble::Refused | Trouble::Declined => Ok(json!(operation.to_string())),
        };
        self.books.run(&call, &before, &after)
    }

    fn is_charged(&self, instance: u128) -> bool {
        self.provider.lock().expect("no panic").is_charged(&self.call(instance, Operation::Action).action_key())
    }
}

/// Asks the provider; by how much the number changes.
fn ask(provider: &mut Provider, known: &Known, call: &Call, trouble: Trouble) -> Result<i64, CallError> {
    if trouble == Trouble::Refused {
        return Err(CallError::refused("NOT_TODAY", "before the provider is asked"));
    }
    if trouble == Trouble::NotSent {
        return Err(CallError::unknown("NOT_SENT", ""));
    }
    if call.attempt.operation == Operation::Compensation {
        provider.void(&call.action_key());
        // In doubt this database holds nothing of the action.
        return Ok(if known.is_in_doubt() { 0 } else { -1 });
    }
    match provider.charge(&call.action_key(), trouble == Trouble::Declined) {
        Payment::Charged => Ok(1),
        Payment::Declined => {
            // The provider remembers this answer under the key.
            known.clear_doubt();
            Err(CallError::refused("DECLINED", ""))
        }
        Payment::Voided => Err(CallError::unknown("VOIDED", "a compensation that did not end was here")),
    }
}

fn is_swept(result: &Result<JsonText, CallError>) -> bool {
    matches!(result, Err(CallError::Unknown { failure, .. }) if failure.code == SWEPT)
}

/// The books balance after this schedule.
pub(crate) fn check(books: impl Books, events: Vec<Event>, must_succeed: bool) -> Result<(), TestCaseError> {
    let mut world = World { books, provider: std::sync::Mutex::default(), must_succeed };
    // What the orchestrator was last told of each action and compensation, for ever.
    let mut succeeded = [[false; 2]; 3];
    let mut refused = [false; 3];
    let mut compensating = [false; 3];
    let mut now_ms = 30;
    world.books.set_now_ms(now_ms);
    for event in events {
        now_ms += 1;
        world.books.set_now_ms(now_ms);
        match event {
            Event::Crash => world.books.crash(),
            Event::Sweep { keep_ms } => world.books.sweep(now_ms.saturating_sub(keep_ms)),
            Event::Call { instance, operation, trouble } => {
                let index = usize::try_from(instance).expect("small");
                let [acted, undone] = &mut succeeded[index];
                compensating[index] |= operation == Operation::Compensation;
                let result = world.serve(instance, operation, trouble);
                match (operation, &result) {
                    (Operation::Action, Ok(_)) => {
                        prop_assert!(world.is_charged(instance) || compensating[index], "told to be charged, and it is not");
                        *acted = true;
                    }
                    (Operation::Compensation, Ok(_)) => {
                        prop_assert!(!world.is_charged(instance), "compensated, and still charged");
                        *undone = true;
                    }
                    (Operation::Action, Err(CallError::Refused(failure))) => {
                        prop_assert!(!world.is_charged(instance), "refused ({failure:?}), and charged");
                        if failure.code == COMPENSATED {
                            prop_assert!(*undone, "refused as late, and nothing came first");
                        } else {
                            refused[index] = !must_succeed;
                        }
                    }
                    _ => {}
                }
                if *undone {
                    prop_assert!(!world.is_charged(instance), "an effect behind the compensation");
                }
            }
        }
    }
    let mut asks_somebody = false;
    // The sagas end: those whose compensation was asked for are compensated, the others go forward.
    for instance in 0..3 {
        let index = usize::try_from(instance).expect("small");
        let must_undo = compensating[index] || refused[index] || !succeeded[index][0];
        let operation = if must_undo { Operation::Compensation } else { Operation::Action };
        let result = world.serve(instance, operation, Trouble::None);
        match operation {
            _ if is_swept(&result) => asks_somebody = true,
            Operation::Action => prop_assert!(result.is_ok() && world.is_charged(instance)),
            Operation::Compensation => prop_assert!(result.is_ok() && !world.is_charged(instance), "{result:?}"),
            other => unreachable!("no saga calls {other}"),
        }
    }
    if asks_somebody {
        return Ok(());
    }
    let charged = (0..3).filter(|&instance| world.is_charged(instance)).count();
    let calls: Vec<_> = (0..3).map(|instance| world.call(instance, Operation::Action).attempt.call()).collect();
    let in_doubt = calls.iter().filter(|call| matches!(world.books.recorded(call), Some(Recorded::InDoubt { .. }))).count();
    prop_assert_eq!(in_doubt, 0, "no doubt is left");
    prop_assert_eq!(world.books.reserved(), i64::try_from(charged).expect("few"), "both books say the same");
    Ok(())
}
