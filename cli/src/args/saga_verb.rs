//! The verbs of `sagamq saga`: what an operator does to an instance.

use super::saga::actor;
use super::values::{self, JsonInput};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use sagamq_api::StepId;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::StepOutcomeName;
use uuid::Uuid;

const CANCEL: &str = "\
EXAMPLES:
  sagamq saga cancel 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --reason 'customer called'";
const PAUSE: &str = "\
EXAMPLES:
  sagamq saga pause 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --reason 'payments are being moved'

What is called already runs on, and what is said of it counts. Nothing new is called until `sagamq saga resume`.";
const RESUME: &str = "\
EXAMPLES:
  sagamq saga resume 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11";
const TERMINATE: &str = "\
EXAMPLES:
  sagamq saga terminate 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --reason 'settled by hand' --yes

Nothing more is called, and nothing is undone: `standing` says which effects are left. To undo them, cancel.";
const RETRY: &str = "\
EXAMPLES:
  sagamq saga retry 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --reason 'stock is back'
  sagamq saga retry 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --step refund --preview
  sagamq saga retry 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --step ship --item 3

The same call with the same key, and attempts are counted anew. A compensation that failed for good gets its arguments anew.";
const SKIP: &str = "\
EXAMPLES:
  sagamq saga skip 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --step notify --reason 'told by phone'

Of a step that waits or was not called: it is left out, with the output null. Of a saga that is being undone: the compensation of the step
is left out, its effect stands, and the saga ends TERMINATED.";
const RESOLVE: &str = "\
EXAMPLES:
  sagamq saga resolve 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --step pay --outcome succeeded --json 7
  sagamq saga resolve 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --step pay --outcome failed
  sagamq saga resolve 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --step pay --outcome compensated

It only writes down what you found out, and the saga goes on from there: nothing changes at the service.";
const EDIT_INPUT: &str = "\
EXAMPLES:
  sagamq saga edit-input 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --input @order.json

The whole new input, with the same business key. What was called keeps its arguments; what is called from now on sees the new input.";
const RERUN: &str = "\
EXAMPLES:
  sagamq saga rerun 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --from pay --preview
  sagamq saga rerun 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --from pay --input @order.json

The next generation of its key takes over what the steps before have done, and calls that step and what comes after it. If it is undone, it
undoes that too, under the first keys. What stands is not done again, and what is in doubt is not rerun.";

/// What an operator does to a saga.
#[derive(Clone, Debug, Subcommand)]
pub enum VerbCommand {
    /// Cancel a saga: what it did is undone; past its pivot, or its decision to commit, it cannot be cancelled
    #[command(after_help = CANCEL)]
    Cancel(VerbArgs),
    /// Pause a saga: nobody is called until it is resumed
    #[command(after_help = PAUSE)]
    Pause(VerbArgs),
    /// Let a paused saga go on
    #[command(after_help = RESUME)]
    Resume(VerbArgs),
    /// End a saga as it is: nothing more is called, and nothing is undone
    #[command(after_help = TERMINATE)]
    Terminate(VerbArgs),
    /// Try again what waits for its next attempt or failed for good
    #[command(after_help = RETRY)]
    Retry {
        /// Which saga, who and why
        #[command(flatten)]
        args: VerbArgs,
        /// This step only
        #[arg(long, value_name = "STEP")]
        step: Option<StepId>,
        /// Of a step with `for_each`, this item only, counted from 0
        #[arg(long, value_name = "INDEX", requires = "step", value_parser = values::item)]
        item: Option<ItemIndex>,
    },
    /// Leave out a step, or, of a saga that is being undone, the compensation of a step
    #[command(after_help = SKIP)]
    Skip {
        /// Which saga, who and why
        #[command(flatten)]
        args: VerbArgs,
        /// The step
        #[arg(long, value_name = "STEP")]
        step: StepId,
        /// Of a step with `for_each`, this item only, counted from 0
        #[arg(long, value_name = "INDEX", value_parser = values::item)]
        item: Option<ItemIndex>,
    },
    /// Say what is true of a step whose outcome is not known, or is known otherwise
    #[command(after_help = RESOLVE)]
    Resolve {
        /// Which saga, who and why
        #[command(flatten)]
        args: VerbArgs,
        /// The step
        #[arg(long, value_name = "STEP")]
        step: StepId,
        /// Of a step with `for_each`, this item only, counted from 0
        #[arg(long, value_name = "INDEX", value_parser = values::item)]
        item: Option<ItemIndex>,
        /// What is true: its action took effect, never did and never will, or its effect is undone
        #[arg(long, ignore_case = true, value_parser = outcome_parser())]
        outcome: StepOutcomeName,
        /// What the action would have returned, if it succeeded: JSON, @FILE, or - for stdin [default: null]
        // Not `--output`, which is how answers are shown.
        #[arg(long, value_name = "JSON", value_parser = values::json_input)]
        json: Option<JsonInput>,
    },
    /// Give a saga another input, which what is called from now on sees
    #[command(after_help = EDIT_INPUT)]
    EditInput {
        /// Which saga, who and why
        #[command(flatten)]
        args: VerbArgs,
        /// The new input: a JSON object, @FILE, or - for stdin
        #[arg(long, value_name = "JSON", value_parser = values::json_input)]
        input: JsonInput,
    },
    /// Run a saga at rest again from a step: what stands is taken over
    #[command(after_help = RERUN)]
    Rerun {
        /// Which saga, who and why
        #[command(flatten)]
        args: VerbArgs,
        /// The step that it goes on with
        #[arg(long, value_name = "STEP")]
        from: StepId,
        /// Another input with the same business key: a JSON object, @FILE, or - for stdin [default: the saga's]
        #[arg(long, value_name = "JSON", value_parser = values::json_input)]
        input: Option<JsonInput>,
    },
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub struct VerbArgs {
    /// Id of the saga
    pub id: Uuid,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who wants it, for the history [default: the user of this machine]
    #[arg(long, value_name = "NAME", default_value_t = actor(), hide_default_value = true)]
    pub actor: String,
    /// Only show what would follow if every service answered with success: nobody is called, and nothing is written
    #[arg(long, conflicts_with = "yes")]
    pub preview: bool,
    /// Do not ask before effects are left standing
    #[arg(long)]
    pub yes: bool,
}

pub(super) fn outcome_parser() -> impl clap::builder::TypedValueParser<Value = StepOutcomeName> {
    PossibleValuesParser::new(StepOutcomeName::ALL.map(StepOutcomeName::as_str)).map(|name| {
        let found = StepOutcomeName::ALL.into_iter().find(|outcome| outcome.as_str().eq_ignore_ascii_case(&name));
        found.expect("the parser lets through the names of outcomes only")
    })
}
