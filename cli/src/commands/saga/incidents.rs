//! `sagamq saga incidents`: what is wrong now.

use crate::commands::Context;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, human};
use sagamq_api::SagaName;
use sagamq_api::saga::{IncidentList, IncidentQuery};

pub(super) async fn list(context: &Context, saga: Option<SagaName>, limit: u32) -> Result<Exit, CliError> {
    let list = context.client.sagas().incidents(&IncidentQuery { saga, limit: Some(limit) }).await?;
    context.output.answer(&list, |list| table(context.output, list))?;
    if list.left_out > 0 {
        context.output.note(&format!("{} more: see --limit", human::count(list.left_out, "incident")));
    }
    if list.quarantined > 0 {
        let count = human::count(list.quarantined, "saga");
        context.output.note(&format!("beside these, {count} set aside: see `sagamq saga list --state quarantined`"));
    }
    Ok(Exit::Ok)
}

fn table(output: Output, list: &IncidentList) -> String {
    let rows = list.incidents.iter().map(|incident| {
        let what = match (&incident.step, incident.operation) {
            (Some(step), Some(operation)) => format!("{step} {operation}"),
            (Some(step), None) => step.to_string(),
            (None, _) => NONE.to_owned(),
        };
        [
            incident.count.to_string(),
            incident.blocked.to_string(),
            format!("{} v{}", incident.saga, incident.version),
            what,
            incident.code.clone(),
            human::duration_ms(incident.oldest_age_ms),
            human::duration_ms(incident.newest_age_ms),
            incident.examples.first().map_or_else(|| NONE.to_owned(), ToString::to_string),
            incident.message.clone(),
        ]
    });
    output.table(["SAGAS", "BLOCKED", "SAGA", "CALL", "CODE", "OLDEST", "NEWEST", "EXAMPLE", "MESSAGE"], rows)
}
