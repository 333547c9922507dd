//! `sagamq tx`.

use super::saga::actor;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use sagamq_api::SagaName;
use sagamq_api::transaction::{BranchOutcome, TransactionState};
use uuid::Uuid;

const LIST: &str = "\
EXAMPLES:
  sagamq tx list
  sagamq tx list --in-doubt
  sagamq tx list --state committing --saga checkout
  sagamq tx list --all --output json

A transaction is in doubt while a service keeps locks for it until it hears the decision. For a moment each is.";
const GET: &str = "\
EXAMPLES:
  sagamq tx get 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11
  sagamq tx get 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 --output json";
const HISTORY: &str = "\
EXAMPLES:
  sagamq tx history 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11";
const RESOLVE: &str = "\
EXAMPLES:
  sagamq tx resolve 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 payments committed --reason 'it is there'
  sagamq tx resolve 0197f0d2-8c3e-7d3a-9f6e-2f1f5a7f0b11 stock unknown --reason 'disk is gone'

It only writes down what you found out: nothing changes at the service. If that is not what was decided, the transaction ends TERMINATED,
reported as MIXED or HAZARD.";

/// What can be done with transactions.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq tx list --in-doubt\n\nTransactions are started and cancelled with `sagamq saga`.")]
pub enum TxCommand {
    /// List transactions: sagas that run in two phases
    List(ListArgs),
    /// Show a transaction: what was decided, and its branches with what they hold
    #[command(after_help = GET)]
    Get {
        /// Id of the transaction
        id: Uuid,
    },
    /// Show every event of a transaction, oldest first
    #[command(after_help = HISTORY)]
    History {
        /// Id of the transaction
        id: Uuid,
    },
    /// Write down what became of a branch that does not say so itself, or says something else
    #[command(after_help = RESOLVE)]
    Resolve {
        /// Id of the transaction
        id: Uuid,
        /// Name of the branch: that of its service
        branch: String,
        /// What became of it
        #[arg(ignore_case = true, value_parser = outcome_parser())]
        outcome: BranchOutcome,
        /// How that is known, for the history
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who says so, for the history [default: the user of this machine]
        #[arg(long, value_name = "NAME", default_value_t = actor(), hide_default_value = true)]
        actor: String,
    },
}

/// `sagamq tx list`.
#[derive(Args, Clone, Debug)]
#[command(after_help = LIST)]
pub struct ListArgs {
    /// Only transactions in this state
    #[arg(long, value_name = "STATE", ignore_case = true, value_parser = state_parser())]
    pub state: Option<TransactionState>,
    /// Only transactions for which a service keeps locks until it hears the decision, or disagrees with it
    #[arg(long)]
    pub in_doubt: bool,
    /// Only transactions of this definition
    #[arg(long, value_name = "NAME")]
    pub saga: Option<SagaName>,
    /// Most transactions
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "all")]
    pub limit: u64,
    /// Every transaction, however many
    #[arg(long)]
    pub all: bool,
}

/// The names of [`TransactionState::ALL`], in its order, as they are typed. The parser wants names that live for ever.
const STATES: [&str; TransactionState::ALL.len()] =
    ["active", "preparing", "one_phase", "committing", "committed", "aborting", "aborted", "unknown"];

fn state_parser() -> impl clap::builder::TypedValueParser<Value = TransactionState> {
    PossibleValuesParser::new(STATES).map(|name| {
        let found = STATES.iter().zip(TransactionState::ALL).find(|(known, _)| known.eq_ignore_ascii_case(&name));
        found.expect("the parser lets through the names of states only").1
    })
}

fn outcome_parser() -> impl clap::builder::TypedValueParser<Value = BranchOutcome> {
    PossibleValuesParser::new(BranchOutcome::ALL.map(BranchOutcome::as_str)).map(|name| {
        let found = BranchOutcome::ALL.into_iter().find(|outcome| outcome.as_str().eq_ignore_ascii_case(&name));
        found.expect("the parser lets through the names of outcomes only")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_typed_as_they_are_shown() {
        for (name, state) in STATES.iter().zip(TransactionState::ALL) {
            assert!(state.to_string().eq_ignore_ascii_case(name), "{name} is not {state}");
        }
    }
}
