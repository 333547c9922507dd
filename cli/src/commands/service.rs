//! `sagamq service`.

use super::Context;
use crate::args::service::ServiceCommand;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, fields, human};
use sagamq_api::service::{ServiceDescription, ServiceList};
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
        service
            .endpoints
            .iter()
            .map(|endpoint| [service.name.to_string(), endpoint.url.clone(), endpoint.state.to_string(), endpoint.failures.to_string()])
    });
    output.table(["SERVICE", "ENDPOINT", "STATE", "FAILURES"], rows)
}

fn describe(output: Output, service: &ServiceDescription) -> String {
    let ejection = match service.eject_after {
        0 => "never".to_owned(),
        failures => format!("after {failures} connection failures in a row, for {}", human::duration_ms(service.eject_ms)),
    };
    let head =
        fields(&[("Service", service.name.to_string()), ("Left alone", ejection), ("Updated", human::timestamp(service.updated_at_ms))]);
    let rows = service.endpoints.iter().map(|endpoint| {
        let left = endpoint.ejected_for_ms.map_or_else(|| NONE.to_owned(), human::duration_ms);
        [endpoint.url.clone(), endpoint.state.to_string(), endpoint.failures.to_string(), left]
    });
    format!("{head}\n\n{}", output.table(["ENDPOINT", "STATE", "FAILURES", "TRIED AGAIN IN"], rows))
}
