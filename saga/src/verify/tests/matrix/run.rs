//! Every run of a saga with that going wrong and nothing else, in every order, and how each of them ends.

use super::super::super::call::{Call, Place, Side};
use super::super::super::check::check;
use super::super::super::key::{Key, Scratch, key};
use super::super::super::model::Model;
use super::super::super::moves::Move;
use super::super::super::property::Tried;
use super::super::super::tape::Tape;
use super::super::super::turn::{After, after, start};
use super::super::super::world::World;
use super::super::super::{Bounds, Sample, Subject, timeline};
use super::faults::{Act, At, Fault, call_of};
use crate::definition::{Definition, StepKind};
use sagamq_api::JsonText;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{SagaState, StepState};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What is left of one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// It never was.
    None,
    /// It is there, as it should be.
    Kept,
    /// It was, and is undone.
    Undone,
    /// It is there, and nothing says how it would be undone (`compensate: none`).
    Left,
    /// It is there, and the instance says so.
    Standing,
    /// It is there, and the instance says that it may be.
    StandingInDoubt,
    /// It is not there, and the instance says that it may be.
    NoneInDoubt,
    /// It is undone, and the instance says that it may be there.
    UndoneInDoubt,
}

impl Effect {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kept => "kept",
            Self::Undone => "undone",
            Self::Left => "left",
            Self::Standing => "stands, listed",
            Self::StandingInDoubt => "stands, listed in doubt",
            Self::NoneInDoubt => "none, listed in doubt",
            Self::UndoneInDoubt => "undone, listed in doubt",
        }
    }
}

/// What became of the step's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lock {
    /// The saga never had it, or the step has none.
    Never,
    /// It had it, and has let it go.
    LetGo,
    /// It has it still.
    Kept,
}

impl Lock {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Never => "never had",
            Self::LetGo => "let go",
            Self::Kept => "kept",
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outcome {
    pub(super) saga: SagaState,
    /// The code of its failure.
    pub(super) why: Option<String>,
    pub(super) step: StepState,
    pub(super) effect: Effect,
    /// Of the other item, if the step fans out.
    pub(super) beside: Option<Effect>,
    pub(super) before: Effect,
    pub(super) behind: Effect,
    /// Whether the action and the compensation were told to others.
    pub(super) told: (bool, bool),
    /// Attempts of the action and of the compensation.
    pub(super) attempts: (u32, u32),
    pub(super) lock: Lock,
}

/// What happens, one after the other, each as soon as it is that moment.
pub(super) struct Plan<'p> {
    acts: Vec<(At, Act, Call)>,
    comes_late: bool,
    model: &'p Model<'p>,
    step: Call,
}

/// What sleeps does so for longer than the saga may take, if it is to be overtaken by that.
fn data(fault: &Fault) -> Sample {
    let is_overtaken = fault.acts.iter().any(|(_, act)| *act == Act::TimeOut);
    let pause = if is_overtaken { "2h" } else { "15m" };
    let input = serde_json::json!({ "k": "k-1", "yes": true, "no": false, "pause": pause, "lines": [1, 2] });
    Sample { input: JsonText::from(input), outputs: BTreeMap::new() }
}

/// How a run in which that happens, and the fault with this side of the step, can end. `None`: it cannot happen.
pub(super) fn outcomes(definition: &Definition, before: &[(&str, At, Act)], fault: &Fault, side: Side) -> Option<BTreeSet<Outcome>> {
    let data = data(fault);
    let bounds = Bounds { faults: u8::MAX, attempts: 2, states: usize::MAX, threads: 1, reduce: false };
    let model = Model::new(Subject::new(definition, &[], &data), bounds);
    let step = call_of(definition, "step", side);
    let first = before.iter().map(|(id, at, act)| (*at, *act, call_of(definition, id, Side::Action)));
    let then = fault.acts.iter().map(|(at, act)| (*at, *act, step));
    let plan = Plan { acts: first.chain(then).collect(), comes_late: fault.comes_late, model: &model, step };
    plan.run()
}

impl Plan<'_> {
    fn run(&self) -> Option<BTreeSet<Outcome>> {
        let mut tried = Tried::new(0);
        let After { world, wrong } = start(self.model, self.model.empty(Some(Tape::default())), &mut tried);
        assert!(wrong.is_empty(), "{wrong:?}");
        let (mut ends, mut known, mut scratch) = (BTreeSet::new(), HashSet::new(), Scratch::default());
        let mut open = vec![(world, 0)];
        let mut is_possible = true;
        while let Some((world, done)) = open.pop() {
            if !known.insert(self.known_by(&world, done, &mut scratch)) {
                continue;
            }
            let moves = self.moves(&world, done);
            if moves.is_empty() {
                if done < self.acts.len() {
                    is_possible = false;
                } else {
                    ends.insert(self.end(&world));
                }
                continue;
            }
            let is_act = self.acts.get(done).is_some_and(|(at, _, call)| at.is_now(&world, *call));
            let before = open.len();
            for step in moves {
                let Some(After { world: next, mut wrong }) = after(self.model, &world, step, &mut tried) else { continue };
                check(self.model, &next, &mut tried, &mut wrong);
                assert!(wrong.is_empty(), "{wrong:?}\n{}", tale(&next));
                open.push((next, done + usize::from(is_act)));
            }
            if open.len() == before {
                // The call has no time in the queue that could be over, or the saga none.
                is_possible = false;
            }
        }
        assert!(is_possible || ends.is_empty(), "it can happen in some orders and not in others, say when: {:?}", self.acts);
        is_possible.then_some(ends)
    }

    fn known_by(&self, world: &World, done: usize, scratch: &mut Scratch) -> (Key, usize, Vec<(u32, u32)>) {
        let places = (0..world.state.steps.len()).flat_map(|index| places(world, index).chain([Place::of(index)]));
        let epochs = places.filter_map(|place| place.status(&world.state)).map(|step| (step.action.epoch, step.compensation.epoch));
        (key(self.model, world, scratch), done, epochs.collect())
    }

    /// What can happen now: what is to go wrong, if it is its moment, else what happens by itself.
    fn moves(&self, world: &World, done: usize) -> Vec<Move> {
        if let Some((at, act, call)) = self.acts.get(done)
            && at.is_now(world, *call)
        {
            let step = act.as_move(*call);
            let mut faults = Vec::new();
            self.model.faults(world, &mut faults);
            // What must be known is not left as it is: then it could not end by itself.
            let is_possible = !matches!(act, Act::EndAsItIs { .. }) || faults.contains(&step);
            return if is_possible { vec![step] } else { Vec::new() };
        }
        let mut moves = Vec::new();
        self.model.goes_on(world, &mut moves);
        // What waits for a signal gets it, unless it is to wait in vain.
        let has_signal = moves.iter().any(|step| matches!(step, Move::Signal { .. }));
        moves.retain(|step| *step != Move::Wait || !has_signal);
        if self.comes_late && done == self.acts.len() {
            let late = moves.len();
            Model::arrives(world, &mut moves);
            let is_in_time = |step: &Move| matches!(step, Move::Arrive { call, epoch, .. } if world.flight(*call).is_some_and(|flight| flight.epoch == *epoch));
            let in_time: Vec<Move> = moves[late..].iter().copied().filter(is_in_time).collect();
            moves.retain(|step| !in_time.contains(step));
        }
        moves
    }

    /// The end of a run, with what must hold there.
    fn end(&self, world: &World) -> Outcome {
        let state = &world.state;
        assert!(state.phase.is_at_rest(), "nothing goes on:\n{}", tale(world));
        let shown = state.description();
        let definition = &self.model.definition;
        let saga = state.saga_state();
        let stands = |index: usize| world.book(Place::of(index)).stands();
        let is_pivot_done = (0..definition.steps.len()).any(|index| definition.steps[index].kind == StepKind::Pivot && stands(index));
        for place in (0..definition.steps.len()).flat_map(|index| places(world, index)) {
            let step = &definition.steps[place.index()];
            let (effect, status) = (self.effect(world, place), place.status(state).expect("it is there"));
            let what = || format!("`{}` of a saga that is {saga}: {}\n{}", step.id, effect.name(), tale(world));
            match saga {
                SagaState::Completed if step.optional => {
                    assert!(status.state == StepState::Succeeded || effect != Effect::Kept, "{}", what());
                }
                SagaState::Completed => {
                    let is_skipped = status.state == StepState::Skipped || !status.is_call;
                    assert_eq!(effect, if is_skipped { Effect::None } else { Effect::Kept }, "{}", what());
                }
                SagaState::Compensated => assert!(matches!(effect, Effect::None | Effect::Undone | Effect::Left), "{}", what()),
                SagaState::Failed => assert!(matches!(effect, Effect::None | Effect::Left), "{}", what()),
                SagaState::Blocked => assert!(effect != Effect::Kept || is_pivot_done, "{}", what()),
                other => panic!("a run ends {other}: {}", what()),
            }
            if is_pivot_done && !step.optional {
                assert!(!world.book(place).undone, "undone past the pivot: {}", what());
            }
        }
        let at = |id: &str| self.effect(world, call_of(definition, id, Side::Action).place);
        let told = |side| world.told.iter().any(|told| told.place.index() == self.step.place.index() && told.side == side);
        let other = Place { item: 2, ..self.step.place };
        let step = &shown.steps[self.step.place.index()];
        Outcome {
            saga,
            why: shown.summary.failure.map(|failure| failure.code),
            step: step.state,
            effect: at("step"),
            beside: (self.step.place.item > 0).then(|| self.effect(world, other)),
            before: at("before"),
            behind: at("behind"),
            told: (told(Side::Action), told(Side::Undo)),
            attempts: (step.attempts, step.compensation_attempts),
            lock: self.lock(world, saga),
        }
    }

    /// Every way to an end lets go of what the saga has, and of its place in a queue; one that is blocked keeps what it has.
    fn lock(&self, world: &World, saga: SagaState) -> Lock {
        let (state, locked) = (&world.state, &world.state.steps[self.step.place.index()].lock);
        if saga.is_final() {
            assert!(state.claims.iter().next().is_none(), "it is {saga} and keeps {:?}:\n{}", state.claims, tale(world));
            return if locked.is_some() { Lock::LetGo } else { Lock::Never };
        }
        let Some(lock) = locked else {
            assert!(state.claims.iter().next().is_none(), "nothing waits: {:?}\n{}", state.claims, tale(world));
            return Lock::Never;
        };
        let held = state.claims.get(&lock.key).and_then(|claim| claim.token);
        assert!(held.is_some() && held == lock.token, "it is {saga}, and has let go of what guards what is half done:\n{}", tale(world));
        Lock::Kept
    }

    fn effect(&self, world: &World, place: Place) -> Effect {
        let (book, step) = (world.book(place), &self.model.definition.steps[place.index()]);
        let shown = world.state.description();
        let item = place.item.checked_sub(1).map(|item| ItemIndex(u32::from(item)));
        let listed = shown.standing.iter().find(|effect| effect.step == step.id && effect.item == item);
        match (book.stands(), listed.map(|effect| effect.in_doubt)) {
            (true, Some(true)) => Effect::StandingInDoubt,
            (true, Some(false)) => Effect::Standing,
            (true, None) if shown.summary.state == SagaState::Completed => Effect::Kept,
            (true, None) => {
                assert!(step.compensation.is_none(), "an effect that can be undone, and nobody tells of it:\n{}", tale(world));
                Effect::Left
            }
            (false, Some(in_doubt)) => {
                assert!(in_doubt, "listed for certain, and not there:\n{}", tale(world));
                if book.undone { Effect::UndoneInDoubt } else { Effect::NoneInDoubt }
            }
            (false, None) if book.undone => Effect::Undone,
            (false, None) => Effect::None,
        }
    }
}

/// Where a step has effects: itself, or, if it fans out, its items.
fn places(world: &World, index: usize) -> impl Iterator<Item = Place> {
    let items = world.state.steps[index].fan.as_ref().map_or(0, |fan| u16::try_from(fan.len()).expect("few"));
    let first = u16::from(items > 0);
    (first..=items).map(move |item| Place { item, ..Place::of(index) })
}

/// What happened in a run.
fn tale(world: &World) -> String {
    world.tape.clone().map(|tape| timeline(&tape.into_lines())).unwrap_or_default()
}
