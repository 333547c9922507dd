//! What tells a state from others.

use super::Bounds;
use super::step::Message;
use super::world::World;
use sagamq_saga::protocol::saga::{Attempt, Progress};

impl World {
    pub(super) fn canonical(&self) -> Vec<u8> {
        let state = &self.state;
        let Bounds { unheard, refusals, timeout, cancels, verbs, reruns } = self.left;
        let mut form = vec![unheard, refusals, timeout, cancels, verbs, reruns, state.phase as u8];
        let flags = [state.stop.is_some(), state.timeout_at_ms.is_some(), state.is_paused(), self.has_called_in_silence];
        form.extend(flags.map(u8::from));
        form.push(u8::from(self.has_moved_the_past));
        let small = |number: u32| u8::try_from(number).expect("few attempts");
        let progress = |progress: &Progress| {
            let attempt = match progress.attempt {
                Attempt::None => 0,
                Attempt::Open(open) => 1 + u8::from(open.is_handed_out),
                Attempt::Waiting { .. } => 3,
                Attempt::Asleep(_) => 4,
            };
            [small(progress.epoch), small(progress.forgiven), attempt, progress.settled.map_or(0, |settled| 1 + settled as u8)]
        };
        for slot in 0..self.slots.len() {
            let step = self.status(slot);
            form.extend([step.state as u8, u8::try_from(self.origin(slot)).expect("few instances")]);
            form.extend(progress(&step.action));
            form.extend(progress(&step.compensation));
            form.extend([step.is_left_out, step.is_undoing_left_out, step.has_no_effect].map(u8::from));
            form.extend([u8::from(step.attempts_exceeded), step.condition.map_or(0, |holds| 1 + u8::from(holds))]);
            // Which step it is of, and whether that has its items.
            let of = &state.steps[self.slots[slot].step];
            form.extend([of.state as u8, u8::from(of.fan.is_some())]);
        }
        for past in &self.past {
            form.push(past.phase as u8);
            form.extend(past.steps.iter().flat_map(|step| [step.state as u8, u8::from(step.is_handed_over)]));
        }
        for book in self.books.iter().flatten() {
            form.extend([book.is_done, book.is_undone, book.is_barred, book.has_refused].map(u8::from));
        }
        for message in &self.messages {
            let (kind, of, step, operation, epoch) = match *message {
                Message::Call { of, step, operation, epoch } => (1, of, step, operation, epoch),
                Message::Reply { of, step, operation, epoch, is_done } => (2 + u8::from(is_done), of, step, operation, epoch),
            };
            let [of, step] = [of, step].map(|index| u8::try_from(index).expect("few of them"));
            form.extend([kind, of, step, operation as u8, small(epoch)]);
        }
        form
    }
}
