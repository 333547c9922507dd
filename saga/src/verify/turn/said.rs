//! What is told of a move, if somebody wants to hear it.

use super::Turn;
use crate::verify::call::{Call, Side};
use crate::verify::model::START_MS;
use crate::verify::tape::{Line, Who};
use crate::verify::words;

impl Turn<'_> {
    pub(super) fn served(&self, call: Call, epoch: u32, done: bool) -> String {
        let attempt = words::attempt(self.model, call, epoch);
        let book = self.world.book(call.place);
        match (call.side, done) {
            (Side::Action, true) => format!("does {attempt}"),
            (Side::Undo, true) if book.ran => format!("does {attempt}: {} is undone", call.place.shown(&self.model.definition)),
            (Side::Undo, true) => format!("does {attempt}: there is nothing to undo, and the action is barred"),
            (_, false) => format!("refuses {attempt}"),
        }
    }

    pub(super) fn note_time(&mut self) {
        self.say(Who::Time, Some(Who::Saga), "time passes".to_owned(), false);
    }

    pub(super) fn say_by(&mut self, call: Call, text: String, is_fault: bool) {
        if self.world.tape.is_some() {
            let service = self.model.called(call).service.clone();
            self.say(Who::Service(service), Some(Who::Saga), text, is_fault);
        }
    }

    pub(super) fn say_to(&mut self, call: Call, text: String) {
        if self.world.tape.is_some() {
            let service = self.model.called(call).service.clone();
            self.say(Who::Saga, Some(Who::Service(service)), text, true);
        }
    }

    pub(super) fn say(&mut self, from: Who, to: Option<Who>, text: String, is_fault: bool) {
        let at_ms = self.world.now_ms - START_MS;
        if let Some(tape) = &mut self.world.tape {
            tape.push(Line { at_ms, from, to, text, is_fault });
        }
    }
}
