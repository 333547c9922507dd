//! `sagamq saga repair`.

use super::saga::{actor, state_parser};
use super::values::{self, JsonInput};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use sagamq_api::ids::ItemIndex;
use sagamq_api::limits::{REPAIR_PREVIEW_DEFAULT, REPAIR_PREVIEW_MAX};
use sagamq_api::repair::{RepairOutcome, RepairState};
use sagamq_api::saga::{SagaState, StepOutcomeName, VerbName};
use sagamq_api::{SagaName, StepId};
use std::time::Duration;
use uuid::Uuid;

const START: &str = "\
EXAMPLES:
  sagamq saga repair start retry --saga checkout --state blocked --reason 'the bank is back'
  sagamq saga repair start retry --saga checkout --at charge --failure TIMEOUT --rate 20 --wait
  sagamq saga repair start skip --step notify --saga checkout --state waiting --at notify --yes
  sagamq saga repair start terminate --id 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --yes

The server does it, one saga after the other: look with `sagamq saga repair get` and `results`. See first what it would begin with:
`sagamq saga repair preview`.";
const PREVIEW: &str = "\
EXAMPLES:
  sagamq saga repair preview retry --saga checkout --state blocked

Nothing is called and nothing is changed.";
const LIST: &str = "\
EXAMPLES:
  sagamq saga repair list
  sagamq saga repair list --state running";
const GET: &str = "\
EXAMPLES:
  sagamq saga repair get 0007f0d2-8c3e-8d3a-9f6e-2f1f5a7f0b11";
const RESULTS: &str = "\
EXAMPLES:
  sagamq saga repair results 0007f0d2-8c3e-8d3a-9f6e-2f1f5a7f0b11 --outcome blocked
  sagamq saga repair results 0007f0d2-8c3e-8d3a-9f6e-2f1f5a7f0b11 --all --output json";
const PAUSE: &str = "\
EXAMPLES:
  sagamq saga repair pause 0007f0d2-8c3e-8d3a-9f6e-2f1f5a7f0b11 --reason 'the bank is slow'

No other saga is begun until `sagamq saga repair resume`. Sagas in progress go on.";
const RESUME: &str = "\
EXAMPLES:
  sagamq saga repair resume 0007f0d2-8c3e-8d3a-9f6e-2f1f5a7f0b11";
const CANCEL: &str = "\
EXAMPLES:
  sagamq saga repair cancel 0007f0d2-8c3e-8d3a-9f6e-2f1f5a7f0b11 --reason 'wrong filter'

No other saga is begun. What was repaired stays so.";

/// What can be done with repairs.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq saga repair start retry --saga checkout --state blocked")]
pub enum RepairCommand {
    /// Do something to many sagas, as a job of the server
    #[command(after_help = START)]
    Start {
        /// What, and to which
        #[command(flatten)]
        args: Box<RepairArgs>,
        /// Most sagas that are begun in a second
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
        /// Most sagas altogether
        #[arg(long, value_name = "N")]
        max: Option<u64>,
        /// How long a saga has to move on before it is reported that it did not
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        patience: Option<Duration>,
        /// A name for the repair: the same command again starts no second one
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// Wait until every saga has its result, and fail unless all are done
        #[arg(long)]
        wait: bool,
        /// Do it although it may leave effects that nobody undoes, as terminate and skip do
        #[arg(long)]
        yes: bool,
    },
    /// Show the sagas that a repair would begin with
    #[command(after_help = PREVIEW)]
    Preview {
        /// What, and to which
        #[command(flatten)]
        args: Box<RepairArgs>,
        /// Most sagas that are shown
        #[arg(long, value_name = "N", default_value_t = REPAIR_PREVIEW_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(REPAIR_PREVIEW_MAX)))]
        limit: u32,
    },
    /// List repairs
    #[command(after_help = LIST)]
    List {
        /// Only repairs in this state
        #[arg(long, value_name = "STATE", ignore_case = true, value_parser = repair_state_parser())]
        state: Option<RepairState>,
    },
    /// Show how far a repair is
    #[command(after_help = GET)]
    Get {
        /// Id of the repair
        id: Uuid,
    },
    /// Show what became of each saga of a repair
    #[command(after_help = RESULTS)]
    Results {
        /// Id of the repair
        id: Uuid,
        /// Only sagas that came out so
        #[arg(long, value_name = "OUTCOME", ignore_case = true, value_parser = repair_outcome_parser())]
        outcome: Option<RepairOutcome>,
        /// Most sagas
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "all")]
        limit: u64,
        /// Every saga, however many
        #[arg(long)]
        all: bool,
    },
    /// Begin no other saga for now
    #[command(after_help = PAUSE)]
    Pause(RepairByArgs),
    /// Go on with a paused repair
    #[command(after_help = RESUME)]
    Resume(RepairByArgs),
    /// Begin no other saga for good
    #[command(after_help = CANCEL)]
    Cancel(RepairByArgs),
}

/// What is done, and to which sagas.
#[derive(Args, Clone, Debug)]
pub struct RepairArgs {
    /// What is done to each saga
    #[arg(value_parser = verb_parser())]
    pub verb: VerbName,
    /// The step, of skip and resolve; of retry, this step only
    #[arg(long, value_name = "STEP")]
    pub step: Option<StepId>,
    /// Of a step with `for_each`, this item only, counted from 0
    #[arg(long, value_name = "INDEX", value_parser = values::item)]
    pub item: Option<ItemIndex>,
    /// Of rerun: the step that each goes on with
    #[arg(long, value_name = "STEP")]
    pub from: Option<StepId>,
    /// Of resolve: what is true of the step
    #[arg(long, ignore_case = true, value_parser = super::saga_verb::outcome_parser())]
    pub outcome: Option<StepOutcomeName>,
    /// Of resolve with the outcome succeeded: what the action would have returned: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub json: Option<JsonInput>,
    /// Of edit-input: the new input; of rerun: another one: a JSON object, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", value_parser = values::json_input)]
    pub input: Option<JsonInput>,
    /// Only this saga; may be given more than once
    #[arg(long = "id", value_name = "ID", conflicts_with_all = ["saga", "definition_version", "state", "at", "failure", "unchanged_for"])]
    pub ids: Vec<Uuid>,
    /// Only sagas of this definition
    #[arg(long, value_name = "NAME")]
    pub saga: Option<SagaName>,
    /// Only sagas of this version of the definition
    #[arg(id = "definition_version", long = "version", value_name = "N", requires = "saga")]
    pub definition_version: Option<u32>,
    /// Only sagas in this state [default: any but those at their end]
    #[arg(long, value_name = "STATE", ignore_case = true, value_parser = state_parser())]
    pub state: Option<SagaState>,
    /// Only sagas that stand at this step: it is called or waits to be, or has failed for good
    #[arg(long, value_name = "STEP")]
    pub at: Option<StepId>,
    /// Only sagas whose failure, or the last failure of a step that they stand at, has this code
    #[arg(long, value_name = "CODE")]
    pub failure: Option<String>,
    /// Only sagas to which nothing has happened for so long
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub unchanged_for: Option<Duration>,
    /// Why, for the history of each saga
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who wants it, for the history [default: the user of this machine]
    #[arg(long, value_name = "NAME", default_value_t = actor(), hide_default_value = true)]
    pub actor: String,
}

/// Which repair, who and why.
#[derive(Args, Clone, Debug)]
pub struct RepairByArgs {
    /// Id of the repair
    pub id: Uuid,
    /// Why, for its history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who wants it, for its history [default: the user of this machine]
    #[arg(long, value_name = "NAME", default_value_t = actor(), hide_default_value = true)]
    pub actor: String,
}

fn verb_parser() -> impl clap::builder::TypedValueParser<Value = VerbName> {
    PossibleValuesParser::new(VerbName::ALL.map(VerbName::as_str))
        .map(|name| name.parse().expect("the parser lets through the names of verbs only"))
}

fn repair_outcome_parser() -> impl clap::builder::TypedValueParser<Value = RepairOutcome> {
    PossibleValuesParser::new(RepairOutcome::ALL.map(RepairOutcome::as_str)).map(|name| {
        let found = RepairOutcome::ALL.into_iter().find(|outcome| outcome.as_str().eq_ignore_ascii_case(&name));
        found.expect("the parser lets through the names of outcomes only")
    })
}

/// The names of [`RepairState::ALL`], in its order, as they are typed. The parser wants names that live for ever.
const STATES: [&str; RepairState::ALL.len()] = ["running", "paused", "cancelling", "cancelled", "done"];

fn repair_state_parser() -> impl clap::builder::TypedValueParser<Value = RepairState> {
    PossibleValuesParser::new(STATES).map(|name| {
        let found = STATES.iter().zip(RepairState::ALL).find(|(known, _)| known.eq_ignore_ascii_case(&name));
        found.expect("the parser lets through the names of states only").1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_typed_as_they_are_shown() {
        for (name, state) in STATES.iter().zip(RepairState::ALL) {
            assert!(state.to_string().eq_ignore_ascii_case(name), "{name} is not {state}");
        }
    }
}
