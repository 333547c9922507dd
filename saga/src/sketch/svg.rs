//! A sketch as a picture, laid out in layers.

use super::model::{Look, Sketch, Way};
use layout::backends::svg::SVGWriter;
use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::{get_size_for_str, pad_shape_scalar};
use layout::core::style::{LineStyleKind, StyleAttr};
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind};
use layout::topo::layout::VisualGraph;
use std::collections::HashMap;

/// One size of letters: the writer keeps the sizes in no order, and a picture is to be the same each time.
const LETTERS: usize = 14;

/// Most boxes that are moved about until few arrows cross: it takes the longer the more there are.
const TIDIED_MAX: usize = 100;

/// Room between letters and the edge of a box.
const ROOM: f64 = 16.0;

pub(super) fn write(sketch: &Sketch) -> String {
    // Boxes are made for the other direction than the graph grows in.
    let (grows, boxes) = (Orientation::TopToBottom, Orientation::LeftToRight);
    let mut graph = VisualGraph::new(grows);
    let mut handles = HashMap::new();
    for node in &sketch.nodes {
        let label = node.lines.join("\n");
        let size = pad_shape_scalar(get_size_for_str(&label, LETTERS), ROOM);
        let (line, width, fill, rounded) = match node.look {
            Look::Step => ("black", 1, "white", 0),
            Look::Pivot => ("black", 4, "white", 0),
            Look::Behind => ("black", 2, "white", 15),
            Look::Undo => ("gray", 1, "whitesmoke", 15),
        };
        let shape = if node.is_saga { ShapeKind::Circle(label) } else { ShapeKind::Box(label) };
        let style = StyleAttr::new(Color::fast(line), width, Some(Color::fast(fill)), rounded, LETTERS);
        handles.insert(&node.id, graph.add_node(Element::create(shape, style, boxes, size)));
    }
    for arrow in &sketch.arrows {
        let (line, kind, label) = match arrow.goes {
            Way::On => ("black", LineStyleKind::Normal, ""),
            Way::Undone => ("gray", LineStyleKind::Dashed, "undone by"),
            Way::Back => ("gray", LineStyleKind::Dashed, ""),
        };
        let style = StyleAttr::new(Color::fast(line), 1, None, 0, LETTERS);
        // What goes back is laid out as if it went on, with its head at the other end: a compensation stands beside its step then, and not below all others.
        let ((start, end), (from, to)) = match arrow.goes {
            Way::On | Way::Undone => ((LineEndKind::None, LineEndKind::Arrow), (&arrow.from, &arrow.to)),
            Way::Back => ((LineEndKind::Arrow, LineEndKind::None), (&arrow.to, &arrow.from)),
        };
        let shape = Arrow::new(start, end, kind, label, &style, &None, &None);
        graph.add_edge(shape, handles[from], handles[to]);
    }
    let mut writer = SVGWriter::new();
    let is_large = sketch.nodes.len() > TIDIED_MAX;
    graph.do_it(false, is_large, false, &mut writer);
    titled(&writer.finalize(), &sketch.title)
}

/// What is read out where the picture is not shown.
fn titled(svg: &str, title: &str) -> String {
    let Some((head, rest)) = svg.split_once("<defs>") else { return svg.to_owned() };
    format!("{head}<title>{title}</title>\n<defs>{rest}\n")
}
