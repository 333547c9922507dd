//! Answers of several shards to one request, heard of together: who asked is woken once and not by each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// All answers, as long as they are not there.
#[derive(Debug)]
pub(crate) struct Gathered<T> {
    shared: Arc<Shared<T>>,
    done: oneshot::Receiver<()>,
}

/// The place of one answer. One that is dropped without an answer will not come.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    shared: Arc<Shared<T>>,
    index: usize,
}

/// A plain mutex: it is held for the move of one answer and never across an await.
type Shared<T> = Mutex<Answers<T>>;

#[derive(Debug)]
struct Answers<T> {
    answers: Vec<Option<T>>,
    /// Answers that are still to come.
    left: usize,
    done: Option<oneshot::Sender<()>>,
}

/// Places for so many answers, at least one.
pub(crate) fn gather<T>(count: usize) -> (Gathered<T>, Vec<Answer<T>>) {
    assert!(count > 0, "somebody is asked");
    let (done, is_done) = oneshot::channel();
    let answers = (0..count).map(|_| None).collect();
    let shared = Arc::new(Mutex::new(Answers { answers, left: count, done: Some(done) }));
    let places = (0..count).map(|index| Answer { shared: Arc::clone(&shared), index }).collect();
    (Gathered { shared, done: is_done }, places)
}

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, Answers<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Answer<T> {
    pub(crate) fn send(self, answer: T) {
        lock(&self.shared).answers[self.index] = Some(answer);
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let mut answers = lock(&self.shared);
        answers.left -= 1;
        if answers.left == 0
            && let Some(done) = answers.done.take()
        {
            drop(answers);
            // Who went away does not hear it.
            let _ = done.send(());
        }
    }
}

impl<T> Gathered<T> {
    /// Every answer in the order of the places, once none is still to come. `None`: it was dropped.
    pub(crate) async fn all(self) -> Vec<Option<T>> {
        self.done.await.expect("the last answer says so, sent or dropped");
        std::mem::take(&mut lock(&self.shared).answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    #[tokio::test]
    async fn all_are_there_at_once_and_in_their_places() {
        let (gathered, places) = gather(3);
        let [first, second, third] = places.try_into().expect("three");
        let mut all = core::pin::pin!(gathered.all());
        third.send("third");
        assert!(poll!(all.as_mut()).is_pending());
        first.send("first");
        assert!(poll!(all.as_mut()).is_pending(), "one is still to come");
        drop(second);
        assert_eq!(all.await, [Some("first"), None, Some("third")]);
    }

    #[tokio::test]
    async fn who_is_gone_is_not_missed_on_either_side() {
        let (gathered, places) = gather::<()>(2);
        drop(places);
        assert_eq!(gathered.all().await, [None, None]);
        let (gathered, places) = gather(2);
        drop(gathered);
        places.into_iter().for_each(|place| place.send("nobody hears it"));
    }
}
