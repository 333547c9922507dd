//! `sagamq group`.

use super::Context;
use crate::args::group::{GroupCommand, QueueSeekArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{Output, fields, human};
use sagamq_api::queue::{GroupDescription, GroupList, GroupSeek, GroupSeekResponse, PurgeRequest};
use serde_json::json;

pub(crate) async fn run(context: Context, command: GroupCommand) -> Result<Exit, CliError> {
    let Context { client, output } = context;
    match command {
        GroupCommand::List { topic } => {
            let groups = client.groups(&topic).await?;
            output.answer(&groups, |groups| list(output, groups))?;
        }
        GroupCommand::Describe { topic, group } => {
            let group = client.describe_group(&topic, &group).await?;
            output.answer(&group, |group| describe(output, group))?;
        }
        GroupCommand::Pause { topic, group } => {
            let answer = client.pause_group(&topic, &group).await?;
            output.answer(&answer, |_| format!("group {group} of topic {topic} is paused: nothing is delivered before it is resumed"))?;
        }
        GroupCommand::Resume { topic, group } => {
            let answer = client.resume_group(&topic, &group).await?;
            output.answer(&answer, |_| format!("group {group} of topic {topic} is delivered to"))?;
        }
        GroupCommand::Purge { topic, group, partition } => {
            let answer = client.purge_group(&topic, &group, &PurgeRequest { partition }).await?;
            output.answer(&answer, |answer| {
                format!("{} of topic {topic} settled for group {group}; dead letters stay", human::count(answer.purged, "record"))
            })?;
        }
        GroupCommand::Seek(QueueSeekArgs { topic, group, partition, to, offset, timestamp }) => {
            let timestamp_ms = timestamp.map(|when| when.to_millis());
            let request = GroupSeek { partition, offset, timestamp_ms, position: to.map(Into::into) };
            let answer = client.seek_group(&topic, &group, &request).await?;
            output.answer(&answer, |answer| sought(output, answer))?;
        }
        GroupCommand::Stream(command) => super::group_stream::run(&client, output, command).await?,
        GroupCommand::Delete { topic, group } => {
            client.delete_group(&topic, &group).await?;
            output.answer(&json!({ "topic": topic, "deleted": group }), |_| {
                format!("deleted group {group} of topic {topic}; the records stay")
            })?;
        }
    }
    Ok(Exit::Ok)
}

fn list(output: Output, groups: &GroupList) -> String {
    let rows = groups.groups.iter().map(|group| {
        [
            group.name.to_string(),
            group.lag_records.to_string(),
            human::duration_seconds(group.lag_seconds),
            group.in_flight.to_string(),
            group.delayed.to_string(),
            group.dead_letters.to_string(),
        ]
    });
    output.table(["GROUP", "LAG", "LAG TIME", "IN FLIGHT", "DELAYED", "DEAD LETTERS"], rows)
}

fn sought(output: Output, answer: &GroupSeekResponse) -> String {
    let rows =
        answer.partitions.iter().map(|of| [of.partition.to_string(), of.offset.to_string(), of.skipped.to_string(), of.again.to_string()]);
    output.table(["PARTITION", "NEXT", "SKIPPED", "AGAIN"], rows)
}

fn describe(output: Output, group: &GroupDescription) -> String {
    let head = fields(&[
        ("Group", group.name.to_string()),
        ("State", if group.paused { "paused" } else { "delivering" }.to_owned()),
        ("Lag", format!("{}, the oldest {} old", human::count(group.lag_records, "record"), human::duration_seconds(group.lag_seconds))),
        ("In flight", group.in_flight.to_string()),
        ("Delayed", group.delayed.to_string()),
        ("Waiting for their key", group.waiting_for_key.to_string()),
        ("Dead letters", format!("{} (topic {})", group.dead_letters, group.dead_letter_topic)),
        ("Lost to retention", format!("{} that were not settled", human::count(group.trimmed_unsettled, "record"))),
    ]);
    let rows = group.partitions.iter().map(|partition| {
        [
            partition.partition.to_string(),
            partition.ack_floor.to_string(),
            partition.next_offset.to_string(),
            partition.high_watermark.to_string(),
            partition.lag_records.to_string(),
            human::duration_seconds(partition.lag_seconds),
            partition.in_flight.to_string(),
            partition.delayed.to_string(),
            partition.dead_letters.to_string(),
        ]
    });
    let header = ["PARTITION", "ACK FLOOR", "NEXT", "HIGH WATERMARK", "LAG", "LAG TIME", "IN FLIGHT", "DELAYED", "DEAD LETTERS"];
    format!("{head}\n\n{}", output.table(header, rows))
}
