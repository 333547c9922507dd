//! `sagamq group stream`.

use crate::args::group::{SeekArgs, StreamCommand};
use crate::error::CliError;
use crate::output::{NONE, Output, fields, human};
use sagamq_api::stream::{StreamGroupDescription, StreamGroupList, StreamMember, StreamOffsetList, StreamSeek};
use sagamq_sdk::Client;
use serde_json::json;

pub(super) async fn run(client: &Client, output: Output, command: StreamCommand) -> Result<(), CliError> {
    match command {
        StreamCommand::List => {
            let groups = client.stream_groups().await?;
            output.answer(&groups, |groups| list(output, groups))
        }
        StreamCommand::Describe { group } => {
            let group = client.describe_stream_group(&group).await?;
            output.answer(&group, |group| describe(output, group))
        }
        StreamCommand::Offsets { group } => {
            let stands = client.stream_offsets(&group).await?;
            output.answer(&stands, |stands| offsets(output, stands))
        }
        StreamCommand::Seek(SeekArgs { group, topic, partition, to, offset, timestamp }) => {
            let timestamp_ms = timestamp.map(|when| when.to_millis());
            let request = StreamSeek { topic, partition, offset, timestamp_ms, position: to.map(Into::into) };
            let stands = client.stream_seek(&group, &request).await?;
            output.answer(&stands, |stands| offsets(output, stands))
        }
        StreamCommand::Delete { group } => {
            client.delete_stream_group(&group).await?;
            output.answer(&json!({ "deleted": group }), |_| format!("deleted stream group {group} with its offsets; the records stay"))
        }
    }
}

fn list(output: Output, groups: &StreamGroupList) -> String {
    let rows = groups.groups.iter().map(|group| {
        let topics: Vec<String> = group.topics.iter().map(ToString::to_string).collect();
        [group.name.to_string(), topics.join(", "), human::timestamp_ms(i64::try_from(group.created_at_ms).unwrap_or(i64::MAX))]
    });
    output.table(["GROUP", "TOPICS", "CREATED"], rows)
}

fn describe(output: Output, group: &StreamGroupDescription) -> String {
    let head = fields(&[
        ("Group", group.name.to_string()),
        ("Lag", format!("{}, the oldest {} old", human::count(group.lag_records, "record"), human::duration_seconds(group.lag_seconds))),
        ("Lost to retention", format!("{} that were not committed", human::count(group.trimmed_unsettled, "record"))),
        ("Members", group.members.len().to_string()),
        ("Epoch", group.epoch.to_string()),
    ]);
    let members = group.members.iter().map(|member| {
        let instance = member.instance_id.as_ref().map_or_else(|| NONE.to_owned(), ToString::to_string);
        let left = human::duration_seconds(member.session_left_ms as f64 / 1000.0);
        [member.member_id.to_string(), instance, member.epoch.to_string(), member.held.to_string(), state(member), left]
    });
    let partitions = group.partitions.iter().map(|of| {
        [
            of.topic.to_string(),
            of.partition.to_string(),
            of.offset.to_string(),
            of.high_watermark.to_string(),
            of.lag_records.to_string(),
            human::duration_seconds(of.lag_seconds),
            of.member_id.as_ref().map_or_else(|| NONE.to_owned(), ToString::to_string),
        ]
    });
    let members = output.table(["MEMBER", "INSTANCE", "EPOCH", "HOLDS", "STATE", "SESSION LEFT"], members);
    let partitions = output.table(["TOPIC", "PARTITION", "OFFSET", "HIGH WATERMARK", "LAG", "LAG TIME", "MEMBER"], partitions);
    format!("{head}\n\n{members}\n\n{partitions}")
}

fn state(member: &StreamMember) -> String {
    match (member.away, member.revoked, member.awaited) {
        (true, ..) => "away".to_owned(),
        (false, 0, 0) => "steady".to_owned(),
        (false, 0, awaited) => format!("waits for {awaited}"),
        (false, revoked, _) => format!("hands back {revoked}"),
    }
}

fn offsets(output: Output, stands: &StreamOffsetList) -> String {
    let rows = stands.offsets.iter().map(|of| [of.topic.to_string(), of.partition.to_string(), of.offset.to_string()]);
    output.table(["TOPIC", "PARTITION", "OFFSET"], rows)
}
