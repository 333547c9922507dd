//! `sagamq tx`: transactions, for operators.

use super::{Context, saga};
use crate::args::tx::{ListArgs, TxCommand};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, fields, human};
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::saga::Failure;
use sagamq_api::transaction::{
    BranchDescription, ResolveBranch, TransactionDescription, TransactionList, TransactionQuery, TransactionSummary,
};
use uuid::Uuid;

pub(super) async fn run(context: Context, command: TxCommand) -> Result<Exit, CliError> {
    match command {
        TxCommand::List(args) => list(&context, args).await,
        TxCommand::Get { id } => get(&context, id).await,
        TxCommand::History { id } => history(&context, id).await,
        TxCommand::Resolve { id, branch, outcome, reason, actor } => {
            resolve(&context, id, &ResolveBranch { branch, outcome, actor, reason }).await
        }
    }
}

/// One page after the other, until there are enough.
async fn list(context: &Context, args: ListArgs) -> Result<Exit, CliError> {
    let transactions = context.client.transactions();
    let most = if args.all { usize::MAX } else { usize::try_from(args.limit).unwrap_or(usize::MAX) };
    let mut list = TransactionList { transactions: Vec::new(), next: None };
    let mut query =
        TransactionQuery { state: args.state, in_doubt: args.in_doubt.then_some(true), saga: args.saga, ..TransactionQuery::default() };
    loop {
        let left = most - list.transactions.len();
        query.limit = Some(u32::try_from(left).map_or(PAGE_ROWS_MAX, |left| left.min(PAGE_ROWS_MAX)));
        let page = transactions.list(&query).await?;
        list.transactions.extend(page.transactions.into_iter().take(left));
        list.next.clone_from(&page.next);
        if page.next.is_none() || list.transactions.len() >= most {
            break;
        }
        query.after = page.next;
    }
    context.output.answer(&list, |list| table(context.output, list))?;
    if list.next.is_some() {
        context.output.note("there are more: see --limit and --all");
    }
    Ok(Exit::Ok)
}

async fn get(context: &Context, id: Uuid) -> Result<Exit, CliError> {
    let transaction = context.client.transactions().get(id).await?;
    context.output.answer(&transaction, |transaction| description(context.output, transaction))?;
    Ok(Exit::Ok)
}

async fn history(context: &Context, id: Uuid) -> Result<Exit, CliError> {
    let history = context.client.transactions().history(id).await?;
    context.output.answer(&history, |history| saga::history_table(context.output, history))?;
    Ok(Exit::Ok)
}

async fn resolve(context: &Context, id: Uuid, resolution: &ResolveBranch) -> Result<Exit, CliError> {
    let transaction = context.client.transactions().resolve(id, resolution).await?;
    context.output.answer(&transaction, |transaction| description(context.output, transaction))?;
    Ok(Exit::Ok)
}

fn table(output: Output, list: &TransactionList) -> String {
    let rows = list.transactions.iter().map(|transaction| {
        [
            transaction.id.to_string(),
            format!("{} v{}", transaction.saga, transaction.version),
            transaction.key.clone(),
            transaction.status.state.to_string(),
            transaction.saga_state.to_string(),
            doubt(transaction),
            human::timestamp(transaction.updated_at_ms),
            reason(transaction.failure.as_ref()),
        ]
    });
    output.table(["ID", "SAGA", "KEY", "STATE", "AS SAGA", "IN DOUBT", "UPDATED", "REASON"], rows)
}

/// How many branches are in doubt, and for how long, and how many disagree.
fn doubt(transaction: &TransactionSummary) -> String {
    let in_doubt = match (transaction.status.branches_in_doubt, transaction.in_doubt_ms) {
        (0, _) => None,
        (branches, None) => Some(branches.to_string()),
        (branches, Some(age_ms)) => Some(format!("{branches} for {}", human::duration_ms(age_ms))),
    };
    let disagreeing = match transaction.status.branches_disagreeing {
        0 => None,
        1 => Some("1 disagrees".to_owned()),
        branches => Some(format!("{branches} disagree")),
    };
    let all: Vec<String> = in_doubt.into_iter().chain(disagreeing).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(", ") }
}

fn reason(failure: Option<&Failure>) -> String {
    failure.map_or_else(|| NONE.to_owned(), |failure| failure.code.clone())
}

fn description(output: Output, transaction: &TransactionDescription) -> String {
    let summary = &transaction.summary;
    let text = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let mut shown = fields(&[
        ("Transaction", summary.id.to_string()),
        ("Definition", format!("{} version {}", summary.saga, summary.version)),
        ("Key", summary.key.clone()),
        ("State", summary.status.state.to_string()),
        ("Outcome", summary.status.outcome.to_string()),
        ("As a saga", summary.saga_state.to_string()),
        ("Resolved", text(summary.status.heuristic.map(|heuristic| heuristic.to_string()))),
        ("In doubt", doubt(summary)),
        ("Reason", text(summary.failure.as_ref().map(saga::failure_text))),
        ("Started", human::timestamp(summary.started_at_ms)),
        ("Updated", human::timestamp(summary.updated_at_ms)),
        ("Events", summary.events.to_string()),
        ("Cluster", transaction.cluster.to_string()),
        ("Input", transaction.input.to_string()),
        ("Output", text(transaction.output.as_ref().map(ToString::to_string))),
    ]);
    let branches = transaction.branches.iter().map(|branch| {
        let steps: Vec<String> = branch.steps.iter().map(ToString::to_string).collect();
        [
            branch.branch.clone(),
            state(branch),
            branch.address.clone(),
            steps.join(", "),
            text(branch.in_doubt_ms.map(human::duration_ms)),
            reason(branch.failure.as_ref()),
        ]
    });
    shown.push_str("\n\n");
    shown.push_str(&output.table(["BRANCH", "STATE", "ADDRESS", "STEPS", "IN DOUBT", "REASON"], branches));
    if !transaction.failures.is_empty() {
        shown.push_str("\n\n");
        shown.push_str(&saga::failures_table(output, &transaction.failures));
    }
    shown
}

fn state(branch: &BranchDescription) -> String {
    let resolution = branch.resolution.map(|outcome| format!(": {outcome}")).unwrap_or_default();
    let contradictions: String = branch.contradictions.iter().map(|contradiction| format!(" ({contradiction})")).collect();
    format!("{}{resolution}{contradictions}", branch.state)
}
