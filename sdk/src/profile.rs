//! [`Profile`]: how a server is reached, from a file with a name for each and from the environment, so that no program has a key in its text.

use crate::client::{Client, ClientBuilder};
use crate::error::ClientError;
use reqwest::Url;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The name of the profile that counts if none is named.
const DEFAULT: &str = "default";

/// The address if nothing names another.
const LOCAL: &str = "http://127.0.0.1:7070";

/// How a server is reached. In the file `profiles.json`, an object with a profile under each name:
///
/// ```json
/// { "default": { "server": "https://broker.example.com", "api_key": "sq_…", "ca_file": "/etc/sagamq/ca.pem" } }
/// ```
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Address of the server; of several servers of one broker, their addresses, divided by commas.
    pub server: Option<String>,
    /// The API key.
    pub api_key: Option<String>,
    /// File with the certificate authorities to trust instead of the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// File with the client's certificate (PEM), with its private key unless `client_key` names that.
    pub client_cert: Option<PathBuf>,
    /// File with the private key of the client's certificate (PEM).
    pub client_key: Option<PathBuf>,
}

/// Says nothing that is secret.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("server", &self.server)
            .field("api_key", &self.api_key.as_ref().map(|_| "(secret)"))
            .field("ca_file", &self.ca_file)
            .field("client_cert", &self.client_cert)
            .field("client_key", &self.client_key)
            .finish()
    }
}

impl Profile {
    /// The profile of this name, or the one named `default`, from the file that `SAGAMQ_PROFILES` names, else from
    /// `$XDG_CONFIG_HOME/sagamq/profiles.json` or `~/.config/sagamq/profiles.json`. Where nothing is named and nothing is there, an empty one.
    ///
    /// # Errors
    /// [`ClientError::InvalidSettings`] when the file cannot be read, others may read it although it has a key, or it has no such profile.
    pub fn load(name: Option<&str>) -> Result<Self, ClientError> {
        Self::find(name, &|variable| std::env::var(variable).ok())
    }

    /// As [`Profile::load`], with these variables as the environment.
    ///
    /// # Errors
    /// As [`Profile::load`].
    pub fn find(name: Option<&str>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ClientError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let named = set("SAGAMQ_PROFILES").map(PathBuf::from);
        let name = name.filter(|name| !name.is_empty());
        let is_asked_for = named.is_some() || name.is_some();
        let folder = || set("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")));
        let path = named.or_else(|| Some(folder()?.join("sagamq").join("profiles.json")));
        let Some(path) = path.filter(|path| is_asked_for || path.exists()) else { return Ok(Self::default()) };
        let profiles = read(&path)?;
        match (name, profiles.get(name.unwrap_or(DEFAULT))) {
            (_, Some(profile)) => Ok(profile.clone()),
            (None, None) => Ok(Self::default()),
            (Some(name), None) => {
                let there: Vec<&str> = profiles.keys().map(String::as_str).collect();
                Err(unusable(format!("{} has no profile `{name}`; it has {}", path.display(), there.join(", "))))
            }
        }
    }

    /// The profile for a server that something else names. The key and the client's certificate are for the server of the profile: another one, by
    /// scheme, host or port, is shown neither, and neither are several of which one is not in the profile.
    #[must_use]
    pub fn for_server(self, server: Option<&str>) -> Self {
        let Some(server) = server.filter(|server| !server.is_empty()) else { return self };
        let origin = |url: &str| Url::parse(url.trim()).ok().map(|url| url.origin()).filter(|origin| origin.is_tuple());
        let own: Vec<_> = self.server.as_deref().unwrap_or(LOCAL).split(',').filter_map(origin).collect();
        let is_same = server.split(',').all(|url| origin(url).is_some_and(|of| own.contains(&of)));
        let named = Self { server: Some(server.to_owned()), ..self };
        if is_same { named } else { Self { api_key: None, client_cert: None, client_key: None, ..named } }
    }

    /// The same with what the environment says: `SAGAMQ_SERVER`, `SAGAMQ_API_KEY`, `SAGAMQ_CA_FILE`, `SAGAMQ_CLIENT_CERT`, `SAGAMQ_CLIENT_KEY`.
    #[must_use]
    pub fn with_environment(self, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let file = |name: &str| set(name).map(PathBuf::from);
        let profile = self.for_server(set("SAGAMQ_SERVER").as_deref());
        Self {
            api_key: set("SAGAMQ_API_KEY").or(profile.api_key),
            ca_file: file("SAGAMQ_CA_FILE").or(profile.ca_file),
            client_cert: file("SAGAMQ_CLIENT_CERT").or(profile.client_cert),
            client_key: file("SAGAMQ_CLIENT_KEY").or(profile.client_key),
            server: profile.server,
        }
    }

    /// A client of this server.
    ///
    /// # Errors
    /// [`ClientError::InvalidSettings`] when a file cannot be read.
    pub fn builder(&self) -> Result<ClientBuilder, ClientError> {
        let mut builder = Client::builder(self.server.as_deref().unwrap_or(LOCAL));
        if let Some(key) = &self.api_key {
            builder = builder.api_key(key);
        }
        if let Some(path) = &self.ca_file {
            builder = builder.ca_certificates(bytes(path)?);
        }
        match (&self.client_cert, &self.client_key) {
            (Some(certificate), None) => Ok(builder.client_certificate(bytes(certificate)?)),
            (Some(certificate), Some(key)) => Ok(builder.client_certificate([bytes(certificate)?, b"\n".to_vec(), bytes(key)?].concat())),
            (None, Some(_)) => Err(unusable("a client's key needs the certificate that it belongs to".to_owned())),
            (None, None) => Ok(builder),
        }
    }
}

impl Client {
    /// A client of the server that the environment names (`SAGAMQ_SERVER`, `SAGAMQ_API_KEY`, …), else the profile of `SAGAMQ_PROFILE`, else the
    /// one named `default`, else this machine.
    ///
    /// # Errors
    /// As [`Profile::load`] and [`Profile::builder`].
    pub fn from_environment() -> Result<ClientBuilder, ClientError> {
        let variable = |name: &str| std::env::var(name).ok();
        Profile::load(variable("SAGAMQ_PROFILE").as_deref())?.with_environment(&variable).builder()
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Profile>, ClientError> {
    let text = bytes(path)?;
    // What the parser says may repeat what stands there, a key too: only the place is told.
    let profiles: BTreeMap<String, Profile> = serde_json::from_slice(&text).map_err(|error| {
        let expected = "expected an object of profiles with the fields server, api_key, ca_file, client_cert and client_key";
        unusable(format!("{} cannot be read at line {} column {}: {expected}", path.display(), error.line(), error.column()))
    })?;
    if profiles.values().any(|profile| profile.api_key.is_some()) && others_may_read(path) {
        return Err(unusable(format!("{} has a key, and others than its owner may read it: chmod 600 {0}", path.display())));
    }
    Ok(profiles)
}

#[cfg(unix)]
fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_may_read(_: &Path) -> bool {
    false
}

fn bytes(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|error| unusable(format!("cannot read {}: {error}", path.display())))
}

fn unusable(reason: String) -> ClientError {
    ClientError::InvalidSettings { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(text: &str, mode: u32) -> (tempfile::TempDir, String) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("profiles.json");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        (folder, path.to_str().expect("text").to_owned())
    }

    fn find(path: &str, name: Option<&str>) -> Result<Profile, ClientError> {
        Profile::find(name, &|variable| (variable == "SAGAMQ_PROFILES").then(|| path.to_owned()))
    }

    const TWO: &str = r#"{ "default": { "server": "http://a" }, "b": { "server": "http://b", "api_key": "sq_s3cret" } }"#;

    #[test]
    fn a_profile_is_found_by_its_name_and_its_key_does_not_show() {
        let (_folder, path) = profiles(TWO, 0o600);
        assert_eq!(find(&path, None).expect("the default").server.as_deref(), Some("http://a"));
        let b = find(&path, Some("b")).expect("it is there");
        assert_eq!((b.server.as_deref(), b.api_key.as_deref()), (Some("http://b"), Some("sq_s3cret")));
        assert!(!format!("{b:?} {:?}", b.builder().expect("usable")).contains("s3cret"));
        let missing = find(&path, Some("c")).expect_err("not there").to_string();
        assert!(missing.contains("`c`") && missing.contains("b, default") && !missing.contains("s3cret"), "{missing}");
        assert_eq!(Profile::find(None, &|_| None).expect("nothing is named"), Profile::default());
    }

    #[test]
    fn a_file_with_a_key_that_others_may_read_is_refused_and_so_is_nonsense() {
        let (_folder, path) = profiles(TWO, 0o644);
        let refused = find(&path, Some("b")).expect_err("readable by all").to_string();
        assert!(refused.contains("chmod 600") && !refused.contains("s3cret"), "{refused}");
        let (_folder, path) = profiles(r#"{ "default": { "server": "http://a" } }"#, 0o644);
        find(&path, None).expect("there is no key in it");
        let (_folder, path) = profiles(r#"{ "default": { "key": "sq_s3cret" } }"#, 0o600);
        let refused = find(&path, None).expect_err("an unknown field").to_string();
        assert!(refused.contains("line 1") && !refused.contains("s3cret"), "{refused}");
        assert!(find("/does/not/exist.json", None).is_err());
    }

    #[test]
    fn the_environment_wins_over_the_profile() {
        let (_folder, path) = profiles(TWO, 0o600);
        let profile = find(&path, Some("b")).expect("it is there");
        let both = profile.with_environment(&|name| match name {
            "SAGAMQ_API_KEY" => Some("sq_other".to_owned()),
            "SAGAMQ_SERVER" => Some(String::new()),
            _ => None,
        });
        assert_eq!((both.server.as_deref(), both.api_key.as_deref()), (Some("http://b"), Some("sq_other")), "an empty variable is none");
    }

    #[test]
    fn the_key_of_a_profile_with_several_servers_goes_to_those_and_to_nobody_with_them() {
        let (_folder, path) = profiles(r#"{ "default": { "server": "https://a, https://b:1", "api_key": "sq_s3cret" } }"#, 0o600);
        let key = |server: &str| find(&path, None).expect("it is there").for_server(Some(server)).api_key.is_some();
        assert!(key("https://a") && key("https://b:1") && key("https://b:1,https://a/"));
        assert!(!key("https://b") && !key("https://a,https://evil") && !key("https://a,nonsense") && !key("https://a,"));
    }

    #[test]
    fn the_key_of_a_profile_goes_to_its_own_server_and_to_no_other() {
        let (_folder, path) =
            profiles(r#"{ "default": { "server": "https://Broker.example", "api_key": "sq_s3cret", "client_cert": "/c" } }"#, 0o600);
        let key = |server: &str| {
            let profile = find(&path, None).expect("it is there").for_server(Some(server));
            assert_eq!(profile.client_cert.is_some(), profile.api_key.is_some(), "{server}");
            profile.api_key.is_some()
        };
        for server in ["", "https://broker.example", "https://broker.example:443/", "https://broker.example/behind/a/path"] {
            assert!(key(server), "{server}");
        }
        for server in
            ["http://broker.example", "https://broker.example:444", "https://broker.example.evil", "http://127.0.0.1:7070", "nonsense"]
        {
            assert!(!key(server), "{server}");
        }
        let elsewhere = |name: &str| (name == "SAGAMQ_SERVER").then(|| "http://test-box:7070".to_owned());
        let profile = find(&path, None).expect("it is there").with_environment(&elsewhere);
        assert_eq!((profile.server.as_deref(), profile.api_key), (Some("http://test-box:7070"), None));
        let local = Profile { api_key: Some("sq_local".to_owned()), ..Profile::default() };
        assert!(local.clone().for_server(Some("http://127.0.0.1:7070/")).api_key.is_some(), "without a server it is that of this machine");
        assert!(local.for_server(Some("http://127.0.0.1:7071")).api_key.is_none());
    }
}
