//! Bodies of produce requests: values are made once, a request is put together from them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::Duration;

/// Memory for values.
const POOL_BYTES: usize = 8 << 20;

/// Most different values.
const POOL_COUNT: usize = 8_192;

/// Digits of the stamp in front of a value: microseconds.
const STAMP: usize = 15;

/// Smallest value that has room for a stamp.
pub const STAMPED_SIZE_MIN: usize = STAMP + 1;

/// What values are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Random bytes, as base64 in JSON: nothing on the way can compress them.
    Random,
    /// The same letter: everything on the way can compress them.
    Same,
}

/// What requests look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Records of a request.
    pub batch: usize,
    /// Bytes of a value.
    pub size: usize,
    /// What values are made of.
    pub values: Values,
    /// Different keys, which records take in turns; 0: none has a key.
    pub keys: u64,
}

/// Requests of one shape; the same in every run.
#[derive(Debug)]
pub struct Payload {
    shape: Shape,
    /// Members of a record, for example `"value":"..."`, or with a stamp the text behind it.
    values: Vec<String>,
    is_stamped: bool,
}

impl Payload {
    /// Makes the values.
    ///
    /// # Panics
    /// When a request would have no records.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self::make(shape, false)
    }

    /// Values are text and begin with a time, see [`Self::stamp_of`]. They are never smaller than [`STAMPED_SIZE_MIN`].
    ///
    /// # Panics
    /// When a request would have no records.
    #[must_use]
    pub fn stamped(shape: Shape) -> Self {
        Self::make(Shape { size: shape.size.max(STAMPED_SIZE_MIN), ..shape }, true)
    }

    fn make(shape: Shape, is_stamped: bool) -> Self {
        assert!(shape.batch > 0, "a request has records");
        let mut random = StdRng::seed_from_u64(1);
        let count = match shape.values {
            Values::Random => (POOL_BYTES / shape.size.max(1)).clamp(1, POOL_COUNT),
            Values::Same => 1,
        };
        let values = (0..count).map(|_| value(shape, is_stamped, &mut random)).collect();
        Self { shape, values, is_stamped }
    }

    /// Records of a request.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.shape.batch as u64
    }

    /// Bytes of the values of a request.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.shape.batch * self.shape.size) as u64
    }

    /// Bytes of a value.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shape.size
    }

    /// The body of request `index`, which was meant to start then.
    #[must_use]
    pub fn body(&self, index: u64, intended: Duration) -> Bytes {
        let Shape { batch, keys, .. } = self.shape;
        let mut body = String::with_capacity(batch * (self.values[0].len() + 48) + 16);
        body.push_str(r#"{"records":["#);
        for place in 0..batch as u64 {
            let number = index.wrapping_mul(batch as u64).wrapping_add(place);
            if place > 0 {
                body.push(',');
            }
            body.push('{');
            let value = &self.values[usize::try_from(number % self.values.len() as u64).expect("it is below a length")];
            if self.is_stamped {
                body.push_str(&format!(r#""value":"{:0STAMP$} "#, intended.as_micros()));
            }
            body.push_str(value);
            if keys > 0 {
                body.push_str(&format!(r#","key":"key-{}""#, number % keys));
            }
            body.push('}');
        }
        body.push_str("]}");
        body.into()
    }

    /// When a stamped record was meant to be sent, from the beginning of the run. `None`: it has no stamp.
    #[must_use]
    pub fn stamp_of(value: &str) -> Option<Duration> {
        value.get(..STAMP)?.parse().ok().map(Duration::from_micros)
    }
}

fn value(shape: Shape, is_stamped: bool, random: &mut StdRng) -> String {
    // What remains behind the stamp and a space.
    let size = if is_stamped { shape.size - STAMPED_SIZE_MIN } else { shape.size };
    let text = match shape.values {
        Values::Same => "x".repeat(size),
        Values::Random => {
            let mut bytes = vec![0; size];
            random.fill_bytes(&mut bytes);
            STANDARD.encode(bytes)
        }
    };
    match (is_stamped, shape.values) {
        (true, _) => format!("{}\"", &text[..size]),
        (false, Values::Same) => format!(r#""value":"{text}""#),
        (false, Values::Random) => format!(r#""value_base64":"{text}""#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::topic::ProduceRequest;

    fn shape(values: Values) -> Shape {
        Shape { batch: 3, size: 100, values, keys: 2 }
    }

    fn read(body: &Bytes) -> Vec<(Option<String>, usize, Vec<u8>)> {
        let request: ProduceRequest = serde_json::from_slice(body).expect("what the server reads");
        let text = |record: &sagamq_api::record::ProduceRecord| serde_json::to_value(record).expect("JSON");
        let bytes = |record: &sagamq_api::record::ProduceRecord| match &text(record)["value_base64"] {
            serde_json::Value::String(base64) => STANDARD.decode(base64).expect("base64"),
            _ => text(record)["value"].as_str().expect("text").as_bytes().to_vec(),
        };
        request.records.iter().map(|record| (text(record)["key"].as_str().map(str::to_owned), bytes(record).len(), bytes(record))).collect()
    }

    #[test]
    fn a_request_has_its_records_of_their_size_with_keys_in_turns() {
        for values in [Values::Random, Values::Same] {
            let payload = Payload::new(shape(values));
            let records: Vec<_> = [payload.body(0, Duration::ZERO), payload.body(1, Duration::ZERO)].iter().flat_map(read).collect();
            assert!(records.iter().all(|record| record.1 == 100), "{values:?}");
            let keys: Vec<_> = records.iter().map(|record| record.0.as_deref().expect("a key")).collect();
            assert_eq!(keys, ["key-0", "key-1", "key-0", "key-1", "key-0", "key-1"]);
            assert_eq!((payload.records(), payload.bytes()), (3, 300));
            assert_eq!(records[0].2 == records[1].2, values == Values::Same, "random values differ");
        }
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_counts_as_value() {
        let intended = Duration::from_micros(123_456_789);
        for (size, expected) in [(100, 100), (1, STAMPED_SIZE_MIN)] {
            let records = read(&Payload::stamped(Shape { size, ..shape(Values::Random) }).body(7, intended));
            for (_, length, value) in records {
                assert_eq!(length, expected);
                assert_eq!(Payload::stamp_of(std::str::from_utf8(&value).expect("text")), Some(intended));
            }
        }
        assert_eq!(Payload::stamp_of("short"), None);
        assert_eq!(Payload::stamp_of("no digits at all"), None);
    }
}
