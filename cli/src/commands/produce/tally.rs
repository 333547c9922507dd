//! Where the records went: by partition for people, each record for programs.

use crate::args::Format;
use crate::error::CliError;
use crate::output::{Output, human};
use sagamq_api::topic::{ProduceResponse, ProducedRecord};
use sagamq_api::{Offset, PartitionId, ScheduleId};
use std::collections::BTreeMap;

/// Counts stored records. For people it stays small however many there are.
#[derive(Debug)]
pub(super) struct Tally {
    stored: u64,
    /// Of them, those that wait for their time.
    scheduled: u64,
    /// The last of these.
    last_schedule: Option<ScheduleId>,
    partitions: BTreeMap<PartitionId, PartitionTally>,
    /// Kept only if every record is to be printed.
    places: Option<Vec<ProducedRecord>>,
}

#[derive(Debug)]
struct PartitionTally {
    stored: u64,
    duplicates: u64,
    first: Offset,
    last: Offset,
}

impl Tally {
    pub(super) fn new(format: Format) -> Self {
        Self { stored: 0, scheduled: 0, last_schedule: None, partitions: BTreeMap::new(), places: (format == Format::Json).then(Vec::new) }
    }

    /// Records that are on the server's disk, duplicates included.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    pub(super) fn add(&mut self, place: ProducedRecord) {
        self.stored += 1;
        if let Some(places) = &mut self.places {
            places.push(place);
        }
        let Some(offset) = place.offset else {
            self.scheduled += 1;
            self.last_schedule = place.schedule;
            return;
        };
        let tally =
            self.partitions.entry(place.partition).or_insert(PartitionTally { stored: 0, duplicates: 0, first: offset, last: offset });
        tally.stored += 1;
        tally.duplicates += u64::from(place.duplicate);
        tally.first = tally.first.min(offset);
        tally.last = tally.last.max(offset);
    }

    pub(super) fn print(self, output: Output) -> Result<(), CliError> {
        if let Some(records) = self.places {
            return output.answer(&ProduceResponse { records }, |_| String::new());
        }
        output.note(&format!("{} stored", human::count(self.stored, "record")));
        if let Some(schedule) = self.last_schedule {
            output.note(&format!("{} of them wait for their time, the last as schedule {schedule}", self.scheduled));
        }
        if self.partitions.is_empty() {
            return Ok(());
        }
        let rows = self.partitions.iter().map(|(partition, tally)| {
            [partition.to_string(), tally.stored.to_string(), tally.first.to_string(), tally.last.to_string(), tally.duplicates.to_string()]
        });
        output.line(&output.table(["PARTITION", "RECORDS", "FIRST OFFSET", "LAST OFFSET", "DUPLICATES"], rows))
    }
}
