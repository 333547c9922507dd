//! What tells a state of the world from others. States with the same key go on alike, so one of them is looked at.
//!
//! Not in it: texts (failures, outputs, arguments: they follow from the step), counts of what is over, and the clock. Of the clock counts
//! what is waited for, in the order in which it is due, and whether the saga's timeout or the deadline of what is on its way comes before.

use super::call::{Place, Side};
use super::model::Model;
use super::world::{Way, World};
use crate::protocol::saga::{Attempt, Progress, StepStatus};
use xxhash_rust::xxh3::xxh3_128;

/// The key of a state.
pub(super) type Key = u128;

/// Room for keys that are being made.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    sorted: Vec<u8>,
    parts: Vec<(u16, usize, usize)>,
    dues: Vec<u64>,
}

/// The key of a world.
pub(super) fn key(model: &Model<'_>, world: &World, scratch: &mut Scratch) -> Key {
    let Scratch { bytes, sorted, parts, dues } = scratch;
    bytes.clear();
    parts.clear();
    dues.clear();
    dues.extend(Model::dues(world).map(|(_, at_ms)| at_ms));
    dues.sort_unstable();
    dues.dedup();
    let next = dues.first().copied().unwrap_or(u64::MAX);
    let state = &world.state;
    let is_timeout_first = state.timeout_at_ms.is_some_and(|at_ms| at_ms <= next);
    let flags = [state.stop.is_some(), state.timeout_at_ms.is_some(), is_timeout_first && !dues.is_empty(), state.is_paused()];
    // Of signals that came early counts which steps will find one.
    let kept = small(state.signals.kept().count());
    let header = [state.phase as u8, flags.iter().fold(0, |bits, flag| bits << 1 | u8::from(*flag)), kept];
    for (index, step) in state.steps.iter().enumerate() {
        let begin = bytes.len();
        of_step(step, bytes);
        // One that was taken away is asked for anew by the next step, and by nobody if there is none.
        bytes.push(u8::from(
            step.lock.as_ref().is_some_and(|lock| state.claims.get(&lock.key).is_none_or(|claim| claim.token != lock.token)),
        ));
        of_outside(world, Place::of(index), dues, bytes);
        // Their order counts: they are begun in it, and undone in the other.
        for (item, of) in (1..).zip(step.fan.iter().flat_map(|fan| fan.iter())) {
            of_step(of, bytes);
            of_wait(of, dues, bytes);
            bytes.push(item);
        }
        parts.push((model.classes[index], begin, bytes.len()));
    }
    sorted.clear();
    sorted.extend(header);
    for signal in state.signals.kept() {
        sorted.extend(signal.name.as_str().bytes().chain([0]));
    }
    if model.has_twins {
        parts.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| bytes[a.1..a.2].cmp(&bytes[b.1..b.2])));
    }
    for (_, begin, end) in parts.iter() {
        // The length keeps two steps from being read as one.
        sorted.push(small(end - begin));
        sorted.extend_from_slice(&bytes[*begin..*end]);
    }
    xxh3_128(sorted)
}

fn of_step(step: &StepStatus, bytes: &mut Vec<u8>) {
    let live = step.live_operation();
    let flags = [
        step.attempts_exceeded,
        step.is_left_out,
        step.is_undoing_left_out,
        step.has_no_effect,
        step.output.is_some(),
        step.condition.is_some(),
        step.condition == Some(true),
    ];
    let lock = step.lock.as_ref().map_or(0, |lock| 1 + u8::from(lock.token.is_some()));
    bytes.extend([lock, step.state as u8, flags.iter().fold(0, |bits, flag| bits << 1 | u8::from(*flag))]);
    for side in Side::BOTH {
        let progress = step.progress(side.operation());
        of_progress(progress, live == Some(side.operation()), bytes);
    }
}

fn of_progress(progress: &Progress, is_live: bool, bytes: &mut Vec<u8>) {
    let settled = progress.settled.map_or(0, |settled| 1 + settled as u8);
    let attempt = match progress.attempt {
        Attempt::None => 0,
        Attempt::Open(open) => 1 | u8::from(open.is_handed_out) << 1 | u8::from(open.is_waiting) << 2,
        Attempt::Waiting { .. } => 8,
        Attempt::Asleep(_) => 9,
    };
    // How often was tried counts as long as it is tried; then only whether.
    let epoch = if is_live { progress.epoch - progress.forgiven } else { progress.epoch.min(1) };
    bytes.extend([settled << 4 | attempt, epoch.to_le_bytes()[0]]);
}

fn of_wait(step: &StepStatus, dues: &[u64], bytes: &mut Vec<u8>) {
    match step.live_operation().map(|operation| step.progress(operation).attempt) {
        Some(Attempt::Waiting { retry_at_ms }) => bytes.push(rank(dues, retry_at_ms)),
        Some(Attempt::Asleep(asleep)) => bytes.push(asleep.until_ms.map_or(0, |at_ms| rank(dues, at_ms))),
        Some(Attempt::Open(_) | Attempt::None) | None => {}
    }
}

fn rank(dues: &[u64], at_ms: u64) -> u8 {
    small(dues.partition_point(|due| *due < at_ms)) + 1
}

/// What is between the orchestrator and a participant, and what that has on disk.
fn of_outside(world: &World, place: Place, dues: &[u64], bytes: &mut Vec<u8>) {
    let next = dues.first().copied().unwrap_or(u64::MAX);
    for (of, book) in world.books.iter().filter(|(of, _)| of.step == place.step) {
        bytes.push(small(usize::from(of.item)));
        bytes.extend(book.bits());
    }
    for told in world.told.iter().filter(|told| told.place.step == place.step) {
        bytes.extend([0xC0 | told.side as u8, small(usize::from(told.place.item))]);
    }
    of_wait(&world.state.steps[place.index()], dues, bytes);
    bytes.extend(world.state.lock_due_ms(place.index()).map(|at_ms| rank(dues, at_ms)));
    for flight in world.flights.iter().filter(|flight| flight.call.place.step == place.step) {
        let deadline = Model::deadline_ms(&world.state, flight);
        let (way, due) = match flight.way {
            Way::Queued => (1, u8::from(deadline.is_some_and(|at_ms| at_ms <= next))),
            Way::Answered { done } => (2 + u8::from(done), u8::from(deadline.is_some_and(|at_ms| at_ms <= next))),
            Way::Lost => (4, deadline.map_or(0, |at_ms| rank(dues, at_ms))),
        };
        let item = small(usize::from(flight.call.place.item));
        bytes.extend([0x80 | way | (flight.call.side as u8) << 4 | u8::from(flight.handed_ms.is_some()) << 5, item, due]);
    }
    for message in world.overdue.iter().filter(|message| message.call.place.step == place.step) {
        let step = message.call.place.status(&world.state);
        let is_current = step.is_some_and(|step| step.progress(message.call.side.operation()).epoch == message.epoch);
        let answer = message.answer.map_or(0, |done| 1 + u8::from(done));
        let item = small(usize::from(message.call.place.item));
        bytes.extend([0x40 | answer | (message.call.side as u8) << 2 | u8::from(is_current) << 3, item]);
    }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
