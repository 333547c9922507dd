//! Pictures of a saga with branches, a pivot and a step behind it.

use super::*;
use crate::dsl::compile;

const TEXT: &str = "saga: trip\nversion: 2\nkey: ${ input.id }\nservices: { a: { topic: a.commands } }\nsteps:\n  \
    - { id: room, call: a.room, compensate: a.room_back, after: [] }\n  - { id: note, call: a.note, compensate: none, after: [room] }\n  \
    - { id: end, call: a.seat, compensate: a.seat_back, after: [note] }\n  - { id: pay, call: a.pay, pivot: true, after: [end] }\n  \
    - { id: mail, call: a.mail, after: [pay] }\n";

fn picture(format: Format) -> String {
    draw(&compile(TEXT).expect("legal").definition, format)
}

#[test]
fn mermaid_has_steps_pivot_compensations_and_the_way_back() {
    let text = picture(Format::Mermaid);
    for line in [
        "title: trip version 2",
        "do_room[\"room<br/>a.room\"]:::step",
        "do_pay[[\"pay<br/>a.pay<br/>pivot\"]]:::pivot",
        "do_mail([\"mail<br/>a.mail<br/>until it succeeds\"]):::behind",
        "undo_end(\"undo end<br/>a.seat_back\"):::undo",
        "do_room --> do_note",
        "do_end -. undone by .-> undo_end",
        // `note` has nothing to undo: the way back passes over it.
        "undo_end -.-> undo_room",
    ] {
        assert!(text.lines().any(|found| found.trim() == line), "{line}\n{text}");
    }
    assert!(!text.contains("undo_note") && !text.contains("undo_pay"), "{text}");
}

#[test]
fn dot_quotes_whatever_it_is_given() {
    let text = picture(Format::Dot);
    assert!(text.starts_with("digraph \"trip version 2\" {\n") && text.ends_with("}\n"), "{text}");
    for line in [
        "\"do_pay\" [label=\"pay\\na.pay\\npivot\", penwidth=4, peripheries=2];",
        "\"do_end\" -> \"undo_end\" [style=dashed, label=\"undone by\"];",
        "\"undo_room\" -> \"undo_end\" [style=dashed, dir=back];",
    ] {
        assert!(text.lines().any(|found| found.trim() == line), "{line}\n{text}");
    }
}

#[test]
fn svg_is_a_picture_that_is_the_same_each_time() {
    let picture_now = picture(Format::Svg);
    assert_eq!(picture_now, picture(Format::Svg));
    assert_eq!(picture_now.matches("<rect").count(), 7, "five steps, two compensations");
    assert!(picture_now.contains("<title>trip version 2</title>") && picture_now.contains("stroke-dasharray"), "{picture_now}");
    assert_eq!(picture_now.matches("<svg").count(), picture_now.matches("</svg>").count());
}

#[test]
fn the_largest_saga_is_drawn() {
    let steps: String = (0..500).map(|at| format!("  - {{ id: s{at}, call: a.do, compensate: a.undo }}\n")).collect();
    let text = format!("saga: large\nversion: 1\nkey: ${{ input.id }}\nservices: {{ a: {{ topic: t }} }}\nsteps:\n{steps}");
    let definition = compile(&text).expect("legal").definition;
    for format in Format::ALL {
        assert!(draw(&definition, format).contains("s499"), "{format}");
    }
}

#[test]
fn conditions_are_shown_in_short_and_what_the_saga_goes_on_without_is_marked() {
    let text = "saga: a\nversion: 1\nkey: ${ input.id }\nservices: { a: { topic: t } }\nsteps:\n  - { id: one, call: a.do, compensate: none, optional: true, \
        when: '${ input.kind == \"card\" && input.total > 100 && input.customer != \"nobody\" }' }\n";
    let definition = compile(text).expect("legal").definition;
    let mermaid = draw(&definition, Format::Mermaid);
    assert!(mermaid.contains("when input.kind == #quot;card#quot; #amp;#amp; input.total"), "{mermaid}");
    assert!(mermaid.contains("…<br/>optional"), "{mermaid}");
    assert!(draw(&definition, Format::Dot).contains("when input.kind == \\\"card\\\""));
    assert!(draw(&definition, Format::Svg).contains("&amp;&amp;"), "what a picture says is text");
}

#[test]
fn a_saga_that_is_started_has_a_shape_of_its_own_and_so_has_its_undoing() {
    let text = "saga: a\nversion: 1\nkey: ${ input.id }\nservices: { a: { topic: t } }\nsteps:\n  - { id: pay, saga: { name: payment, version: 3 } }\n  \
        - { id: one, call: a.do, pivot: true }\n";
    let definition = compile(text).expect("legal").definition;
    let mermaid = draw(&definition, Format::Mermaid);
    for line in ["do_pay{{\"pay<br/>saga payment version 3\"}}:::step", "undo_pay{{\"undo pay<br/>saga payment version 3\"}}:::undo"] {
        assert!(mermaid.lines().any(|found| found.trim() == line), "{line}\n{mermaid}");
    }
    let dot = draw(&definition, Format::Dot);
    assert!(dot.contains("\"do_pay\" [label=\"pay\\nsaga payment version 3\", shape=hexagon];"), "{dot}");
    let svg = draw(&definition, Format::Svg);
    assert_eq!((svg.matches("<ellipse").count(), svg.matches("<rect").count()), (2, 1), "{svg}");
}

#[test]
fn in_two_phases_nothing_is_undone_step_by_step() {
    let text = "saga: a\nversion: 1\nmode: 2pc\nkey: ${ input.id }\nservices: { a: { http: \"http://a\" } }\nsteps:\n  - { id: one, call: a.do, compensate: a.undo }\n";
    assert!(!draw(&compile(text).expect("legal").definition, Format::Mermaid).contains("undo_one"));
}

#[test]
fn formats_have_names() {
    assert_eq!("svg".parse(), Ok(Format::Svg));
    assert!("png".parse::<Format>().expect_err("unknown").contains("mermaid, dot, svg"));
}
