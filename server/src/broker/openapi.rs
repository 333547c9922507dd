//! The description of the broker's routes, and of the interface as a whole.

use crate::web::{metrics, openapi};
use sagamq_api::access::{Need, OPERATIONS};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

/// The broker's part of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "SagaMQ",
        description = "A durable, partitioned log broker with a saga orchestrator. Errors are RFC 9457 problem documents with a stable `code`. Bodies of JSON and YAML may come with `content-encoding: gzip`; answers of JSON are sent so to clients that say `accept-encoding: gzip`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "topics", description = "Topics and their configuration"),
        (name = "records", description = "Produce, and read by offset or time"),
        (name = "producers", description = "Producers that have a name, so that a new one supersedes the one before"),
        (name = "schedules", description = "Records that are to be appended later: list and cancel them"),
        (name = "groups", description = "Queue groups: receive records under a lease and settle them"),
        (name = "dead letters", description = "Records that a group gave up"),
        (name = "stream groups", description = "Stream groups: members share partitions and commit offsets"),
        (name = "keys", description = "API keys: who may do what"),
        (name = "audit", description = "Who changed what, and who was refused"),
        (name = "operation", description = "Health, metrics and this description"),
    ),
)]
struct Doc;

pub(super) fn document() -> utoipa::openapi::OpenApi {
    let mut document = Doc::openapi();
    let parts = [
        openapi::Doc::openapi(),
        super::topics::Doc::openapi(),
        super::records::Doc::openapi(),
        super::cloud_events::Doc::openapi(),
        super::producers::Doc::openapi(),
        super::schedules::Doc::openapi(),
        super::groups::Doc::openapi(),
        super::ack_records::Doc::openapi(),
        super::dead_letters::Doc::openapi(),
        super::streams::Doc::openapi(),
        super::keys::Doc::openapi(),
        super::audit::Doc::openapi(),
        super::health::Doc::openapi(),
        metrics::Doc::openapi(),
    ];
    for part in parts {
        document.merge(part);
    }
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("sq_…");
    let key = key.description(Some("An API key, where the server asks for keys. What each operation needs: docs/security.md")).build();
    document.components.get_or_insert_with(Default::default).add_security_scheme(API_KEY, SecurityScheme::Http(key));
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(API_KEY, [])]);
    for open in OPERATIONS.iter().filter(|operation| operation.need == Need::Nothing && operation.method == "GET") {
        if let Some(get) = document.paths.paths.get_mut(open.path).and_then(|path| path.get.as_mut()) {
            get.security = Some(Vec::new());
        }
    }
    document
}

/// Name of the security scheme.
const API_KEY: &str = "api_key";
