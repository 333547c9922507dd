//! The orchestrator's own interface over real HTTP.

use crate::common::Node;
use axum::Router;
use prometheus_client::registry::Registry;
use sagamq_server::{HttpConfig, HttpMetrics, application};
use serde_json::Value;
use std::sync::Arc;

/// Serves on a port of its own; gives the base URL.
pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it has one");
    tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
    format!("http://{address}")
}

/// A client of the interface of a node.
pub(crate) struct Api {
    client: reqwest::Client,
    base: String,
}

impl Api {
    pub(crate) async fn of(node: &Node) -> Self {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let routes = sagamq_server::saga::router(node.sagas.clone());
        let app = application(routes, sagamq_server::saga::openapi(), Arc::new(registry), metrics, &HttpConfig::default());
        Self { client: reqwest::Client::new(), base: serve(Router::new().fallback_service(app)).await }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.expect("it answers");
        (response.status().as_u16(), response.json().await.expect("every body is JSON"))
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let of = if path.starts_with("/v1/saga-definitions") { "application/yaml" } else { "application/json" };
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", of).body(body);
        self.ask(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(self.client.get(format!("{}{path}", self.base))).await
    }
}
