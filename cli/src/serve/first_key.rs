//! The first key: where keys are asked for there is one of an administrator, or nobody could make any.

use super::{StartError, key_file};
use sagamq_api::KeyName;
use sagamq_api::access::{Grant, KeyDescription, KeyState, Rights, Role};
use sagamq_broker::access::Secret;
use sagamq_broker::{Broker, KeyError};
use std::path::{Path, PathBuf};

/// Name of the key whose secret a file brings.
const BROUGHT: &str = "bootstrap";

/// Name of the key that a start makes, and of its file in the data directory.
const MADE: &str = "admin";

/// The file with the secret of the key that a start makes.
pub(crate) const FILE_NAME: &str = "admin-key";

/// Takes the key whose secret is in `bootstrap`; without such a file, makes one if no administrator has any.
pub(super) async fn ensure(broker: &Broker, data_dir: &Path, bootstrap: Option<&PathBuf>) -> Result<(), StartError> {
    match bootstrap {
        Some(path) => take(broker, path).await,
        None if broker.keys().iter().any(is_admins) => Ok(()),
        None => make(broker, &data_dir.join(FILE_NAME)).await,
    }
}

async fn take(broker: &Broker, path: &Path) -> Result<(), StartError> {
    let unusable = |reason| StartError::KeyFile { path: path.to_owned(), reason };
    let secret = key_file::read(path).map_err(unusable)?;
    let taken = broker.bring_key(name(BROUGHT), vec![Grant::of_all(Role::Admin)], secret).await.map_err(failed)?;
    let is_usable = broker.keys().iter().any(|key| key.name.as_str() == BROUGHT && is_admins(key));
    if taken.is_some() {
        tracing::info!(key = BROUGHT, file = %path.display(), "the key of the file is an administrator's from now on");
    } else if !is_usable {
        tracing::warn!(key = BROUGHT, file = %path.display(), "the key of the file was revoked and stays so: put another into the file");
    }
    Ok(())
}

async fn make(broker: &Broker, path: &Path) -> Result<(), StartError> {
    let secret = Secret::new(&mut broker.random());
    // First the file: a key whose secret nobody has would keep the next start from making one.
    key_file::write(path, &secret).map_err(|error| StartError::KeyFile { path: path.to_owned(), reason: error.to_string() })?;
    let taken: Vec<KeyName> = broker.keys().into_iter().filter(|key| key.state == KeyState::Active).map(|key| key.name).collect();
    let names = std::iter::once(MADE.to_owned()).chain((2..).map(|number| format!("{MADE}-{number}")));
    let free = names.map(|text| name(&text)).find(|name| !taken.contains(name)).expect("there are more names than keys");
    broker.bring_key(free.clone(), vec![Grant::of_all(Role::Admin)], secret).await.map_err(failed)?;
    tracing::warn!(
        key = %free, file = %path.display(),
        "no administrator had a key, so one was made; its secret is in the file: make keys of your own with it, and remove the file"
    );
    Ok(())
}

/// Whether an administrator can use it.
fn is_admins(key: &KeyDescription) -> bool {
    key.state == KeyState::Active && Rights::new(key.roles.clone()).is_admin()
}

fn name(text: &str) -> KeyName {
    text.parse().expect("a constant that is a legal name, and a number")
}

fn failed(error: KeyError) -> StartError {
    StartError::FirstKey(error)
}
