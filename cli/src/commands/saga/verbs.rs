//! What an operator does to an instance.

use super::show;
use crate::args::saga_verb::{VerbArgs, VerbCommand};
use crate::commands::{Context, json};
use crate::error::CliError;
use crate::exit::Exit;
use sagamq_api::JsonText;
use sagamq_api::saga::{OperateSaga, SagaVerb, StepOutcome, StepOutcomeName};
use std::io::{self, IsTerminal as _};
use uuid::Uuid;

pub(super) async fn run(context: &Context, command: VerbCommand) -> Result<Exit, CliError> {
    let (args, verb) = verb(command)?;
    let VerbArgs { id, reason, actor, preview, yes } = args;
    let request = OperateSaga { verb, reason, actor: Some(actor).filter(|actor| !actor.is_empty()) };
    if preview {
        let foreseen = context.client.sagas().preview(id, &request).await?;
        context.output.answer(&foreseen, |foreseen| show::preview(context.output, foreseen))?;
        return Ok(Exit::Ok);
    }
    if !yes && leaves_effects(&request.verb) {
        agree(context, id, &request).await?;
    }
    let operated = context.client.sagas().operate(id, &request).await?;
    context.output.answer(&operated, |operated| show::description(context.output, &operated.saga))?;
    if operated.duplicate {
        context.output.note("nothing changed: it was so already");
    }
    Ok(Exit::Ok)
}

pub(super) async fn release(context: &Context) -> Result<Exit, CliError> {
    let released = context.client.sagas().release().await?;
    context.output.answer(&released, |released| if released.duplicate { "nothing was held" } else { "released" }.to_owned())?;
    Ok(Exit::Ok)
}

/// Whether it may leave effects that nobody undoes any more.
pub(super) const fn leaves_effects(verb: &SagaVerb) -> bool {
    matches!(verb, SagaVerb::Terminate | SagaVerb::Skip { .. })
}

/// Shows what would follow, and asks.
async fn agree(context: &Context, id: Uuid, request: &OperateSaga) -> Result<(), CliError> {
    let verb = request.verb.name();
    if !io::stdin().is_terminal() {
        let message = format!("`{verb}` may leave effects that nobody undoes: look with --preview, and say --yes");
        return Err(CliError::Usage(message));
    }
    let foreseen = context.client.sagas().preview(id, request).await?;
    context.output.note(&show::preview(context.output, &foreseen));
    context.output.note(&format!("`{verb}` saga {id}? Type yes to do it:"));
    let mut said = String::new();
    io::stdin().read_line(&mut said).map_err(|error| CliError::Io { what: "cannot read the answer".to_owned(), error })?;
    if said.trim() == "yes" { Ok(()) } else { Err(CliError::Failed("nothing was done".to_owned())) }
}

fn verb(command: VerbCommand) -> Result<(VerbArgs, SagaVerb), CliError> {
    Ok(match command {
        VerbCommand::Cancel(args) => (args, SagaVerb::Cancel),
        VerbCommand::Pause(args) => (args, SagaVerb::Pause),
        VerbCommand::Resume(args) => (args, SagaVerb::Resume),
        VerbCommand::Terminate(args) => (args, SagaVerb::Terminate),
        VerbCommand::Retry { args, step, item } => (args, SagaVerb::Retry { step, item }),
        VerbCommand::Skip { args, step, item } => (args, SagaVerb::Skip { step, item }),
        VerbCommand::Resolve { args, step, item, outcome, json: output } => {
            let output = output.map(json::read).transpose()?;
            let outcome = match (outcome, output) {
                (StepOutcomeName::Succeeded, output) => StepOutcome::Succeeded { output: output.unwrap_or_else(JsonText::null) },
                (_, Some(_)) => return Err(CliError::Usage("only --outcome succeeded takes --json".to_owned())),
                (StepOutcomeName::Failed, None) => StepOutcome::Failed,
                (StepOutcomeName::Compensated, None) => StepOutcome::Compensated,
            };
            (args, SagaVerb::Resolve { step, item, outcome })
        }
        VerbCommand::EditInput { args, input } => (args, SagaVerb::EditInput { input: json::read(input)? }),
        VerbCommand::Rerun { args, from, input } => (args, SagaVerb::Rerun { from, input: input.map(json::read).transpose()? }),
    })
}
