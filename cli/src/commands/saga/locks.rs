//! `sagamq saga locks` and `sagamq saga lock`: semantic locks that sagas hold.

use crate::args::lock::{LockCommand, LocksArgs};
use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, human};
use sagamq_api::saga::{BreakLock, LockList, LockQuery};

pub(super) async fn list(context: &Context, args: LocksArgs) -> Result<Exit, CliError> {
    let LocksArgs { key, of, contended, limit, after } = args;
    let query = LockQuery { key, saga_id: of, contended: contended.then_some(true), after, limit: Some(limit) };
    let list = context.client.sagas().locks(&query).await?;
    context.output.answer(&list, |list| table(context.output, list))?;
    if let Some(next) = &list.next {
        context.output.note(&format!("more: see --after '{next}'"));
    }
    Ok(Exit::Ok)
}

fn table(output: Output, list: &LockList) -> String {
    let rows = list.locks.iter().map(|lock| {
        [
            lock.key.clone(),
            lock.held_by.to_string(),
            lock.token.to_string(),
            human::timestamp(lock.since_ms),
            lock.waiting.to_string(),
            lock.waiters.first().map_or_else(|| NONE.to_owned(), |first| first.saga_id.to_string()),
        ]
    });
    output.table(["KEY", "HELD BY", "TOKEN", "SINCE", "WAITING", "NEXT"], rows)
}

pub(super) async fn run(context: &Context, command: LockCommand) -> Result<Exit, CliError> {
    let LockCommand::Break { key, lock_token: token, reason, actor } = command;
    let actor = Some(actor).filter(|actor| !actor.is_empty());
    // It is taken from who holds it now, however often the request is sent, and from nobody who gets it then.
    let token = match token {
        Some(token) => Some(token),
        None => {
            let query = LockQuery { key: Some(key.clone()), ..LockQuery::default() };
            context.client.sagas().locks(&query).await?.locks.first().map(|lock| lock.token)
        }
    };
    let broken = context.client.sagas().break_lock(&BreakLock { key, token, actor, reason }).await?;
    context.output.answer(&broken, |broken| {
        let next = broken.held_by.map_or_else(|| "nobody waited for it".to_owned(), |next| format!("saga {next} has it now"));
        format!("saga {} does not hold `{}` any more; {next}", broken.taken_from, broken.key)
    })?;
    Ok(Exit::Ok)
}
