//! Prints records: a line each, as columns, as JSON, or the value alone.

use super::sink::Sink;
use crate::args::Format;
use crate::error::CliError;
use crate::output::{NONE, Output, human, visible};
use sagamq_api::queue::Delivery;
use sagamq_api::record::{ConsumedRecord, Header};
use serde::Serialize;

/// What is printed as JSON: a record, alone or within something.
pub(super) trait Document: Serialize + Clone {
    /// The record.
    fn record_mut(&mut self) -> &mut ConsumedRecord;
}

impl Document for ConsumedRecord {
    fn record_mut(&mut self) -> &mut ConsumedRecord {
        self
    }
}

impl Document for Delivery {
    fn record_mut(&mut self) -> &mut ConsumedRecord {
        &mut self.record
    }
}

/// Prints records until there are enough.
#[derive(Debug)]
pub(super) struct Printer {
    output: Output,
    value_only: bool,
    left: Option<u64>,
    sink: Sink,
}

impl Printer {
    pub(super) fn new(output: Output, value_only: bool, max: Option<u64>) -> Self {
        Self { output, value_only, left: max, sink: Sink::stdout() }
    }

    /// How many more records are wanted; `None` for all.
    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// Whether enough were printed.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// The output, for notes.
    pub(super) fn output(&self) -> Output {
        self.output
    }

    /// Whether it is known of each record that whoever reads stdout has read it, if records are printed one by one.
    pub(super) fn knows_what_is_read(&self) -> bool {
        self.sink.is_pipe()
    }

    /// Prints records, at most as many as are wanted. When this returns, they have left the process; where stdout is a pipe, they were
    /// read.
    ///
    /// `document` is what is printed as JSON: the record with all that the server said about it, on one line.
    pub(super) async fn print<'a, T: Document + 'a>(
        &mut self,
        records: impl IntoIterator<Item = (&'a ConsumedRecord, &'a T)>,
    ) -> Result<(), CliError> {
        let mut text = Vec::new();
        let mut count = 0;
        for (record, document) in records.into_iter().take(self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX)))
        {
            self.write(&mut text, record, document)?;
            count += 1;
        }
        self.sink.write(text, true).await?;
        self.left = self.left.map(|left| left - count);
        Ok(())
    }

    fn write<T: Document>(&self, text: &mut Vec<u8>, record: &ConsumedRecord, document: &T) -> Result<(), CliError> {
        if self.value_only {
            let value = record.value_bytes().map_err(|error| CliError::Failed(format!("the server sent a bad record: {error}")))?;
            text.extend_from_slice(&value.unwrap_or_default());
        } else if self.output.format == Format::Json {
            let written = if record.is_one_line() {
                serde_json::to_writer(&mut *text, document)
            } else {
                let mut document = document.clone();
                document.record_mut().make_one_line();
                serde_json::to_writer(&mut *text, &document)
            };
            written.map_err(|error| CliError::Failed(format!("the record cannot be written as JSON: {error}")))?;
        } else {
            text.extend_from_slice(columns(record).as_bytes());
        }
        text.push(b'\n');
        Ok(())
    }
}

/// Place, time, key, headers and value, divided by tabs.
fn columns(record: &ConsumedRecord) -> String {
    let or_none = |text: String| if text.is_empty() { NONE.to_owned() } else { text };
    let key = record.key.clone().or_else(|| record.key_base64.as_ref().map(|key| format!("base64:{key}"))).unwrap_or_default();
    let headers: Vec<String> = record.headers.iter().map(header).collect();
    let value = match &record.value_base64 {
        Some(base64) => format!("base64:{base64}"),
        None => record.text().unwrap_or_default(),
    };
    let place = format!("{}:{}", record.partition, record.offset);
    let time = human::timestamp_ms(record.timestamp_ms);
    format!("{place}\t{time}\t{}\t{}\t{}", visible(&or_none(key)), visible(&or_none(headers.join(","))), visible(&value))
}

fn header(header: &Header) -> String {
    match header.value.as_deref().map(core::str::from_utf8) {
        None => header.name.clone(),
        Some(Ok(text)) => format!("{}={text}", header.name),
        Some(Err(_)) => format!("{}=(not text)", header.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::record::{Payload, ProduceRecord};
    use sagamq_api::{Offset, PartitionId};

    #[test]
    fn a_record_is_one_line_of_five_columns_whatever_is_in_it() {
        let payload: Payload = ProduceRecord::text("a\tb\n\x1b[31m").with_header("h", "1").into_payload().expect("a record");
        let record = ConsumedRecord::new(PartitionId(1), Offset(2), 0, payload);
        assert_eq!(columns(&record), "1:2\t1970-01-01 00:00:00.000Z\t-\th=1\ta\\tb\\n\\u{1b}[31m");
    }
}
