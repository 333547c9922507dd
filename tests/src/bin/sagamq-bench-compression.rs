//! `make bench-compression`: how much smaller batches become, and what that costs who sends and who reads them.

use bytes::{Bytes, BytesMut};
use sagamq::bench::payload::{Encoding, Payload, Shape, Values};
use sagamq_api::batch::{Batch, Compression, NewBatch, ReceivedBatch, Record, StoredRecord, Unpacked, take_framed};
use std::time::{Duration, Instant};

/// How long each figure is measured.
const EACH: Duration = Duration::from_millis(700);

/// Records of one batch of these values.
fn records(values: Values, batch: usize, size: usize) -> Vec<Record> {
    let shape = Shape { encoding: Encoding::Binary, compression: Compression::None, partitions: 1, batch, size, values, keys: 0 };
    let body: Bytes = Payload::new(shape).body(0, Duration::ZERO);
    let (_, bytes) = take_framed(&mut BytesMut::from(&body[..])).expect("whole").expect("there is one");
    let read = Batch::parse(bytes.freeze()).and_then(|batch| batch.records()).expect("sound");
    read.into_iter().map(StoredRecord::into_record).collect()
}

#[expect(clippy::disallowed_methods, reason = "how long something takes is what is measured")]
fn now() -> Instant {
    Instant::now()
}

/// Megabytes a second of batches of so many bytes.
fn rate<T>(bytes: usize, mut once: impl FnMut() -> T) -> f64 {
    let (begun, mut rounds) = (now(), 0_u32);
    while begun.elapsed() < EACH {
        std::hint::black_box(once());
        rounds += 1;
    }
    bytes as f64 * f64::from(rounds) / begun.elapsed().as_secs_f64() / 1e6
}

fn main() {
    println!("| values | a batch | compression | bytes of 100 | encode MB/s | check MB/s | read MB/s |");
    println!("|---|---|---|---:|---:|---:|---:|");
    for (name, values) in [("orders", Values::Orders), ("random", Values::Random), ("one letter", Values::Same)] {
        for (batch, size) in [(1, 1_024), (100, 256), (900, 1_024)] {
            let records = records(values, batch, size);
            let plain = NewBatch::encode(&records).expect("legal").len();
            for compression in Compression::ALL {
                let encode = || NewBatch::encode(&records).expect("legal").compressed(compression);
                let sent = encode();
                let check = || ReceivedBatch::parse(BytesMut::from(sent.bytes())).expect("sound");
                let read = || Unpacked::read(sent.bytes()).expect("sound");
                println!(
                    "| {name} | {batch} x {size} | {compression} | {:.1} | {:.0} | {:.0} | {:.0} |",
                    100.0 * sent.len() as f64 / plain as f64,
                    rate(plain, encode),
                    rate(plain, check),
                    rate(plain, read),
                );
            }
        }
    }
}
