//! Two banks on RocksDB and a coordinator, as processes that are killed (`SIGKILL`) around every step of two-phase commit and at any other
//! moment: transfers happen in both banks or in none, the books balance, and nothing is left in doubt.

use axum::routing::get;
use sagamq_api::saga::{Call, Mode, SagaState, StartSaga};
use sagamq_sdk::branch::rocks::rocksdb::{Options, TransactionDBOptions};
use sagamq_sdk::branch::rocks::{BranchDb, BranchTransaction, RocksBranches};
use sagamq_sdk::branch::{BranchError, BranchId, BranchManager, BranchRouter, Branching, InDoubt, Resolver, Vote};
use sagamq_sdk::{CallError, CancellationToken, Client, JsonText};
use sagamq_tests::ServerProcess;
use sagamq_tests::fate::{Fate, SEED};
use sagamq_tests::server::free_address;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const BROKER: &str = "SAGAMQ_TEST_BROKER";
const DIR: &str = "SAGAMQ_TEST_BANK_DIR";
const ADDRESS: &str = "SAGAMQ_TEST_BANK_ADDRESS";

const ACCOUNTS: u64 = 8;
const BALANCE: i64 = 100;
const TRANSFERS: usize = 200;
/// So many times a bank kills itself, and the coordinator is killed.
const BANK_KILLS: u64 = 60;
const COORDINATOR_KILLS: u64 = 8;

/// Longest time for anything here: generous, because this is no test of speed.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Branches that may die before and after each thing that they are asked for: before it is done, and before it is answered.
struct Mortal {
    branches: RocksBranches,
    fate: Fate,
}

impl Mortal {
    fn around<'a, T: Send + 'a>(&'a self, doing: Branching<'a, T>) -> Branching<'a, T> {
        Box::pin(async move {
            self.fate.works();
            self.fate.one_in(60);
            let done = doing.await;
            self.fate.one_in(60);
            done
        })
    }
}

impl BranchManager for Mortal {
    fn work(&self, call: Call) -> Branching<'_, Result<JsonText, CallError>> {
        self.around(self.branches.work(call))
    }

    fn prepare<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<Vote, BranchError>> {
        self.around(self.branches.prepare(branch, actions_done))
    }

    fn commit<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.around(self.branches.commit(branch))
    }

    fn rollback<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.around(self.branches.rollback(branch))
    }

    fn commit_one_phase<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<(), BranchError>> {
        self.around(self.branches.commit_one_phase(branch, actions_done))
    }

    fn in_doubt(&self) -> Branching<'_, Result<Vec<InDoubt>, BranchError>> {
        self.branches.in_doubt()
    }
}

fn open_db(dir: &Path) -> Arc<BranchDb> {
    let mut options = Options::default();
    options.create_if_missing(true);
    Arc::new(BranchDb::open(&options, &TransactionDBOptions::default(), dir).expect("a database"))
}

fn open(db: &Arc<BranchDb>) -> RocksBranches {
    let builder = RocksBranches::builder().lock_timeout(Duration::from_millis(300)).idle_timeout(Duration::from_secs(5));
    builder
        .on("withdraw", |txn, call| change(txn, call, -1))
        .on("deposit", |txn, call| change(txn, call, 1))
        .open(Arc::clone(db))
        .expect("open")
}

/// Adds to an account, or takes from it, and notes for which transfer.
fn change(txn: &BranchTransaction<'_>, call: &Call, sign: i64) -> Result<i64, CallError> {
    let arguments = call.arguments.to_value();
    let (account, amount) = (arguments["account"].as_u64().unwrap_or_default(), arguments["amount"].as_i64().unwrap_or_default());
    let key = format!("account/{account}");
    let after = txn.get_for_update(&key, true)?.map_or(BALANCE, |bytes| number(&bytes)) + sign * amount;
    if after < 0 {
        return Err(CallError::refused("NO_MONEY", "the account is empty"));
    }
    txn.put(key, after.to_be_bytes())?;
    txn.put(format!("done/{}", call.attempt.instance), (sign * amount).to_be_bytes())?;
    Ok(after)
}

fn number(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("8 bytes"))
}

/// A bank, in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is started by the test of kills, in a process of its own"]
async fn bank() {
    let (Ok(broker), Ok(dir), Ok(address)) = (std::env::var(BROKER), std::env::var(DIR), std::env::var(ADDRESS)) else { return };
    let fate = Fate::of_this_process();
    let manager = Arc::new(Mortal { branches: open(&open_db(Path::new(&dir))), fate: fate.clone() });
    let client = Client::new(broker).expect("an address");
    let resolver = Resolver::new(client, Arc::<Mortal>::clone(&manager))
        .grace(Duration::from_millis(300))
        .pauses(Duration::from_millis(50), Duration::from_secs(1));
    let seen = Arc::clone(&manager);
    let in_doubt = get(move || async move { seen.in_doubt().await.expect("known").len().to_string() });
    let routes = BranchRouter::new(manager).advertise(&format!("http://{address}")).build().route("/in-doubt", in_doubt);
    let listener = tokio::net::TcpListener::bind(&address).await.expect("the address is free");
    let serve = async { axum::serve(listener, routes).await.expect("it serves") };
    tokio::join!(serve, resolver.run(CancellationToken::new()), fate.anywhere());
}

/// A bank that ends with the test.
struct Bank {
    dir: PathBuf,
    address: SocketAddr,
    child: Child,
}

impl Drop for Bank {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Bank {
    fn start(broker: &str, dir: PathBuf, seed: Option<u64>) -> Self {
        let address = free_address();
        let child = Self::spawn(broker, &dir, address, seed);
        Self { dir, address, child }
    }

    fn spawn(broker: &str, dir: &Path, address: SocketAddr, seed: Option<u64>) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "two_phase::bank", "--ignored", "--nocapture"]);
        command.env(BROKER, broker).env(DIR, dir).env(ADDRESS, address.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(seed) = seed {
            command.env(SEED, seed.to_string());
        }
        command.spawn().expect("this test starts again")
    }

    /// How many of its branches are in doubt; none if it does not say.
    async fn in_doubt(&self) -> Option<usize> {
        let answer = reqwest::get(format!("http://{}/in-doubt", self.address)).await.ok()?;
        answer.text().await.ok()?.parse().ok()
    }

    /// Starts it again if it has died; whether it had.
    fn revive(&mut self, broker: &str, seed: Option<u64>) -> bool {
        let is_dead = self.child.try_wait().expect("the process can be asked").is_some();
        if is_dead {
            self.child = Self::spawn(broker, &self.dir, self.address, seed);
        }
        is_dead
    }
}

fn definition(from: SocketAddr, to: SocketAddr) -> String {
    format!(
        "saga: transfer\nversion: 1\nmode: 2pc\nkey: ${{ input.id }}\ntimeout: 20s\ndefaults: {{ timeout: 3s }}\n\
         services: {{ from: {{ http: \"http://{from}\" }}, to: {{ http: \"http://{to}\" }} }}\n\
         steps:\n\
         \x20 - {{ id: withdraw, call: from.withdraw, with: {{ account: \"${{ input.from }}\", amount: \"${{ input.amount }}\" }} }}\n\
         \x20 - {{ id: deposit, call: to.deposit, with: {{ account: \"${{ input.to }}\", amount: \"${{ input.amount }}\" }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_happen_in_both_banks_or_in_none_whoever_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = ServerProcess::start().await;
    let (url, client) = (server.url(), server.client());
    let mut banks = [("from", 1), ("to", 1_000)].map(|(name, seed)| Bank::start(&url, dir.path().join(name), Some(seed)));
    client.sagas().publish(&definition(banks[0].address, banks[1].address)).await.expect("legal");

    let (mut bank_kills, mut coordinator_kills, mut ids) = (0, 0, Vec::new());
    let all = async {
        // A few at a time, as long as there is somebody to kill.
        let mut running: Vec<Uuid> = Vec::new();
        let (mut turn, mut committed) = (0_u64, 0);
        loop {
            // On a busy machine the time of many is over before they are decided: then there are more of them.
            let are_more = ids.len() < TRANSFERS || bank_kills < BANK_KILLS || coordinator_kills < COORDINATOR_KILLS || committed <= 20;
            if !are_more && running.is_empty() {
                break;
            }
            turn += 1;
            for bank in &mut banks {
                let seed = (bank_kills < BANK_KILLS).then_some(7 * turn);
                bank_kills += u64::from(bank.revive(&url, seed));
            }
            if turn.is_multiple_of(60) && coordinator_kills < COORDINATOR_KILLS {
                server.kill();
                server.restart().await;
                coordinator_kills += 1;
            }
            if running.len() < 8 && are_more {
                let n = ids.len() as u64;
                let input = json!({ "id": format!("t-{n}"), "from": n % ACCOUNTS, "to": (n * 3) % ACCOUNTS, "amount": 1 + n % 9 });
                let start =
                    StartSaga { saga: "transfer".parse().expect("legal"), version: None, mode: Some(Mode::TwoPhase), input: input.into() };
                let id = client.sagas().start(&start).await.expect("started").id;
                running.push(id);
                ids.push(id);
            }
            let mut left = Vec::new();
            for id in running {
                let state = client.sagas().get(id).await.expect("known").summary.state;
                assert_ne!(state, SagaState::Blocked, "no branch disagrees");
                committed += u32::from(state == SagaState::Completed);
                if !state.is_final() {
                    left.push(id);
                }
            }
            running = left;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("every transfer comes to its end");

    let mut outcomes = Vec::new();
    for id in &ids {
        let state = client.sagas().get(*id).await.expect("known").summary.state;
        outcomes.push((*id, state == SagaState::Completed));
    }
    // A transfer that was rolled back is over before its branches have heard so: those that are prepared ask.
    let settled = async {
        for bank in &mut banks {
            while bank.in_doubt().await != Some(0) {
                bank.revive(&url, None);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("nothing stays in doubt");
    let mut totals = [0, 0];
    let mut committed = 0;
    let [from, to] = banks.map(|bank| {
        let dir = bank.dir.clone();
        drop(bank);
        open_db(&dir)
    });
    for (db, total) in [&from, &to].into_iter().zip(&mut totals) {
        assert!(open(db).in_doubt().await.expect("known").is_empty(), "nothing is left in doubt");
        *total =
            (0..ACCOUNTS).map(|n| db.get(format!("account/{n}")).expect("readable").map_or(BALANCE, |bytes| number(&bytes))).sum::<i64>();
    }
    let mut moved = 0;
    for (id, is_committed) in &outcomes {
        let done = |db: &BranchDb| db.get(format!("done/{id}")).expect("readable").map(|bytes| number(&bytes));
        let (out, into) = (done(&from), done(&to));
        assert_eq!((out.is_some(), into.is_some()), (*is_committed, *is_committed), "{id} is in both or in none, as was decided");
        assert_eq!(out.unwrap_or_default() + into.unwrap_or_default(), 0, "{id}");
        moved += into.unwrap_or_default();
        committed += usize::from(*is_committed);
    }
    let all = BALANCE * i64::try_from(ACCOUNTS).expect("few");
    assert_eq!(totals, [all - moved, all + moved], "the books balance");
    println!(
        "{} transfers: {committed} committed, {} rolled back; {bank_kills} kills of banks, {coordinator_kills} of the coordinator; moved {moved}",
        outcomes.len(),
        outcomes.len() - committed
    );
    assert!(committed > 20 && committed < outcomes.len(), "some of both, or nothing was tried");
}
