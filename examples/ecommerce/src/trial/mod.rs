//! The shop under trial: real processes, thousands of orders, everything that can go wrong on purpose, and an audit order by order.
//!
//! | command | what it shows |
//! |---|---|
//! | `sagamq-shop demo` ([`demo`]) | an ordinary bad day: refusals, lost replies, two kills; over several nodes, one of them lost for good |
//! | `sagamq-shop drill-doubt` ([`doubt`]) | the provider takes money and its answer is lost, in every kind of step, under kills of everybody |
//! | `sagamq-shop drill-kills` ([`broker_kills`]) | the broker is killed every few seconds while orders go through |
//! | `sagamq-shop drill-backup` ([`backup`]) | the broker comes back from an old backup, under participants that know more than it does |
//! | `sagamq-shop drill-followers` ([`followers`]) | services that only listen are away, then slow: no order waits, and they catch up |
//! | `sagamq-shop drill-2pc` ([`atomic`]) | two-phase commit is atomic whoever is killed at whatever point |
//! | `sagamq-shop styles` ([`styles`]) | what the four styles cost, measured beside each other |
//!
//! All but the last fail if a book is wrong, and also if something that they are about did not occur.

pub mod atomic;
mod audit;
pub mod backup;
mod books;
mod branches;
pub mod broker_kills;
mod cluster;
mod container;
mod databases;
pub mod demo;
pub mod doubt;
mod events;
pub mod followers;
mod kills;
pub mod nodes;
mod occurred;
mod plan;
mod process;
mod report;
mod run;
mod site;
pub mod styles;
mod traffic;

use container::Container;
use sagamq_sdk::ClientError;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// The options of everything that runs the shop.
#[derive(Clone, Debug, clap::Args)]
pub struct SiteArgs {
    /// Seed that stock, cards, orders and mishaps are drawn from
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// The program `sagamq` [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub sagamq: Option<PathBuf>,
    /// Keep the data of order and inventory in PostgreSQL: on the server of this connection string, or of SAGAMQ_TEST_POSTGRES, or else on
    /// one that is started in a container of the image SAGAMQ_POSTGRES_IMAGE [default: postgres:17]
    #[arg(long, value_name = "CONNECTION", num_args = 0..=1, require_equals = true)]
    pub postgres: Option<Option<String>>,
    /// Leave data and logs where they are
    #[arg(long)]
    pub keep: bool,
}

/// Where `scripts/with-postgres` says which server it has started.
const POSTGRES: &str = "SAGAMQ_TEST_POSTGRES";

impl SiteArgs {
    /// How the PostgreSQL server is reached, if one is asked for, and its container if it was started here.
    async fn server(&self) -> Result<(Option<String>, Option<Container>), TrialError> {
        let Some(named) = &self.postgres else { return Ok((None, None)) };
        if let Some(connection) = named.clone().or_else(|| std::env::var(POSTGRES).ok()) {
            return Ok((Some(connection), None));
        }
        let container = Container::start().await?;
        Ok((Some(container.connection().to_owned()), Some(container)))
    }
}

/// The options that the demo and the drills with orders under way share.
#[derive(Clone, Debug, clap::Args)]
pub struct TrialArgs {
    /// Those of everything that runs the shop.
    #[command(flatten)]
    pub site: SiteArgs,
    /// Orders under way at the same time [default: 64, and 16 in transactions, which wait for each other's locks]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub in_flight: Option<u64>,
    /// Share of replies (0 to 1) that are lost after their effect was committed
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub lose_replies: f64,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub time_limit: u64,
}

/// Why a demo or a drill did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no broker to start.
    #[error("there is no program {}; build it with `make build`, or name it with --sagamq", path.display())]
    NoBroker {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A process cannot be started.
    #[error("{name} cannot be started ({}): {source}", program.display())]
    Start {
        /// Its name.
        name: &'static str,
        /// Its program.
        program: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A process ended although nobody killed it.
    #[error("{name} ended by itself ({status}); the end of its log:\n{log}")]
    Died {
        /// Its name.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// Its last lines.
        log: String,
    },
    /// A process does not answer.
    #[error("{name} did not answer for {} s; the end of its log:\n{log}", waited.as_secs())]
    NotReady {
        /// Its name.
        name: &'static str,
        /// How long.
        waited: Duration,
        /// Its last lines.
        log: String,
    },
    /// The orders did not end in time.
    #[error("after {} s only {ended} of {orders} orders had ended: giving up (--time-limit)", limit.as_secs())]
    TimeLimit {
        /// The limit.
        limit: Duration,
        /// Orders that had ended.
        ended: usize,
        /// Orders in all.
        orders: usize,
    },
    /// A server was asked for and not named, and none can be started in a container.
    #[error(
        "no PostgreSQL server is named, and none can be started in a container of the image {image} (SAGAMQ_POSTGRES_IMAGE): {source}; \
         run this under scripts/with-postgres, or say --postgres=\"host=… user=…\""
    )]
    NoPostgres {
        /// The image.
        image: String,
        /// What the container engine says.
        #[source]
        source: testcontainers::TestcontainersError,
    },
    /// A log was asked for and not named.
    #[error("--log names no place, and SAGAMQ_TEST_S3 is not set: run this under scripts/with-s3, or say --log s3://BUCKET/PATH")]
    NoLog,
    /// The PostgreSQL server.
    #[error("PostgreSQL failed: {0}")]
    Postgres(#[from] sagamq_sdk::postgres::tokio_postgres::Error),
    /// No transaction came so far.
    #[error("{service} was not asked for a vote, or did not ask for a decision, while orders were under way")]
    NotAsked {
        /// Who was to be asked.
        service: &'static str,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A service answered what it must not.
    #[error("{0}")]
    WrongAnswer(String),
    /// The books are wrong, or what had to occur did not.
    #[error("{wrong} of the books' entries are wrong, {missing} things that had to occur did not")]
    Failed {
        /// Entries that are wrong.
        wrong: usize,
        /// Things that did not occur.
        missing: usize,
    },
    /// The broker refused something.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A service cannot be reached.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// Files, processes.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A task panicked.
    #[error(transparent)]
    Panicked(#[from] tokio::task::JoinError),
}
