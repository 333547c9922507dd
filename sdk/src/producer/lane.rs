//! The records of a producer for one partition: those that wait, and up to five batches on their way, in their order.
//!
//! The partition takes batches in the order of their sequences and each once, so a batch whose answer is lost is sent again as it is, and one that
//! was refused because another is missing is sent again when that one is settled. When one is given up, or stored under other numbers, those behind it
//! have numbers that the partition will not take: nothing more is sent until all of them are answered, and then the lane begins an epoch, in which they are
//! counted anew. Only what was refused for sure is sent in it: what may be stored is told to be in doubt.
//!
//! A partition that knows as many producers as it may refuses those that it does not know. Such a lane sends its batches under idempotency keys, one after
//! the other, which needs nobody to be known.

use super::batch::{Batch, BatchLimits, Entry};
use super::flight::{Flight, Made, Mark, Where};
use crate::error::ClientError;
use sagamq_api::ErrorCode;
use sagamq_api::PartitionId;
use sagamq_api::batch::{EPOCH_MAX, Stamp, sequence_after};
use sagamq_api::producer::name_of_id;
use sagamq_api::topic::ProducedBatch;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long batches go under idempotency keys until the partition is asked again whether it knows the producer.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Records of one partition.
#[derive(Debug)]
pub(super) struct Lane {
    partition: PartitionId,
    /// In no batch yet.
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    /// How many of these have to go to this partition, and to no other.
    waiting_bound: usize,
    /// In their order, those on their way and those that are to be sent again.
    flights: VecDeque<Flight>,
    /// The number of the next batch: who sends it, and the sequence.
    next: Stamp,
    /// How many batches were made.
    made: u64,
    /// Until when batches go under idempotency keys: the partition knows as many producers as it may.
    unknown_until: Option<Instant>,
    /// The epoch is over: a new one begins when everything is answered.
    is_over: bool,
    /// Its records are to be dealt anew.
    is_closed: bool,
    /// The topic does not have the partition.
    is_missing: bool,
}

impl Lane {
    pub(super) fn new(partition: PartitionId, producer: u64) -> Self {
        Self {
            partition,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_bound: 0,
            flights: VecDeque::new(),
            next: Stamp { producer, epoch: 0, sequence: 0 },
            made: 0,
            unknown_until: None,
            is_over: false,
            is_closed: false,
            is_missing: false,
        }
    }

    /// Puts a record behind all others.
    pub(super) fn push(&mut self, entry: Entry) {
        self.waiting_bytes += entry.form.bytes();
        self.waiting_bound += usize::from(entry.form.is_bound());
        self.waiting.push_back(entry);
    }

    /// Takes the first record out.
    fn pop(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        self.waiting_bytes -= entry.form.bytes();
        self.waiting_bound -= usize::from(entry.form.is_bound());
        Some(entry)
    }

    /// Puts a record in front of all others.
    fn push_front(&mut self, entry: Entry) {
        self.waiting_bytes += entry.form.bytes();
        self.waiting_bound += usize::from(entry.form.is_bound());
        self.waiting.push_front(entry);
    }

    /// Takes everything out that is in no batch.
    fn take_waiting(&mut self) -> VecDeque<Entry> {
        (self.waiting_bytes, self.waiting_bound) = (0, 0);
        std::mem::take(&mut self.waiting)
    }

    /// How many batches may be in flight: of those under idempotency keys one, for nothing else keeps their order.
    fn in_flight_max(&self, in_flight_max: usize) -> u64 {
        if self.unknown_until.is_some() { 1 } else { in_flight_max as u64 }
    }

    /// What the next batch is recognised by.
    fn mark(&self) -> Mark {
        if self.unknown_until.is_some() { Mark::Key(Uuid::new_v4()) } else { Mark::Sequence(self.next) }
    }

    /// A batch was made: the next one follows it.
    fn follow(&mut self, flight: Flight) {
        self.made += 1;
        if let Mark::Sequence(_) = flight.mark {
            self.next.sequence = sequence_after(self.next.sequence, flight.records());
        }
        self.flights.push_back(flight);
    }

    /// How many of its records are in no batch.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty()
    }

    /// Whether what waits is as much as a batch may have.
    pub(super) fn is_full(&self, limits: BatchLimits) -> bool {
        self.waiting.len() >= limits.records || self.waiting_bytes >= limits.bytes
    }

    /// Whether what waits is worth a request of its own beside those under way: the more these are, the fuller it has to be, and with four of them it has to be
    /// a whole batch. What is less gathers until one of them is answered: many small requests cost both sides more than they gain.
    fn is_worth_it(&self, limits: BatchLimits, under_way: usize) -> bool {
        let is_enough = |has: usize, of: usize| has.saturating_mul(4) >= of.saturating_mul(under_way.min(4));
        is_enough(self.waiting.len(), limits.records) || is_enough(self.waiting_bytes, limits.bytes)
    }

    /// When the first record came that is in no batch, if another batch may go. `under_way`: the producer's requests for all partitions.
    pub(super) fn since(&self, in_flight_max: usize, limits: BatchLimits, under_way: usize) -> Option<Instant> {
        // Those that were answered count as long as one before them was not: the partition remembers so many and no more, and must know the first of them
        // when it comes again.
        let followed = self.flights.front().map_or(0, |first| self.made - first.before);
        // What could go to any partition gathers in one of them, whichever partition the requests under way are for.
        let beside = if self.waiting_bound == 0 { under_way } else { self.flights.len() };
        let may_go = !self.is_over && followed < self.in_flight_max(in_flight_max) && self.is_worth_it(limits, beside);
        self.waiting.front().filter(|_| may_go).map(|entry| entry.since)
    }

    /// The first batch that is to be sent, if it may be, and whether everything before it is settled.
    pub(super) fn next_to_send(&mut self, in_flight_max: usize) -> Option<(&mut Flight, bool)> {
        if self.is_over {
            return None;
        }
        let in_flight_max = self.in_flight_max(in_flight_max);
        let (first, before) = self.flights.front().map(|first| (first.number, first.before))?;
        let place = self.flights.iter().position(|flight| !matches!(flight.place, Where::Sent { .. }))?;
        let flight = &mut self.flights[place];
        // The same one is still missing. What lies behind would be refused as well.
        let is_held = place > 0 && flight.place == Where::Refused { behind: first };
        let is_near = flight.before - before < in_flight_max;
        (is_near && !is_held).then_some((flight, place == 0))
    }

    /// Makes a batch of what waits. Records whose time is over are told so. `partitions`: how many the topic is believed to have.
    pub(super) fn seal(&mut self, number: u64, partitions: Option<u32>, limits: BatchLimits, delivery_timeout: Duration) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.waiting.front() {
            let size = entry.form.bytes();
            let fits = entries.len() < limits.records && bytes + size <= limits.bytes;
            let is_mixed = entries.first().is_some_and(|first| first.form.given_ms().is_some() != entry.form.given_ms().is_some());
            if !entries.is_empty() && (!fits || is_mixed) {
                break;
            }
            let Some(entry) = self.pop() else { break };
            if entry.since.elapsed() >= delivery_timeout {
                entry.expire();
                continue;
            }
            bytes += size;
            entries.push(entry);
        }
        if entries.is_empty() {
            return;
        }
        // Perhaps others have been forgotten meanwhile.
        self.unknown_until.take_if(|until| self.flights.is_empty() && *until <= Instant::now());
        let made = Made { number, before: self.made, partitions };
        match Flight::new(made, Batch::of(entries), self.mark(), self.partition) {
            Ok(flight) => self.follow(flight),
            // What cannot travel together travels one behind the other.
            Err((batch, _)) if batch.len() > 1 => {
                let limits = BatchLimits { records: batch.len() / 2, ..limits };
                batch.into_entries().into_iter().rev().for_each(|entry| self.push_front(entry));
                self.seal(number, partitions, limits, delivery_timeout);
            }
            Err((single, error)) => single.failed(&error),
        }
    }

    /// A batch was answered. Whether the topic has other partitions than was believed: then all lanes are to be [closed](Self::close).
    pub(super) fn landed(&mut self, number: u64, result: Result<ProducedBatch, ClientError>) -> bool {
        let Some(place) = self.flights.iter().position(|flight| flight.number == number) else { return false };
        let error = match result {
            Ok(told) => {
                if let Some(flight) = self.flights.remove(place) {
                    flight.stored(&told);
                }
                return false;
            }
            Err(error) => error,
        };
        let behind = self.flights[0].number;
        let flight = &mut self.flights[place];
        let was_first = flight.place == Where::Sent { is_first: true };
        flight.is_in_doubt |= error.is_outcome_unknown();
        flight.error = Some(error.clone());
        flight.place = Where::Refused { behind };
        let is_certain = !flight.is_in_doubt;
        match error.code() {
            // The one that is missing may still come.
            Some(ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer) if !was_first => {}
            // The partition knows less than was answered, or nothing, so not of this one either: it is sent again in a new epoch.
            Some(ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer) if is_certain => self.is_over = true,
            // Somebody has the id.
            Some(ErrorCode::ProducerFenced) if is_certain => {
                self.next.epoch = EPOCH_MAX;
                self.is_over = true;
            }
            // It need not know the producer: what waits is sent under keys. Whoever has a name is known by its number or not at all.
            Some(ErrorCode::ProducerLimit) if is_certain && name_of_id(self.next.producer).is_none() => {
                self.unknown_until = Some(Instant::now() + UNKNOWN_FOR);
                self.is_over = true;
            }
            // It is recognised whatever the number is, so it was never stored, and never will be.
            Some(ErrorCode::PartitionsChanged) => {
                flight.is_in_doubt = false;
                return true;
            }
            Some(ErrorCode::PartitionNotFound) if is_certain => {
                self.is_missing = true;
                return true;
            }
            _ => {
                self.is_over = true;
                let Some(flight) = self.flights.remove(place) else { return false };
                if is_certain && is_about_a_record(&error) { self.split(place, flight, &error) } else { flight.failed(error) }
            }
        }
        false
    }

    /// A batch was refused because another producer has the name: it is not stored, unless an attempt before may have stored it. `error`: its own, which
    /// says so too.
    pub(super) fn end(&mut self, number: u64, error: &ClientError) {
        if let Some(place) = self.flights.iter().position(|flight| flight.number == number)
            && let Some(flight) = self.flights.remove(place)
        {
            flight.failed(error.clone());
        }
    }

    /// Nothing more is sent: another producer has the name.
    pub(super) fn refuse(&mut self, error: &ClientError) {
        self.take_waiting().into_iter().for_each(|entry| entry.settle(Err(error.clone())));
        let (sent, others): (VecDeque<Flight>, VecDeque<Flight>) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| matches!(flight.place, Where::Sent { .. }));
        self.flights = sent;
        others.into_iter().for_each(|flight| flight.failed(error.clone()));
    }

    /// Nothing more is sent, and when everything is answered the records that are not stored are dealt anew.
    pub(super) fn close(&mut self) {
        self.is_over = true;
        self.is_closed = true;
    }

    /// A batch that was refused stored nothing, so its halves can be sent in its place, in order: one bad record does not fail its neighbours.
    fn split(&mut self, place: usize, flight: Flight, error: &ClientError) {
        let Flight { number, before, batch, mark, .. } = flight;
        let made = Made { number, before, partitions: None };
        match batch.split() {
            Ok((front, back)) => {
                // They are numbered when the epoch begins.
                for half in [back, front] {
                    match Flight::new(made, half, mark, self.partition) {
                        Ok(flight) => self.flights.insert(place, flight),
                        Err((half, error)) => half.failed(&error),
                    }
                }
            }
            Err(single) => single.failed(error),
        }
    }

    /// Begins an epoch, if one is due and everything is answered. What is to be dealt anew, in its order.
    pub(super) fn settle(
        &mut self,
        number: &mut impl FnMut() -> u64,
        another_id: impl FnOnce(u64) -> u64,
        partitions: Option<u32>,
        delivery_timeout: Duration,
    ) -> Vec<Entry> {
        let is_answered = self.flights.iter().all(|flight| !matches!(flight.place, Where::Sent { .. }));
        if !self.is_over || !is_answered {
            return Vec::new();
        }
        self.is_over = false;
        self.next = match self.next.epoch {
            EPOCH_MAX => Stamp { producer: another_id(self.next.producer), epoch: 0, sequence: 0 },
            epoch => Stamp { epoch: epoch + 1, sequence: 0, ..self.next },
        };
        let mut left = Vec::new();
        for flight in std::mem::take(&mut self.flights) {
            if flight.is_in_doubt {
                flight.give_up();
                continue;
            }
            let Some(batch) = flight.batch.expire(delivery_timeout) else { continue };
            if self.is_closed {
                left.extend(batch.into_entries());
                continue;
            }
            let made = Made { number: number(), before: self.made, partitions };
            match Flight::new(made, batch, self.mark(), self.partition) {
                Ok(flight) => self.follow(flight),
                Err((batch, error)) => batch.failed(&error),
            }
        }
        if std::mem::take(&mut self.is_closed) {
            left.extend(self.take_waiting());
        }
        if std::mem::take(&mut self.is_missing) {
            left = left.into_iter().filter_map(Entry::without_partition).collect();
        }
        left
    }
}

/// Whether the server refused the batch for what may be the fault of a single record.
pub(super) fn is_about_a_record(error: &ClientError) -> bool {
    use sagamq_api::ErrorCode::{
        BodyTooLarge, IdempotencyKeyReused, InvalidBase64, InvalidBatch, InvalidName, InvalidRequest, MalformedRequest, PartitionNotFound,
        RecordTooLarge,
    };
    // What cannot be written beside the others, for example for its time, was not sent at all.
    let is_unwritable = matches!(error, ClientError::InvalidRequest { .. });
    let is_refused = !error.is_outcome_unknown()
        && matches!(
            error.code(),
            Some(
                BodyTooLarge
                    | IdempotencyKeyReused
                    | InvalidBase64
                    | InvalidBatch
                    | InvalidName
                    | InvalidRequest
                    | MalformedRequest
                    | PartitionNotFound
                    | RecordTooLarge
            )
        );
    is_unwritable || is_refused
}
