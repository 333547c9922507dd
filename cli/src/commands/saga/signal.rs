//! `sagamq saga signal`.

use crate::args::saga::SignalArgs;
use crate::commands::{Context, json};
use crate::error::CliError;
use crate::exit::Exit;
use sagamq_api::saga::{SendSignal, SendSignalByKey};
use sagamq_api::{JsonText, SignalName};
use uuid::Uuid;

pub(super) async fn send(context: &Context, args: SignalArgs) -> Result<Exit, CliError> {
    let SignalArgs { target, saga, key, payload, signal_id, reason, actor } = args;
    let usage = |message: &str| CliError::Usage(message.to_owned());
    let payload = payload.map(json::read).transpose()?.unwrap_or_else(JsonText::null);
    let name = |text: &str| text.parse::<SignalName>().map_err(|error| CliError::Usage(error.to_string()));
    let actor = Some(actor).filter(|actor| !actor.is_empty());
    let sagas = context.client.sagas();
    let sent = match (target.as_slice(), saga.zip(key)) {
        ([text], Some((saga, key))) => {
            let name = name(text)?;
            sagas.signal_by_key(&SendSignalByKey { saga, key, name, payload, signal_id, actor, reason }).await?
        }
        ([id, text], None) => {
            let id: Uuid = id.parse().map_err(|error| CliError::Usage(format!("`{id}` is no id of a saga: {error}")))?;
            sagas.signal(id, &SendSignal { name: name(text)?, payload, signal_id, actor, reason }).await?
        }
        ([_], None) => return Err(usage("say which saga: its id before the name of the signal, or --saga and --key")),
        _ => return Err(usage("say the id of the saga, or --saga and --key, and one name of a signal")),
    };
    context.output.answer(&sent, |sent| {
        let said = if sent.duplicate { "had the signal before" } else { "has the signal" };
        format!("saga {} {said}, and is {}", sent.id, sent.state)
    })?;
    Ok(Exit::Ok)
}
