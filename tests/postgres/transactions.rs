//! Two-phase commit over two PostgreSQL databases, with the coordinator and the participants killed at every point: all or nothing, every time.

use crate::kills::{LIMIT, Service, connect, database};
use crate::participant::{ADDRESS, COORDINATOR, DATABASE, NAME, SEED};
use sagamq_sdk::api::saga::{SagaQuery, SagaState, StartSaga};
use sagamq_sdk::{CancellationToken, Client};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::free_address;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

const TRANSACTIONS: usize = 200;

/// So many times each participant kills itself; the coordinator is killed a third as often.
const KILLS: u64 = 24;

/// So many transactions begin when nobody dies any more: on a machine that is slow enough the time of all others may be over before that.
const CALM: usize = 20;

/// A participant that is started again when it has died.
struct Kept {
    name: &'static str,
    database: String,
    address: SocketAddr,
    service: Service,
    kills: u64,
}

impl Kept {
    async fn start(name: &'static str, broker: &ServerProcess) -> Option<Self> {
        let (database, address) = (database().await?, free_address());
        let tables = "CREATE TABLE done (id text); CREATE TABLE total (n bigint); INSERT INTO total VALUES (0)";
        connect(&database).await.batch_execute(tables).await.expect("the business has tables");
        let service = Self::spawn(name, &database, address, broker, Some(1));
        Some(Self { name, database, address, service, kills: 0 })
    }

    fn spawn(name: &str, database: &str, address: SocketAddr, broker: &ServerProcess, seed: Option<u64>) -> Service {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "participant::participant", "--ignored", "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.env(NAME, name).env(DATABASE, database).env(ADDRESS, address.to_string()).env(COORDINATOR, broker.url());
        if let Some(seed) = seed {
            // Each participant has points of its own.
            command.env(SEED, (seed * 1_000 + u64::from(address.port())).to_string());
        }
        Service(command.spawn().expect("this test starts again"))
    }

    fn keep(&mut self, broker: &ServerProcess) {
        if self.service.0.try_wait().expect("the process can be asked").is_some() {
            self.kills += 1;
            let seed = (self.kills < KILLS).then_some(self.kills + 1);
            self.service = Self::spawn(self.name, &self.database, self.address, broker, seed);
        }
    }

    async fn done(&self) -> Vec<String> {
        let rows = connect(&self.database).await.query("SELECT id FROM done ORDER BY id", &[]).await.expect("readable");
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn number(&self, query: &str) -> i64 {
        connect(&self.database).await.query_one(query, &[]).await.expect("readable").get(0)
    }
}

fn definition(stock: SocketAddr, money: SocketAddr) -> String {
    format!(
        "saga: shop\nversion: 1\nmode: 2pc\nkey: ${{ input.id }}\ntimeout: 20s\n\
         services: {{ stock: {{ http: \"http://{stock}\" }}, money: {{ http: \"http://{money}\" }} }}\n\
         steps:\n  - {{ id: reserve, call: stock.do }}\n  - {{ id: charge, call: money.do, with: {{ refuses: \"${{ input.refuses }}\" }} }}\n"
    )
}

async fn ended(client: &Client) -> (BTreeSet<String>, usize) {
    let query = SagaQuery { limit: Some(1_000), ..SagaQuery::default() };
    let sagas = client.sagas().list(&query).await.map(|list| list.sagas).unwrap_or_default();
    let completed = sagas.iter().filter(|saga| saga.state == SagaState::Completed).map(|saga| saga.key.clone()).collect();
    (completed, sagas.iter().filter(|saga| saga.state.is_final()).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_and_whenever_a_transaction_is_done_everywhere_or_nowhere() {
    let mut broker = ServerProcess::start().await;
    let (Some(mut stock), Some(mut money)) = (Kept::start("stock", &broker).await, Kept::start("money", &broker).await) else { return };
    broker.client().sagas().publish(&definition(stock.address, money.address)).await.expect("published");
    let (client, calm) = (broker.client(), CancellationToken::new());
    let begins = calm.clone();
    let starts = tokio::spawn(async move {
        for n in 0..TRANSACTIONS {
            if n == TRANSACTIONS - CALM {
                begins.cancelled().await;
            }
            let input = json!({ "id": format!("t-{n:03}"), "refuses": n % 10 == 0 }).into();
            let start = StartSaga { saga: "shop".parse().expect("legal"), version: None, mode: None, input };
            while client.sagas().start(&start).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    let mut coordinator_kills = 0;
    let all = async {
        for turn in 1_u64.. {
            stock.keep(&broker);
            money.keep(&broker);
            let (few, are_over) = (stock.kills.min(money.kills), stock.kills >= KILLS && money.kills >= KILLS);
            if are_over {
                calm.cancel();
            }
            if coordinator_kills * 3 < few && turn.is_multiple_of(7) {
                broker.kill();
                broker.restart().await;
                coordinator_kills += 1;
            }
            let nothing_is_prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
            if are_over
                && starts.is_finished()
                && ended(&broker.client()).await.1 == TRANSACTIONS
                && stock.number(nothing_is_prepared).await == 0
                && money.number(nothing_is_prepared).await == 0
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("every transaction ends, and nothing is left prepared");
    let (completed, _) = ended(&broker.client()).await;
    let (in_stock, in_money) = (stock.done().await, money.done().await);
    let table = format!(
        "kills: coordinator {coordinator_kills}, stock {}, money {}\ntransactions {TRANSACTIONS}  committed {}  aborted {}  left prepared 0\n",
        stock.kills,
        money.kills,
        completed.len(),
        TRANSACTIONS - completed.len()
    );
    println!("{table}");
    let committed: Vec<String> = completed.into_iter().collect();
    assert_eq!(in_stock, committed, "in the stock exactly what is committed, once: {table}");
    assert_eq!(in_money, committed, "and so in the money: {table}");
    assert!(!committed.is_empty() && committed.len() < TRANSACTIONS, "{table}");
    let count = i64::try_from(committed.len()).expect("few");
    assert_eq!((stock.number("SELECT n FROM total").await, money.number("SELECT n FROM total").await), (count, count), "no update is lost");
}
