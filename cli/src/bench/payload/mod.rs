//! Bodies of produce requests: values are made once, a request is put together from them.

mod binary;
mod json;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sagamq_api::batch::Compression;
use sagamq_api::headers::{APPLICATION_BATCH, APPLICATION_JSON};
use std::time::Duration;

/// Memory for values, and for bodies that are made before.
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
    /// Orders as JSON text, cut to the size: they compress as what services tell each other does.
    Orders,
}

/// How records travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// In batches that the server stores as they come, as the SDK's producer sends them.
    Binary,
    /// As JSON.
    Json,
}

/// What requests look like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How records travel.
    pub encoding: Encoding,
    /// How binary batches are compressed.
    pub compression: Compression,
    /// Partitions of the topic: in a binary batch the key's is chosen here.
    pub partitions: u32,
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
    values: Pool,
    is_stamped: bool,
}

/// What a request is put together from.
#[derive(Debug)]
enum Pool {
    /// Members of a record, for example `"value":"..."`, or with a stamp the text behind it.
    Json(Vec<String>),
    /// Values, or with a stamp what stands behind it.
    Binary(Vec<Bytes>),
    /// Whole bodies, where nothing in them depends on which request it is.
    Bodies(Vec<Bytes>),
}

/// A record of a request: what its value is, and its key.
struct Place {
    number: u64,
    key: Option<String>,
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
            Values::Random | Values::Orders => (POOL_BYTES / shape.size.max(1)).clamp(1, POOL_COUNT),
            Values::Same => 1,
        };
        // What remains behind the stamp and a space.
        let size = if is_stamped { shape.size - STAMPED_SIZE_MIN } else { shape.size };
        let values: Vec<Vec<u8>> = (0..count).map(|_| value(shape.values, size, is_stamped, &mut random)).collect();
        let values = match shape.encoding {
            Encoding::Json => Pool::Json(values.iter().map(|value| json::member(value, shape.values, is_stamped)).collect()),
            Encoding::Binary => Pool::Binary(values.into_iter().map(Bytes::from).collect()),
        };
        let mut payload = Self { shape, values, is_stamped };
        if shape.encoding == Encoding::Binary && shape.keys == 0 && !is_stamped {
            let bodies = (POOL_BYTES as u64 / payload.bytes().max(1)).clamp(1, POOL_COUNT as u64);
            payload.values = Pool::Bodies((0..bodies).map(|index| payload.body(index, Duration::ZERO)).collect());
        }
        payload
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

    /// The media type of the bodies.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self.shape.encoding {
            Encoding::Json => APPLICATION_JSON,
            Encoding::Binary => APPLICATION_BATCH,
        }
    }

    /// The body of request `index`, which was meant to start then.
    #[must_use]
    pub fn body(&self, index: u64, intended: Duration) -> Bytes {
        let stamp = self.is_stamped.then(|| format!("{:0STAMP$} ", intended.as_micros()));
        match &self.values {
            Pool::Bodies(bodies) => of(bodies, index).clone(),
            Pool::Json(values) => json::body(self.places(index), values, stamp.as_deref()),
            Pool::Binary(values) => binary::body(self.places(index), values, stamp.as_deref(), self.shape),
        }
    }

    fn places(&self, index: u64) -> impl Iterator<Item = Place> + Clone {
        let Shape { batch, keys, .. } = self.shape;
        let first = index.wrapping_mul(batch as u64);
        (0..batch as u64).map(move |place| {
            let number = first.wrapping_add(place);
            Place { number, key: (keys > 0).then(|| format!("key-{}", number % keys)) }
        })
    }

    /// When a stamped record was meant to be sent, from the beginning of the run. `None`: it has no stamp.
    #[must_use]
    pub fn stamp_of(value: &str) -> Option<Duration> {
        value.get(..STAMP)?.parse().ok().map(Duration::from_micros)
    }
}

/// The things in turns.
fn of<T>(things: &[T], number: u64) -> &T {
    &things[usize::try_from(number % things.len() as u64).expect("it is below a length")]
}

fn value(values: Values, size: usize, is_text: bool, random: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![b'x'; size];
    if values == Values::Orders {
        bytes.clear();
        while bytes.len() < size {
            bytes.extend_from_slice(order(random).as_bytes());
        }
        bytes.truncate(size);
    }
    if values == Values::Random {
        random.fill_bytes(&mut bytes);
        if is_text {
            // 64 letters, so six bits of each byte are random.
            const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            bytes.iter_mut().for_each(|byte| *byte = LETTERS[usize::from(*byte % 64)]);
        }
    }
    bytes
}

fn order(random: &mut StdRng) -> String {
    let mut below = |bound: u64| random.next_u64() % bound;
    let (id, customer, sku, pieces, cents) = (below(1 << 40), below(100_000), below(5_000), 1 + below(9), below(100_000));
    let (hour, minute, second, trace) = (below(24), below(60), below(60), below(u64::MAX));
    format!(
        r#"{{"order_id":"{id:012x}","customer":"customer-{customer}","currency":"EUR","items":[{{"sku":"sku-{sku}","pieces":{pieces},"price_cents":{cents}}}],"shipping_address":{{"city":"Berlin","country":"DE"}},"placed_at":"2026-11-29T{hour:02}:{minute:02}:{second:02}Z","trace_id":"{trace:016x}"}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use sagamq_api::batch::{Batch, take_framed};
    use sagamq_api::partitioner::partition_of;
    use sagamq_api::topic::ProduceRequest;

    fn shape(encoding: Encoding, values: Values) -> Shape {
        Shape { encoding, compression: Compression::None, partitions: 4, batch: 3, size: 100, values, keys: 2 }
    }

    /// Key and value of each record, as the server reads them; of a binary batch by partition.
    fn read(encoding: Encoding, body: &Bytes) -> Vec<(Option<String>, Bytes)> {
        let mut records = Vec::new();
        match encoding {
            Encoding::Json => {
                let request: ProduceRequest = serde_json::from_slice(body).expect("what the server reads");
                records.extend(request.records.into_iter().map(|record| record.into_payload().expect("a payload")));
            }
            Encoding::Binary => {
                let mut body = BytesMut::from(body.as_ref());
                while let Some((partition, batch)) = take_framed(&mut body).expect("what the server reads") {
                    for record in Batch::parse(batch.freeze()).expect("a batch").records().expect("records") {
                        let of_key = record.payload.key.as_deref().map(|key| partition_of(key, 4));
                        assert_eq!(partition, of_key, "a key has its partition, and without one the server chooses");
                        records.push(record.payload);
                    }
                }
            }
        }
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        records.into_iter().map(|payload| (payload.key.map(text), payload.value.expect("a value"))).collect()
    }

    const ENCODINGS: [Encoding; 2] = [Encoding::Binary, Encoding::Json];

    #[test]
    fn binary_bodies_are_compressed_as_they_are_to_be() {
        let orders = |compression| Shape { compression, batch: 100, size: 512, ..shape(Encoding::Binary, Values::Orders) };
        let [plain, lz4, zstd] = Compression::ALL.map(|compression| Payload::new(orders(compression)).body(0, Duration::ZERO));
        assert!(zstd.len() < lz4.len() && 2 * lz4.len() < plain.len(), "{} {} {}", zstd.len(), lz4.len(), plain.len());
        let records = |body| {
            let mut records = read(Encoding::Binary, body);
            records.sort();
            records
        };
        assert!(records(&plain) == records(&lz4) && records(&plain) == records(&zstd));
    }

    #[test]
    fn a_request_has_its_records_of_their_size_with_keys_in_turns() {
        for (encoding, values) in
            ENCODINGS.into_iter().flat_map(|encoding| [Values::Random, Values::Same, Values::Orders].map(|values| (encoding, values)))
        {
            let payload = Payload::new(shape(encoding, values));
            let bodies = [payload.body(0, Duration::ZERO), payload.body(1, Duration::ZERO)];
            let mut records: Vec<_> = bodies.iter().flat_map(|body| read(encoding, body)).collect();
            assert!(records.iter().all(|record| record.1.len() == 100), "{encoding:?} {values:?}");
            records.sort_by(|a, b| a.0.cmp(&b.0));
            let keys: Vec<_> = records.iter().map(|record| record.0.as_deref().expect("a key")).collect();
            assert_eq!(keys, ["key-0", "key-0", "key-0", "key-1", "key-1", "key-1"]);
            assert_eq!(records[0].1 == records[1].1, values == Values::Same, "random values differ");
            assert_eq!((payload.records(), payload.bytes()), (3, 300));
        }
    }

    #[test]
    fn requests_without_keys_are_different_ones_for_the_server_to_place() {
        for encoding in ENCODINGS {
            let payload = Payload::new(Shape { keys: 0, ..shape(encoding, Values::Random) });
            let records = [0, 1].map(|index| read(encoding, &payload.body(index, Duration::ZERO)));
            assert_ne!(records[0], records[1], "{encoding:?}");
            assert!(records.iter().flatten().all(|(key, value)| key.is_none() && value.len() == 100), "{encoding:?}");
        }
    }

    #[test]
    fn a_large_request_is_several_batches_within_their_bounds() {
        let large = Shape { batch: 2_500, size: 1_024, keys: 0, ..shape(Encoding::Binary, Values::Random) };
        let body = Payload::new(large).body(0, Duration::ZERO);
        assert_eq!(read(Encoding::Binary, &body).len(), 2_500);
        let mut body = BytesMut::from(body.as_ref());
        while let Some((_, batch)) = take_framed(&mut body).expect("batches") {
            assert!(batch.len() <= sagamq_api::limits::BATCH_BYTES_MAX, "{}", batch.len());
        }
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_counts_as_value() {
        let intended = Duration::from_micros(123_456_789);
        for (encoding, size, expected) in ENCODINGS.into_iter().flat_map(|encoding| [(encoding, 100, 100), (encoding, 1, STAMPED_SIZE_MIN)])
        {
            let payload = Payload::stamped(Shape { size, ..shape(encoding, Values::Random) });
            for (_, value) in read(encoding, &payload.body(7, intended)) {
                assert_eq!(value.len(), expected);
                assert_eq!(Payload::stamp_of(std::str::from_utf8(&value).expect("text")), Some(intended));
            }
        }
        assert_eq!(Payload::stamp_of("short"), None);
        assert_eq!(Payload::stamp_of("no digits at all"), None);
    }
}
