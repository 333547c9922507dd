//! `sagamq saga start`, `get`, `list` and `history`.

use super::show;
use crate::args::saga::{ListArgs, StartArgs};
use crate::args::values::When;
use crate::commands::{Context, json};
use crate::error::CliError;
use crate::exit::Exit;
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::saga::{SagaDescription, SagaList, SagaQuery, SagaState, StartSaga};
use sagamq_sdk::ClientError;
use uuid::Uuid;

pub(super) async fn start(context: &Context, args: StartArgs) -> Result<Exit, CliError> {
    let input = json::read(args.input)?;
    let sagas = context.client.sagas();
    let started = sagas.start(&StartSaga { saga: args.name, version: args.definition_version, mode: args.mode, input }).await?;
    if !args.wait {
        context.output.answer(&started, show::started)?;
        return Ok(Exit::Ok);
    }
    match sagas.wait(started.id, args.timeout).await {
        Ok(description) => {
            context.output.answer(&description, |description| show::description(context.output, description))?;
            Ok(ended(&description))
        }
        // The caller needs the id all the same.
        Err(error @ ClientError::WaitElapsed { .. }) => {
            context.output.answer(&started, show::started)?;
            Err(error.into())
        }
        Err(error) => Err(CliError::Partly { context: format!("saga {} was started", started.id), error: Box::new(error.into()) }),
    }
}

fn ended(description: &SagaDescription) -> Exit {
    if description.summary.state == SagaState::Completed { Exit::Ok } else { Exit::Failed }
}

pub(super) async fn get(context: &Context, id: Uuid) -> Result<Exit, CliError> {
    let description = context.client.sagas().get(id).await?;
    context.output.answer(&description, |description| show::description(context.output, description))?;
    Ok(Exit::Ok)
}

/// One page after the other, until there are enough.
pub(super) async fn list(context: &Context, args: ListArgs) -> Result<Exit, CliError> {
    let sagas = context.client.sagas();
    let most = if args.all { usize::MAX } else { usize::try_from(args.limit).unwrap_or(usize::MAX) };
    let mut list = SagaList { sagas: Vec::new(), next: None };
    // The server's clock begins in 1970.
    let at_ms = |when: Option<When>| when.map(|when| u64::try_from(when.to_millis()).unwrap_or(0));
    let mut query = SagaQuery {
        state: args.state,
        saga: args.saga,
        version: args.version,
        key: args.key,
        failure: args.failure,
        started_from_ms: at_ms(args.since),
        started_before_ms: at_ms(args.until),
        limit: None,
        after: None,
    };
    loop {
        let left = most - list.sagas.len();
        query.limit = Some(u32::try_from(left).map_or(PAGE_ROWS_MAX, |left| left.min(PAGE_ROWS_MAX)));
        let page = sagas.list(&query).await?;
        list.sagas.extend(page.sagas.into_iter().take(left));
        list.next.clone_from(&page.next);
        if page.next.is_none() || list.sagas.len() >= most {
            break;
        }
        query.after = page.next;
    }
    context.output.answer(&list, |list| show::list(context.output, list))?;
    if list.next.is_some() {
        context.output.note("there are more: see --limit and --all");
    }
    Ok(Exit::Ok)
}

pub(super) async fn history(context: &Context, id: Uuid) -> Result<Exit, CliError> {
    let history = context.client.sagas().history(id).await?;
    context.output.answer(&history, |history| show::history(context.output, history))?;
    Ok(Exit::Ok)
}
