//! From a URL to the objects behind it.

use super::Objects;
use super::folder::Folder;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use std::sync::Arc;
use url::Url;

/// Why a URL leads to no objects.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is none of those that are known.
    #[error("`{0}` is no place for objects. Say file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX")]
    Url(String),
    /// Secrets in a URL end in logs.
    #[error("a user or a password does not belong into a URL of objects: they come from the environment (AWS_*, GOOGLE_*, AZURE_*)")]
    Secret,
    /// The folder cannot be made, or not be read.
    #[error("the folder {path} cannot be used: {error}")]
    Folder {
        /// Which one.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is no such folder, and whoever only looks makes none.
    #[error("there is no folder {0}")]
    Missing(String),
    /// The settings in the environment do not suffice, or contradict each other.
    #[error("the object storage cannot be set up: {0}")]
    Settings(#[from] object_store::Error),
}

/// For what is slow to connect to: another address, or another attempt, is better.
const CONNECT: &str = "3 seconds";
/// The whole of a request, a large object included. [`super::Patience`] ends those of a call earlier.
const REQUEST: &str = "30 seconds";

impl Objects {
    /// The objects behind a URL: `file:///FOLDER` (made if it is missing), `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`,
    /// `az://CONTAINER/PREFIX`. Keys, region, endpoint and all else come from the environment variables that
    /// the clouds' own tools read (`AWS_*`, `GOOGLE_*`, `AZURE_*`). Asks nobody yet, but for the folder.
    ///
    /// # Errors
    /// When the URL is none of these, or settings are missing.
    pub fn open(url: &str) -> Result<Self, OpenError> {
        Self::at(url, true)
    }

    /// As [`Objects::open`], for who only looks: a folder that is missing is not made.
    ///
    /// # Errors
    /// As [`Objects::open`], and [`OpenError::Missing`].
    pub fn find(url: &str) -> Result<Self, OpenError> {
        Self::at(url, false)
    }

    fn at(url: &str, is_made: bool) -> Result<Self, OpenError> {
        let parsed = Url::parse(url).map_err(|_| OpenError::Url(url.to_owned()))?;
        if parsed.password().is_some() || (!parsed.username().is_empty() && parsed.scheme() != "az") {
            return Err(OpenError::Secret);
        }
        // The path of a URL that is not like a path, or has dots in it, is refused and not guessed.
        let (scheme, root) = ObjectStoreScheme::parse(&parsed).map_err(|_| OpenError::Url(url.to_owned()))?;
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => {
                let path = parsed.to_file_path().map_err(|()| OpenError::Url(url.to_owned()))?;
                if !is_made && !path.exists() {
                    return Err(OpenError::Missing(path.display().to_string()));
                }
                let folder = Folder::open(&path).map_err(|error| OpenError::Folder { path: path.display().to_string(), error })?;
                return Ok(Self::new(Arc::new(folder), Path::default()));
            }
            ObjectStoreScheme::AmazonS3 => {
                // Objects are deleted one by one, and not every server knows how to delete many.
                let mut builder = AmazonS3Builder::from_env().with_url(url).with_retry(none()).with_disable_bulk_delete(true);
                for (key, value) in defaults() {
                    let key = AmazonS3ConfigKey::Client(key);
                    if !is_set("AWS_", key.as_ref()) {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.build()?)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(none());
                for (key, value) in defaults() {
                    let key = GoogleConfigKey::Client(key);
                    if !is_set("GOOGLE_", key.as_ref()) {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.build()?)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(none());
                for (key, value) in defaults() {
                    let key = AzureConfigKey::Client(key);
                    if !is_set("AZURE_", key.as_ref()) {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.build()?)
            }
            // What is in memory is gone with its process, and no other one sees it.
            _ => return Err(OpenError::Url(url.to_owned())),
        };
        Ok(Self::new(store, root))
    }
}

/// Every attempt must be seen by who asked for it.
fn none() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn defaults() -> [(ClientConfigKey, &'static str); 2] {
    [(ClientConfigKey::ConnectTimeout, CONNECT), (ClientConfigKey::Timeout, REQUEST)]
}

/// Whether the environment sets it, by the name with which the builders read it.
fn is_set(cloud: &str, key: &str) -> bool {
    let name = format!("{cloud}{}", key.to_ascii_uppercase());
    std::env::var_os(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_has_its_url_and_none_is_asked_yet() {
        for (url, shown) in [
            ("s3://bucket/a/b", "Objects(AmazonS3(bucket)/a/b)"),
            ("s3://bucket", "Objects(AmazonS3(bucket)/)"),
            ("gs://bucket/a", "Objects(GoogleCloudStorage(bucket)/a)"),
        ] {
            assert_eq!(format!("{:?}", Objects::open(url).unwrap_or_else(|error| panic!("{url}: {error}"))), shown);
        }
    }

    #[test]
    fn what_is_no_place_is_told_and_a_secret_is_not_repeated() {
        for url in ["", "memory:", "folder", "/folder", "http://host/x", "https://host/x", "ftp://host/x", "file://host/x"] {
            assert!(matches!(Objects::open(url), Err(OpenError::Url(_))), "{url}");
        }
        for url in ["s3://key:hunter2@bucket/x", "s3://key@bucket/x", "gs://:hunter2@bucket/x"] {
            let refused = Objects::open(url).expect_err("a secret in a URL");
            assert!(matches!(refused, OpenError::Secret), "{url}");
            assert!(!refused.to_string().contains("hunter2"));
        }
        // No account is named anywhere.
        if std::env::vars_os().all(|(name, _)| !name.to_string_lossy().starts_with("AZURE_")) {
            assert!(matches!(Objects::open("az://container/a"), Err(OpenError::Settings(_))));
        }
    }

    #[test]
    fn a_folder_is_made_but_for_who_only_looks_and_one_that_cannot_be_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let url = format!("file://{}/a/b", dir.path().display());
        assert!(matches!(Objects::find(&url), Err(OpenError::Missing(path)) if path.ends_with("/a/b")));
        assert!(!dir.path().join("a").exists());
        Objects::open(&url).expect("it is made");
        assert!(dir.path().join("a/b").is_dir());
        Objects::find(&url).expect("it is there");
        std::fs::write(dir.path().join("file"), "x").expect("it is written");
        let url = format!("file://{}/file/b", dir.path().display());
        assert!(matches!(Objects::open(&url), Err(OpenError::Folder { .. })));
    }
}
