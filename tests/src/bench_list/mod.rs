//! How long a page of sagas takes by each filter, as a client sees it, with very many sagas at their end and many that are not.

mod fill;

use crate::ServerProcess;
use crate::measure::now;
use core::fmt::Write as _;
use sagamq_sdk::SagaClient;
use sagamq_sdk::api::saga::{SagaQuery, SagaState};
use std::time::Duration;

/// Pages of each filter that are asked for, each where the one before ended; then from the front again.
const PAGES: usize = 40;

/// How much is stored.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sagas at their end.
    pub finished: u64,
    /// Sagas that are not.
    pub open: u64,
}

impl Options {
    /// Reads `--finished N --open N`.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { finished: 1_000_000, open: 100_000 };
        while let Some(name) = arguments.next() {
            let usage = || "usage: sagamq-bench-list [--finished N] [--open N]".to_owned();
            let value: u64 = arguments.next().and_then(|value| value.parse().ok()).filter(|&value| value > 0).ok_or_else(usage)?;
            match name.as_str() {
                "--finished" => options.finished = value,
                "--open" => options.open = value,
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

/// Measures, and gives the report as Markdown. Progress goes to stderr.
///
/// # Panics
/// When the server does not get ready, or does not answer.
pub async fn run(options: &Options) -> String {
    let mut server = ServerProcess::start().await;
    for (saga, version) in fill::DEFINITIONS {
        server.client().sagas().publish(&fill::definition(saga, version)).await.expect("published");
    }
    server.kill();
    let times = fill::sagas(&server.data(), options.finished, options.open).await;
    let ready = server.restart().await;
    eprintln!("ready after {:.1} s", ready.as_secs_f64());
    let sagas = server.client().sagas();
    let name = || Some("order-2".parse().expect("legal"));
    let of = |state| SagaQuery { state: Some(state), ..SagaQuery::default() };
    let middle_ms = u64::midpoint(times.start, times.end);
    let filters = [
        ("none", SagaQuery::default()),
        ("state COMPLETED", of(SagaState::Completed)),
        ("state COMPENSATED", of(SagaState::Compensated)),
        ("state RUNNING", of(SagaState::Running)),
        ("state BLOCKED", of(SagaState::Blocked)),
        ("definition", SagaQuery { saga: name(), ..SagaQuery::default() }),
        ("definition and version", SagaQuery { saga: name(), version: Some(1), ..SagaQuery::default() }),
        ("definition and state", SagaQuery { saga: name(), ..of(SagaState::Compensated) }),
        ("key", SagaQuery { key: Some("k-1000".to_owned()), ..SagaQuery::default() }),
        ("code of failure", SagaQuery { failure: Some(fill::CODE.to_owned()), ..SagaQuery::default() }),
        ("rare code of failure", SagaQuery { failure: Some(fill::RARE_CODE.to_owned()), ..SagaQuery::default() }),
        ("code and state", SagaQuery { failure: Some(fill::CODE.to_owned()), ..of(SagaState::Blocked) }),
        ("started before the middle", SagaQuery { started_before_ms: Some(middle_ms), ..SagaQuery::default() }),
        ("started after the middle, COMPLETED", SagaQuery { started_from_ms: Some(middle_ms), ..of(SagaState::Completed) }),
    ];
    let mut report = format!(
        "{} sagas at their end, {} that are not\n\n| filter | rows | pages | rows a page, least | median | slowest |\n|---|---|---|---|---|---|\n",
        options.finished, options.open
    );
    for (filter, query) in filters {
        for limit in [100, 1_000] {
            line(&mut report, filter, limit, &sagas, &query).await;
        }
    }
    report
}

async fn line(report: &mut String, filter: &str, limit: u32, sagas: &SagaClient, query: &SagaQuery) {
    let mut query = SagaQuery { limit: Some(limit), ..query.clone() };
    let (mut took, mut least) = (Vec::new(), usize::MAX);
    for _ in 0..PAGES {
        let began = now();
        let page = sagas.list(&query).await.expect("a page");
        took.push(began.elapsed());
        least = least.min(page.sagas.len());
        query.after = page.next;
    }
    took.sort_unstable();
    let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let (median, slowest) = (ms(took[took.len() / 2]), ms(took[took.len() - 1]));
    eprintln!("{filter}, {limit}: {median:.1} ms, at most {slowest:.1} ms");
    writeln!(report, "| {filter} | {limit} | {} | {least} | {median:.1} ms | {slowest:.1} ms |", took.len()).expect("text takes it");
}
