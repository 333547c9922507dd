//! [`Forwarder`]: what stands between one node and the log's server. It passes HTTP requests on as they are, and does with some of them what
//! networks, proxies and busy servers do.

use super::weather::{Fault, Way, Weather};
use super::wrong::Findings;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use sagamq_broker::env::Random;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, oneshot, watch};
use tokio::task::JoinHandle;

/// A server between a node and the log. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Forwarder {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// `host:port` of the log's server.
    server: String,
    weather: watch::Sender<Weather>,
    random: Mutex<Random>,
    findings: Findings,
}

/// A connection to the log's server, as long as it lasts.
type Connection = Arc<AsyncMutex<Option<SendRequest<Full<Bytes>>>>>;

impl Forwarder {
    /// Listens at this address, on any port, before a server (`host:port`).
    pub(super) async fn before(server: String, at: IpAddr, random: Random, findings: Findings) -> io::Result<Self> {
        let listener = TcpListener::bind((at, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { server, weather: watch::Sender::default(), random: Mutex::new(random), findings });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// As `AWS_ENDPOINT` has it.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it is so.
    pub(super) fn set(&self, weather: Weather) {
        self.state.weather.send_replace(weather);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (state, connection) = (Arc::clone(&state), Connection::default());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), Arc::clone(&connection), request));
            // Who closes it, and why, is the node's or the weather's business.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
        });
    }
}

/// Answers a request of the node. An error closes the connection to it without an answer.
async fn answer(state: Arc<State>, connection: Connection, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    // In a task of its own: what has been sent arrives, also if its sender has gone.
    let (told, answered) = oneshot::channel();
    tokio::spawn(async move {
        // Nobody may wait for it any more.
        let _ = told.send(state.pass(connection, parts, body).await);
    });
    answered.await.unwrap_or_else(|_| Err(io::Error::other("the forwarder ended")))
}

impl State {
    async fn pass(&self, connection: Connection, parts: Parts, body: Bytes) -> io::Result<Response<Full<Bytes>>> {
        let mut weather = *self.weather.borrow();
        match weather.way {
            Way::Open => {}
            Way::Refused => return Err(broken()),
            Way::Silent => {
                self.findings.occurred("request to the log held up");
                let mut watched = self.weather.subscribe();
                weather = *watched.wait_for(|weather| weather.way != Way::Silent).await.map_err(io::Error::other)?;
            }
        }
        let is_write = parts.method == Method::PUT;
        let (fault, slow) = weather.draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner), is_write);
        self.findings.occurred(fault.name());
        tokio::time::sleep(slow).await;
        match fault {
            Fault::None => self.send(&connection, &parts, &body).await,
            Fault::AnswerLost => self.send(&connection, &parts, &body).await.and(Err(broken())),
            Fault::RequestLost => Err(broken()),
            Fault::Twice => {
                // Whatever the first answer is.
                let _ = self.send(&connection, &parts, &body).await;
                self.send(&connection, &parts, &body).await
            }
            Fault::Late(by) => {
                let (server, findings) = (self.server.clone(), self.findings.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(by).await;
                    if let Ok(answer) = send_to(&server, &Connection::default(), &parts, &body).await {
                        findings.occurred(format!("late {} answered {}", parts.method, answer.status().as_u16()));
                    }
                });
                Err(broken())
            }
            Fault::Busy => {
                let busy = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
                busy.body(Full::new(Bytes::from_static(b"<Error><Code>SlowDown</Code></Error>"))).map_err(io::Error::other)
            }
        }
    }

    async fn send(&self, connection: &Connection, parts: &Parts, body: &Bytes) -> io::Result<Response<Full<Bytes>>> {
        send_to(&self.server, connection, parts, body).await
    }
}

/// Sends a request as it came. A connection that the server has closed meanwhile is opened anew: that is no fault that was drawn.
async fn send_to(server: &str, connection: &Connection, parts: &Parts, body: &Bytes) -> io::Result<Response<Full<Bytes>>> {
    let mut connection = connection.lock().await;
    let is_usable = match connection.as_mut() {
        Some(open) => open.ready().await.is_ok(),
        None => false,
    };
    if !is_usable {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with the connection; what is under way hears of it.
        tokio::spawn(driver);
        *connection = Some(sender);
    }
    let sender = connection.as_mut().ok_or_else(broken)?;
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = parts.headers.clone();
    // Of this connection alone. The signature is over the others.
    request.headers_mut().remove(header::CONNECTION);
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    let answered = async {
        let (mut head, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        head.headers.remove(header::CONNECTION);
        head.headers.remove(header::TRANSFER_ENCODING);
        Ok(Response::from_parts(head, Full::new(body)))
    };
    let answered = answered.await;
    if answered.is_err() {
        *connection = None;
    }
    answered
}

fn broken() -> io::Error {
    io::Error::other("the connection broke off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A server that counts what it is asked, and a forwarder before it.
    async fn pair() -> (Forwarder, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let counts = Arc::clone(&asked);
        let router = axum::Router::new().fallback(move |body: Bytes| async move {
            counts.fetch_add(1, Ordering::SeqCst);
            body
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let server = listener.local_addr().expect("it is bound").to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let forwarder = Forwarder::before(server, local, Random::from_seed(1), Findings::default()).await.expect("it listens");
        (forwarder, asked)
    }

    async fn put(forwarder: &Forwarder) -> Result<String, reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        client.put(format!("{}/a?b=c", forwarder.url())).body("text").send().await?.error_for_status()?.text().await
    }

    #[tokio::test]
    async fn what_is_sent_arrives_as_the_weather_is() {
        let (forwarder, asked) = pair().await;
        let sure = Weather { slow_ms: 1, ..Weather::default() };
        for (weather, times, is_answered) in [
            (sure, 1, true),
            (Weather { answer_lost: 1_000, ..sure }, 1, false),
            (Weather { request_lost: 1_000, ..sure }, 0, false),
            (Weather { twice: 1_000, ..sure }, 2, true),
            (Weather { busy: 1_000, ..sure }, 0, false),
            (Weather::shut(Way::Refused), 0, false),
        ] {
            forwarder.set(weather);
            let answer = put(&forwarder).await;
            assert_eq!(answer.is_ok_and(|text| text == "text"), is_answered, "{weather:?}");
            assert_eq!(asked.swap(0, Ordering::SeqCst), times, "{weather:?}");
        }
    }

    #[tokio::test]
    async fn what_was_sent_into_silence_arrives_when_it_ends_also_if_its_sender_has_gone() {
        let (forwarder, asked) = pair().await;
        forwarder.set(Weather::shut(Way::Silent));
        let sent = tokio::time::timeout(std::time::Duration::from_millis(300), put(&forwarder)).await;
        assert!(sent.is_err(), "{sent:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        forwarder.set(Weather::default());
        crate::server::wait_until("it arrives", || (asked.load(Ordering::SeqCst) == 1).then_some(())).await;
    }
}
