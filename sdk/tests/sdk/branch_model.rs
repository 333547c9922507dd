//! Random verbs for a few branches that want the same rows, with writes outside of them and restarts, against a small model: every answer, every
//! value and every lock is what the model says.

use crate::branch::{builder, call, code, id, is_locked, open_db, value, work};
use proptest::prelude::*;
use sagamq_sdk::branch::rocks::{BranchDb, RocksBranches};
use sagamq_sdk::branch::{BRANCH_COMMITTED, BRANCH_PREPARED, BRANCH_ROLLED_BACK, BRANCH_UNKNOWN, BranchManager, Vote};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const KEYS: [&str; 2] = ["m", "n"];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An action: adds 1, or only reads. Its number is its step; the coordinator says how many were done, perhaps wrongly.
    Work {
        instance: u128,
        step: u8,
        adds: bool,
        key: usize,
        claims: Claim,
    },
    Prepare {
        instance: u128,
        claims: Claim,
    },
    Commit {
        instance: u128,
    },
    Rollback {
        instance: u128,
    },
    OnePhase {
        instance: u128,
        claims: Claim,
    },
    /// A write outside of any branch.
    Write {
        key: usize,
    },
    Restart,
}

/// What the coordinator says of the actions that were done.
#[derive(Clone, Copy, Debug)]
enum Claim {
    Truth,
    OneMore,
}

fn step() -> impl Strategy<Value = Step> {
    let instance = || 1_u128..4;
    let claims = || prop_oneof![6 => Just(Claim::Truth), 1 => Just(Claim::OneMore)];
    prop_oneof![
        6 => (instance(), 0_u8..3, any::<bool>(), 0..KEYS.len(), claims())
            .prop_map(|(instance, step, adds, key, claims)| Step::Work { instance, step, adds, key, claims }),
        3 => (instance(), claims()).prop_map(|(instance, claims)| Step::Prepare { instance, claims }),
        2 => instance().prop_map(|instance| Step::Commit { instance }),
        2 => instance().prop_map(|instance| Step::Rollback { instance }),
        1 => (instance(), claims()).prop_map(|(instance, claims)| Step::OnePhase { instance, claims }),
        1 => (0..KEYS.len()).prop_map(|key| Step::Write { key }),
        1 => Just(Step::Restart),
    ]
}

/// What the model knows of a branch that was heard of.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Open(Open),
    Prepared(Open),
    /// Not after a restart.
    ReadOnly,
    /// Not after a restart.
    RolledBack,
    /// Its commit in one phase was refused, and nothing else is known of it.
    Refused,
    Committed,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Open {
    /// The answer to each action that was done here, by step, with what it was asked. After a restart nothing of it is known.
    done: BTreeMap<u8, (bool, usize, u64)>,
    adds: BTreeMap<usize, u64>,
    locked: BTreeSet<usize>,
}

#[derive(Default)]
struct Model {
    branches: BTreeMap<u128, Known>,
    /// Branches that were rolled back, and then refused to commit in one phase: that is known after a restart.
    refused: BTreeSet<u128>,
    committed: [u64; 2],
}

impl Model {
    fn holder(&self, key: usize) -> Option<u128> {
        let holds = |known: &Known| matches!(known, Known::Open(open) | Known::Prepared(open) if open.locked.contains(&key));
        self.branches.iter().find(|(_, known)| holds(known)).map(|(instance, _)| *instance)
    }

    fn claimed(&self, instance: u128, claims: Claim) -> u32 {
        let done = match self.branches.get(&instance) {
            Some(Known::Open(open) | Known::Prepared(open)) => open.done.len(),
            _ => 0,
        };
        u32::try_from(done).expect("few") + u32::from(matches!(claims, Claim::OneMore))
    }

    fn work(&mut self, instance: u128, step: u8, adds: bool, key: usize, claimed: u32) -> Result<Value, String> {
        let mut open = match self.branches.get(&instance) {
            Some(Known::Prepared(open)) => {
                return match open.done.get(&step) {
                    Some(&(asked, of, after)) if (asked, of) == (adds, key) => Ok(answer(adds, after)),
                    _ => Err(BRANCH_PREPARED.into()),
                };
            }
            Some(Known::Committed | Known::ReadOnly) => {
                // On disk nobody asks about a branch whose first call it cannot be.
                return Err(BRANCH_COMMITTED.into());
            }
            Some(Known::RolledBack) => return Err(BRANCH_ROLLED_BACK.into()),
            Some(Known::Refused) => return Err(BRANCH_UNKNOWN.into()),
            None if claimed > 0 => return Err(BRANCH_UNKNOWN.into()),
            None => Open::default(),
            Some(Known::Open(open)) => match open.done.get(&step) {
                Some(&(asked, of, after)) if (asked, of) == (adds, key) => return Ok(answer(adds, after)),
                Some(_) => return Err("IDEMPOTENCY_KEY_REUSED".into()),
                None if claimed as usize != open.done.len() => {
                    self.branches.insert(instance, Known::RolledBack);
                    return Err(BRANCH_UNKNOWN.into());
                }
                None => open.clone(),
            },
        };
        if self.holder(key).is_some_and(|holder| holder != instance) {
            self.branches.insert(instance, Known::RolledBack);
            return Err("LOCK_TIMEOUT".into());
        }
        open.locked.insert(key);
        *open.adds.entry(key).or_default() += u64::from(adds);
        let after = self.committed[key] + open.adds[&key];
        open.done.insert(step, (adds, key, after));
        self.branches.insert(instance, Known::Open(open));
        Ok(answer(adds, after))
    }

    fn prepare(&mut self, instance: u128, claimed: u32) -> Result<Vote, String> {
        match self.branches.get(&instance).cloned() {
            None | Some(Known::Refused) => Err(BRANCH_UNKNOWN.into()),
            Some(Known::RolledBack) => Err(BRANCH_ROLLED_BACK.into()),
            Some(Known::Committed) => Err(BRANCH_COMMITTED.into()),
            Some(Known::ReadOnly) => Ok(Vote::ReadOnly),
            Some(Known::Prepared(_)) => Ok(Vote::Yes),
            Some(Known::Open(open)) if claimed as usize != open.done.len() => {
                self.branches.insert(instance, Known::RolledBack);
                Err(BRANCH_UNKNOWN.into())
            }
            Some(Known::Open(open)) if open.adds.values().all(|adds| *adds == 0) => {
                self.branches.insert(instance, Known::ReadOnly);
                Ok(Vote::ReadOnly)
            }
            Some(Known::Open(open)) => {
                self.branches.insert(instance, Known::Prepared(open));
                Ok(Vote::Yes)
            }
        }
    }

    fn apply(&mut self, instance: u128, open: &Open) {
        for (key, adds) in &open.adds {
            self.committed[*key] += adds;
        }
        self.branches.insert(instance, Known::Committed);
    }

    fn commit(&mut self, instance: u128) -> Result<(), String> {
        match self.branches.get(&instance).cloned() {
            None | Some(Known::Open(_) | Known::Refused) => Err(BRANCH_UNKNOWN.into()),
            Some(Known::RolledBack) => Err(BRANCH_ROLLED_BACK.into()),
            Some(Known::Committed | Known::ReadOnly) => Ok(()),
            Some(Known::Prepared(open)) => {
                self.apply(instance, &open);
                Ok(())
            }
        }
    }

    fn roll_back(&mut self, instance: u128) -> Result<(), String> {
        match self.branches.get(&instance) {
            Some(Known::Committed) => Err(BRANCH_COMMITTED.into()),
            Some(Known::ReadOnly | Known::Refused) => Ok(()),
            _ => {
                self.branches.insert(instance, Known::RolledBack);
                Ok(())
            }
        }
    }

    fn one_phase(&mut self, instance: u128, claimed: u32) -> Result<(), String> {
        match self.branches.get(&instance).cloned() {
            Some(Known::Prepared(_)) => Err(BRANCH_PREPARED.into()),
            None => {
                self.branches.insert(instance, Known::Refused);
                Err(BRANCH_UNKNOWN.into())
            }
            Some(Known::RolledBack) => {
                self.refused.insert(instance);
                Err(BRANCH_ROLLED_BACK.into())
            }
            Some(Known::Open(open)) if claimed as usize != open.done.len() => {
                self.branches.insert(instance, Known::RolledBack);
                self.refused.insert(instance);
                Err(BRANCH_UNKNOWN.into())
            }
            Some(Known::Open(open)) if open.adds.values().all(|adds| *adds == 0) => {
                self.branches.insert(instance, Known::ReadOnly);
                Ok(())
            }
            Some(Known::Open(open)) => {
                self.apply(instance, &open);
                Ok(())
            }
            _ => self.commit(instance),
        }
    }

    /// What is prepared is found again, what is committed or was refused to be can be seen, and nothing else is known any more.
    fn restart(&mut self) {
        self.branches.retain(|_, known| matches!(known, Known::Prepared(_) | Known::Committed | Known::Refused));
        self.branches.extend(self.refused.iter().map(|instance| (*instance, Known::Refused)));
        for known in self.branches.values_mut() {
            if let Known::Prepared(open) = known {
                open.done.clear();
                // Only what was written is locked again.
                open.locked = open.adds.iter().filter(|(_, adds)| **adds > 0).map(|(key, _)| *key).collect();
            }
        }
    }
}

/// The real participant.
struct World {
    dir: tempfile::TempDir,
    open: Option<(Arc<BranchDb>, RocksBranches)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self { dir: tempfile::tempdir().expect("a directory"), open: None };
        world.start();
        world
    }

    fn start(&mut self) {
        let db = open_db(self.dir.path(), &[]);
        let branches = builder().lock_timeout(Duration::from_millis(3)).open(Arc::clone(&db)).expect("open");
        self.open = Some((db, branches));
    }

    async fn restart(&mut self) {
        let (db, branches) = self.open.take().expect("open");
        drop(db);
        branches.close().await;
        self.start();
    }
}

fn answer(adds: bool, after: u64) -> Value {
    if adds { json!({ "after": after }) } else { json!(after) }
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut world, mut model) = (World::new(), Model::default());
    for step in steps {
        let (db, branches) = world.open.as_ref().expect("open");
        match step {
            Step::Work { instance, step: number, adds, key, claims } => {
                let claimed = model.claimed(instance, claims);
                let call = call(instance, &format!("s{number}"), if adds { "add" } else { "read" }, KEYS[key], claimed);
                // A later call finds the row of a committed branch only where its first call would; else it is of nobody.
                let expected = match model.branches.get(&instance) {
                    Some(Known::Committed) if claimed > 0 => Err(()),
                    _ => Ok(model.work(instance, number, adds, key, claimed)),
                };
                let got = work(branches, call).await;
                match expected {
                    Ok(expected) => prop_assert_eq!(got, expected, "{:?}", step),
                    Err(()) => {
                        prop_assert!(got == Err(BRANCH_COMMITTED.into()) || got == Err(BRANCH_UNKNOWN.into()), "{:?}: {:?}", step, got)
                    }
                }
            }
            Step::Prepare { instance, claims } => {
                let claimed = model.claimed(instance, claims);
                prop_assert_eq!(code(branches.prepare(&id(instance), claimed).await), model.prepare(instance, claimed), "{:?}", step);
            }
            Step::Commit { instance } => prop_assert_eq!(code(branches.commit(&id(instance)).await), model.commit(instance), "{:?}", step),
            Step::Rollback { instance } => {
                prop_assert_eq!(code(branches.rollback(&id(instance)).await), model.roll_back(instance), "{:?}", step);
            }
            Step::OnePhase { instance, claims } => {
                let claimed = model.claimed(instance, claims);
                let got = code(branches.commit_one_phase(&id(instance), claimed).await);
                prop_assert_eq!(got, model.one_phase(instance, claimed), "{:?}", step);
            }
            Step::Write { key } => {
                let txn = db.transaction_opt(&rocksdb::WriteOptions::default(), &{
                    let mut options = rocksdb::TransactionOptions::default();
                    options.set_lock_timeout(1);
                    options
                });
                let written = txn.put(KEYS[key], (model.committed[key] + 10).to_be_bytes()).and_then(|()| txn.commit());
                prop_assert_eq!(written.is_ok(), model.holder(key).is_none(), "{:?}", step);
                model.committed[key] += if written.is_ok() { 10 } else { 0 };
            }
            Step::Restart => {
                world.restart().await;
                model.restart();
            }
        }
        let (db, branches) = world.open.as_ref().expect("open");
        for (index, key) in KEYS.iter().enumerate() {
            prop_assert_eq!(value(db, key), model.committed[index], "after {:?}", step);
            prop_assert_eq!(is_locked(db, key), model.holder(index).is_some(), "lock of {} after {:?}", key, step);
        }
        let doubt: BTreeSet<u128> =
            branches.in_doubt().await.expect("known").into_iter().map(|branch| branch.id.instance.as_u128()).collect();
        let expected = model.branches.iter().filter(|(_, known)| matches!(known, Known::Prepared(_))).map(|(instance, _)| *instance);
        prop_assert_eq!(doubt, expected.collect::<BTreeSet<_>>(), "after {:?}", step);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_answer_value_and_lock_is_what_the_model_says(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(steps))?;
    }
}
