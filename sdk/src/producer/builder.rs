//! How a producer is set up.

use super::Producer;
use super::batch::BatchLimits;
use super::form::{AROUND_BATCH_BYTES, Encoding};
use super::task::{ProducerTask, Sending};
use crate::client::Client;
use sagamq_api::batch::{Compression, HEADER_LEN};
use sagamq_api::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BODY_BYTES_MAX, PRODUCE_RECORDS_MAX, PRODUCER_BATCHES_KEPT};
use sagamq_api::{ProducerName, TopicName};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Most messages between the senders and the task. Small records are bounded by this, large ones by their bytes.
const BUFFER_RECORDS: usize = 16 * 1024;

/// Room for what is around the records of a request.
const FRAME_BYTES: usize = 64 + AROUND_BATCH_BYTES;

/// Room for what is around binary batches: at most one a record.
const BATCHES_BYTES: usize = PRODUCE_RECORDS_MAX * AROUND_BATCH_BYTES;

/// Builds a [`Producer`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProducerBuilder {
    client: Client,
    topic: TopicName,
    batch_records_max: usize,
    batch_bytes_max: usize,
    max_in_flight: usize,
    buffer_bytes_max: usize,
    linger: Duration,
    delivery_timeout: Duration,
    record_keys: bool,
    encoding: Encoding,
    compression: Compression,
    name: Option<ProducerName>,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, topic: TopicName) -> Self {
        Self {
            client,
            topic,
            batch_records_max: 1_000,
            batch_bytes_max: 1024 * 1024,
            max_in_flight: PRODUCER_BATCHES_KEPT,
            buffer_bytes_max: 16 * 1024 * 1024,
            linger: Duration::ZERO,
            delivery_timeout: Duration::from_secs(120),
            record_keys: false,
            encoding: Encoding::default(),
            compression: Compression::Lz4,
            name: None,
        }
    }

    /// Most records in one request (default 1,000; 1 to 10,000, of which a binary batch has 1,000 at most).
    pub fn batch_records_max(mut self, records: usize) -> Self {
        self.batch_records_max = records.clamp(1, PRODUCE_RECORDS_MAX);
        self
    }

    /// Most bytes of records in one request (default 1 MiB). A record that is larger travels alone.
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.batch_bytes_max = bytes.clamp(1, BODY_BYTES_MAX - FRAME_BYTES - BATCHES_BYTES);
        self
    }

    /// Most binary batches in flight for each partition (default and most 5: so many the server recognises when they come again). With more than one, a
    /// producer is not bound to one batch for each time that the server's disk takes; the order stays, whatever fails and is sent again. The more are in flight, the fuller another
    /// has to be: beside one it needs a fourth of the records or bytes that a batch may have, beside four all of them; what is less gathers. For records
    /// that neither have a key nor name a partition, those for other partitions count as well. 1 keeps batches as large as they get. Records as JSON travel one request at a time.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.max_in_flight = batches.clamp(1, PRODUCER_BATCHES_KEPT);
        self
    }

    /// Most bytes of records in memory, in flight and waiting (default 16 MiB). Who sends more waits.
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.buffer_bytes_max = bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        self
    }

    /// How long the first record of a batch waits for others when nothing is in flight (default: not at all). Batches fill by
    /// themselves under load; lingering only trades latency for fewer requests.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long a record may be on its way, counted from when it was put in (default 2 min). A record that has waited for so long in the
    /// buffer is not sent, and its sender is told so ([`ClientError::Expired`](crate::ClientError::Expired)); no attempt to send one
    /// begins later. So whatever the server does, every sender is answered after this and the client's request timeout, and so are
    /// [`Producer::flush`] and [`Producer::close`]. A binary batch is repeated for 5 minutes at most, later ones of its partition for 15, whatever is said here: beyond
    /// that the server may not know any more that it has it.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Whether to draw an idempotency key for each record that has none (default: no, a binary batch has a sequence and a request as JSON one key for all
    /// its records, which is cheaper for the server, and faster: records with keys of their own travel one request at a time). Then a record of unknown outcome can be sent again alone, with
    /// [`PendingRecord::idempotency_key`](super::PendingRecord::idempotency_key), from another process too.
    pub fn record_keys(mut self, draw: bool) -> Self {
        self.record_keys = draw;
        self
    }

    /// A name that is the same in whatever takes this producer's place, for example after a restart: with its first record the producer takes the name over, and
    /// whoever had it stores no binary batch more. Its records fail with `PRODUCER_FENCED`, and so do this one's when another has taken the name. Only
    /// sending is guarded so: what the former has stored is stored, and what it was not sure of is not known here.
    pub fn name(mut self, name: ProducerName) -> Self {
        self.name = Some(name);
        self
    }

    /// How records travel (default: [`Encoding::Binary`]).
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// How the records of binary batches are compressed (default: [`Compression::Lz4`], which costs little and makes texts several times
    /// smaller on the wire and on the server's disk; [`Compression::Zstd`] makes them smaller still and costs more). A batch of less than 1 KiB,
    /// and one that compression makes no smaller, travels as it is. Whoever reads the records does not notice.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The producer, with its task started.
    ///
    /// # Panics
    /// When called outside a Tokio runtime.
    #[must_use]
    pub fn build(self) -> Producer {
        let (sender, receiver) = mpsc::channel(BUFFER_RECORDS);
        let limits = BatchLimits { records: self.batch_records_max, bytes: self.batch_bytes_max };
        let binary_limits = BatchLimits {
            records: self.batch_records_max.min(BATCH_RECORDS_MAX as usize),
            bytes: self.batch_bytes_max.min(BATCH_BYTES_MAX - HEADER_LEN),
        };
        let sending = Sending {
            limits,
            binary_limits,
            in_flight_max: self.max_in_flight,
            linger: self.linger,
            delivery_timeout: self.delivery_timeout,
            compression: self.compression,
            name: self.name,
        };
        let task = ProducerTask::new(self.client, self.topic, sending, receiver);
        tokio::spawn(task.run());
        Producer {
            messages: sender,
            room: Arc::new(Semaphore::new(self.buffer_bytes_max)),
            buffer_bytes_max: self.buffer_bytes_max,
            record_keys: self.record_keys,
            encoding: self.encoding,
            record_bytes_max: BODY_BYTES_MAX - FRAME_BYTES,
        }
    }
}
