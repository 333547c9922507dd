//! The memory drill: many clients at once send the worst bodies that the limits let in, and some that they do not. The server's peak memory
//! must stay below a bound, and every valid request must get through within a number of retries.

use crate::ServerProcess;
use bytes::Bytes;
use core::fmt::Write as _;
use core::time::Duration;
use futures_util::future::join_all;
use reqwest::StatusCode;
use sagamq_api::limits::{JSON_DEPTH_MAX, PRODUCE_RECORDS_MAX, RECORD_BYTES_MAX, RECORD_HEADERS_MAX};
use sagamq_api::topic::TopicConfig;

/// Clients that send at the same time.
const CLIENTS: usize = 16;

/// How often a refused request is sent again.
const RETRIES_MAX: u32 = 10;

/// Most memory that the server may ever have had, in MiB.
const PEAK_MIB_MAX: u64 = 400;

/// A longer pause than any that the server asks for.
const PAUSE_S_MAX: u64 = 10;

/// How long one request may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(120);

/// One kind of body.
struct Kind {
    name: &'static str,
    body: Bytes,
    /// Whether it must be stored; else it must be refused for good.
    is_valid: bool,
}

fn records(record: &str, count: usize) -> String {
    format!("{{\"records\":[{}]}}", vec![record; count].join(","))
}

fn kinds() -> Vec<Kind> {
    let kind = |name, body: String, is_valid| Kind { name, body: body.into(), is_valid };
    // A little less than the bound, because the headers of the record count as well.
    let largest = RECORD_BYTES_MAX as usize - 1024;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let many_nested = vec![nested(JSON_DEPTH_MAX - 1); largest / (2 * JSON_DEPTH_MAX)].join(",");
    let headers = |count: usize| (0..count).map(|n| format!("\"{n}\":\"\"")).collect::<Vec<_>>().join(",");
    let headed = format!("{{\"headers\":{{{}}}}}", headers(RECORD_HEADERS_MAX));
    vec![
        kind("one record of 16 MiB as text", records(&format!("{{\"value\":\"{}\"}}", "x".repeat(largest)), 1), true),
        // Three bytes are four characters.
        kind("one record of 16 MiB as base64", records(&format!("{{\"value_base64\":\"{}\"}}", "AAAA".repeat(largest / 3)), 1), true),
        kind("one record of 16 MiB, 64 levels deep", records(&format!("{{\"value\":[{many_nested}]}}"), 1), true),
        kind("10,000 empty records", records("{}", PRODUCE_RECORDS_MAX), true),
        kind("200 records with 1,000 headers each", records(&headed, 200), true),
        kind("8 million empty records", records("{}", 8_000_000), false),
        kind("10 million levels", records(&format!("{{\"value\":{}}}", nested(10_000_000)), 1), false),
        kind("a record with 2 million headers", records(&format!("{{\"headers\":{{{}}}}}", headers(2_000_000)), 1), false),
        kind("10 million records that are lists", records("[]", 10_000_000), false),
        kind("a body of 33 MiB", records(&format!("{{\"value\":\"{}\"}}", "x".repeat(33 << 20)), 1), false),
    ]
}

/// What became of the requests of one kind from one client.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    retries: u32,
    is_as_wanted: bool,
    status: u16,
}

async fn send(http: &reqwest::Client, url: &str, kind: &Kind) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let request = http.post(url).header("content-type", "application/json").body(kind.body.clone()).timeout(REQUEST_TIME_MAX);
        let answer = request.send().await;
        let (status, pause_s) = match &answer {
            Ok(answer) => {
                let pause = answer.headers().get("retry-after").and_then(|pause| pause.to_str().ok()?.parse().ok());
                (Some(answer.status()), pause.unwrap_or(1))
            }
            // A client that still sends does not always see why it was refused.
            Err(_) => (None, 1),
        };
        outcome.status = status.map_or(0, |status| status.as_u16());
        let is_refused_for_now = status.is_none_or(|status| status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error());
        outcome.is_as_wanted = status.is_some_and(|status| if kind.is_valid { status.is_success() } else { status.is_client_error() });
        if !is_refused_for_now || outcome.retries >= RETRIES_MAX {
            outcome.is_as_wanted &= !is_refused_for_now;
            return outcome;
        }
        outcome.retries += 1;
        tokio::time::sleep(Duration::from_secs(u64::min(pause_s, PAUSE_S_MAX))).await;
    }
}

/// Runs the drill. The report, and whether all is as it must be.
///
/// # Panics
/// When the server does not start, or the topic cannot be made.
pub async fn run() -> (String, bool) {
    let server = ServerProcess::start().await;
    let topic = "drill".parse().expect("a legal name");
    let config = TopicConfig { record_bytes_max: RECORD_BYTES_MAX, ..TopicConfig::default() };
    server.client().create_topic(&topic, config).await.expect("created");
    let url = format!("{}/v1/topics/drill/records", server.url());
    let kinds = kinds();
    let at_rest = server.peak_memory_kib() / 1024;
    let clients = (0..CLIENTS).map(|client| {
        let (kinds, url, http) = (&kinds, &url, reqwest::Client::new());
        async move {
            let mut outcomes = vec![Outcome::default(); kinds.len()];
            // Each begins with another kind, so that all kinds are under way at once.
            for place in (0..kinds.len()).map(|step| (client + step) % kinds.len()) {
                outcomes[place] = send(&http, url, &kinds[place]).await;
            }
            outcomes
        }
    });
    let outcomes = join_all(clients).await;
    let peak = server.peak_memory_kib() / 1024;
    let is_alive = server.client().ready().await.is_ok();
    let mut report = format!("memory drill: {CLIENTS} clients, each sends every kind once\n\n");
    let mut is_good = is_alive && peak < PEAK_MIB_MAX;
    for (place, kind) in kinds.iter().enumerate() {
        let of_kind: Vec<Outcome> = outcomes.iter().map(|outcomes| outcomes[place]).collect();
        let wanted = of_kind.iter().filter(|outcome| outcome.is_as_wanted).count();
        let retries = of_kind.iter().map(|outcome| outcome.retries).max().unwrap_or(0);
        let verb = if kind.is_valid { "stored" } else { "refused" };
        let others: Vec<u16> = of_kind.iter().filter(|outcome| !outcome.is_as_wanted).map(|outcome| outcome.status).collect();
        let mib = kind.body.len() as f64 / f64::from(1 << 20);
        writeln!(report, "{:<38} {mib:>5.1} MiB  {verb} {wanted} of {CLIENTS}, at most {retries} retries", kind.name).expect("a string");
        if wanted < CLIENTS {
            is_good = false;
            writeln!(report, "    not as it must be: status {others:?}").expect("a string");
        }
    }
    let verdict = if is_good { "passed" } else { "FAILED" };
    writeln!(report, "\npeak memory {peak} MiB (at rest {at_rest}), allowed {PEAK_MIB_MAX}; server alive: {is_alive}\n{verdict}")
        .expect("a string");
    (report, is_good)
}
