//! `sagamq saga repair`: an operator's verb for many sagas.

use super::verbs::leaves_effects;
use crate::args::repair::{RepairArgs, RepairByArgs, RepairCommand};
use crate::commands::{Context, json};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, fields, human};
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::repair::{
    OperateRepair, PreviewQuery, RepairDescription, RepairFilter, RepairList, RepairPreview, RepairQuery, RepairResults,
    RepairResultsQuery, Repaired, StartRepair,
};
use sagamq_api::saga::{OperateSaga, VerbFields};
use std::time::Duration;
use uuid::Uuid;

/// How often a repair is looked at while somebody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(context: &Context, command: RepairCommand) -> Result<Exit, CliError> {
    let repairs = context.client.repairs();
    match command {
        RepairCommand::Start { args, rate, max, patience, key, wait, yes } => {
            let request = StartRepair { key, rate, max_sagas: max, patience_ms: patience.map(millis), ..request(*args)? };
            if !yes && leaves_effects(&request.operate.verb) {
                let verb = request.operate.verb.name();
                let look = "look with `sagamq saga repair preview`, and say --yes";
                return Err(CliError::Usage(format!("`{verb}` may leave effects that nobody undoes: {look}")));
            }
            let started = repairs.start(&request).await?;
            if started.duplicate {
                context.output.note("the key started this repair before");
            }
            if wait { until_ended(context, started.repair.id).await } else { shown(context, &started.repair) }
        }
        RepairCommand::Preview { args, limit } => preview(context, &request(*args)?, limit).await,
        RepairCommand::List { state } => list(context, RepairQuery { state, ..RepairQuery::default() }).await,
        RepairCommand::Get { id } => shown(context, &repairs.get(id).await?),
        RepairCommand::Results { id, outcome, limit, all } => {
            let most = if all { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
            results(context, id, RepairResultsQuery { outcome, ..RepairResultsQuery::default() }, most).await
        }
        RepairCommand::Pause(args) => shown(context, &repairs.pause(args.id, &by(args)).await?),
        RepairCommand::Resume(args) => shown(context, &repairs.resume(args.id, &by(args)).await?),
        RepairCommand::Cancel(args) => shown(context, &repairs.cancel(args.id, &by(args)).await?),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn by(args: RepairByArgs) -> OperateRepair {
    OperateRepair { reason: args.reason, actor: Some(args.actor).filter(|actor| !actor.is_empty()) }
}

fn request(args: RepairArgs) -> Result<StartRepair, CliError> {
    let fields = VerbFields {
        verb: Some(args.verb),
        step: args.step,
        item: args.item,
        from: args.from,
        outcome: args.outcome,
        output: args.json.map(json::read).transpose()?,
        input: args.input.map(json::read).transpose()?,
        reason: args.reason,
        actor: Some(args.actor).filter(|actor| !actor.is_empty()),
    };
    let operate = OperateSaga::try_from(fields).map_err(|error| CliError::Usage(error.to_string()))?;
    let filter = RepairFilter {
        saga: args.saga,
        version: args.definition_version,
        state: args.state,
        step: args.at,
        failure: args.failure,
        unchanged_for_ms: args.unchanged_for.map(millis),
    };
    let (filter, ids) = if args.ids.is_empty() { (Some(filter), None) } else { (None, Some(args.ids)) };
    if filter.as_ref().is_some_and(|filter| *filter == RepairFilter::default()) {
        return Err(CliError::Usage(
            "which sagas? Give --id, or at least one of --saga, --state, --at, --failure, --unchanged-for".to_owned(),
        ));
    }
    Ok(StartRepair { key: None, filter, ids, operate, rate: None, max_sagas: None, patience_ms: None })
}

fn shown(context: &Context, repair: &RepairDescription) -> Result<Exit, CliError> {
    context.output.answer(repair, description)?;
    Ok(Exit::Ok)
}

/// Until it is at its end. It fails unless every saga is done.
async fn until_ended(context: &Context, id: Uuid) -> Result<Exit, CliError> {
    loop {
        let repair = context.client.repairs().get(id).await?;
        if repair.state.is_final() {
            context.output.answer(&repair, description)?;
            return Ok(if repair.results.done == repair.found { Exit::Ok } else { Exit::Failed });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn preview(context: &Context, request: &StartRepair, limit: u32) -> Result<Exit, CliError> {
    let preview = context.client.repairs().preview(request, &PreviewQuery { limit: Some(limit) }).await?;
    context.output.answer(&preview, |preview| previewed(context.output, preview))?;
    if preview.has_more {
        context.output.note("there may be more: see --limit");
    }
    Ok(Exit::Ok)
}

/// One page after the other.
async fn list(context: &Context, mut query: RepairQuery) -> Result<Exit, CliError> {
    let mut list = RepairList { repairs: Vec::new(), next: None };
    loop {
        let page = context.client.repairs().list(&query).await?;
        list.repairs.extend(page.repairs);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    context.output.answer(&list, |list| table(context.output, list))?;
    Ok(Exit::Ok)
}

/// One page after the other, until there are enough or no more for now.
async fn results(context: &Context, id: Uuid, mut query: RepairResultsQuery, most: usize) -> Result<Exit, CliError> {
    let mut all = RepairResults { results: Vec::new(), next: None };
    loop {
        let left = most - all.results.len();
        query.limit = Some(u32::try_from(left).map_or(PAGE_ROWS_MAX, |left| left.min(PAGE_ROWS_MAX)));
        let page = context.client.repairs().results(id, &query).await?;
        let is_full = page.results.len() == query.limit.map_or(0, |limit| limit as usize);
        all.results.extend(page.results);
        all.next = page.next;
        // Of a repair in progress there is a next page always, and nothing in it yet.
        if !is_full || page.next.is_none() || all.results.len() >= most {
            break;
        }
        query.after = page.next;
    }
    context.output.answer(&all, |all| results_table(context.output, all))?;
    if all.next.is_some() {
        context.output.note("there may be more: see --limit and --all, and whether the repair is at its end");
    }
    Ok(Exit::Ok)
}

fn description(repair: &RepairDescription) -> String {
    let results = &repair.results;
    let text = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    fields(&[
        ("Repair", repair.id.to_string()),
        ("Key", text(repair.key.clone())),
        ("State", repair.state.to_string()),
        ("Verb", repair.operate.verb.name().to_string()),
        ("Sagas", text(repair.filter.as_ref().map(filter))),
        ("Reason", text(repair.operate.reason.clone())),
        ("Actor", text(repair.operate.actor.clone())),
        ("Found", format!("{}{}", repair.found, if repair.is_all_found { "" } else { ", looking for more" })),
        ("Waiting", repair.waiting.to_string()),
        ("In progress", repair.in_progress.to_string()),
        ("Done", results.done.to_string()),
        ("Refused", results.refused.to_string()),
        ("Blocked", results.blocked.to_string()),
        ("Not moved", results.not_moved.to_string()),
        ("Gone", results.gone.to_string()),
        ("No match", results.no_match.to_string()),
        ("Rate", format!("{} a second", repair.rate)),
        ("Patience", human::duration_ms(repair.patience_ms)),
        ("Created", human::timestamp(repair.created_at_ms)),
        ("Updated", human::timestamp(repair.updated_at_ms)),
    ])
}

fn filter(filter: &RepairFilter) -> String {
    let RepairFilter { saga, version, state, step, failure, unchanged_for_ms } = filter;
    let parts = [
        saga.as_ref().map(|saga| format!("of {saga}")),
        version.map(|version| format!("version {version}")),
        state.map(|state| format!("that are {state}")),
        step.as_ref().map(|step| format!("at {step}")),
        failure.as_ref().map(|code| format!("with {code}")),
        unchanged_for_ms.map(|for_ms| format!("unchanged for {}", human::duration_ms(for_ms))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn table(output: Output, list: &RepairList) -> String {
    let rows = list.repairs.iter().map(|repair| {
        [
            repair.id.to_string(),
            repair.state.to_string(),
            repair.operate.verb.name().to_string(),
            repair.found.to_string(),
            repair.results.done.to_string(),
            (repair.results.sum() - repair.results.done).to_string(),
            human::timestamp(repair.created_at_ms),
        ]
    });
    output.table(["ID", "STATE", "VERB", "FOUND", "DONE", "NOT DONE", "CREATED"], rows)
}

fn results_table(output: Output, results: &RepairResults) -> String {
    let text = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let rows = results.results.iter().map(|result| {
        [
            result.saga.to_string(),
            result.repaired.outcome.to_string(),
            text(result.repaired.state.map(|state| state.to_string())),
            text(result.repaired.code.clone()),
            why(&result.repaired),
            human::timestamp(result.at_ms),
        ]
    });
    output.table(["SAGA", "OUTCOME", "STATE", "CODE", "WHY", "AT"], rows)
}

fn why(repaired: &Repaired) -> String {
    let rerun = repaired.rerun_as.map(|id| format!("rerun as {id}"));
    let said: Vec<String> = rerun.into_iter().chain(repaired.message.clone()).collect();
    if said.is_empty() { NONE.to_owned() } else { said.join("; ") }
}

fn previewed(output: Output, preview: &RepairPreview) -> String {
    let rows = preview.sagas.iter().map(|previewed| {
        let (then, calls, end) = match &previewed.preview {
            Some(preview) => (preview.state.to_string(), preview.calls.len().to_string(), preview.end.to_string()),
            None => (format!("refused: {}", previewed.code.as_deref().unwrap_or(NONE)), NONE.to_owned(), NONE.to_owned()),
        };
        let saga = &previewed.saga;
        [saga.id.to_string(), saga.saga.to_string(), saga.key.clone(), saga.state.to_string(), then, calls, end]
    });
    output.table(["ID", "SAGA", "KEY", "NOW", "THEN", "CALLS", "IN THE END"], rows)
}
