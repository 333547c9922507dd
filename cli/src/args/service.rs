//! `sagamq service`.

use super::values;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, Command, Subcommand};
use sagamq_api::service::{PutService, ServiceTls};
use sagamq_api::{SecretName, ServiceName};
use std::ffi::OsStr;
use std::time::Duration;

const SET: &str = "\
EXAMPLES:
  sagamq service set payments http://payments:8080
  sagamq service set payments http://10.0.0.7:8080 http://10.0.0.8:8080

  # Leave it alone for a minute after two connections in a row failed
  sagamq service set payments http://payments:8080 --eject-after 2 --eject-for 1m

  # At most ten calls at a time and fifty a second; after five in a row without an answer, none for half a minute
  sagamq service set payments http://payments:8080 --max-in-flight 10 --calls-per-second 50 --break-after 5 --break-for 30s

  # With a token that the server has as a secret
  sagamq service set payments https://payments --header 'authorization: Bearer ${secret:token}'

  # Trusting one authority, and only for one team's definitions
  sagamq service set payments https://payments --tls-ca payment-ca --definition 'checkout*'

Running sagas call it there with their next attempt, and what was not sent yet goes there at once. It replaces what was set before.";
const GET: &str = "\
EXAMPLES:
  sagamq service get payments
  sagamq service get payments --output json";
const LIST: &str = "\
EXAMPLES:
  sagamq service list
  sagamq service list --output json";
const DELETE: &str = "\
EXAMPLES:
  sagamq service delete payments

From then on the service is where each definition says. Calls to one of which a definition says nothing wait until it has an address again.";

/// What can be done with the addresses of services.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "EXAMPLES:\n  sagamq service set payments http://payments:8080\n  sagamq service list")]
pub enum ServiceCommand {
    /// Say where a service is that sagas call over HTTP, whatever their definitions say
    Set(SetArgs),
    /// Show where a service is, and how the server gets along with its endpoints
    #[command(after_help = GET)]
    Get {
        /// Name of the service, as definitions call it
        name: ServiceName,
    },
    /// List every service that has an address of its own
    #[command(after_help = LIST)]
    List,
    /// Forget the address of a service
    #[command(after_help = DELETE)]
    Delete {
        /// Name of the service, as definitions call it
        name: ServiceName,
    },
}

/// `sagamq service set`.
#[derive(Args, Clone, Debug)]
#[command(after_help = SET)]
pub struct SetArgs {
    /// Name of the service, as definitions call it
    pub name: ServiceName,
    /// Its base URLs, any of which serves every call
    #[arg(required = true, value_name = "URL")]
    pub endpoints: Vec<String>,
    /// Connection failures in a row after which an endpoint is left alone; 0: never [default: 5]
    #[arg(long, value_name = "N")]
    pub eject_after: Option<u32>,
    /// How long it is left alone; then one call is let through, and decides [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub eject_for: Option<Duration>,
    /// Most calls at a time, at all its endpoints together; more wait and are not sent [default: no bound of its own]
    #[arg(long, value_name = "N")]
    pub max_in_flight: Option<u32>,
    /// Most calls that begin in a second; more wait and are not sent [default: any number]
    #[arg(long, value_name = "N")]
    pub calls_per_second: Option<u32>,
    /// Calls in a row without an answer after which nobody calls it for a while [default: never]
    #[arg(long, value_name = "N")]
    pub break_after: Option<u32>,
    /// How long nobody calls it then; after it one call is let through, and decides [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, requires = "break_after")]
    pub break_for: Option<Duration>,
    /// A header of its calls, `NAME: VALUE`, with `${secret:NAME}` for what the server has as a secret; once for each
    #[arg(long = "header", value_name = "HEADER", value_parser = HeaderParser)]
    pub headers: Vec<(String, String)>,
    /// The secret that has the authorities (PEM) which vouch for it, in the place of the system's
    #[arg(long, value_name = "SECRET")]
    pub tls_ca: Option<SecretName>,
    /// The secret that has the certificate (PEM) which the server shows it
    #[arg(long, value_name = "SECRET")]
    pub tls_cert: Option<SecretName>,
    /// The secret that has the key (PEM) of that certificate, if it does not stand with it
    #[arg(long, value_name = "SECRET", requires = "tls_cert")]
    pub tls_key: Option<SecretName>,
    /// Send secrets to it without TLS: something else keeps them from being read on their way
    #[arg(long)]
    pub allow_plain_http: bool,
    /// A definition that may call it, or the beginning of names and `*`; once for each [default: all]
    #[arg(long = "definition", value_name = "PATTERN")]
    pub definitions: Vec<String>,
}

/// Reads a header of a service. Clap's own message would repeat the value, which may be a secret in the wrong place.
#[derive(Clone, Copy, Debug)]
struct HeaderParser;

impl TypedValueParser for HeaderParser {
    type Value = (String, String);

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Self::Value, clap::Error> {
        let parts = value.to_str().and_then(|text| text.split_once(':'));
        match parts {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => {
                let message = "a header is written `NAME: VALUE`, such as 'authorization: Bearer ${secret:payment_token}'\n";
                Err(clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command))
            }
        }
    }
}

impl SetArgs {
    /// The request.
    #[must_use]
    pub fn service(&self) -> PutService {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        PutService {
            endpoints: self.endpoints.clone(),
            eject_after: self.eject_after,
            eject_ms: self.eject_for.map(millis),
            max_in_flight: self.max_in_flight,
            calls_per_second: self.calls_per_second,
            break_after: self.break_after,
            break_ms: self.break_for.map(millis),
            headers: self.headers.iter().cloned().collect(),
            tls: ServiceTls { ca: self.tls_ca.clone(), certificate: self.tls_cert.clone(), key: self.tls_key.clone() },
            allow_plain_http: self.allow_plain_http,
            definitions: self.definitions.clone(),
        }
    }
}
