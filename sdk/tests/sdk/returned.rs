//! Records that came back from processes that were killed: one of them may be what kills the process.

use crate::consumer::{consumer, numbers, stop};
use crate::group::{Group, Settled};
use crate::support::{Server, until};
use sagamq_sdk::CancellationToken;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

#[tokio::test]
async fn what_came_back_unbegun_twice_runs_alone_and_what_came_with_it_is_given_back_before() {
    let group = Group::default();
    group.put(numbers(1));
    group.put_returned(2, numbers(3));
    group.put(numbers(1));
    let server = group.serve().await;
    let (shutdown, gate) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
    let (open, begun) = (Arc::clone(&gate), Arc::new(Mutex::new(Vec::new())));
    let (begins, settled) = (Arc::clone(&begun), group.clone());
    let running = tokio::spawn(consumer(&server).concurrency(8).run(shutdown.clone(), move |delivery| {
        begins.lock().expect("no panic").push((delivery.record.offset.0, settled.settled()));
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(())
        }
    }));
    let begun = || begun.lock().expect("no panic").clone();
    until("the others run", || begun().len() == 2).await;
    group.put(numbers(5));
    open.add_permits(1);
    until("one of them is done", || group.settled().len() == 1).await;
    assert_eq!(begun().iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 4], "it waits until nothing runs");
    open.add_permits(1);
    until("it runs", || begun().len() == 3).await;
    let (offset, before) = begun()[2].clone();
    assert_eq!(offset, 1);
    let of = |receipt: &str| before.get(receipt).cloned();
    assert_eq!([of("r2"), of("r3")], [Some(Settled::GivenBack), Some(Settled::GivenBack)], "they would come back with it");
    assert_eq!(group.extended("r1"), 1, "the server was told first");
    assert_eq!((server.verbs("receive").len(), group.waiting()), (1, 5), "nothing is fetched beside it");
    open.add_permits(10);
    until("then all others are handled", || group.settled().len() == 10).await;
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn what_came_back_unbegun_twice_is_said_to_be_begun_before_its_handler_runs_and_nothing_is_fetched_beside_it() {
    let group = Group::default();
    group.put_returned(2, numbers(1));
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (answering, open, counter) = (group.clone(), Arc::clone(&gate), Arc::clone(&asked));
    let server = Server::start(move |seen| {
        let (group, gate, asked) = (answering.clone(), Arc::clone(&gate), Arc::clone(&counter));
        async move {
            if seen.verb() == "extend" {
                asked.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.expect("open").forget();
            }
            group.answer(seen).await
        }
    })
    .await;
    let (shutdown, begun) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&begun);
    let running = tokio::spawn(consumer(&server).concurrency(2).prefetch(4).run(shutdown.clone(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    }));
    until("the server is told first", || asked.load(Ordering::SeqCst) == 1).await;
    assert_eq!(begun.load(Ordering::SeqCst), 0, "no handler runs before the server has answered");
    let asked_for: Vec<_> = server.verbs("receive").iter().map(|seen| seen.json["max_records"].clone()).collect();
    assert_eq!(asked_for, [2], "as many as handlers at first, and nothing beside it");
    open.add_permits(10);
    until("it is handled", || group.settled().len() == 1).await;
    group.put(numbers(1));
    until("and so is the next", || group.settled().len() == 2).await;
    stop(&shutdown, running).await;
    let extends = server.verbs("extend");
    assert_eq!(
        extends.iter().map(|seen| seen.json["receipts"].clone()).collect::<Vec<_>>(),
        [json!(["r0"])],
        "what did not come back needs no word"
    );
    assert_eq!(extends[0].json["begun"], true);
    assert!(server.verbs("receive").iter().all(|seen| seen.json["not_begun"] == true));
}
