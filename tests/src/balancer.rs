//! [`Balancer`]: what stands in front of nodes, as users have it: it asks `/readyz` and leads connections to the node that is ready.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// A load balancer over TCP. It ends when it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    led: watch::Receiver<Option<SocketAddr>>,
    tasks: [AbortHandle; 2],
}

impl Balancer {
    /// Before these nodes, at a free address.
    ///
    /// # Panics
    /// When the system has no port left.
    pub async fn over(nodes: Vec<SocketAddr>) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), nodes).await
    }

    /// Before these nodes, at this address.
    ///
    /// # Panics
    /// When somebody else listens there.
    pub async fn at(address: SocketAddr, nodes: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (ready, led) = watch::channel(None);
        let asks = tokio::spawn(ask(nodes, ready)).abort_handle();
        let leads = tokio::spawn(lead(listener, led.clone())).abort_handle();
        Self { address, led, tasks: [asks, leads] }
    }

    /// Where clients reach the node that is ready.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The node that is ready, as it changes.
    #[must_use]
    pub fn led(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.led.clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn ask(nodes: Vec<SocketAddr>, ready: watch::Sender<Option<SocketAddr>>) {
    let http = reqwest::Client::builder().timeout(Duration::from_millis(500)).pool_max_idle_per_host(0).build().expect("a client");
    loop {
        let mut found = None;
        for &node in &nodes {
            let answer = http.get(format!("http://{node}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                found = Some(node);
            }
        }
        ready.send_if_modified(|ready| std::mem::replace(ready, found) != found);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn lead(listener: TcpListener, mut led: watch::Receiver<Option<SocketAddr>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok(()) = led.changed() => {
                // One that ends in good order answers what it has taken. Who is led elsewhere has nothing more to hear of the one before.
                if led.borrow_and_update().is_some() {
                    connections.abort_all();
                }
            }
            Some(_) = connections.join_next() => {}
            Ok((mut client, _)) = listener.accept() => {
                let node = *led.borrow();
                connections.spawn(async move {
                    // Nobody is ready: the connection is closed, and the client comes again.
                    let Some(node) = node else { return };
                    if let Ok(mut node) = TcpStream::connect(node).await {
                        // Either side may close it whenever it likes.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
                    }
                });
            }
        }
    }
}
