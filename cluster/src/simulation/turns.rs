//! Turns: tasks that go on one at a time, in an order that is drawn.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use rand::RngExt as _;
use rand::rngs::StdRng;

pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Lets tasks go on until all have ended. Gives whether they did within so many turns.
pub(super) fn take(mut tasks: Vec<Task>, random: &mut StdRng, turns_max: u64) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..turns_max {
        if tasks.is_empty() {
            break;
        }
        let at = random.random_range(0..tasks.len());
        if tasks[at].as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(at));
        }
    }
    tasks.is_empty()
}

/// Goes on with a future for so many turns, and drops it if it is not done then: as a caller does whose patience ends.
pub(super) async fn within<T>(turns: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = turns;
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
