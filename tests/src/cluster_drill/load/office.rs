//! [`Office`]: the services of those who want tickets: the office that has them, over HTTP, and the till, over a topic. Their books are rows of a
//! RocksDB behind the barrier, and some of their answers are lost.

use crate::kinds::drawn;
use sagamq_sdk::barrier::rocksdb::{Error, MultiThreaded, Transaction, TransactionDB};
use sagamq_sdk::barrier::{RocksBarrier, RocksOperations};
use sagamq_sdk::participant::ParticipantRouter;
use sagamq_sdk::{Call, CallError, CancellationToken, Client, JsonText, SagaWorker};
use serde_json::{Value, json};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Db = TransactionDB<MultiThreaded>;
type Txn<'t> = Transaction<'t, Db>;

/// In a hundred: calls that are refused for good, where that may be, and attempts that are done and whose answer is lost.
const REFUSED: u64 = 4;
const LOST: u64 = 5;

/// The next ticket that nobody has had, and those that came back.
const NEXT: &str = "next";
const BACK: &str = "back";

/// Both services, until it is dropped.
pub(super) struct Office {
    pub(super) address: SocketAddr,
    db: Arc<Db>,
    for_sale: u32,
    tasks: JoinSet<()>,
}

impl Office {
    /// Opens with so many tickets. Its books are in a folder of its own.
    pub(super) async fn open(at: IpAddr, folder: &Path, client: Client, for_sale: u32, seed: u64) -> Self {
        let db: Arc<Db> = Arc::new(TransactionDB::open_default(folder).expect("a folder for the books"));
        let listener = TcpListener::bind((at, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = ParticipantRouter::new()
            .on("reserve", handler(&db, seed, move |txn, call| reserve(txn, call, for_sale)))
            .on("release", handler(&db, seed, release))
            .on("issue", handler(&db, seed, |_, _| Ok(json!({}))));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // It ends when the drill does.
            let _ = axum::serve(listener, router.build()).await;
        });
        let (pay, refund) =
            (handler(&db, seed, |txn, call| add(txn, "paid", call)), handler(&db, seed, |txn, call| add(txn, "refunded", call)));
        tasks.spawn(async move {
            loop {
                let worker = SagaWorker::builder(client.clone(), "tickets-till.commands".parse().expect("legal")).concurrency(16);
                let worker = worker.on("pay", pay.clone()).on("refund", refund.clone());
                // It ends with an error when no node answers for too long; then the next one goes on.
                let _ = worker.build().run(CancellationToken::new()).await;
            }
        });
        Self { address, db, for_sale, tasks }
    }

    /// The ticket that somebody has, how often he paid, and how often he has that back.
    pub(super) fn of(&self, buyer: &str) -> Result<(Option<u32>, u32, u32), Error> {
        let number = |row: String| Ok::<_, Error>(self.db.get(row)?.map(|bytes| read(&bytes)));
        let paid = number(format!("paid/{buyer}"))?.unwrap_or_default();
        Ok((number(format!("of/{buyer}"))?, paid, number(format!("refunded/{buyer}"))?.unwrap_or_default()))
    }

    /// How many tickets nobody has at this moment.
    pub(super) fn left(&self) -> Result<u32, Error> {
        let next = self.db.get(NEXT)?.map_or(0, |bytes| read(&bytes));
        let back = self.db.get(BACK)?.map_or(0, |bytes| back(&bytes).len());
        Ok(self.for_sale - next + u32::try_from(back).unwrap_or(u32::MAX))
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

type Handling = Pin<Box<dyn Future<Output = Result<JsonText, CallError>> + Send>>;

/// Does what a call asks for, once; some are refused, and of some the answer is lost.
fn handler<F>(db: &Arc<Db>, seed: u64, work: F) -> impl Fn(Call) -> Handling + Clone + Send + Sync + use<F>
where
    F: Fn(&Txn<'_>, &Call) -> Result<Value, CallError> + Send + Sync + 'static,
{
    let local = RocksOperations::new(Arc::clone(db), RocksBarrier::new()).local(move |txn: &Txn<'_>, call: &Call| {
        if !call.must_succeed && drawn(seed, &call.idempotency_key) % 100 < REFUSED {
            return Err(CallError::refused("MOOD", "it is refused"));
        }
        work(txn, call)
    });
    move |call| {
        let is_lost = drawn(seed, &call.attempt.to_string()) % 100 < LOST;
        let done = local(call);
        Box::pin(async move {
            let answer = done.await;
            if is_lost { Err(CallError::unknown("REPLY_LOST", "it may have been done")) } else { answer }
        })
    }
}

fn read(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("rows are numbers"))
}

fn back(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(read).collect()
}

/// Gives a ticket that came back, else the next one. The first row that is locked is the same for all, so nobody waits in a circle.
fn reserve(txn: &Txn<'_>, call: &Call, for_sale: u32) -> Result<Value, CallError> {
    let next = txn.get_for_update(NEXT, true)?.map_or(0, |bytes| read(&bytes));
    let mut returned = txn.get_for_update(BACK, true)?.map_or_else(Vec::new, |bytes| back(&bytes));
    let ticket = match returned.pop() {
        Some(ticket) => {
            txn.put(BACK, returned.iter().flat_map(|ticket| ticket.to_be_bytes()).collect::<Vec<u8>>())?;
            ticket
        }
        None if next < for_sale => {
            txn.put(NEXT, (next + 1).to_be_bytes())?;
            next
        }
        None => return Err(CallError::refused("SOLD_OUT", "no ticket is left")),
    };
    let row = format!("of/{}", call.key);
    if let Some(has) = txn.get(&row)? {
        // The barrier lets a call through once: the audit would not see a second ticket.
        panic!("{} reserves, and has ticket {}", call.key, read(&has));
    }
    txn.put(row, ticket.to_be_bytes())?;
    Ok(json!({ "ticket": ticket }))
}

fn release(txn: &Txn<'_>, call: &Call) -> Result<Value, CallError> {
    txn.get_for_update(NEXT, true)?;
    let mut returned = txn.get_for_update(BACK, true)?.map_or_else(Vec::new, |bytes| back(&bytes));
    let row = format!("of/{}", call.key);
    let has = txn.get(&row)?.ok_or_else(|| CallError::unknown("NO_TICKET", "there is none to give back"))?;
    returned.push(read(&has));
    txn.delete(row)?;
    txn.put(BACK, returned.iter().flat_map(|ticket| ticket.to_be_bytes()).collect::<Vec<u8>>())?;
    Ok(json!({}))
}

/// Counts in a row of the buyer.
fn add(txn: &Txn<'_>, what: &str, call: &Call) -> Result<Value, CallError> {
    let row = format!("{what}/{}", call.key);
    let times = txn.get_for_update(&row, true)?.map_or(0, |bytes| read(&bytes));
    txn.put(row, (times + 1).to_be_bytes())?;
    Ok(json!({}))
}
