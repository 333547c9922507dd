//! How the calls of a lane's instances leave, are taken back, and are asked for: the one place that knows the ways to participants.
//!
//! A call through a topic is a record of the commit that decided it, and so is its end. A call over HTTP is entered in a register with that
//! commit and begins when it is durable. The protocol and the lane speak of attempts only.

use super::commands::OpenCommands;
use super::http::{Entered, Held, HttpCaller};
use super::records::{caused, command, event};
use crate::definition::{HttpTarget, Target};
use crate::protocol::{CallCommand, Command, HandOut};
use crate::trace::Causes;
use sagamq_api::saga::{AttemptId, WORKER_GROUP};
use sagamq_api::{GroupName, Offset, TopicName, TraceContext};
use sagamq_broker::{ShardCommit, ShardEmbedder, WriteError};

/// The ways of one lane.
pub(crate) struct Dispatcher {
    commands: OpenCommands,
    http: HttpCaller,
    workers: GroupName,
}

/// What leaves with a commit that is not taken yet.
#[derive(Default)]
pub(crate) struct Dispatch {
    /// Calls over HTTP, with who is called and by which span.
    http: Vec<(HttpTarget, CallCommand, Option<TraceContext>)>,
    /// Attempts whose command records are appended, in the order of the appends; between them what steps tell others, of no attempt.
    appended: Vec<(Option<AttemptId>, TopicName)>,
    /// Command records that are settled, should they have to be put back.
    settled: Vec<(AttemptId, TopicName, Offset)>,
    /// Calls over HTTP whose attempts are over.
    ended: Vec<AttemptId>,
}

impl Dispatch {
    /// The command topics that it touches: where their commands are settled up to may be stored with it.
    pub(crate) fn touched(&self) -> impl Iterator<Item = &TopicName> {
        let settled = self.settled.iter().map(|(_, topic, _)| topic);
        self.appended.iter().filter(|(attempt, _)| attempt.is_some()).map(|(_, topic)| topic).chain(settled)
    }
}

/// Calls that begin once the commit that decided them is durable.
pub(crate) struct Departures {
    calls: Vec<Entered>,
    http: HttpCaller,
}

impl Departures {
    pub(crate) fn begin(self) {
        for call in self.calls {
            self.http.begin(call);
        }
    }
}

impl Dispatcher {
    pub(crate) fn new(commands: OpenCommands, http: HttpCaller) -> Self {
        Self { commands, http, workers: WORKER_GROUP.parse().expect("a constant that is a legal name") }
    }

    /// Adds to the commit what leaves with it. `None`: a call that must be unseen is on its way; nothing has happened.
    pub(crate) fn stage(&mut self, commit: &mut ShardCommit, commands: Vec<Command>, causes: &Causes<'_>) -> Option<Dispatch> {
        let mut staged = Dispatch::default();
        for command in commands {
            match command {
                Command::Call(call) => self.stage_call(commit, *call, causes, &mut staged),
                Command::Settle { attempt, target: Target::Http(_), unseen } => {
                    if unseen && !self.http.withdraw(&attempt) {
                        self.take_back(staged);
                        return None;
                    }
                    staged.ended.push(attempt);
                }
                Command::Settle { attempt, target: Target::Topic(_), unseen } => {
                    let Some((topic, offset)) = self.commands.take(&attempt) else {
                        tracing::debug!(%attempt, "the command of an attempt that is over was not found");
                        continue;
                    };
                    self.settle(commit, &topic, offset, unseen);
                    staged.settled.push((attempt, topic, offset));
                }
                Command::Postpone { attempt, target: Target::Topic(_), due_ms } => self.postpone(commit, &attempt, due_ms),
                // Whoever makes the call asks again in that time by itself.
                Command::Postpone { target: Target::Http(_), .. } => {}
                // What goes to other lanes, they send themselves.
                Command::Settle { target: Target::Saga(_), .. }
                | Command::Postpone { target: Target::Saga(_), .. }
                | Command::Lock { .. }
                | Command::Relate(_) => {}
                Command::Tell(told) => match commit.append(&told.topic, caused(event(&told), causes.told(&told))) {
                    Ok(()) => staged.appended.push((None, told.topic)),
                    // The topic belongs to the definition and cannot be deleted: it is gone only with its data.
                    Err(error) => tracing::error!(topic = %told.topic, %error, attempt = %told.attempt, "what a step did is not told"),
                },
            }
        }
        Some(staged)
    }

    fn stage_call(&self, commit: &mut ShardCommit, call: CallCommand, causes: &Causes<'_>, staged: &mut Dispatch) {
        let cause = causes.attempt(&call.call.attempt);
        match &call.target {
            Target::Saga(_) => {}
            Target::Http(target) => staged.http.push((target.clone(), call, cause)),
            Target::Topic(topic) => match commit.append_for(topic, &self.workers, caused(command(&call.call), cause)) {
                Ok(()) => staged.appended.push((Some(call.call.attempt), topic.clone())),
                // The attempt ends at its deadline, like any call that nobody answers, and is tried again.
                Err(error) => tracing::error!(%topic, %error, attempt = %call.call.attempt, "a command cannot be sent"),
            },
        }
    }

    fn settle(&self, commit: &mut ShardCommit, topic: &TopicName, offset: Offset, unseen: bool) {
        let settled = if unseen { commit.settle_unseen(topic, &self.workers, offset) } else { commit.settle(topic, &self.workers, offset) };
        if let Err(error) = settled {
            // The topic or its group was deleted: there is no worker left that could get the record.
            tracing::warn!(%topic, %error, "a command cannot be settled");
        }
    }

    fn postpone(&self, commit: &mut ShardCommit, attempt: &AttemptId, due_ms: u64) {
        if let Some((topic, offset)) = self.commands.find(attempt)
            && let Err(error) = commit.postpone(topic, &self.workers, *offset, due_ms)
        {
            tracing::warn!(%topic, %error, "a command cannot be postponed");
        }
    }

    /// The commit is not taken: its commands are open as before, and calls that were not sent yet are made.
    pub(crate) fn take_back(&mut self, staged: Dispatch) {
        staged.ended.iter().for_each(|attempt| self.http.restore(attempt));
        for (attempt, topic, offset) in staged.settled {
            self.commands.insert(attempt, &topic, offset);
        }
    }

    /// Every command of the topic below this offset is settled, or will be with what is staged. `None`: what is stored of that will do.
    pub(crate) fn floor_to_store(&mut self, topic: &TopicName) -> Option<Offset> {
        self.commands.floor_to_store(topic)
    }

    /// The commit is taken, with the offsets of its records from the first of this dispatch on. What is given begins when it is durable.
    ///
    /// # Panics
    /// When the commit has fewer records than it was given here.
    pub(crate) fn placed(&mut self, staged: Dispatch, offsets: &mut impl Iterator<Item = Option<Offset>>) -> Departures {
        for attempt in &staged.ended {
            self.http.end(attempt);
        }
        for (attempt, topic) in staged.appended {
            match (offsets.next().expect("every record has its place"), attempt) {
                (Some(offset), Some(attempt)) => self.commands.insert(attempt, &topic, offset),
                (Some(_), None) => {}
                (None, None) => tracing::error!(%topic, "what a step did is not told: the topic was deleted"),
                // As if it had been deleted before: the attempt ends at its deadline, and is tried again.
                (None, Some(attempt)) => tracing::error!(%topic, %attempt, "a command cannot be sent: its topic was deleted"),
            }
        }
        let calls = staged.http.into_iter().map(|(target, call, cause)| self.http.enter(target, call, cause, false)).collect();
        Departures { calls, http: self.http.clone() }
    }

    /// A call in progress that an earlier process decided. A record is in its topic still; over HTTP it may have been sent, so the participant
    /// is asked once more, with the same key and epoch, in a time of its own that begins then.
    pub(crate) fn resume(&self, call: CallCommand, causes: &Causes<'_>) {
        if let Target::Http(target) = &call.target {
            let (target, cause) = (target.clone(), causes.attempt(&call.call.attempt));
            self.http.begin(self.http.enter(target, call, cause, true));
        }
    }

    /// Whether these calls were ever handed out, in their order. One question to the shard for all of them.
    pub(crate) async fn hand_outs(&self, shard: &ShardEmbedder, attempts: &[AttemptId]) -> Result<Vec<HandOut>, WriteError> {
        let (mut known, mut places, mut asked) = (Vec::with_capacity(attempts.len()), Vec::new(), Vec::new());
        for attempt in attempts {
            known.push(match self.commands.find(attempt) {
                Some(record) => {
                    places.push(known.len());
                    asked.push(record.clone());
                    HandOut::Unknown
                }
                None => self.http.hand_out(attempt),
            });
        }
        if !asked.is_empty() {
            for (place, answer) in places.into_iter().zip(shard.hand_outs(&self.workers, &asked).await?) {
                known[place] = match answer {
                    sagamq_broker::HandOut::Never => HandOut::Never,
                    sagamq_broker::HandOut::At(at_ms) => HandOut::At(at_ms),
                    sagamq_broker::HandOut::Unknown => HandOut::Unknown,
                };
            }
        }
        Ok(known)
    }

    /// What holds a call back that was not sent, if a bound of its service does.
    pub(crate) fn held(&self, attempt: &AttemptId) -> Option<Held> {
        self.http.held(attempt)
    }

    /// The calls of an instance that takes no more part: what goes over HTTP ends, and is not made if it was not yet. Gives its command records,
    /// which are to be settled. `open` are its attempts in progress, which may bear
    /// the name of an instance that it is the rerun of; what bears its own name may be a rerun's, and is none of these.
    pub(crate) fn abandon(&mut self, open: &[AttemptId]) -> Vec<(TopicName, Offset)> {
        open.iter().for_each(|attempt| self.http.end(attempt));
        open.iter().filter_map(|attempt| self.commands.take(attempt)).collect()
    }

    /// Adds the settlement of a command record that was abandoned.
    pub(crate) fn settle_abandoned(&self, commit: &mut ShardCommit, topic: &TopicName, offset: Offset) {
        self.settle(commit, topic, offset, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OrchestratorConfig;
    use crate::definition::RetryPolicy;
    use crate::participant::Hold;
    use crate::participant::http::{HttpParticipants, Services};
    use crate::protocol::Input;
    use core::time::Duration;
    use futures_util::future::BoxFuture;
    use sagamq_api::saga::{Call, Operation};
    use sagamq_api::{JsonText, PartitionId};
    use sagamq_broker::env::{ManualClock, Random};
    use std::sync::Arc;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;
    use uuid::Uuid;

    fn call(attempt: AttemptId) -> CallCommand {
        let call = Call {
            attempt,
            saga: "order".parse().expect("legal"),
            version: 1,
            key: "1".to_owned(),
            call: "reserve".to_owned(),
            idempotency_key: "1/reserve/action".to_owned(),
            must_succeed: false,
            started_at_ms: 1,
            deadline_ms: 1_000,
            timeout_ms: 999,
            arguments: JsonText::default(),
            action_output: None,
            transaction: None,
            lock: None,
            reply_partition: PartitionId(0),
        };
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(1));
        let retry = RetryPolicy { initial, factor: 1.0, max, attempts: 1, never_on: Vec::new() };
        CallCommand {
            target: Target::Http(HttpTarget::Worker { service: "s".to_owned(), base: "http://h".to_owned(), is_foreign: false }),
            retry,
            call,
            called_at_ms: 1,
            child: None,
        }
    }

    /// The ways of a lane without commands, what its calls tell, and their tasks.
    fn lane(hold: Hold) -> (Dispatcher, UnboundedReceiver<Input>, TaskTracker) {
        let (config, clock) = (OrchestratorConfig::default(), Arc::new(ManualClock::at(1)));
        let http = HttpParticipants::new(&config, Services::new(Duration::ZERO), clock, Random::from_seed(1)).expect("a client");
        let (told, heard) = unbounded_channel();
        let report = Arc::new(move |_: Uuid, input: Input| -> BoxFuture<'static, ()> {
            // A test that ends hears no more.
            let _ = told.send(input);
            Box::pin(core::future::ready(()))
        });
        let tasks = TaskTracker::new();
        (
            Dispatcher::new(OpenCommands::default(), HttpCaller::new(http, report, hold, tasks.clone(), CancellationToken::new())),
            heard,
            tasks,
        )
    }

    /// As when a worker receives the other call that the decision was about: nothing of the decision happens.
    #[tokio::test]
    async fn a_call_over_http_that_was_taken_back_with_a_decision_that_is_dropped_is_made() {
        let hold = Hold::new(true);
        let (mut dispatcher, mut heard, _tasks) = lane(hold.clone());
        let attempt =
            AttemptId { instance: Uuid::nil(), step: "a".parse().expect("legal"), item: None, operation: Operation::Action, epoch: 1 };
        // Nobody listens there, so whoever calls is told so.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let base = format!("http://{}", socket.local_addr().expect("bound"));
        let target = HttpTarget::Worker { service: "s".to_owned(), base, is_foreign: false };
        dispatcher.http.begin(dispatcher.http.enter(target, call(attempt.clone()), None, false));
        assert!(dispatcher.http.withdraw(&attempt), "it was not sent");
        hold.release();
        dispatcher.take_back(Dispatch { ended: vec![attempt.clone()], ..Dispatch::default() });
        let told = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.expect("it is called");
        assert!(matches!(told, Some(Input::NotSent { .. })), "{told:?}");
    }

    /// A call that waits for its turn when its instance is set aside must not be made afterwards.
    #[tokio::test]
    async fn the_calls_over_http_of_an_instance_that_is_set_aside_are_over() {
        // Held back, so that it is not sent.
        let (mut dispatcher, _heard, tasks) = lane(Hold::new(true));
        let attempt = |step: &str| AttemptId {
            instance: Uuid::nil(),
            step: step.parse().expect("legal"),
            item: None,
            operation: Operation::Action,
            epoch: 1,
        };
        for step in ["mine", "other"] {
            dispatcher.http.begin(dispatcher.http.enter(
                HttpTarget::Worker { service: "s".to_owned(), base: "http://h".to_owned(), is_foreign: false },
                call(attempt(step)),
                None,
                false,
            ));
        }
        assert_eq!(dispatcher.http.hand_out(&attempt("mine")), HandOut::Never);
        assert!(dispatcher.abandon(&[attempt("mine")]).is_empty(), "it has no record");
        assert_eq!(dispatcher.http.hand_out(&attempt("mine")), HandOut::Unknown, "it is not there any more");
        assert_eq!(dispatcher.http.hand_out(&attempt("other")), HandOut::Never, "that of another instance is");
        dispatcher.http.end(&attempt("other"));
        tasks.close();
        tokio::time::timeout(Duration::from_secs(20), tasks.wait()).await.expect("and no task is left");
    }
}
