//! Prints the records of a topic as a queue group until Ctrl-C: `cargo run --example consume -- http://127.0.0.1:7070 lines printers`.

use sagamq_sdk::{CancellationToken, Client, HandlerError};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let client = Client::new(arguments.next().unwrap_or_else(|| "http://127.0.0.1:7070".into()))?;
    let topic = arguments.next().unwrap_or_else(|| "lines".into()).parse()?;
    let group = arguments.next().unwrap_or_else(|| "printers".into()).parse()?;

    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    let consumer = client.consumer(topic, group).concurrency(4).wait_for_topic(true);
    consumer
        .run(shutdown, |delivery| async move {
            // Bytes that are no text will never be text: no retry helps.
            let Some(value) = delivery.record.text() else { return Err(HandlerError::terminate("the record is no text")) };
            println!("{}/{} (delivery {}): {value}", delivery.record.partition, delivery.record.offset, delivery.attempt);
            Ok(())
        })
        .await?;
    Ok(())
}
