//! `sagamq topic`.

use super::Context;
use crate::args::topic::TopicCommand;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{Output, fields, human};
use sagamq_api::topic::{HotKey, Ordering, TopicConfig, TopicConfigChange, TopicDescription, TopicList};
use serde_json::json;

pub(crate) async fn run(context: Context, command: TopicCommand) -> Result<Exit, CliError> {
    let Context { client, output } = context;
    match command {
        TopicCommand::Create(args) => {
            let topic = client.create_topic(&args.topic, args.config()).await?;
            output.answer(&topic, |topic| describe(output, topic))?;
        }
        TopicCommand::Update(args) => {
            let change = args.change();
            if change == TopicConfigChange::default() {
                return Err(CliError::Usage("nothing to change: name at least one setting, for example --retention 30d".to_owned()));
            }
            let topic = client.update_topic(&args.topic, change).await?;
            output.answer(&topic, |topic| describe(output, topic))?;
        }
        TopicCommand::List => {
            let topics = client.topics().await?;
            output.answer(&topics, |topics| list(output, topics))?;
        }
        TopicCommand::Describe { topic } => {
            let topic = client.describe_topic(&topic).await?;
            output.answer(&topic, |topic| describe(output, topic))?;
        }
        TopicCommand::Delete { topic } => {
            client.delete_topic(&topic).await?;
            output.answer(&json!({ "deleted": topic }), |_| format!("deleted topic {topic} with all its records and groups"))?;
        }
    }
    Ok(Exit::Ok)
}

/// Records that can be read.
fn records(topic: &TopicDescription) -> u64 {
    topic.partitions.iter().map(|partition| partition.high_watermark.0.saturating_sub(partition.log_start_offset.0)).sum()
}

fn list(output: Output, topics: &TopicList) -> String {
    let rows = topics.topics.iter().map(|topic| {
        let created = human::timestamp(topic.created_at_ms);
        [topic.name.to_string(), topic.partitions.len().to_string(), records(topic).to_string(), created]
    });
    output.table(["TOPIC", "PARTITIONS", "RECORDS", "CREATED"], rows)
}

fn describe(output: Output, topic: &TopicDescription) -> String {
    let config = &topic.config;
    let limit = if config.delivery_limit == 0 { "none".to_owned() } else { config.delivery_limit.to_string() };
    let backoff = format!("{} to {}", human::duration_ms(config.backoff_initial_ms), human::duration_ms(config.backoff_max_ms));
    let ordering = match config.ordering {
        Ordering::None => "none",
        Ordering::Key => "by key",
    };
    let head = fields(&[
        ("Topic", topic.name.to_string()),
        ("Created", human::timestamp(topic.created_at_ms)),
        ("Records", records(topic).to_string()),
        ("Largest record", human::size(config.record_bytes_max.into())),
        ("Deduplication window", human::duration_ms(config.dedup_window_ms)),
        ("Delivery limit", limit),
        ("Redelivery backoff", backoff),
        ("Cleanup", cleanup(config)),
        ("Retention", retention(config)),
        ("Ordering", ordering.to_owned()),
        ("Durability", config.durability.to_string()),
        ("Hottest keys", hottest(topic)),
        ("Size", human::size(topic.partitions.iter().map(|partition| partition.bytes).sum())),
    ]);
    let rows = topic.partitions.iter().map(|of| {
        let rate = format!("{}/s", human::size(of.bytes_per_second as u64));
        let records = format!("{:.1}/s", of.records_per_second);
        [of.partition.to_string(), of.log_start_offset.to_string(), of.high_watermark.to_string(), human::size(of.bytes), records, rate]
    });
    format!("{head}\n\n{}", output.table(["PARTITION", "LOG START", "HIGH WATERMARK", "SIZE", "RECORDS IN", "BYTES IN"], rows))
}

/// The record keys that the topic gets most of.
fn hottest(topic: &TopicDescription) -> String {
    let shown = |of: &HotKey| {
        let key = of.key.as_ref().map(|key| format!("`{}`", key.escape_debug()));
        let key = key.or_else(|| of.key_base64.as_ref().map(|key| format!("base64 {key}"))).unwrap_or_default();
        format!("{key} {:.0}%", of.share * 100.0)
    };
    match &topic.hottest_keys[..] {
        [] => "none".to_owned(),
        keys => keys.iter().map(shown).collect::<Vec<_>>().join(", "),
    }
}

fn cleanup(config: &TopicConfig) -> String {
    let policy = config.cleanup_policy;
    if !policy.compacts() {
        return policy.to_string();
    }
    let (lag, gone) = (human::duration_ms(config.min_compaction_lag_ms), human::duration_ms(config.delete_retention_ms));
    format!("{policy}, after {lag}; keys that are gone after {gone}")
}

fn retention(config: &TopicConfig) -> String {
    let time = (config.retention_ms > 0).then(|| human::duration_ms(config.retention_ms));
    let bytes = (config.retention_bytes > 0).then(|| format!("{} a partition", human::size(config.retention_bytes)));
    match (time, bytes) {
        _ if !config.cleanup_policy.deletes() => "for ever, the newest of each key".to_owned(),
        (None, None) => "for ever".to_owned(),
        (time, bytes) => time.into_iter().chain(bytes).collect::<Vec<_>>().join(", at most "),
    }
}
