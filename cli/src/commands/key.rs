//! `sagamq key`.

use super::Context;
use crate::args::key::{InitArgs, KeyCommand};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, fields, human};
use sagamq_api::access::{CreatedKey, Grant, KeyDescription, KeyList, KeyQuota};
use sagamq_broker::access::Secret;
use sagamq_broker::env::Random;
use sagamq_server::run::key_file;
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
            told_once(output, &created, "made")?;
        }
        KeyCommand::List => {
            let list = keys.list().await?;
            output.answer(&list, |list| table(output, list))?;
        }
        KeyCommand::Rotate(args) => {
            let rotated = keys.rotate(&args.name, &args.request()).await?;
            told_once(output, &rotated, "rotated")?;
        }
        KeyCommand::Limit(args) => {
            let key = keys.limit(&args.name, &args.quota.request()).await?;
            output.answer(&key, |key| format!("the key {} may have {}", key.name, quota(key)))?;
        }
        KeyCommand::Revoke { name } => {
            let key = keys.revoke(&name).await?;
            output.answer(&key, |key| format!("the key {} is revoked", key.name))?;
        }
        KeyCommand::Init(args) => return init(&args, output),
    }
    Ok(Exit::Ok)
}

/// Shows a secret that nobody can be shown again.
fn told_once(output: Output, created: &CreatedKey, done: &str) -> Result<(), CliError> {
    output.answer_to_be_read(created, with_secret).map_err(|error| {
        let name = &created.key.name;
        let why = if matches!(error, CliError::ReaderGone) { "nobody reads the output any more".to_owned() } else { error.to_string() };
        let lost = format!("the key {name} is {done}, and its secret, which is told this once, could not be shown ({why})");
        CliError::Failed(format!("{lost}: `sagamq key rotate {name}` gives it another"))
    })
}

fn with_secret(CreatedKey { secret, key }: &CreatedKey) -> String {
    let previous = key.previous_until_ms.map_or_else(|| NONE.to_owned(), |until_ms| format!("until {}", human::timestamp(until_ms)));
    let about = fields(&[
        ("Key", key.name.to_string()),
        ("Roles", roles(key)),
        ("Expires", expires(key)),
        ("Quota", quota(key)),
        ("Secret before works", previous),
        ("Secret", secret.clone()),
    ]);
    format!("{about}\n\nThe secret is told this once. Send it as SAGAMQ_API_KEY, with --api-key or from a profile.")
}

fn table(output: Output, list: &KeyList) -> String {
    let rows = list.keys.iter().map(|key| {
        let rotated = key.rotated_at_ms.map_or_else(|| NONE.to_owned(), human::timestamp);
        let begins = format!("{}…", key.begins);
        [
            key.name.to_string(),
            key.state.to_string(),
            begins,
            roles(key),
            human::timestamp(key.created_at_ms),
            expires(key),
            rotated,
            quota(key),
        ]
    });
    output.table(["KEY", "STATE", "SECRET", "ROLES", "CREATED", "EXPIRES", "ROTATED", "QUOTA"], rows)
}

fn roles(key: &KeyDescription) -> String {
    key.roles.iter().map(Grant::to_string).collect::<Vec<_>>().join(" ")
}

/// What is its own; the rest is the server's bound for each client.
fn quota(key: &KeyDescription) -> String {
    let KeyQuota { requests_per_second, bytes_per_second } = key.quota;
    let of = |bound: Option<u64>, what: &str| {
        bound.map(|bound| if bound == 0 { format!("{what} without bound") } else { format!("{bound} {what} a second") })
    };
    let own: Vec<String> = of(requests_per_second, "requests").into_iter().chain(of(bytes_per_second, "bytes")).collect();
    if own.is_empty() { "as each client".to_owned() } else { own.join(", ") }
}

fn expires(key: &KeyDescription) -> String {
    key.expires_at_ms.map_or_else(|| "never".to_owned(), human::timestamp)
}
