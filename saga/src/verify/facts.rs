//! What invariants see: of each step what is true at its participant and what the saga believes, and where the saga stands.
//!
//! Of a step that fans out, `done` is what is true of all of its items, and `undone` when none stands and one was undone.
//!
//! | name | true when |
//! |---|---|
//! | `steps.<id>.called` | its action was called |
//! | `steps.<id>.done` | its effect is there: the action took effect, and is not undone |
//! | `steps.<id>.undone` | its effect was there, and is undone |
//! | `steps.<id>.refused` | the action failed: it was refused, or could not be called |
//! | `steps.<id>.unknown` | the saga does not know whether the action took effect |
//! | `steps.<id>.skipped` | the action was left out |
//! | `steps.<id>.state`, `saga.state` | text, as the interface shows it |
//! | `saga.completed`, `.compensated`, `.failed`, `.blocked` | the saga rests so |
//! | `input` | what it was started with |

use super::model::Model;
use super::world::World;
use sagamq_api::JsonText;
use sagamq_api::saga::{SagaState, StepState};
use serde_json::{Map, Value, json};

/// `steps` of this world.
pub(super) fn steps(model: &Model<'_>, world: &World) -> JsonText {
    let steps = world.state.steps.iter().enumerate().map(|(index, step)| {
        let books = || world.books.iter().filter(|(place, _)| place.index() == index).map(|(_, book)| *book);
        let standing = books().filter(|book| book.stands()).count();
        let undone = standing == 0 && books().any(|book| book.undone);
        let done = match &step.fan {
            // Of an empty list all is done at once.
            Some(fan) => standing == fan.len() && (standing > 0 || step.state == StepState::Succeeded),
            None => standing > 0,
        };
        let facts = json!({
            "called": step.action.epoch > 0 || step.fan.as_ref().is_some_and(|fan| fan.iter().any(|item| item.action.epoch > 0)),
            "done": done,
            "undone": undone,
            "refused": step.state == StepState::Failed,
            "unknown": step.state == StepState::Unknown,
            "skipped": step.state == StepState::Skipped,
            "state": step.state,
        });
        (model.definition.steps[index].id.as_str().to_owned(), facts)
    });
    Value::Object(steps.collect::<Map<String, Value>>()).into()
}

/// `saga` of this world.
pub(super) fn saga(world: &World) -> JsonText {
    let state = world.state.saga_state();
    let facts = json!({
        "state": state,
        "completed": state == SagaState::Completed,
        "compensated": state == SagaState::Compensated,
        "failed": state == SagaState::Failed,
        "blocked": state == SagaState::Blocked,
    });
    facts.into()
}
