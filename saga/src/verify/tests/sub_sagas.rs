//! Sub-sagas that cannot be started for now: another attempt follows, unless nobody wants it any more.

use crate::dsl;
use crate::verify::{Played, Script, ScriptEnd, play};
use sagamq_api::saga::SagaState;
use serde_json::json;
use std::collections::BTreeMap;

fn played(moves: &[&str], state: SagaState) -> Played {
    let steps = "  - { id: pay, call: a.pay, compensate: a.refund }\n  - { id: pack, saga: packing, pivot: true }\n";
    let text = format!("saga: s\nversion: 1\nkey: ${{ input.k }}\nservices: {{ a: {{ topic: a }} }}\nsteps:\n{steps}");
    let compiled = dsl::compile(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
    let (saga, input) = ("s".parse().expect("legal"), json!({"k": "1"}).into());
    let moves = ["serve pay/action", "hear pay/action"].iter().chain(moves).map(|&line| line.to_owned()).collect();
    let script = Script { saga, attempts: 2, input, outputs: BTreeMap::new(), moves, ends: ScriptEnd { state, breaks: None } };
    let played = play(&compiled.definition, &compiled.invariants, &script).expect("its moves are possible");
    assert_eq!(played.end, script.ends, "{:?}", played.wrong);
    played
}

#[test]
fn a_sub_saga_for_which_there_is_no_room_is_asked_for_again_as_long_as_it_is_wanted() {
    let again = played(&["not sent pack/action", "wait", "serve pack/action", "hear pack/action"], SagaState::Completed);
    assert!(again.lines.iter().any(|line| format!("{line:?}").contains("has no room for it")), "{:?}", again.lines);
    let undone = ["not sent pack/action", "cancel", "serve pay/compensation", "hear pay/compensation"];
    played(&undone, SagaState::Compensated);
}
