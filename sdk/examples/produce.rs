//! Sends each line of the standard input as a record: `cargo run --example produce -- http://127.0.0.1:7070 lines`.

use sagamq_sdk::Client;
use sagamq_sdk::api::TopicName;
use sagamq_sdk::api::record::ProduceRecord;
use sagamq_sdk::api::topic::TopicConfig;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let client = Client::new(arguments.next().unwrap_or_else(|| "http://127.0.0.1:7070".into()))?;
    let topic: TopicName = arguments.next().unwrap_or_else(|| "lines".into()).parse()?;
    client.create_topic(&topic, TopicConfig::default()).await?;

    let producer = client.producer(topic).build();
    let mut pending = Vec::new();
    for line in std::io::stdin().lines() {
        // Returns when there is room in the buffer; what becomes of the record is asked below.
        pending.push(producer.enqueue(ProduceRecord::text(line?)).await?);
    }
    for record in pending {
        let stored = record.await?;
        let offset = stored.offset.expect("nothing here is to be appended later");
        println!("partition {} offset {offset}{}", stored.partition, if stored.duplicate { " (duplicate)" } else { "" });
    }
    Ok(producer.close().await?)
}
