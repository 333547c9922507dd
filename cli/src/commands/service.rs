//! `sagamq service`.

use super::Context;
use crate::args::service::ServiceCommand;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, fields, human};
use sagamq_api::service::{BreakerState, ServiceDescription, ServiceList};
use serde_json::json;

pub(super) async fn run(context: Context, command: ServiceCommand) -> Result<Exit, CliError> {
    let (services, output) = (context.client.services(), context.output);
    match command {
        ServiceCommand::Set(args) => {
            let service = services.put(&args.name, &args.service()).await?;
            output.answer(&service, |service| describe(output, service))?;
        }
        ServiceCommand::Get { name } => {
            let service = services.get(&name).await?;
            output.answer(&service, |service| describe(output, service))?;
        }
        ServiceCommand::List => {
            let list = services.list().await?;
            output.answer(&list, |list| table(output, list))?;
        }
        ServiceCommand::Delete { name } => {
            services.delete(&name).await?;
            output.answer(&json!({ "deleted": name }), |_| format!("{name} is where each definition says"))?;
        }
    }
    Ok(Exit::Ok)
}

fn table(output: Output, list: &ServiceList) -> String {
    let rows = list.services.iter().flat_map(|service| {
        service.endpoints.iter().map(|endpoint| {
            [service.name.to_string(), endpoint.url.clone(), endpoint.state.to_string(), endpoint.failures.to_string(), load(service)]
        })
    });
    output.table(["SERVICE", "ENDPOINT", "STATE", "FAILURES", "CALLS"], rows)
}

/// Whether a service as a whole is called, and what is held back.
fn load(service: &ServiceDescription) -> String {
    let breaker = match (service.breaker, service.tried_again_in_ms) {
        (BreakerState::Closed, _) => None,
        (state, Some(left)) => Some(format!("{state}, tried again in {}", human::duration_ms(left))),
        (state, None) => Some(state.to_string()),
    };
    let running = service.max_in_flight.map(|most| format!("{} of {most} run", service.in_flight));
    let held = (service.held_back > 0).then(|| format!("{} held back", service.held_back));
    let parts: Vec<_> = [breaker, running, held].into_iter().flatten().collect();
    if parts.is_empty() { NONE.to_owned() } else { parts.join(", ") }
}

fn describe(output: Output, service: &ServiceDescription) -> String {
    let ejection = match service.eject_after {
        0 => "never".to_owned(),
        failures => format!("after {failures} connection failures in a row, for {}", human::duration_ms(service.eject_ms)),
    };
    let or_any = |bound: Option<u32>, unit: &str| bound.map_or_else(|| "any number".to_owned(), |most| format!("at most {most}{unit}"));
    let breaker = service.break_after.map_or_else(
        || "never".to_owned(),
        |calls| format!("after {calls} calls in a row without an answer, for {}", human::duration_ms(service.break_ms)),
    );
    let shown = service.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ");
    let or_none = |text: String| if text.is_empty() { NONE.to_owned() } else { text };
    let tls = [("authorities", &service.tls.ca), ("certificate", &service.tls.certificate), ("key", &service.tls.key)];
    let tls = tls.into_iter().filter_map(|(what, secret)| Some(format!("{what} {}", secret.as_ref()?))).collect::<Vec<_>>().join(", ");
    let is_there = |pattern: &String| !service.unmatched_definitions.contains(pattern);
    let caller = |pattern: &String| if is_there(pattern) { pattern.clone() } else { format!("{pattern} (none is published)") };
    let callers = service.definitions.iter().map(caller).collect::<Vec<_>>().join(", ");
    let callers = if callers.is_empty() { "all definitions".to_owned() } else { callers };
    let head = fields(&[
        ("Service", service.name.to_string()),
        ("Left alone", ejection),
        ("Calls at a time", or_any(service.max_in_flight, "")),
        ("Calls", or_any(service.calls_per_second, " a second")),
        ("Not called", breaker),
        ("Called by", callers),
        ("Headers", or_none(shown)),
        ("Certificates", or_none(tls)),
        ("Plain HTTP", if service.allow_plain_http { "allowed for secrets" } else { "not for secrets" }.to_owned()),
        ("Now", load(service)),
        ("Updated", human::timestamp(service.updated_at_ms)),
    ]);
    let rows = service.endpoints.iter().map(|endpoint| {
        let left = endpoint.ejected_for_ms.map_or_else(|| NONE.to_owned(), human::duration_ms);
        [endpoint.url.clone(), endpoint.state.to_string(), endpoint.failures.to_string(), left]
    });
    format!("{head}\n\n{}", output.table(["ENDPOINT", "STATE", "FAILURES", "TRIED AGAIN IN"], rows))
}
