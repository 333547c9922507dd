//! What somebody has overheard between two nodes, he cannot repeat.

use super::node::Node;
use super::passing::{KEY, key_file, keyed, knows_the_active_one};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{ErrorCode, Offset, PartitionId, TopicName, routes};
use sagamq_tests::server::eventually;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Only what hangs takes so long.
const LIMIT: Duration = Duration::from_secs(60);

const PRODUCE: &str = "POST /v1/topics/orders/records HTTP/1.1\r\n";

const RECORD: &str = r#"{"records":[{"value":"paid"}]}"#;

fn topic() -> TopicName {
    "orders".parse().expect("legal")
}

/// Stands between two nodes, and hears what one says to the other.
struct Between {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    /// Whether records go no further: whoever sent them hears nothing.
    keeps: Arc<AtomicBool>,
}

impl Between {
    async fn stand(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (heard, keeps) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let between = Self { address, heard: Arc::clone(&heard), keeps: Arc::clone(&keeps) };
        tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                // Without the node there is nothing to hear.
                let Ok(inside) = TcpStream::connect(to).await else { continue };
                tokio::spawn(hear(outside, inside, Arc::clone(&heard), Arc::clone(&keeps)));
            }
        });
        between
    }

    /// The last request with records that was heard.
    fn last(&self) -> Option<Vec<u8>> {
        let heard = self.heard.lock().expect("nobody panics");
        let begins = heard.windows(PRODUCE.len()).rposition(|bytes| bytes == PRODUCE.as_bytes())?;
        Some(heard[begins..].to_vec())
    }
}

async fn hear(outside: TcpStream, inside: TcpStream, heard: Arc<Mutex<Vec<u8>>>, keeps: Arc<AtomicBool>) {
    let (mut asks, mut is_told) = outside.into_split();
    let (mut answers, mut hears) = inside.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut is_told).await });
    let (mut buffer, mut is_kept) = ([0; 16_384], false);
    while let Ok(count @ 1..) = asks.read(&mut buffer).await {
        let is_whole = {
            let mut heard = heard.lock().expect("nobody panics");
            heard.extend(&buffer[..count]);
            heard.ends_with(RECORD.as_bytes())
        };
        is_kept |= keeps.load(Ordering::SeqCst) && buffer.starts_with(PRODUCE.as_bytes());
        if is_kept && is_whole {
            break;
        }
        if is_kept {
            continue;
        }
        if hears.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    back.abort();
}

/// The status with which a node answers these bytes, and the code of a refusal.
async fn says(node: &Node, bytes: &[u8]) -> (u16, Option<ErrorCode>) {
    let asked = async {
        let mut connection = TcpStream::connect(node.address()).await.expect("connected");
        connection.write_all(bytes).await.expect("sent");
        let (mut answer, mut piece) = (String::new(), [0; 4_096]);
        loop {
            let count = connection.read(&mut piece).await.expect("answered");
            answer.push_str(core::str::from_utf8(&piece[..count]).expect("text"));
            let Some((head, body)) = answer.split_once("\r\n\r\n") else {
                assert_ne!(count, 0, "a whole head: {answer}");
                continue;
            };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            if body.len() < length.parse().expect("a number") {
                assert_ne!(count, 0, "a whole body: {answer}");
                continue;
            }
            let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
            let problem = serde_json::from_str::<sagamq_api::Problem>(body).ok();
            return (status, problem.map(|problem| problem.code));
        }
    };
    timeout(LIMIT, asked).await.expect("it is answered")
}

async fn stored(node: &Node) -> usize {
    let query = ReadQuery { offset: Some(Offset(0)), ..ReadQuery::default() };
    node.client().read(&topic(), PartitionId(0), &query).await.expect("read").records.len()
}

async fn refused(node: &Node, code: ErrorCode) -> u64 {
    let metrics = node.get(routes::METRICS).await.expect("answered").text().await.expect("text");
    let line = format!("sagamq_cluster_proofs_refused_total{{code=\"{}\"}} ", code.as_str());
    metrics.lines().find_map(|shown| shown.strip_prefix(&line)?.parse().ok()).unwrap_or_else(|| panic!("no {line} in {metrics}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_overheard_between_two_nodes_counts_once_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path(), KEY);
    let one = keyed(folder.path(), "one", &key).patient();
    let between = Between::stand(one.address()).await;
    let mut one = one.with(&["--node-url", &format!("http://{}", between.address)]);
    let mut other = keyed(folder.path(), "other", &key).patient();
    one.start_again();
    one.is_active().await;
    other.start_again();
    other.answers().await;
    knows_the_active_one(&other).await;
    other.client().create_topic(&topic(), TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("created");
    // Without a key of its own, so that each time counts that it is taken.
    let produce = async || {
        let request = other.http().post(format!("{}/v1/topics/orders/records", other.url()));
        let request = request.header("content-type", "application/json").body(RECORD);
        request.send().await.expect("answered").status().as_u16()
    };
    assert_eq!((produce().await, stored(&one).await), (200, 1));
    let heard = between.last().expect("it was passed on");
    for times in 1..=3 {
        assert_eq!(says(&one, &heard).await, (403, Some(ErrorCode::NodeProofSpent)));
        assert_eq!(refused(&one, ErrorCode::NodeProofSpent).await, times);
    }
    assert_eq!(says(&other, &heard).await, (403, Some(ErrorCode::NodeProofInvalid)), "it is not for that node");
    assert_eq!(stored(&one).await, 1);
    // What never arrived counts when it comes, and then no more: it was the proof that was refused, and nothing else.
    between.keeps.store(true, Ordering::SeqCst);
    assert_eq!(produce().await, 503, "nobody knows what became of it");
    between.keeps.store(false, Ordering::SeqCst);
    let kept = between.last().expect("it was heard");
    assert_ne!(kept, heard);
    assert_eq!(says(&one, &kept).await.0, 200);
    assert_eq!(says(&one, &kept).await, (403, Some(ErrorCode::NodeProofSpent)));
    assert_eq!(stored(&one).await, 2);
    // One that was never shown to this start of the node was not made for it.
    between.keeps.store(true, Ordering::SeqCst);
    assert_eq!(produce().await, 503);
    between.keeps.store(false, Ordering::SeqCst);
    let late = between.last().expect("it was heard");
    one.kill();
    one.start_again();
    one.is_active().await;
    for bytes in [&heard, &kept, &late] {
        assert_eq!(says(&one, bytes).await, (403, Some(ErrorCode::NodeRestarted)));
    }
    assert_eq!(stored(&one).await, 2);
    eventually("requests are passed on to the new start", async || (produce().await == 200).then_some(())).await;
}
