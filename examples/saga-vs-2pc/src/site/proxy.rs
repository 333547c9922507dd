//! The way to a service, with a length and a switch: a TCP relay that gives each byte on late, or, cut off, not at all.
//!
//! What is on its way while the way is cut off arrives when it is mended, as TCP would repeat it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Pieces that may be on their way at a time; more make the sender wait.
const PIECES: usize = 256;

/// What does not get through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// Everything does.
    #[default]
    Nothing,
    /// Nothing does, either way.
    Everything,
    /// The answers to requests whose path contains this do not.
    AnswersTo(&'static str),
}

/// A relay in front of a service. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    cut: watch::Sender<Cut>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a free port for `target`. Answers are late by `delay`, requests by nothing: the round trip is what counts, and the
    /// runtime's timer is too coarse to be used twice in one.
    pub(super) async fn start(target: SocketAddr, delay: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (cut, seen) = watch::channel(Cut::default());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, delay, seen.clone()));
            }
        });
        Ok(Self { address, cut, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the way off, or mends it.
    pub fn cut(&self, cut: Cut) {
        self.cut.send_replace(cut);
    }
}

async fn relay(client: TcpStream, target: SocketAddr, delay: Duration, cut: watch::Receiver<Cut>) {
    // A service that is not there refuses the connection, and so does its proxy: by closing it.
    let Ok(service) = TcpStream::connect(target).await else { return };
    let _ = client.set_nodelay(true);
    let _ = service.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    // A connection has one request on its way at a time (HTTP/1.1), so the answer that follows a request is the answer to it.
    let is_marked = AtomicBool::new(false);
    tokio::join!(
        one_way(from_client, to_service, Duration::ZERO, cut.clone(), |cut, piece| {
            if let Cut::AnswersTo(path) = cut {
                let is_it = piece.windows(path.len()).any(|window| window == path.as_bytes());
                is_marked.fetch_or(is_it, Ordering::SeqCst);
            }
            cut == Cut::Everything
        }),
        one_way(from_service, to_client, delay, cut, |cut, _| match cut {
            Cut::Nothing => false,
            Cut::Everything => true,
            Cut::AnswersTo(_) => is_marked.load(Ordering::SeqCst),
        }),
    );
}

/// Gives pieces on, each late by `delay`, and holds those that `is_cut` names until the cut is another.
async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut cut: watch::Receiver<Cut>,
    is_cut: impl Fn(Cut, &[u8]) -> bool,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let arrives = Instant::now() + delay;
            if sender.send((arrives, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((arrives, piece)) = pieces.recv().await {
            if !delay.is_zero() {
                tokio::time::sleep_until(arrives).await;
            }
            if cut.wait_for(|cut| !is_cut(*cut, &piece)).await.is_err() || to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
