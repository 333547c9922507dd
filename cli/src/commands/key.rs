//! `sagamq key`.

use super::Context;
use crate::args::key::{InitArgs, KeyCommand};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, fields, human};
use crate::serve::key_file;
use sagamq_api::access::{CreatedKey, Grant, KeyDescription, KeyList};
use sagamq_broker::access::Secret;
use sagamq_broker::env::Random;
use serde_json::json;

/// What needs no server.
pub(super) fn init(args: &InitArgs, output: Output) -> Result<Exit, CliError> {
    let secret = Secret::new(&mut Random::from_system());
    let Some(path) = &args.file else {
        output.answer(&json!({ "secret": secret.reveal() }), |_| secret.reveal())?;
        return Ok(Exit::Ok);
    };
    if path.exists() {
        return Err(CliError::Usage(format!("{} is there already: name another file, or remove it", path.display())));
    }
    key_file::write(path, &secret).map_err(|error| CliError::Io { what: format!("cannot write {}", path.display()), error })?;
    output.answer(&json!({ "file": path }), |_| format!("the secret is in {}", path.display()))?;
    Ok(Exit::Ok)
}

pub(super) async fn run(context: Context, command: KeyCommand) -> Result<Exit, CliError> {
    let (keys, output) = (context.client.keys(), context.output);
    match command {
        KeyCommand::Create(args) => {
            let created = keys.create(&args.request()).await?;
            output.answer(&created, with_secret)?;
        }
        KeyCommand::List => {
            let list = keys.list().await?;
            output.answer(&list, |list| table(output, list))?;
        }
        KeyCommand::Rotate(args) => {
            let rotated = keys.rotate(&args.name, &args.request()).await?;
            output.answer(&rotated, with_secret)?;
        }
        KeyCommand::Revoke { name } => {
            let key = keys.revoke(&name).await?;
            output.answer(&key, |key| format!("the key {} is revoked", key.name))?;
        }
        KeyCommand::Init(args) => return init(&args, output),
    }
    Ok(Exit::Ok)
}

fn with_secret(CreatedKey { secret, key }: &CreatedKey) -> String {
    let previous = key.previous_until_ms.map_or_else(|| NONE.to_owned(), |until_ms| format!("until {}", human::timestamp(until_ms)));
    let about = fields(&[
        ("Key", key.name.to_string()),
        ("Roles", roles(key)),
        ("Expires", expires(key)),
        ("Secret before works", previous),
        ("Secret", secret.clone()),
    ]);
    format!("{about}\n\nThe secret is told this once. Send it as SAGAMQ_API_KEY, with --api-key or from a profile.")
}

fn table(output: Output, list: &KeyList) -> String {
    let rows = list.keys.iter().map(|key| {
        let rotated = key.rotated_at_ms.map_or_else(|| NONE.to_owned(), human::timestamp);
        let begins = format!("{}…", key.begins);
        [key.name.to_string(), key.state.to_string(), begins, roles(key), human::timestamp(key.created_at_ms), expires(key), rotated]
    });
    output.table(["KEY", "STATE", "SECRET", "ROLES", "CREATED", "EXPIRES", "ROTATED"], rows)
}

fn roles(key: &KeyDescription) -> String {
    key.roles.iter().map(Grant::to_string).collect::<Vec<_>>().join(" ")
}

fn expires(key: &KeyDescription) -> String {
    key.expires_at_ms.map_or_else(|| "never".to_owned(), human::timestamp)
}
