//! A producer whose name another has taken: each record hears of its own batch, and no more than is known of it.

use super::*;

/// A topic of two partitions whose producer has lost its name. The first answer for partition 1 breaks; all others say that the name is taken, each
/// when its partition's gate is open.
async fn taken(gates: [Arc<Semaphore>; 2]) -> Server {
    let attempts = Arc::new(AtomicU64::new(0));
    Server::start(move |seen| {
        let (gates, attempts) = (gates.clone(), Arc::clone(&attempts));
        async move {
            match &seen.path[..] {
                "/v1/producers" => {
                    Answer::Json(200, json!({"name": "billing", "producer_id": "4611686018427387904", "registered_at_ms": 0}))
                }
                _ if seen.method == "GET" => described(2),
                _ => {
                    let partition = batch(&seen).0.0;
                    if partition == 1 && attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                        return Answer::Break;
                    }
                    let _open = gates[partition as usize].acquire().await.expect("open");
                    Answer::Problem(ErrorCode::ProducerFenced)
                }
            }
        }
    })
    .await
}

fn is_fenced(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::ProducerFenced)
}

#[tokio::test]
async fn what_may_be_stored_is_in_doubt_and_nothing_else_whichever_batch_hears_of_it_first() {
    for doubtful_first in [false, true] {
        let gates = [Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0))];
        let server = taken(gates.clone()).await;
        let producer = server.client().producer("orders".parse().expect("legal")).name("billing".parse().expect("legal")).build();
        let to = |partition| ProduceRecord::text("x").with_partition(PartitionId(partition));
        let doubtful = producer.enqueue(to(1)).await.expect("room");
        let of = |partition| posts(&server).iter().filter(|seen| is_binary(seen) && batch(seen).0.0 == partition).count();
        until("its answer was lost", || of(1) == 2).await;
        let certain = producer.enqueue(to(0)).await.expect("room");
        until("the other is under way", || of(0) == 1).await;
        let (doubtful, certain) = if doubtful_first {
            gates[1].add_permits(1);
            let doubtful = soon(doubtful).await;
            // Whatever is sent from now on was never on its way.
            let later = soon(producer.send(to(0))).await.expect_err("another has the name");
            assert!(is_fenced(&later) && !later.is_outcome_unknown(), "{later:?}");
            gates[0].add_permits(1);
            (doubtful, soon(certain).await)
        } else {
            gates[0].add_permits(1);
            let certain = soon(certain).await;
            gates[1].add_permits(1);
            (soon(doubtful).await, certain)
        };
        let (doubtful, certain) = (doubtful.expect_err("another has the name"), certain.expect_err("another has the name"));
        assert!(is_fenced(&doubtful) && doubtful.is_outcome_unknown(), "it may be in the log: {doubtful:?}");
        assert!(is_fenced(&certain) && !certain.is_outcome_unknown(), "it is not in the log: {certain:?}");
        let later = soon(producer.send(to(1))).await.expect_err("another has the name");
        assert!(is_fenced(&later) && !later.is_outcome_unknown(), "it was never on its way: {later:?}");
    }
}

/// One lane's records are to be dealt anew while another one has two batches under way. The first of these hears that the name is taken, the second
/// that it came out of order: nobody deals it anew, and it hears of that.
#[tokio::test]
async fn whoever_waits_to_be_dealt_anew_hears_that_nobody_deals_any_more() {
    let gates: [Arc<Semaphore>; 3] = std::array::from_fn(|_| Arc::new(Semaphore::new(0)));
    let (opened, batches) = (gates.clone(), Arc::new(AtomicU64::new(0)));
    let server = Server::start(move |seen| {
        let (gates, batches) = (opened.clone(), Arc::clone(&batches));
        async move {
            match &seen.path[..] {
                "/v1/producers" => {
                    Answer::Json(200, json!({"name": "billing", "producer_id": "4611686018427387904", "registered_at_ms": 0}))
                }
                _ if seen.method == "GET" => described(2),
                _ if batch(&seen).0.0 == 0 => {
                    let _open = gates[0].acquire().await.expect("open");
                    Answer::Problem(ErrorCode::PartitionsChanged)
                }
                _ => match batches.fetch_add(1, Ordering::SeqCst) {
                    // Only behind one that is stored may two be under way.
                    0 => places(&seen, 0),
                    1 => {
                        let _open = gates[1].acquire().await.expect("open");
                        Answer::Problem(ErrorCode::ProducerFenced)
                    }
                    _ => {
                        let _open = gates[2].acquire().await.expect("open");
                        Answer::Problem(ErrorCode::OutOfOrderSequence)
                    }
                },
            }
        }
    })
    .await;
    // A batch each, so that two may be under way.
    let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(1);
    let producer = producer.name("billing".parse().expect("legal")).build();
    let to = |partition| ProduceRecord::text("x").with_partition(PartitionId(partition));
    let of = |partition| posts(&server).iter().filter(|seen| is_binary(seen) && batch(seen).0.0 == partition).count();
    soon(producer.send(to(1))).await.expect("stored");
    let dealt = producer.enqueue(to(0)).await.expect("room");
    until("it is under way", || of(0) == 1).await;
    let first = producer.enqueue(to(1)).await.expect("room");
    until("the first of the other is under way", || of(1) == 2).await;
    let second = producer.enqueue(to(1)).await.expect("room");
    until("and the second", || of(1) == 3).await;
    gates[0].add_permits(1);
    gates[1].add_permits(1);
    let first = soon(first).await.expect_err("another has the name");
    gates[2].add_permits(1);
    let (dealt, second) = (soon(dealt).await.expect_err("nobody deals"), soon(second).await.expect_err("nobody deals"));
    for error in [first, dealt, second] {
        assert!(is_fenced(&error), "{error:?}");
    }
    soon(producer.close()).await.expect("everybody was answered");
}
