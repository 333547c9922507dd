//! A sketch in the language of Graphviz.

use super::model::{Arrow, Look, Node, Sketch, Way};
use core::fmt::Write;

pub(super) fn write(sketch: &Sketch) -> String {
    let mut text = format!("digraph {} {{\n  label={0}; labelloc=t;\n  node [shape=box];\n", quoted(&sketch.title));
    for Node { id, lines, look, is_saga } in &sketch.nodes {
        let style = match look {
            Look::Step => "",
            Look::Pivot => ", penwidth=4, peripheries=2",
            Look::Behind => ", style=rounded, penwidth=2",
            Look::Undo => ", style=dashed",
        };
        let shape = if *is_saga { ", shape=hexagon" } else { "" };
        writeln!(text, "  {} [label={}{style}{shape}];", quoted(id), quoted(&lines.join("\n"))).expect("text takes text");
    }
    for Arrow { from, to, goes } in &sketch.arrows {
        let (from, to) = (quoted(from), quoted(to));
        match goes {
            Way::On => writeln!(text, "  {from} -> {to};"),
            Way::Undone => writeln!(text, "  {from} -> {to} [style=dashed, label=\"undone by\"];"),
            // Laid out as if it went on: a compensation stands beside its step then, and not below all others.
            Way::Back => writeln!(text, "  {to} -> {from} [style=dashed, dir=back];"),
        }
        .expect("text takes text");
    }
    text + "}\n"
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
