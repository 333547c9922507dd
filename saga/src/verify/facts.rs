//! What invariants see: of each step what is true at its participant and what the saga believes, and where the saga stands.
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
        let mut books = world.books.iter().filter(|(place, _)| place.index() == index).map(|(_, book)| *book);
        let (mut done, mut undone) = (false, false);
        books.by_ref().for_each(|book| (done, undone) = (done || book.stands(), undone || book.undone));
        let facts = json!({
            "called": step.action.epoch > 0,
            "done": done,
            "undone": undone && !done,
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
