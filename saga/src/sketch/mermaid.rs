//! A sketch as a flow chart of Mermaid.

use super::model::{Arrow, Look, Node, Sketch, Way};
use core::fmt::Write;

pub(super) fn write(sketch: &Sketch) -> String {
    let mut text = format!("---\ntitle: {}\n---\nflowchart TD\n", sketch.title);
    for Node { id, lines, look, is_saga } in &sketch.nodes {
        let label: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
        let (open, close) = match look {
            _ if *is_saga => ("{{", "}}"),
            Look::Step => ("[", "]"),
            Look::Pivot => ("[[", "]]"),
            Look::Behind => ("([", "])"),
            Look::Undo => ("(", ")"),
        };
        let class = class(*look);
        writeln!(text, "  {id}{open}\"{}\"{close}:::{class}", label.join("<br/>")).expect("text takes text");
    }
    for Arrow { from, to, goes } in &sketch.arrows {
        let arrow = match goes {
            Way::On => "-->",
            Way::Undone => "-. undone by .->",
            Way::Back => "-.->",
        };
        writeln!(text, "  {from} {arrow} {to}").expect("text takes text");
    }
    for look in [Look::Step, Look::Pivot, Look::Behind, Look::Undo] {
        let style = match look {
            Look::Step => "stroke-width:1px",
            Look::Pivot => "stroke-width:4px",
            Look::Behind => "stroke-width:2px",
            Look::Undo => "stroke-dasharray:5 5",
        };
        writeln!(text, "  classDef {} {style}", class(look)).expect("text takes text");
    }
    text
}

const fn class(look: Look) -> &'static str {
    match look {
        Look::Step => "step",
        Look::Pivot => "pivot",
        Look::Behind => "behind",
        Look::Undo => "undo",
    }
}

/// Within quotes Mermaid reads entities, which begin with `#`.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '"' => out.push_str("#quot;"),
            '#' => out.push_str("#35;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '&' => out.push_str("#amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        out
    })
}
