//! What a node of a cluster answers while it stands by: that it lives, that it is not ready, and who is the active one.

use crate::web::config::HttpConfig;
use crate::web::edge::{Application, requested_target};
use crate::web::metrics::{HttpMetrics, metrics};
use crate::web::pass::{NotPassed, Passing};
use crate::web::problem::ApiError;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use prometheus_client::registry::Registry;
use sagamq_api::{ErrorCode, headers, routes};
use sagamq_cluster::node::Shown;
use sagamq_cluster::node::members::entry::Process;
use std::sync::Arc;
use tokio::sync::watch;

/// What is asked about this node, and not of the cluster.
const ABOUT_THE_NODE: [&str; 4] = [routes::HEALTHZ, routes::READYZ, routes::METRICS, routes::OPENAPI];

/// A node that stands by.
#[derive(Clone)]
pub(crate) struct Standing {
    /// What it knows of the cluster.
    pub(crate) shown: watch::Receiver<Shown>,
    /// Passes requests on, if the nodes have a key.
    pub(crate) passing: Option<Passing>,
}

/// All that a node serves while it stands by. `shown`: its metrics, where everybody may see them; with keys, nobody can be told apart here.
pub(crate) fn standing_by(
    standing: Standing,
    shown: Option<Arc<Registry>>,
    metrics_of_http: HttpMetrics,
    config: &HttpConfig,
) -> Application {
    let all = Router::new()
        .route(routes::HEALTHZ, get(|| async { "ok\n" }))
        .route("/", any(standby))
        .route("/{*path}", any(standby))
        .with_state(standing);
    let all = match shown {
        Some(registry) => all.merge(Router::new().route(routes::METRICS, get(metrics)).with_state(registry)),
        None => all,
    };
    Application::of(all, metrics_of_http, config)
}

async fn standby(State(standing): State<Standing>, request: Request) -> Response {
    let Standing { shown, passing } = standing;
    let active = shown.borrow().active.clone();
    let passing = passing.filter(|_| !ABOUT_THE_NODE.contains(&request.uri().path()));
    let target = requested_target(&request);
    match (passing, active) {
        (Some(passing), Some(active)) => {
            let passed = passing.pass(&active, shown, request, &target).await;
            passed.unwrap_or_else(|why| refused(Some(&active), Some(&why)))
        }
        (Some(passing), None) => {
            passing.no_active();
            refused(None, None)
        }
        (None, active) => refused(active.as_ref(), None),
    }
}

/// Nothing was done.
fn refused(active: Option<&Process>, why: Option<&NotPassed>) -> Response {
    let detail = match active {
        Some(Process { node, url, .. }) => {
            let why = why.map_or_else(String::new, |why| format!("{why}; "));
            format!("this node stands by, and node `{node}` at {url} is the active one; {why}nothing was done: send it there")
        }
        None => "this node stands by, and no active one is known at this moment; nothing was done: send it again soon".to_owned(),
    };
    let mut response = ApiError::new(ErrorCode::Standby, detail).into_response();
    // A node's address is one that a setting could be read as, so it can stand in a header.
    if let Some(url) = active.and_then(|active| HeaderValue::try_from(&active.url).ok()) {
        response.headers_mut().insert(HeaderName::from_static(headers::ACTIVE_NODE), url);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::pass::{ClusterKey, Outcome, PassMetrics, Proofs, ToOthers};
    use axum::body::{Body, to_bytes};
    use sagamq_api::Problem;
    use sagamq_broker::env::SystemClock;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;
    use uuid::Uuid;

    async fn ask(active: Option<Process>, method: &str, path: &str) -> (u16, Option<String>, Vec<u8>) {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let (_sender, shown) = watch::channel(Shown { active, ..Shown::default() });
        let application = standing_by(Standing { shown, passing: None }, Some(Arc::new(registry)), metrics, &HttpConfig::default());
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        let answer = application.oneshot(request).await.expect("answered");
        let url = answer.headers().get(headers::ACTIVE_NODE).map(|url| url.to_str().expect("text").to_owned());
        (answer.status().as_u16(), url, to_bytes(answer.into_body(), 1 << 20).await.expect("a body").to_vec())
    }

    /// A node that stands by and passes on, at an address of its own.
    async fn serve(name: &str, start: Uuid, shown: watch::Receiver<Shown>, listener: TcpListener) -> PassMetrics {
        let key = ClusterKey::of(&[7; ClusterKey::SECRET_BYTES_MIN]).expect("long enough");
        let metrics = PassMetrics::default();
        let proofs = Proofs::new(key, name, start, Arc::new(SystemClock), metrics.clone());
        let http = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
        let passing =
            Passing::new(move || ToOthers { http: http.clone(), made: 0 }, proofs.clone(), 8, metrics.clone(), CancellationToken::new());
        let of_http = HttpMetrics::register(&mut Registry::default());
        let config = HttpConfig { proofs: Some(proofs), ..HttpConfig::default() };
        let application = standing_by(Standing { shown, passing: Some(passing) }, None, of_http, &config);
        let routes = Router::new().fallback_service(application);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        metrics
    }

    #[tokio::test]
    async fn two_that_hold_each_other_for_the_active_one_send_nothing_round() {
        let (mut nodes, mut listeners) = (Vec::new(), Vec::new());
        for (number, node) in [(1, "a"), (2, "b")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let url = format!("http://{}", listener.local_addr().expect("it is bound"));
            nodes.push(Process { node: node.to_owned(), boot: Uuid::from_u128(number), url });
            listeners.push(listener);
        }
        let told = [1, 0].map(|other: usize| watch::channel(Shown { active: Some(nodes[other].clone()), ..Shown::default() }));
        let mut metrics = Vec::new();
        for ((node, listener), (_, shown)) in nodes.iter().zip(listeners).zip(&told) {
            metrics.push(serve(&node.node, node.boot, shown.clone(), listener).await);
        }
        let http = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
        let answer = http.get(format!("{}/v1/topics", nodes[0].url)).send().await.expect("answered");
        assert_eq!(answer.headers()[headers::ACTIVE_NODE], nodes[0].url, "as the other one knows it");
        let said: Problem = answer.json().await.expect("a problem");
        assert!(said.code == ErrorCode::Standby && said.detail.contains("passed on to this node already"), "{said:?}");
        let counted = |of: usize, outcome| metrics[of].counted(outcome);
        assert_eq!([counted(0, Outcome::Answered), counted(0, Outcome::SecondHop)], [1, 0]);
        assert_eq!([counted(1, Outcome::Answered), counted(1, Outcome::SecondHop)], [0, 1]);
    }

    #[tokio::test]
    async fn it_lives_is_not_ready_and_names_the_active_one_on_every_route() {
        let active = Process { node: "a".to_owned(), boot: Uuid::nil(), url: "http://a:7070".to_owned() };
        assert_eq!(ask(Some(active.clone()), "GET", routes::HEALTHZ).await.0, 200);
        assert_eq!(ask(Some(active.clone()), "GET", routes::METRICS).await.0, 200);
        for (method, path) in [
            ("GET", "/readyz"),
            ("GET", "/"),
            ("POST", "/v1/topics/t/records"),
            ("POST", "/v1/topics/t/groups/g:receive"),
            ("GET", "/openapi.json"),
            ("DELETE", "/nowhere"),
        ] {
            let (status, url, body) = ask(Some(active.clone()), method, path).await;
            let problem: Problem = serde_json::from_slice(&body).expect("a problem");
            assert_eq!((status, problem.code, url.as_deref()), (503, ErrorCode::Standby, Some("http://a:7070")), "{method} {path}");
            assert!(problem.detail.contains("`a` at http://a:7070") && problem.request_id.is_some(), "{problem:?}");
            assert_eq!(ask(None, method, path).await.1, None);
        }
    }
}
