//! What one client may take of a server: connections, requests of a connection of HTTP/2, and those that it takes back.

use sagamq_server::run::{ServeConfig, Server};
use sagamq_tests::server::eventually;
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(60);

/// The beginning of a connection of HTTP/2, with the client's settings, of which there are none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// `REFUSED_STREAM`: there are too many.
const REFUSED_STREAM: u32 = 7;

/// `ENHANCE_YOUR_CALM`: the client does what only harms.
const ENHANCE_YOUR_CALM: u32 = 11;

struct Running {
    _folder: TempDir,
    server: Server,
    shutdown: CancellationToken,
}

impl Running {
    async fn start(config: ServeConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let config = ServeConfig { listen, data_dir: folder.path().join("data"), shards: 1, ..config };
        let shutdown = CancellationToken::new();
        let server = Server::start(config, shutdown.clone()).await.expect("it starts");
        Self { _folder: folder, server, shutdown }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.server.join().await.expect("it ends well");
    }
}

/// Whether the server lets a connection in: it answers a request.
async fn is_let_in(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // One that is closed cannot be written to, or not be read from.
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.ok()?;
    let mut head = [0; 12];
    let read = tokio::time::timeout(LIMIT, stream.read_exact(&mut head)).await.expect("an answer, or the end");
    read.ok()?;
    assert_eq!(&head, b"HTTP/1.1 200");
    Some(stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_has_so_many_connections_and_further_ones_are_closed_and_counted() {
    let running = Running::start(ServeConfig { client_connections_max: Some(3), ..ServeConfig::default() }).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(is_let_in(running.address()).await.expect("within what one may have"));
    }
    for _ in 0..2 {
        assert!(is_let_in(running.address()).await.is_none(), "one too many");
    }
    drop(held);
    let again = eventually("those that ended are free again", async || is_let_in(running.address()).await).await;
    drop(again);
    let counted = eventually("the metrics can be asked for", async || {
        let answer = reqwest::get(format!("{}/metrics", running.server.url())).await.ok()?;
        answer.text().await.ok()
    });
    let counted = counted.await;
    let counter = "sagamq_connections_refused_total{reason=\"client_max\"} ";
    let count = counted.lines().find_map(|line| line.strip_prefix(counter)).expect("it is there");
    assert!(count.parse::<u32>().is_ok_and(|count| count >= 2), "{count}");
    running.end().await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a request that goes on: `POST /v1/topics` with JSON to come.
fn open(stream: u32) -> Vec<u8> {
    // Of the static table: POST, http; the rest as text.
    let mut head = vec![0x83, 0x86];
    for (name, value) in [(":path", "/v1/topics"), (":authority", "localhost"), ("content-type", "application/json")] {
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).expect("it is short"));
            head.extend_from_slice(text.as_bytes());
        }
    }
    // END_HEADERS.
    frame(HEADERS, 4, stream, &head)
}

/// A frame as it was read.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The next frame; `None`: the connection has ended.
async fn next(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    let read = tokio::time::timeout(LIMIT, stream.read_exact(&mut head)).await.expect("a frame, or the end");
    read.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], flags: head[4], stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]), payload })
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

async fn connected(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(PREFACE).await.expect("sent");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http2_has_so_many_requests_at_a_time_and_says_so() {
    let running = Running::start(ServeConfig::default()).await;
    let mut stream = connected(running.address()).await;
    let settings = loop {
        let frame = next(&mut stream).await.expect("it speaks");
        if frame.kind == SETTINGS && frame.flags == 0 {
            break frame.payload;
        }
    };
    let of = |id: u8| settings.chunks(6).find(|setting| setting[1] == id).map(|setting| number(&setting[2..]));
    // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_MAX_HEADER_LIST_SIZE.
    assert_eq!((of(3), of(6)), (Some(256), Some(128 * 1024)));
    let mut all = frame(SETTINGS, 1, 0, &[]);
    for number in 0..257 {
        all.extend(open(2 * number + 1));
    }
    stream.write_all(&all).await.expect("sent");
    let refused = loop {
        let frame = next(&mut stream).await.expect("it speaks");
        assert!(frame.kind != GOAWAY && frame.kind != DATA, "{} {:?}", frame.kind, frame.payload);
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!((refused.stream, number(&refused.payload)), (513, REFUSED_STREAM), "the last one, and no other");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_requests_and_takes_them_back_at_once_is_cut_off() {
    let running = Running::start(ServeConfig::default()).await;
    let mut stream = connected(running.address()).await;
    let mut all = Vec::new();
    for number in 0..2_000 {
        all.extend(open(2 * number + 1));
        // CANCEL.
        all.extend(frame(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes()));
    }
    // It may end before all of it is sent.
    let _ = stream.write_all(&all).await;
    let mut said = None;
    while let Some(frame) = next(&mut stream).await {
        if frame.kind == GOAWAY {
            said = Some((number(&frame.payload[..4]), number(&frame.payload[4..8])));
            break;
        }
    }
    let (last, code) = said.expect("it says why");
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(last < 2 * 1_000, "long before all of them: {last}");
    assert!(is_let_in(running.address()).await.is_some(), "others are served");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_faults_over_and_over_is_cut_off() {
    let running = Running::start(ServeConfig::default()).await;
    let mut stream = connected(running.address()).await;
    // Requests without a path: each is reset by itself, and the connection goes on.
    let all: Vec<u8> = (0..2_000).flat_map(|number| frame(HEADERS, 4, 2 * number + 1, &[0x83, 0x86])).collect();
    // It may end before all of it is sent.
    let _ = stream.write_all(&all).await;
    let (mut resets, mut said) = (0, None);
    while let Some(frame) = next(&mut stream).await {
        resets += usize::from(frame.kind == RST_STREAM);
        if frame.kind == GOAWAY {
            said = Some(number(&frame.payload[4..8]));
            break;
        }
    }
    assert_eq!(said, Some(ENHANCE_YOUR_CALM), "after {resets}");
    assert!((1_000..1_100).contains(&resets), "{resets}");
    assert!(is_let_in(running.address()).await.is_some(), "others are served");
    running.end().await;
}

/// What is gathered of a head until it is whole lies in memory, and nobody is known to have sent it.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_not_gathered_to_its_end() {
    let running = Running::start(ServeConfig::default()).await;
    let mut stream = TcpStream::connect(running.address()).await.expect("it listens");
    let mut head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: ".to_vec();
    head.resize(128 * 1024 + 1, b'a');
    // It goes on, and is refused all the same; perhaps before all of it is sent.
    let _ = stream.write_all(&head).await;
    let mut said = Vec::new();
    // What was not read of it may make an end without a word of the answer.
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await.expect("it ends before its time is over");
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said));
    running.end().await;
}
