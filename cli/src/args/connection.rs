//! How a server is reached: its address, and what a proxy in front of it may ask for. Taken by every command.

use clap::Args;
use core::fmt;
use core::str::FromStr;

/// Where the server is, and how it is reached.
#[derive(Args, Clone, Debug)]
pub struct ConnectionArgs {
    /// Address of the server; of several servers of one broker, their addresses, divided by commas
    /// [default: that of the profile, else http://127.0.0.1:7070]
    #[arg(long, global = true, env = "SAGAMQ_SERVER", value_name = "URL")]
    #[arg(help_heading = "Global options")]
    pub server: Option<String>,
    /// API key that the server asks for; other processes can see flags, so it is better in the environment or in a profile
    #[arg(long, global = true, env = "SAGAMQ_API_KEY", hide_env_values = true, value_name = "KEY")]
    #[arg(help_heading = "Global options")]
    pub api_key: Option<Secret>,
    /// Which profile of the file that SAGAMQ_PROFILES names says what is not said here; without such a file, of
    /// ~/.config/sagamq/profiles.json [default: the one named `default`, if it is there]
    #[arg(long, global = true, env = "SAGAMQ_PROFILE", value_name = "NAME")]
    #[arg(help_heading = "Global options")]
    pub profile: Option<String>,
    /// Token of an identity provider, for a server or a proxy that takes one, sent as `authorization: Bearer`; other processes can see flags, so it is better in the
    /// environment
    #[arg(long, global = true, env = "SAGAMQ_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[arg(help_heading = "Global options")]
    pub token: Option<Secret>,
    /// Certificate authorities to trust instead of the system's (PEM)
    #[arg(long, global = true, env = "SAGAMQ_CA_FILE", value_name = "FILE")]
    #[arg(help_heading = "Global options")]
    pub ca_file: Option<String>,
    /// Certificate by which the client says who it is (PEM), with its private key unless --client-key names that
    #[arg(long, global = true, env = "SAGAMQ_CLIENT_CERT", value_name = "FILE")]
    #[arg(help_heading = "Global options")]
    pub client_cert: Option<String>,
    /// Private key of --client-cert (PEM)
    #[arg(long, global = true, env = "SAGAMQ_CLIENT_KEY", value_name = "FILE")]
    #[arg(help_heading = "Global options")]
    pub client_key: Option<String>,
}

/// A text that does not show in logs and messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl FromStr for Secret {
    type Err = core::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
