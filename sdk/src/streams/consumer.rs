//! The consumer: what `poll`, `commit`, `pause` and `close` do.

use super::builder::{Rebalance, Settings};
use super::fetch::{FETCHES_MAX, Fetched, Fetches};
use super::heart::{Heart, is_lost};
use super::share::TopicPartition;
use crate::error::ClientError;
use sagamq_api::record::ConsumedRecord;
use sagamq_api::stream::{StreamCommit, StreamOffset};
use sagamq_api::{ErrorCode, GroupName, MemberId, Offset};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long a fetch waits for a record, if all partitions can be fetched at a time.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// How long it waits if partitions take turns.
const FETCH_WAIT_IN_TURN: Duration = Duration::from_millis(100);

/// Records of one partition, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamBatch {
    /// Where they are from.
    pub of: TopicPartition,
    /// At least one.
    pub records: Vec<ConsumedRecord>,
    /// Records before these that retention took before this member had read them.
    pub trimmed: u64,
}

/// A partition as a member has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The epoch under which it was given: another one is another holding, and what was committed under an earlier one does not count.
    pub epoch: u64,
    /// Where it began.
    pub start: Offset,
    /// Behind the last record that `poll` returned.
    pub next: Offset,
    /// How far was committed, by this member or before.
    pub committed: Offset,
}

/// A partition that is read.
#[derive(Clone, Debug)]
struct Active {
    /// The epoch under which it was given.
    given: u64,
    start: Offset,
    /// The next record to fetch.
    position: Offset,
    /// Behind the last record that `poll` returned.
    done: Offset,
    /// How far was committed.
    committed: Offset,
    /// Records that retention took, and no batch has told of yet.
    trimmed: u64,
    is_fetching: bool,
    is_paused: bool,
}

/// A member of a stream group.
///
/// Delivery is at least once: what was read and not committed is read again by the partition's next holder. The order of a partition is kept.
/// Heartbeats are sent beside your code, so a slow handler loses nothing; but a partition that is to be handed back waits for the next
/// [`poll`](Self::poll), and a member that does not come back to it within the server's `stream_rebalance` (60 s) loses its place.
///
/// ```no_run
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = sagamq_sdk::Client::new("http://127.0.0.1:7070")?;
/// let mut consumer = client.stream_consumer("readers".parse()?, vec!["orders".parse()?, "payments".parse()?]).build();
/// loop {
///     let Some(batch) = consumer.poll(Duration::from_secs(5)).await? else { break };
///     for record in &batch.records {
///         println!("{} {} {:?}", batch.of, record.offset, record.text());
///     }
///     consumer.commit().await?;
/// }
/// consumer.close().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct StreamConsumer {
    heart: Arc<Heart>,
    settings: Settings,
    /// Ends with the consumer.
    beating: AbortOnDropHandle<()>,
    /// The member's epoch when the assignment was last taken over: what commits are made with.
    epoch: u64,
    active: BTreeMap<TopicPartition, Active>,
    /// Those that `pause` named, also while others read them.
    paused: BTreeSet<TopicPartition>,
    fetches: Fetches,
    /// The partition that was fetched from last: those behind it have their turn first.
    fetched_last: Option<TopicPartition>,
    /// Fetched, and not returned yet.
    ready: VecDeque<(u64, StreamBatch)>,
}

impl StreamConsumer {
    pub(super) fn new(heart: Arc<Heart>, settings: Settings) -> Self {
        let beating = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&heart).run()));
        Self {
            heart,
            settings,
            beating,
            epoch: 0,
            active: BTreeMap::new(),
            paused: BTreeSet::new(),
            fetches: Fetches::default(),
            fetched_last: None,
            ready: VecDeque::new(),
        }
    }

    /// The id by which the group knows this member.
    #[must_use]
    pub fn member_id(&self) -> &MemberId {
        &self.heart.identity.member
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &GroupName {
        &self.heart.identity.group
    }

    /// What the member reads, as of the last poll.
    pub fn assigned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.active.keys()
    }

    /// What the member reads and how far it is, as of the last poll.
    pub fn holdings(&self) -> impl Iterator<Item = (&TopicPartition, Holding)> {
        self.active
            .iter()
            .map(|(of, &Active { given, start, done, committed, .. })| (of, Holding { epoch: given, start, next: done, committed }))
    }

    /// The member's epoch, as of the last poll: what commits are made with.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next records of one partition; `None` if none came within `wait`. Partitions are taken over and handed back in here. Calling it says that the
    /// records of the calls before are done with: they are committed by the next [`commit`](Self::commit), or when their partition is handed back.
    ///
    /// # Errors
    /// What the server refuses for good, for example `TOPIC_NOT_FOUND`, `OFFSET_OUT_OF_RANGE` behind the end of a partition, or `GROUP_KIND_CONFLICT`, and `FENCED` when another process of this instance
    /// has taken its place. A server that is away is waited for, and a place that was lost otherwise is taken again.
    pub async fn poll(&mut self, wait: Duration) -> Result<Option<StreamBatch>, ClientError> {
        let deadline = Instant::now() + wait;
        let heart = Arc::clone(&self.heart);
        loop {
            self.take_over().await?;
            if let Some(batch) = self.next_ready() {
                return Ok(Some(batch));
            }
            self.fetch();
            tokio::select! {
                fetched = self.fetches.next() => self.take(fetched)?,
                () = heart.changed.notified() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(None),
            }
        }
    }

    /// Commits what [`poll`](Self::poll) has returned. Durable when this returns.
    ///
    /// # Errors
    /// `FENCED` when a partition is not this member's any more: nothing was committed, and the next poll says what is left. Else what the server refuses.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let all: Vec<_> = self.active.keys().cloned().collect();
        self.commit_of(&all).await
    }

    /// Reads no further in these partitions until [`resume`](Self::resume): they stay this member's.
    pub fn pause(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for of in partitions {
            if let Some(active) = self.active.get_mut(&of) {
                active.is_paused = true;
            }
            self.paused.insert(of);
        }
    }

    /// Takes [`pause`](Self::pause) back.
    pub fn resume(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        for of in partitions {
            self.paused.remove(&of);
            if let Some(active) = self.active.get_mut(&of) {
                active.is_paused = false;
            }
        }
    }

    /// Reads on from another place in a partition; behind its end, [`poll`](Self::poll) says `OFFSET_OUT_OF_RANGE`. `false`: it is not this member's. What was committed stays until the next commit. To move the whole
    /// group, see [`Client::stream_seek`](crate::Client::stream_seek).
    pub fn seek(&mut self, of: &TopicPartition, offset: Offset) -> bool {
        let Some(active) = self.active.get_mut(of) else { return false };
        (active.position, active.done, active.trimmed) = (offset, offset, 0);
        self.ready.retain(|(_, batch)| batch.of != *of);
        true
    }

    /// Commits what was returned, unless that was switched off, and leaves the group: its partitions go to others at once, or wait for the next
    /// process of this instance.
    ///
    /// # Errors
    /// When the last commit was refused or had no answer; the group gives the member up when its session ends.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let all: Vec<_> = self.active.keys().cloned().collect();
        self.tell(Rebalance::Revoked, all.clone()).await;
        let committed = if self.settings.commits_on_revoke { self.commit_each(&all).await } else { Ok(()) };
        // A heartbeat behind the leave would join again.
        self.beating.abort();
        let _ = (&mut self.beating).await;
        let left = self.heart.leave().await;
        match committed {
            Err(error) if !is_lost(&error) => Err(error),
            _ => left,
        }
    }

    /// Takes over what the heart has heard: what is lost, what is to be handed back, what is new.
    async fn take_over(&mut self) -> Result<(), ClientError> {
        let (mut lost, mut revoked, mut assigned) = (Vec::new(), Vec::new(), Vec::new());
        {
            let share = self.heart.share();
            for (of, active) in &self.active {
                match share.owned.get(of) {
                    Some(owned) if owned.given != active.given => lost.push(of.clone()),
                    None => lost.push(of.clone()),
                    Some(owned) if owned.is_revoked => revoked.push((of.clone(), active.given)),
                    Some(_) => {}
                }
            }
            for (of, owned) in share.owned.iter().filter(|(of, _)| !self.active.contains_key(of) || lost.contains(of)) {
                if owned.is_revoked {
                    revoked.push((of.clone(), owned.given));
                } else {
                    assigned.push((of.clone(), owned.given, owned.offset));
                }
            }
            // What is handed back is committed under the epoch that it is known by.
            self.epoch = share.epoch;
        }
        if let Some(error) = self.heart.failure() {
            self.forget(&lost);
            self.tell(Rebalance::Lost, lost).await;
            return Err(error);
        }
        self.forget(&lost);
        self.tell(Rebalance::Lost, lost).await;
        self.hand_back(revoked).await?;
        let new: Vec<_> = assigned.iter().map(|(of, ..)| of.clone()).collect();
        for (of, given, offset) in assigned {
            let is_paused = self.paused.contains(&of);
            let (start, position, done, committed) = (offset, offset, offset, offset);
            let active = Active { given, start, position, done, committed, trimmed: 0, is_fetching: false, is_paused };
            self.active.insert(of, active);
        }
        self.tell(Rebalance::Assigned, new).await;
        Ok(())
    }

    async fn hand_back(&mut self, revoked: Vec<(TopicPartition, u64)>) -> Result<(), ClientError> {
        if revoked.is_empty() {
            return Ok(());
        }
        let read: Vec<_> = revoked.iter().map(|(of, _)| of.clone()).filter(|of| self.active.contains_key(of)).collect();
        self.tell(Rebalance::Revoked, read.clone()).await;
        if self.settings.commits_on_revoke
            && let Err(error) = self.commit_each(&read).await
        {
            // Whoever reads on begins at the last commit. Nothing is gained by keeping the partition.
            tracing::warn!(group = %self.heart.identity.group, %error, "the last commit before partitions are handed back was not taken");
        }
        self.forget(&read);
        {
            let mut share = self.heart.share();
            revoked.iter().for_each(|(of, given)| share.hand_back(of, *given));
        }
        self.heart.now.notify_one();
        Ok(())
    }

    /// Commits topic by topic what is given back: one that is deleted needs no offset, and must not keep the others from theirs.
    async fn commit_each(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let mut result = Ok(());
        for of_topic in partitions.chunk_by(|a, b| a.topic == b.topic) {
            match self.commit_of(of_topic).await {
                Err(error) if error.code() != Some(ErrorCode::TopicNotFound) => result = Err(error),
                _ => {}
            }
        }
        result
    }

    async fn commit_of(&mut self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let new = |of: &&TopicPartition| self.active.get(of).is_some_and(|active| active.done != active.committed);
        let offset = |of: &TopicPartition| StreamOffset { topic: of.topic.clone(), partition: of.partition, offset: self.active[of].done };
        let offsets: Vec<_> = partitions.iter().filter(new).map(offset).collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let request = StreamCommit { member_id: self.member_id().clone(), epoch: self.epoch, offsets };
        let result = self.heart.client().stream_commit(&self.heart.identity.group, &request).await;
        if let Err(error) = result {
            if is_lost(&error) {
                self.heart.now.notify_one();
            }
            return Err(error);
        }
        for StreamOffset { topic, partition, offset } in request.offsets {
            if let Some(active) = self.active.get_mut(&TopicPartition { topic, partition }) {
                active.committed = offset;
            }
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for of in partitions {
            self.active.remove(of);
            self.ready.retain(|(_, batch)| batch.of != *of);
        }
    }

    async fn tell(&self, what: fn(Vec<TopicPartition>) -> Rebalance, partitions: Vec<TopicPartition>) {
        if let Some(listener) = self.settings.listener.as_ref().filter(|_| !partitions.is_empty()) {
            listener(what(partitions)).await;
        }
    }

    fn fetch(&mut self) {
        let Self { heart, settings, active, fetches, fetched_last, ready, .. } = self;
        let room = FETCHES_MAX.saturating_sub(fetches.len());
        let wait = if active.len() <= FETCHES_MAX { FETCH_WAIT } else { FETCH_WAIT_IN_TURN };
        let is_ready = |of: &TopicPartition| ready.iter().any(|(_, batch)| batch.of == *of);
        // From behind the last one on and around: else those that come first would take every place that comes free.
        let behind = fetched_last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let around = fetched_last.as_ref().map(|last| active.range::<TopicPartition, _>(..=last)).into_iter().flatten();
        let in_turn = active.range::<TopicPartition, _>((behind, Bound::Unbounded)).chain(around);
        let open = in_turn.filter(|(of, active)| !active.is_fetching && !active.is_paused && !is_ready(of)).take(room);
        let turns: Vec<TopicPartition> = open.map(|(of, _)| of.clone()).collect();
        for of in turns {
            if let Some(active) = active.get_mut(&of) {
                active.is_fetching = true;
                fetches.begin(heart.client(), of.clone(), active.given, active.position, settings.max_records, wait);
            }
            *fetched_last = Some(of);
        }
    }

    fn take(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        let Fetched { of, given, from, result, trimmed } = fetched;
        // Of a holding that is over, nothing is taken.
        let Some(active) = self.active.get_mut(&of).filter(|active| active.given == given) else { return Ok(()) };
        active.is_fetching = false;
        match result {
            // What was fetched before a seek is not what is to be read.
            _ if active.position != from => Ok(()),
            Ok(answer) => {
                active.position = answer.next_offset;
                active.trimmed += trimmed;
                if !answer.records.is_empty() {
                    let trimmed = std::mem::take(&mut active.trimmed);
                    self.ready.push_back((given, StreamBatch { of, records: answer.records, trimmed }));
                }
                Ok(())
            }
            Err(error) if error.is_retryable() || error.is_outcome_unknown() => Ok(()),
            // The next heartbeat says that it is not read any more.
            Err(error) if matches!(error.code(), Some(ErrorCode::TopicNotFound | ErrorCode::PartitionNotFound)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The oldest batch of a partition that is not paused.
    fn next_ready(&mut self) -> Option<StreamBatch> {
        let is_wanted = |of: &TopicPartition| self.active.get(of).is_some_and(|active| !active.is_paused);
        let place = self.ready.iter().position(|(_, batch)| is_wanted(&batch.of))?;
        let (_, batch) = self.ready.remove(place)?;
        let active = self.active.get_mut(&batch.of)?;
        active.done = batch.records.last().map_or(active.done, |record| record.offset.next());
        Some(batch)
    }
}
