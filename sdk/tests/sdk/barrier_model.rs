//! The barrier before a payment provider: random orders of actions, compensations, duplicates, late calls, lost answers, panics,
//! crashes and sweeps. Whatever happens, the books balance at the end, or somebody is asked to look.

use crate::barrier::{Db, NOW_MS, call, open, reserved};
use proptest::prelude::*;
use sagamq_sdk::api::saga::{Call, Operation};
use sagamq_sdk::barrier::{COMPENSATED, Known, RocksBarrier, SWEPT};
use sagamq_sdk::{CallError, JsonText};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
enum Trouble {
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
enum Event {
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

fn event() -> impl Strategy<Value = Event> {
    let operation = prop_oneof![2 => Just(Operation::Action), 1 => Just(Operation::Compensation)];
    prop_oneof![
        16 => (0u128..3, operation, trouble()).prop_map(|(instance, operation, trouble)| Event::Call { instance, operation, trouble }),
        1 => Just(Event::Crash),
        1 => (0u64..40).prop_map(|keep_ms| Event::Sweep { keep_ms }),
    ]
}

struct World {
    dir: tempfile::TempDir,
    db: Option<Db>,
    provider: RefCell<Provider>,
    must_succeed: bool,
}

impl World {
    fn call(&self, instance: u128, operation: Operation) -> Call {
        let must_succeed = self.must_succeed || operation == Operation::Compensation;
        // Instance n starts at time 10·n.
        Call { must_succeed, started_at_ms: u64::try_from(instance).expect("small") * 10, ..call(instance, operation) }
    }

    fn serve(&self, instance: u128, operation: Operation, trouble: Trouble) -> Result<JsonText, CallError> {
        let call = self.call(instance, operation);
        let db = self.db.as_ref().expect("open");
        let barrier = RocksBarrier::new().with_clock(|| NOW_MS.get());
        let served = catch_unwind(AssertUnwindSafe(|| barrier.run(db, &call, |txn, known| self.business(txn, known, &call, trouble))));
        served.unwrap_or_else(|_| Err(CallError::unknown("PANICKED", "")))
    }

    fn business(&self, txn: &rocksdb::Transaction<'_, Db>, known: &Known, call: &Call, trouble: Trouble) -> Result<Value, CallError> {
        let mut provider = self.provider.borrow_mut();
        if trouble == Trouble::Refused {
            return Err(CallError::refused("NOT_TODAY", "before the provider is asked"));
        }
        if trouble == Trouble::NotSent {
            return Err(CallError::unknown("NOT_SENT", ""));
        }
        let change = match call.attempt.operation {
            Operation::Action => match provider.charge(&call.action_key(), trouble == Trouble::Declined) {
                Payment::Charged => 1,
                Payment::Declined => {
                    // The provider remembers this answer under the key.
                    known.clear_doubt();
                    return Err(CallError::refused("DECLINED", ""));
                }
                Payment::Voided => return Err(CallError::unknown("VOIDED", "a compensation that did not end was here")),
            },
            Operation::Compensation => {
                provider.void(&call.action_key());
                // In doubt this database holds nothing of the action.
                if known.is_in_doubt() { 0 } else { -1 }
            }
        };
        let before = txn.get_for_update(b"reserved", true)?.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")));
        txn.put(b"reserved", (before + change).to_be_bytes())?;
        match trouble {
            Trouble::AnswerLost => Err(CallError::unknown("LOST", "")),
            Trouble::Ongoing => Err(CallError::ongoing(None)),
            Trouble::Panic => panic!("scripted"),
            Trouble::None | Trouble::NotSent | Trouble::Refused | Trouble::Declined => Ok(json!(call.attempt.operation.to_string())),
        }
    }

    fn is_charged(&self, instance: u128) -> bool {
        self.provider.borrow().is_charged(&self.call(instance, Operation::Action).action_key())
    }
}

fn is_swept(result: &Result<JsonText, CallError>) -> bool {
    matches!(result, Err(CallError::Unknown { failure, .. }) if failure.code == SWEPT)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_after_any_schedule(events in proptest::collection::vec(event(), 1..40), must_succeed: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let db = open(dir.path());
        let mut world = World { dir, db: Some(db), provider: RefCell::default(), must_succeed };
        // What the orchestrator was last told of each action and compensation, for ever.
        let mut succeeded = [[false; 2]; 3];
        let mut refused = [false; 3];
        let mut compensating = [false; 3];
        NOW_MS.set(30);
        for event in events {
            NOW_MS.set(NOW_MS.get() + 1);
            match event {
                Event::Crash => {
                    world.db = None;
                    world.db = Some(open(world.dir.path()));
                }
                Event::Sweep { keep_ms } => {
                    let before_ms = NOW_MS.get().saturating_sub(keep_ms);
                    RocksBarrier::new().with_clock(|| NOW_MS.get()).sweep(world.db.as_ref().expect("open"), before_ms).expect("swept");
                }
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
            }
        }
        if asks_somebody {
            return Ok(());
        }
        let charged = (0..3).filter(|&instance| world.is_charged(instance)).count();
        let in_doubt = (0..3).filter(|&instance| {
            let action = world.call(instance, Operation::Action);
            let row = RocksBarrier::new().recorded(world.db.as_ref().expect("open"), &action.attempt.call());
            matches!(row, Ok(Some(sagamq_sdk::barrier::Recorded::InDoubt { .. })))
        }).count();
        prop_assert_eq!(in_doubt, 0, "no doubt is left");
        prop_assert_eq!(reserved(world.db.as_ref().expect("open")), i64::try_from(charged).expect("few"), "both books say the same");
    }
}
