//! A way to a server that is longer than it is: what goes through arrives later, in both directions, in order and whole.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Bytes on their way in one direction of a connection: enough for whole objects, so that only time is added.
const CHUNKS: usize = 4_096;
const CHUNK_BYTES: usize = 64 << 10;

/// How exact the runtime's timer is.
const TIMER: Duration = Duration::from_millis(1);

/// A proxy over TCP that adds `added` to each round trip, half of it in each direction. To connect costs nothing more.
#[derive(Debug)]
pub(super) struct Delay {
    address: SocketAddr,
    task: AbortHandle,
}

impl Delay {
    /// Before a server, as `host:port`.
    pub(super) async fn before(server: String, added: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(lead(listener, server, added / 2)).abort_handle();
        Self { address, task }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn lead(listener: TcpListener, server: String, late: Duration) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                let server = server.clone();
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    // Small requests must not wait for each other's acknowledgements as well.
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                    tokio::join!(carry(from_client, to_server, late), carry(from_server, to_client, late));
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One direction, to its end: each piece is written so much later than it came.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, late: Duration) {
    let (sent, mut arrives) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let takes = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if sent.send((Instant::now() + late, buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let gives = async move {
        while let Some((due, piece)) = arrives.recv().await {
            // A timer wakes up to a millisecond late, so half of that is taken off; what is due already does not wait for one at all.
            if due > Instant::now() {
                tokio::time::sleep_until(due - TIMER / 2).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The end arrives as well; there may be nobody any more who hears it.
        let _ = to.shutdown().await;
    };
    tokio::join!(takes, gives);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address.to_string()
    }

    #[tokio::test]
    async fn an_answer_comes_later_and_what_is_sent_together_arrives_together_whole_and_in_order() {
        let added = Duration::from_millis(200);
        let delay = Delay::before(echo().await, added).await;
        let mut stream = TcpStream::connect(delay.address()).await.expect("it listens");
        let sent: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
        let began = Instant::now();
        let (mut read, mut write) = stream.split();
        let asks = async {
            write.write_all(&sent).await.expect("sent");
            write.shutdown().await.expect("ended");
        };
        let mut heard = Vec::new();
        let (heard_all, ()) = tokio::join!(read.read_to_end(&mut heard), asks);
        heard_all.expect("heard");
        assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
        assert!(began.elapsed() >= added - 2 * TIMER, "{:?}", began.elapsed());
        // One piece after the other would take 31 times the delay; so much no machine is slow.
        assert!(began.elapsed() < added * 25, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_ends_the_connection() {
        let delay = Delay::before("127.0.0.1:1".to_owned(), Duration::ZERO).await;
        let mut stream = TcpStream::connect(delay.address()).await.expect("it listens");
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut heard)).await.expect("it ends");
        assert!(ended.is_err() || heard.is_empty(), "{heard:?}");
    }
}
