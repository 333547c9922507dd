//! `sagamq saga`.

use super::lock::{LockCommand, LocksArgs};
use super::repair::RepairCommand;
use super::saga_verb::VerbCommand;
use super::values::{self, DefinitionAt, JsonInput, When};
use super::verify::{TestArgs, VerifyArgs};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use sagamq_api::SagaName;
use sagamq_api::saga::{Mode, SagaState};
use sagamq_saga::sketch;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

const LINT: &str = "\
EXAMPLES:
  sagamq saga lint checkout.yaml
  sagamq saga lint checkout.yaml refund.yaml --output json

Needs no server. Of files that are given together, what one says of a saga that another one starts is looked at too.
Exit code 1 if a file has faults that forbid publishing.";
const GRAPH: &str = "\
EXAMPLES:
  sagamq saga graph checkout.yaml
  sagamq saga graph checkout.yaml --format svg > checkout.svg
  sagamq saga graph checkout@2 --format dot > checkout.dot

Of a file it needs no server. A file whose name ends with @ and a number is named as ./checkout@2.";
const DIFF: &str = "\
EXAMPLES:
  sagamq saga diff checkout-1.yaml checkout-2.yaml
  sagamq saga diff checkout@1 checkout-2.yaml
  sagamq saga diff checkout@1 checkout@2 --output json

Sagas that run stay on their versions, so what is told is what new starts see. Of files it needs no server.";
const PUBLISH: &str = "\
EXAMPLES:
  sagamq saga publish checkout.yaml
  sagamq saga publish checkout.yaml --activate
  sagamq saga publish checkout.yaml --verify

New sagas take the first version of a name that is published, and a later one once it is activated.";
const ACTIVATE: &str = "\
EXAMPLES:
  sagamq saga activate checkout 2
  sagamq saga activate checkout 1 --canary 2 --percent 10
  sagamq saga activate checkout 1 --reason 'version 2 refuses gift cards'

Sagas that run stay on their versions; a start that names a version takes that one.";
const START: &str = "\
EXAMPLES:
  sagamq saga start checkout --input '{\"order_id\": \"o-1\", \"amount\": 4200}'
  sagamq saga start checkout --input @order.json --wait
  cat order.json | sagamq saga start checkout --input - --wait --timeout 5m

With --wait, exit code 1 if the saga ends otherwise than COMPLETED, 3 if it still runs when the time is over.";
const GET: &str = "\
EXAMPLES:
  sagamq saga get 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11
  sagamq saga get 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --output json";
const LIST: &str = "\
EXAMPLES:
  sagamq saga list
  sagamq saga list --state blocked
  sagamq saga list --saga checkout --key o-1
  sagamq saga list --saga checkout --version 2 --failure OUT_OF_STOCK --since 1h
  sagamq saga list --all --output json";
const HISTORY: &str = "\
EXAMPLES:
  sagamq saga history 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11";
const TIMELINE: &str = "\
EXAMPLES:
  sagamq saga timeline 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11";
const WATCH: &str = "\
EXAMPLES:
  sagamq saga watch 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11

Shows each event as it happens, and why the saga does not move, until it is at its end or blocked. Exit code 1 if it ends otherwise than
COMPLETED.";
const INCIDENTS: &str = "\
EXAMPLES:
  sagamq saga incidents
  sagamq saga incidents --saga checkout --output json

Sagas that are blocked, whose call failed twice or more and is tried on, or that cannot reach a participant.";
const VERSIONS: &str = "\
EXAMPLES:
  sagamq saga versions checkout";
const RETENTION: &str = "\
EXAMPLES:
  sagamq saga retention
  sagamq saga retention --keep 90d
  sagamq saga retention checkout --keep 7d --count 100000
  sagamq saga retention checkout --forever
  sagamq saga retention checkout --reset

Sagas that are at their end are removed with their history once they are older than --keep, or once --count others of the same definition
ended after them. A business key whose saga was removed starts a new one.";
const RELEASE: &str = "\
EXAMPLES:
  sagamq serve --hold-sagas
  sagamq saga list --state blocked
  sagamq saga release";
const SIGNAL: &str = "\
EXAMPLES:
  sagamq saga signal 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 reviewed --payload '{\"approved\": true}'
  sagamq saga signal --saga checkout --key o-1 reviewed --payload @review.json --signal-id review-17

The first step that waits for the name ends, with the payload as its output. One that comes before a step waits for it is kept. The same
--signal-id again changes nothing.";
const DEFINITIONS: &str = "\
EXAMPLES:
  sagamq saga definitions
  sagamq saga definitions checkout --version 1";

/// What can be done with sagas.
#[derive(Clone, Debug, Subcommand)]
#[command(
    after_help = "EXAMPLES:\n  sagamq saga lint checkout.yaml\n  sagamq saga list --state blocked\n  sagamq saga retry 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --reason 'stock is back'"
)]
pub enum SagaCommand {
    /// Report every fault of saga definitions, each with its place and what to do; needs no server
    #[command(after_help = LINT)]
    Lint {
        /// Definitions in YAML
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Run a saga definition against every failure, up to a bound, and show the shortest way that ends wrong; needs no server
    Verify(Box<VerifyArgs>),
    /// Run a saga definition against scripted participants: fail every step in turn, or replay a script; needs no server
    Test(TestArgs),
    /// Draw a definition: its steps, what undoes them, and the point of no return
    #[command(after_help = GRAPH)]
    Graph {
        /// A definition in YAML, or a published one as NAME@VERSION
        #[arg(value_name = "FILE")]
        definition: DefinitionAt,
        /// The language of the picture: mermaid, dot or svg
        #[arg(long, value_name = "FORMAT", default_value = "mermaid")]
        format: sketch::Format,
    },
    /// Tell what is different between two versions of a definition, and who sees it
    #[command(after_help = DIFF)]
    Diff {
        /// The older one: a definition in YAML, or a published one as NAME@VERSION
        #[arg(value_name = "OLD")]
        before: DefinitionAt,
        /// The newer one, as well
        #[arg(value_name = "NEW")]
        after: DefinitionAt,
    },
    /// Publish saga definitions; a version that is published never changes
    #[command(after_help = PUBLISH)]
    Publish {
        /// Definitions in YAML
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// New sagas take these versions from now on
        #[arg(long)]
        activate: bool,
        /// Publish only what verification finds nothing wrong with
        #[arg(long)]
        verify: bool,
    },
    /// Say which version of a definition new sagas take, and which one a share of them tries
    #[command(after_help = ACTIVATE)]
    Activate(ActivateArgs),
    /// List the newest version of every definition, or show the text of one
    #[command(after_help = DEFINITIONS)]
    Definitions {
        /// Name of the definition to show
        name: Option<SagaName>,
        /// Its version [default: the newest]
        // Not the program's own version, hence an id of its own.
        #[arg(id = "definition_version", long = "version", value_name = "N", requires = "name")]
        definition_version: Option<u32>,
    },
    /// Start a saga, once by its business key
    Start(StartArgs),
    /// Show a saga: its state, its steps, and everything that went wrong
    #[command(after_help = GET)]
    Get {
        /// Id of the saga
        id: Uuid,
    },
    /// List sagas, those that started last first
    List(ListArgs),
    /// Show every event of a saga, oldest first
    #[command(after_help = HISTORY)]
    History {
        /// Id of the saga
        id: Uuid,
    },
    /// Show what happened to a saga, with the time that everything took
    #[command(after_help = TIMELINE)]
    Timeline {
        /// Id of the saga
        id: Uuid,
    },
    /// Show what happens to a saga, as it happens
    #[command(after_help = WATCH)]
    Watch {
        /// Id of the saga
        id: Uuid,
    },
    /// Show the versions of a definition, and how many sagas each has in which state
    #[command(after_help = VERSIONS)]
    Versions {
        /// Name of the definition
        name: SagaName,
    },
    /// Show or set how long sagas are kept after their end
    Retention(RetentionArgs),
    /// Show what is wrong now: sagas in trouble, by definition, version, step, call and code of the failure
    #[command(after_help = INCIDENTS)]
    Incidents {
        /// Only sagas of this definition
        #[arg(long, value_name = "NAME")]
        saga: Option<SagaName>,
        /// Most incidents
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Show which semantic locks sagas hold, and who waits for them
    Locks(LocksArgs),
    /// Take a semantic lock away from the saga that holds it
    #[command(
        subcommand,
        after_help = "EXAMPLES:\n  sagamq saga lock break sku/4711 --lock-token 17 --reason 'the shelf was counted by hand'"
    )]
    Lock(LockCommand),
    /// Send a signal to a saga that waits for it, or will
    #[command(after_help = SIGNAL)]
    Signal(SignalArgs),
    /// Let sagas go that are held since the server was started with --hold-sagas
    #[command(after_help = RELEASE)]
    Release,
    /// The verbs
    #[command(flatten)]
    Verb(VerbCommand),
    /// Do something to many sagas, as a job of the server
    #[command(subcommand)]
    Repair(RepairCommand),
}

/// `sagamq saga signal`.
#[derive(Args, Clone, Debug)]
pub struct SignalArgs {
    /// Id of the saga, unless --saga and --key say which, and the name that a step waits for
    #[arg(value_name = "[ID] NAME", num_args = 1..=2, required = true)]
    pub target: Vec<String>,
    /// Name of the definition of the saga
    #[arg(long, value_name = "NAME", requires = "key")]
    pub saga: Option<SagaName>,
    /// Business key of the saga
    #[arg(long, value_name = "KEY", requires = "saga")]
    pub key: Option<String>,
    /// What the step returns: JSON, @FILE, or - for stdin [default: null]
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub payload: Option<JsonInput>,
    /// What makes it the same signal when it is sent again [default: drawn for this run]
    #[arg(long, value_name = "ID")]
    pub signal_id: Option<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who sends it, for the history [default: the user of this machine]
    #[arg(long, value_name = "NAME", default_value_t = actor(), hide_default_value = true)]
    pub actor: String,
}

/// `sagamq saga activate`.
#[derive(Args, Clone, Debug)]
pub struct ActivateArgs {
    /// Name of the definition
    pub name: SagaName,
    /// The version that new sagas take
    // Not the program's own version, hence an id of its own.
    #[arg(id = "definition_version", value_name = "VERSION")]
    pub definition_version: u32,
    /// A second version that a share of them takes
    #[arg(long, value_name = "VERSION", requires = "percent")]
    pub canary: Option<u32>,
    /// The share, of a hundred
    #[arg(long, value_name = "N", requires = "canary", value_parser = clap::value_parser!(u8).range(1..=99))]
    pub percent: Option<u8>,
    /// Why, for whoever looks later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who wants it [default: the user of this machine]
    #[arg(long, value_name = "NAME", default_value_t = actor(), hide_default_value = true)]
    pub actor: String,
}

/// `sagamq saga start`.
#[derive(Args, Clone, Debug)]
#[command(after_help = START)]
pub struct StartArgs {
    /// Name of the definition
    pub name: SagaName,
    /// What the saga works on: a JSON object, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub input: JsonInput,
    /// Version of the definition [default: the active one, or by its share the one that is tried]
    #[arg(id = "definition_version", long = "version", value_name = "N")]
    pub definition_version: Option<u32>,
    /// How it is run: `saga`, or `2pc` for two-phase commit [default: as the definition says]
    #[arg(long, value_name = "MODE", value_parser = mode_parser())]
    pub mode: Option<Mode>,
    /// Wait until the saga is at its end, and show it
    #[arg(long)]
    pub wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "60s", requires = "wait")]
    pub timeout: Duration,
}

/// `sagamq saga list`.
#[derive(Args, Clone, Debug)]
#[command(after_help = LIST)]
pub struct ListArgs {
    /// Only sagas in this state
    #[arg(long, value_name = "STATE", ignore_case = true, value_parser = state_parser())]
    pub state: Option<SagaState>,
    /// Only sagas of this definition
    #[arg(long, value_name = "NAME")]
    pub saga: Option<SagaName>,
    /// Only sagas of this version of the definition
    // Not the program's own version, hence an id of its own.
    #[arg(id = "definition_version", long = "version", value_name = "N", requires = "saga")]
    pub version: Option<u32>,
    /// Only sagas with this business key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only sagas whose failure has this code
    #[arg(long, value_name = "CODE")]
    pub failure: Option<String>,
    /// Only sagas that started then or later: a time, or a duration before now such as 15m
    #[arg(long, value_name = "TIME", value_parser = values::when)]
    pub since: Option<When>,
    /// Only sagas that started before: a time, or a duration before now such as 15m
    #[arg(long, value_name = "TIME", value_parser = values::when)]
    pub until: Option<When>,
    /// Most sagas
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "all")]
    pub limit: u64,
    /// Every saga, however many
    #[arg(long)]
    pub all: bool,
}

/// `sagamq saga retention`.
#[derive(Args, Clone, Debug)]
#[command(after_help = RETENTION)]
pub struct RetentionArgs {
    /// Name of a definition [default: all that have no rule of their own]
    pub name: Option<SagaName>,
    /// How long to keep a saga after its end
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub keep: Option<Duration>,
    /// How many sagas of a definition to keep, those that ended last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,
    /// Keep all of them for ever
    #[arg(long, conflicts_with_all = ["keep", "count"])]
    pub forever: bool,
    /// Take away the definition's own rule
    #[arg(long, conflicts_with_all = ["keep", "count", "forever"], requires = "name")]
    pub reset: bool,
}

fn mode_parser() -> impl clap::builder::TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(Mode::ALL.map(Mode::as_str))
        .map(|name| name.parse().expect("the parser lets through the names of modes only"))
}

/// Who acts if nobody says otherwise: the user of this machine, as far as the environment knows.
pub(super) fn actor() -> String {
    ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_default()
}

/// The names of [`SagaState::ALL`], in its order, as they are typed. The parser wants names that live for ever.
const STATES: [&str; SagaState::ALL.len()] = [
    "pending",
    "running",
    "waiting",
    "paused",
    "compensating",
    "completed",
    "compensated",
    "failed",
    "blocked",
    "terminated",
    "quarantined",
];

pub(super) fn state_parser() -> impl clap::builder::TypedValueParser<Value = SagaState> {
    PossibleValuesParser::new(STATES).map(|name| {
        let found = STATES.iter().zip(SagaState::ALL).find(|(known, _)| known.eq_ignore_ascii_case(&name));
        found.expect("the parser lets through the names of states only").1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_typed_as_they_are_shown() {
        for (name, state) in STATES.iter().zip(SagaState::ALL) {
            assert!(state.to_string().eq_ignore_ascii_case(name), "{name} is not {state}");
        }
    }
}
