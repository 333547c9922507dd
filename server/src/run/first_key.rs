//! The first key: where keys are asked for there is one of an administrator, or nobody could make any.

use super::{StartError, key_file};
use sagamq_api::KeyName;
use sagamq_api::access::{Grant, KeyDescription, KeyState, Rights, Role};
use sagamq_broker::access::Secret;
use sagamq_broker::{BROUGHT_KEY, Broker, KeyError};
use std::path::{Path, PathBuf};

/// Name of the key that a start makes, and of its file in the data directory.
const MADE: &str = "admin";

/// The file with the secret of the key that a start makes.
const FILE_NAME: &str = "admin-key";

/// Takes the key whose secret is in `bootstrap`; without such a file, makes one if no administrator has any. The log says which keys an
/// administrator can use: whoever did not make one of them sees it there.
pub(super) async fn ensure(broker: &Broker, data_dir: &Path, bootstrap: Option<&PathBuf>) -> Result<(), StartError> {
    match bootstrap {
        Some(path) => take(broker, path).await?,
        None if broker.keys().iter().any(is_admins) => {}
        None => make(broker, &data_dir.join(FILE_NAME)).await?,
    }
    let keys: Vec<String> = broker.keys().iter().filter(|key| is_admins(key)).map(|key| key.name.to_string()).collect();
    tracing::info!(keys = keys.join(" "), "keys of administrators");
    Ok(())
}

/// How many keys can be used.
pub(super) fn usable(broker: &Broker) -> usize {
    broker.keys().iter().filter(|key| key.state == KeyState::Active).count()
}

async fn take(broker: &Broker, path: &Path) -> Result<(), StartError> {
    let unusable = |reason| StartError::KeyFile { path: path.to_owned(), reason };
    let secret = key_file::read(path).map_err(unusable)?;
    if key_file::is_open_to_others(path) {
        tracing::warn!(file = %path.display(), "others than its owner may read the file with the secret of an administrator's key: chmod 600");
    }
    let taken = broker.bring_key(name(BROUGHT_KEY), vec![Grant::of_all(Role::Admin)], secret.clone()).await.map_err(failed)?;
    if taken.is_some() {
        tracing::info!(key = BROUGHT_KEY, file = %path.display(), "the key of the file is an administrator's from now on");
    } else if !broker.api_keys().is_admins(&secret, broker.clock().now_ms()) {
        tracing::warn!(
            file = %path.display(),
            "the secret in the file was rotated, revoked or replaced, and does not count again: draw another with `sagamq key init`"
        );
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
