//! Settings of whom the server calls and what it shows there.

use config::Map;
use sagamq_saga::{OrchestratorConfig, SecretText};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// Beginning of the names of variables that are secrets: no settings, and not shown.
pub(super) const SECRET_PREFIX: &str = "SAGAMQ_SECRET_";

pub(super) fn set(sagas: &mut OrchestratorConfig, key: &str, text: &str) -> Result<(), String> {
    match key {
        "participant_allow_host" => sagas.participant_hosts = rules(text)?,
        "participant_deny_address" if text == "none" => sagas.participant_denied = Some(Vec::new()),
        "participant_deny_address" => sagas.participant_denied = Some(rules(text)?),
        "secrets_dir" if text.is_empty() => return Err("expected a directory".to_owned()),
        "secrets_dir" => sagas.secrets.directory = Some(PathBuf::from(text)),
        other => return Err(format!("`{other}` is no setting")),
    }
    Ok(())
}

/// Takes out of the environment what is a secret, by the end of its variable's name. An empty one is none.
pub(super) fn take_secrets(environment: &mut Map<String, String>) -> BTreeMap<String, SecretText> {
    let all = core::mem::take(environment).into_iter();
    let (secrets, rest): (Vec<_>, Vec<_>) = all.partition(|(name, _)| name.starts_with(SECRET_PREFIX));
    *environment = rest.into_iter().collect();
    let secrets = secrets.into_iter().filter(|(_, content)| !content.is_empty());
    secrets.map(|(name, content)| (name[SECRET_PREFIX.len()..].to_owned(), SecretText::new(content.as_bytes()))).collect()
}

/// Rules divided by commas.
fn rules<T: FromStr<Err: Display>>(text: &str) -> Result<Vec<T>, String> {
    let rules = text.split(',').map(str::trim).filter(|rule| !rule.is_empty());
    rules.map(|rule| rule.parse().map_err(|error| format!("`{rule}`: {error}"))).collect()
}
