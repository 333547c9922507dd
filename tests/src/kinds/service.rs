//! A participant of the drill, in a process of its own: its books are rows of a RocksDB behind the barrier, and it refuses, hangs, fails and loses its
//! replies by chance.
//!
//! What it does to a call follows from the seed and the call, so a process that was killed and started again is as moody as before.

use super::books::{Books, row};
use super::fence;
use sagamq_sdk::api::saga::Operation;
use sagamq_sdk::barrier::rocksdb::{MultiThreaded, Transaction, TransactionDB};
use sagamq_sdk::barrier::{RocksBarrier, RocksOperations};
use sagamq_sdk::participant::ParticipantRouter;
use sagamq_sdk::{Call, CallError, CancellationToken, Client, HandlerError, JsonText, RetryPolicy, SagaWorker};
use serde_json::{Value, json};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Longer than an attempt may take.
const HANG: Duration = Duration::from_millis(1_500);

/// How long it hangs with the attempts of a call that says so: what the first one does comes within the time of the last one. Nothing hangs for longer.
pub(super) const SLOW: Duration = Duration::from_millis(2_800);

/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a request may take: of several nodes one may be stopped, and then the next one is asked.
const REQUEST: Duration = Duration::from_secs(5);

type Db = TransactionDB<MultiThreaded>;

/// What stands for one in a hundred calls.
const HUNDRED: u64 = 100;

/// What a participant does with a call beside its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Nothing.
    Good,
    /// It refuses.
    Refuses,
    /// It does its work, and its answer is lost.
    LosesReply,
    /// It does its work when the attempt is long over.
    Hangs,
    /// The same, as its caller said that it would.
    IsSlow,
    /// It does nothing, and does not say so.
    Fails,
}

/// The operations of a service.
fn operations(service: &str) -> &'static [&'static str] {
    match service {
        "stock" => &["reserve", "release", "wrap", "unwrap", "note", "ship", "box", "unbox", "pick", "put_back", "allot", "free", "label"],
        "bank" => &[
            "authorize",
            "void",
            "points",
            "take_points",
            "capture",
            "seal",
            "mail",
            "stamp",
            "unstamp",
            "invite",
            "uninvite",
            "tally",
            "untally",
        ],
        other => panic!("there is no service `{other}`"),
    }
}

/// Serves until it is killed.
///
/// # Errors
/// What the broker refuses for good, and what the disk and the network say.
pub(super) async fn serve(service: &str, url: &str, folder: &Path, address: SocketAddr, seed: u64) -> Result<(), HandlerError> {
    let db: Arc<Db> = Arc::new(Books::open(folder)?);
    let operations = operations(service).iter().map(|name| (*name, handler(&db, seed)));
    if service == "bank" {
        let router = operations.fold(ParticipantRouter::new(), |router, (name, handler)| router.on(name, handler));
        let listener = tokio::net::TcpListener::bind(address).await?;
        return Ok(axum::serve(listener, router.build()).await?);
    }
    let client = Client::builder(url).request_timeout(REQUEST).build()?;
    let client = client.with_retry(RetryPolicy { attempts: 10_000, deadline: PATIENCE, ..*client.retry_policy() });
    // A short lease, so that what a killed worker had comes back soon.
    let worker = SagaWorker::builder(client, "kinds-stock.commands".parse()?).lease(Duration::from_secs(2)).concurrency(32);
    let worker = operations.fold(worker, |worker, (name, handler)| worker.on(name, handler));
    Ok(worker.build().run(CancellationToken::new()).await?)
}

type Handling = Pin<Box<dyn Future<Output = Result<JsonText, CallError>> + Send>>;

/// Does what a call asks for, once, in whatever mood.
fn handler(db: &Arc<Db>, seed: u64) -> impl Fn(Call) -> Handling + Clone + Send + Sync + use<> {
    let local = RocksOperations::new(Arc::clone(db), RocksBarrier::new()).local(move |txn, call| work(txn, call, seed));
    let db = Arc::clone(db);
    move |call| {
        let (local, db) = (local.clone(), Arc::clone(&db));
        Box::pin(async move {
            let mood = mood(seed, &call);
            match mood {
                Mood::Fails => return Err(CallError::unknown("MOOD", "nobody knows what happened")),
                Mood::Hangs => tokio::time::sleep(HANG).await,
                Mood::IsSlow => tokio::time::sleep(SLOW).await,
                Mood::Good | Mood::Refuses | Mood::LosesReply => {}
            }
            let answer = local(call.clone()).await;
            if matches!(&answer, Err(CallError::Refused(failure)) if failure.code == fence::CODE) {
                fence::remember(&db, &call)?;
            }
            if mood == Mood::LosesReply { Err(CallError::unknown("REPLY_LOST", "it may have been done")) } else { answer }
        })
    }
}

/// The work itself: a row of the books. With what else the transaction of the barrier has, it is there or not.
fn work(txn: &Transaction<'_, Db>, call: &Call, seed: u64) -> Result<Value, CallError> {
    fence::pass(txn, call)?;
    if mood(seed, call) == Mood::Refuses {
        return Err(CallError::refused("MOOD", "it is refused"));
    }
    let row = row(&call.idempotency_key);
    let times = txn.get_for_update(&row, true)?.map_or(0, |bytes| bytes[0]);
    txn.put(&row, [times.saturating_add(1)])?;
    Ok(json!({ "number": drawn(seed, &call.idempotency_key) % 1_000 }))
}

fn mood(seed: u64, call: &Call) -> Mood {
    if call.arguments.to_value()["slow"] == true {
        return Mood::IsSlow;
    }
    // A refusal is for good where it may be; else it is one of this attempt, as everything else is.
    let of_call = drawn(seed, &call.idempotency_key) % HUNDRED;
    let of_attempt = drawn(seed, &call.attempt.to_string()) % HUNDRED;
    let refuses = match (call.must_succeed, call.attempt.operation) {
        (false, _) if call.attempt.item.is_some() => of_call < 2,
        (false, _) => of_call < 5,
        // A compensation that can never be done: the saga is blocked, and keeps its lock.
        (true, Operation::Compensation) if call.lock.is_some() => of_call < 10,
        (true, Operation::Compensation) => of_call < 2,
        (true, _) => of_attempt < 5,
    };
    match of_attempt {
        _ if refuses => Mood::Refuses,
        10..16 => Mood::LosesReply,
        20..25 => Mood::Hangs,
        30..36 => Mood::Fails,
        _ => Mood::Good,
    }
}

/// The same number for the same text, from 0.
pub(crate) fn drawn(seed: u64, text: &str) -> u64 {
    // FNV-1a, and a mixer behind it because its low bits are poor.
    let hash = text.bytes().fold(0xCBF2_9CE4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}
