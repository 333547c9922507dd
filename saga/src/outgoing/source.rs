//! [`SecretSource`]: where secrets are found by their names: files of a directory, and variables of the environment.

use super::secret::SecretText;
use sagamq_api::SecretName;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

/// Longest content of a secret, in bytes: chains of certificates fit.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where secrets are found: a file of the directory, else the environment. Its `Debug` shows no content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretSource {
    /// A directory with a file for each secret, as systemd's credentials and mounted secrets of Kubernetes are. They are read anew while the
    /// server runs.
    pub directory: Option<PathBuf>,
    /// Contents by the names that [`SecretSource::variable`] gives.
    pub environment: BTreeMap<String, SecretText>,
}

/// Why a secret cannot be had. Nothing of its content is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// It is nowhere.
    #[error("the secret `{name}` is not there: neither as a file of `secrets_dir` nor as the variable SAGAMQ_SECRET_{variable}")]
    Missing {
        /// The secret.
        name: SecretName,
        /// The end of its variable's name.
        variable: String,
    },
    /// Its file cannot be read.
    #[error("the secret `{name}` cannot be read: {reason}")]
    Unreadable {
        /// The secret.
        name: SecretName,
        /// What the system says.
        reason: String,
    },
    /// There is nothing in it.
    #[error("the secret `{0}` is empty")]
    Empty(SecretName),
    /// There is more in it than is read.
    #[error("the secret `{0}` has more than {SECRET_BYTES_MAX} bytes")]
    TooLong(SecretName),
    /// What is in it cannot stand in a header.
    #[error("the secret `{0}` has a character that no header may have, such as a line break")]
    NotAHeader(SecretName),
    /// What is stored of the service cannot be used.
    #[error("what calls to the service `{service}` show cannot be used: {reason}")]
    Unusable {
        /// The service.
        service: String,
        /// Why.
        reason: String,
    },
    /// What is in it is no certificate or key, or they do not belong together.
    #[error("the certificates or the key of the service `{service}` cannot be used: {reason}")]
    Tls {
        /// The service.
        service: String,
        /// What the library says.
        reason: String,
    },
}

impl SecretSource {
    /// The end of the name of the variable that has a secret: capital letters, and `_` for what a variable's name cannot have.
    #[must_use]
    pub fn variable(name: &str) -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    }

    /// Reads a secret as it is now. It waits for the disk.
    ///
    /// # Errors
    /// When it is not there, or cannot be used.
    pub(crate) fn read(&self, name: &SecretName) -> Result<SecretText, SecretError> {
        let from_file = self.directory.as_ref().map(|directory| File::open(directory.join(name.as_str())));
        let content = match from_file {
            Some(Ok(file)) => read(file, name)?,
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(unreadable(name, &error)),
            Some(Err(_)) | None => {
                let variable = Self::variable(name.as_str());
                match self.environment.get(&variable) {
                    Some(content) => content.clone(),
                    None => return Err(SecretError::Missing { name: name.clone(), variable }),
                }
            }
        };
        if content.line().is_empty() { Err(SecretError::Empty(name.clone())) } else { Ok(content) }
    }
}

fn read(file: File, name: &SecretName) -> Result<SecretText, SecretError> {
    let about = file.metadata().map_err(|error| unreadable(name, &error))?;
    if !about.is_file() {
        return Err(unreadable(name, &"it is no file"));
    }
    let mut content = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut content).map_err(|error| unreadable(name, &error))?;
    if content.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::TooLong(name.clone()));
    }
    Ok(SecretText::new(&content))
}

fn unreadable(name: &SecretName, reason: &dyn core::fmt::Display) -> SecretError {
    SecretError::Unreadable { name: name.clone(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SecretName {
        text.parse().expect("legal")
    }

    #[test]
    fn a_file_comes_before_the_environment_and_is_read_as_it_is_now() {
        let directory = tempfile::tempdir().expect("a directory");
        let environment = BTreeMap::from([("PAYMENT_TOKEN".to_owned(), SecretText::new(b"of the environment"))]);
        let source = SecretSource { directory: Some(directory.path().to_owned()), environment };
        let content = |of: &str| source.read(&name(of)).map(|content| content.line().to_owned());
        assert_eq!(content("payment-token"), Ok(b"of the environment".to_vec()));
        std::fs::write(directory.path().join("payment-token"), "of the file\n").expect("a file");
        assert_eq!(content("payment-token"), Ok(b"of the file".to_vec()));
        assert_eq!(content("payment.token"), Ok(b"of the environment".to_vec()), "another file, the same variable");
        std::fs::write(directory.path().join("payment-token"), "another\r\n").expect("a file");
        assert_eq!(content("payment-token"), Ok(b"another".to_vec()));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_replaced_by_a_variable() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let environment = BTreeMap::from([("TOKEN".to_owned(), SecretText::new(b"of the environment"))]);
        // What is below a file cannot be opened, whoever asks.
        let source = SecretSource { directory: Some(file.path().to_owned()), environment };
        assert!(matches!(source.read(&name("token")), Err(SecretError::Unreadable { .. })), "{:?}", source.read(&name("token")));
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let source = SecretSource { directory: Some(directory.path().to_owned()), environment: BTreeMap::new() };
        std::fs::write(directory.path().join("empty"), "\n").expect("a file");
        std::fs::write(directory.path().join("long"), "s".repeat(70_000)).expect("a file");
        std::fs::create_dir(directory.path().join("folder")).expect("a folder");
        let said = |of: &str| source.read(&name(of)).expect_err(of).to_string();
        assert!(said("nowhere").contains("SAGAMQ_SECRET_NOWHERE"), "{}", said("nowhere"));
        assert!(said("empty").contains("is empty"));
        assert!(said("folder").contains("no file"));
        assert!(said("long").contains("more than") && !said("long").contains("sss"));
        assert_eq!(format!("{:?}", SecretText::new(b"hidden")), "SecretText(…)");
    }
}
