//! The answer to a request that stores records.

use sagamq_api::record::write;
use sagamq_broker::Produced;

/// What the answer says of a record, about.
const PRODUCED_BYTES: usize = 96;

/// Writes a [`ProduceResponse`](sagamq_api::topic::ProduceResponse).
pub(super) fn write_produced(produced: &[Produced]) -> Vec<u8> {
    let mut out = Vec::with_capacity((produced.len() + 1) * PRODUCED_BYTES);
    out.extend_from_slice(br#"{"records":["#);
    for (index, Produced { partition, offset, schedule, timestamp_ms, duplicate }) in produced.iter().enumerate() {
        out.extend_from_slice(if index == 0 { br#"{"partition":"# } else { br#",{"partition":"# });
        write::json(&mut out, partition);
        if let Some(offset) = offset {
            out.extend_from_slice(br#","offset":"#);
            write::json(&mut out, offset);
        }
        if let Some(schedule) = schedule {
            out.extend_from_slice(br#","schedule":"#);
            write::json(&mut out, schedule);
        }
        out.extend_from_slice(br#","timestamp_ms":"#);
        write::json(&mut out, timestamp_ms);
        out.extend_from_slice(if *duplicate { br#","duplicate":true}"# } else { br#","duplicate":false}"# });
    }
    out.extend_from_slice(b"]}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::topic::{ProduceResponse, ProducedRecord};
    use sagamq_api::{Offset, PartitionId, ScheduleId};

    #[test]
    fn what_is_written_of_produced_records_is_the_response() {
        let produced = |n: u32| Produced {
            partition: PartitionId(n),
            offset: (n != 2).then_some(Offset(u64::MAX - u64::from(n))),
            schedule: (n == 2).then_some(ScheduleId { due_ms: 5, shard: 1, commit: 2, index: 3 }),
            timestamp_ms: -i64::from(n),
            duplicate: n == 1,
        };
        for count in [0, 1, 3] {
            let produced: Vec<Produced> = (0..count).map(produced).collect();
            let shown = |&Produced { partition, offset, schedule, timestamp_ms, duplicate }: &Produced| ProducedRecord {
                partition,
                offset,
                schedule,
                timestamp_ms,
                duplicate,
            };
            let response = ProduceResponse { records: produced.iter().map(shown).collect() };
            let written = String::from_utf8(write_produced(&produced)).expect("JSON");
            assert_eq!(written, serde_json::to_string(&response).expect("JSON"));
        }
    }
}
