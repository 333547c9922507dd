//! `sagamq service`.

use super::values;
use clap::{Args, Subcommand};
use sagamq_api::ServiceName;
use sagamq_api::service::PutService;
use std::time::Duration;

const SET: &str = "\
EXAMPLES:
  sagamq service set payments http://payments:8080
  sagamq service set payments http://10.0.0.7:8080 http://10.0.0.8:8080

  # Leave it alone for a minute after two connections in a row failed
  sagamq service set payments http://payments:8080 --eject-after 2 --eject-for 1m

  # At most ten calls at a time and fifty a second; after five in a row without an answer, none for half a minute
  sagamq service set payments http://payments:8080 --max-in-flight 10 --calls-per-second 50 --break-after 5 --break-for 30s

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
        }
    }
}
