//! Instances that are at their end and need not be kept any longer: removed with their history, in one commit for a few of them.

use super::input::Reply;
use super::task::Lane;
use crate::orchestrator::error::InstanceError;
use crate::store::position::Position;
use crate::store::{forget_instance, forget_known};
use sagamq_api::SagaName;
use sagamq_broker::SubmitError;

/// Rows that one commit removes, give or take an instance.
const ROWS_MAX: usize = 4_096;

impl Lane {
    /// Removes these instances of a definition, by the rows of the list of those that ended. Answered when that is written.
    pub(super) async fn forget(&mut self, saga: &SagaName, ended: &[Position], reply: Reply<(), InstanceError>) {
        let mut left = ended;
        while !left.is_empty() {
            match self.forget_some(saga, left).await {
                Ok(taken) => left = &left[taken..],
                Err(error) => return drop(reply.send(Err(error))),
            }
        }
        self.answer_when_durable(reply, Ok(()));
    }

    /// Gives how many of them are done.
    async fn forget_some(&mut self, saga: &SagaName, ended: &[Position]) -> Result<usize, InstanceError> {
        let mut commit = self.parts.store.0.begin();
        // Should a power cut take it, they are found again.
        commit.unforced();
        let (mut taken, mut rows, mut removed) = (0, 0, Vec::new());
        for place in ended {
            if rows >= ROWS_MAX {
                break;
            }
            taken += 1;
            let of_it = match self.instances.get(&place.id) {
                None => forget_instance(&self.parts.store, &mut commit, saga, *place),
                // A rerun of its parent has it undone since it was listed, or it has changed at its end: then it has another place in the list.
                Some(live) if !live.instance.may_be_forgotten() || live.instance.head().updated_at_ms != place.started_at_ms => continue,
                Some(_) => {
                    let live = self.instances.remove(&place.id).expect("it was just looked at");
                    self.finished.remove(place.id);
                    self.let_go(&live.instance);
                    Ok(forget_known(&mut commit, &live.instance, *place))
                }
            };
            match of_it {
                Ok(of_it) => {
                    rows += of_it;
                    // One that is gone already leaves its row in the list at the most.
                    removed.extend((of_it > 1).then_some(place.id));
                }
                Err(error) => tracing::error!(saga = %place.id, %error, "an instance at its end cannot be read, and is kept"),
            }
        }
        if commit.is_empty() {
            return Ok(taken);
        }
        match self.parts.store.0.submit(commit).await {
            Ok(submitted) => {
                self.commits += 1;
                self.parts.metrics.forgotten(saga, removed.len() as u64);
                removed.into_iter().for_each(|id| self.forgotten.add(self.commits, id));
                self.follow(Some(submitted), Box::new(|_| ()));
                Ok(taken)
            }
            Err(SubmitError::Write(error)) => Err(error.into()),
            Err(SubmitError::HandedOut | SubmitError::NotNext(_)) => unreachable!("the commit settles nothing and takes no message"),
        }
    }
}
