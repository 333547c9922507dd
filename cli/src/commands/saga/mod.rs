//! `sagamq saga`.

mod compared;
mod data;
mod definitions;
mod drawn;
mod incidents;
mod instances;
mod junit;
mod locks;
mod repair;
mod retention;
mod show;
mod signal;
mod test;
mod timeline;
mod verbs;
mod verify;

use super::Context;
use crate::args::saga::SagaCommand;
use crate::args::values::DefinitionAt;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Output;
use sagamq_api::saga::PublishQuery;

pub(super) use show::{failure as failure_text, failures as failures_table, history as history_table};

/// What is left to do after the part that needs no server.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing.
    Done(Exit),
    /// A server must be asked.
    Ask(SagaCommand),
}

/// Does what needs no server.
pub(crate) fn offline(command: SagaCommand, output: Output) -> Result<Next, CliError> {
    match command {
        SagaCommand::Lint { files } => definitions::lint(&files, output).map(Next::Done),
        SagaCommand::Verify(args) => verify::run(*args, output).map(Next::Done),
        SagaCommand::Test(args) => test::run(args, output).map(Next::Done),
        SagaCommand::Graph { definition: DefinitionAt::File(path), format } => drawn::file(&path, format, output).map(Next::Done),
        SagaCommand::Diff { before: DefinitionAt::File(before), after: DefinitionAt::File(after) } => {
            compared::files(&before, &after, output).map(Next::Done)
        }
        other => Ok(Next::Ask(other)),
    }
}

pub(crate) async fn run(context: Context, command: SagaCommand) -> Result<Exit, CliError> {
    match command {
        SagaCommand::Lint { files } => definitions::lint(&files, context.output),
        SagaCommand::Verify(args) => verify::run(*args, context.output),
        SagaCommand::Test(args) => test::run(args, context.output),
        SagaCommand::Publish { files, activate, verify } => definitions::publish(&context, &files, PublishQuery { activate, verify }).await,
        SagaCommand::Graph { definition, format } => drawn::draw(&context, &definition, format).await,
        SagaCommand::Diff { before, after } => compared::compare(&context, &before, &after).await,
        SagaCommand::Activate(args) => definitions::activate(&context, args).await,
        SagaCommand::Definitions { name: None, .. } => definitions::list(&context).await,
        SagaCommand::Definitions { name: Some(name), definition_version } => definitions::show(&context, &name, definition_version).await,
        SagaCommand::Start(args) => instances::start(&context, args).await,
        SagaCommand::Get { id } => instances::get(&context, id).await,
        SagaCommand::List(args) => instances::list(&context, args).await,
        SagaCommand::History { id } => instances::history(&context, id).await,
        SagaCommand::Timeline { id } => timeline::timeline(&context, id).await,
        SagaCommand::Watch { id } => timeline::watch(&context, id).await,
        SagaCommand::Versions { name } => definitions::versions(&context, &name).await,
        SagaCommand::Retention(args) => retention::retention(&context, args).await,
        SagaCommand::Incidents { saga, limit } => incidents::list(&context, saga, limit).await,
        SagaCommand::Locks(args) => locks::list(&context, args).await,
        SagaCommand::Lock(command) => locks::run(&context, command).await,
        SagaCommand::Signal(args) => signal::send(&context, args).await,
        SagaCommand::Release => verbs::release(&context).await,
        SagaCommand::Verb(command) => verbs::run(&context, command).await,
        SagaCommand::Repair(command) => repair::run(&context, command).await,
    }
}
