//! `sagamq schedule`.

use super::Context;
use crate::args::schedule::{CancelArgs, ListArgs, ScheduleCommand};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{NONE, Output, human};
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::schedule::{ScheduleList, ScheduleQuery};
use serde_json::json;

pub(crate) async fn run(context: Context, command: ScheduleCommand) -> Result<Exit, CliError> {
    let output = context.output;
    match command {
        ScheduleCommand::List(args) => {
            let schedules = pages(&context, args).await?;
            output.answer(&schedules, |schedules| list(output, schedules))?;
            if let Some(cursor) = &schedules.next_cursor {
                output.note(&format!("there are more: see --limit and --all, or go on with --cursor {cursor}"));
            }
        }
        ScheduleCommand::Cancel(CancelArgs { topic, schedules }) => {
            for (done, &schedule) in schedules.iter().enumerate() {
                context.client.cancel_schedule(&topic, schedule).await.map_err(|error| CliError::Partly {
                    context: format!("after {} were cancelled", human::count(done as u64, "schedule")),
                    error: Box::new(error.into()),
                })?;
            }
            output.answer(&json!({ "topic": topic, "cancelled": schedules }), |_| {
                format!("{} cancelled", human::count(schedules.len() as u64, "schedule"))
            })?;
        }
    }
    Ok(Exit::Ok)
}

/// One page after the other, until there are enough.
async fn pages(context: &Context, args: ListArgs) -> Result<ScheduleList, CliError> {
    let most = if args.all { usize::MAX } else { usize::try_from(args.limit).unwrap_or(usize::MAX) };
    let mut list = ScheduleList { schedules: Vec::new(), next_cursor: args.cursor };
    loop {
        let left = most - list.schedules.len();
        let max_records = Some(u32::try_from(left).map_or(PAGE_ROWS_MAX, |left| left.min(PAGE_ROWS_MAX)));
        let query = ScheduleQuery { max_records, cursor: list.next_cursor.take() };
        let page = context.client.schedules(&args.topic, &query).await?;
        list.schedules.extend(page.schedules);
        list.next_cursor = page.next_cursor;
        if list.next_cursor.is_none() || list.schedules.len() >= most {
            return Ok(list);
        }
    }
}

fn list(output: Output, schedules: &ScheduleList) -> String {
    let rows = schedules.schedules.iter().map(|schedule| {
        [
            schedule.schedule.to_string(),
            human::timestamp(schedule.deliver_at),
            schedule.partition.to_string(),
            schedule.key.clone().or_else(|| schedule.key_base64.clone()).unwrap_or_else(|| NONE.to_owned()),
            human::size(schedule.bytes),
            human::timestamp(schedule.scheduled_at_ms),
        ]
    });
    output.table(["SCHEDULE", "DUE", "PARTITION", "KEY", "SIZE", "SCHEDULED"], rows)
}
