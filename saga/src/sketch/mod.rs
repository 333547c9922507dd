//! A definition as a picture: its steps in their order, what undoes them, and the way back.
//!
//! What is to be seen is found once ([`Sketch`]); the languages of pictures only write it down.

mod dot;
mod mermaid;
mod model;
mod svg;

pub use model::Sketch;

use crate::definition::Definition;
use core::fmt;
use core::str::FromStr;

/// A language of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A flow chart of Mermaid, which many places that show Markdown draw.
    Mermaid,
    /// The language of Graphviz.
    Dot,
    /// A picture, for everything that shows pictures.
    Svg,
}

impl Format {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Mermaid, Self::Dot, Self::Svg];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mermaid => "mermaid",
            Self::Dot => "dot",
            Self::Svg => "svg",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("there is no format `{text}`; known: {}", known()))
    }
}

/// The picture of a definition.
#[must_use]
pub fn draw(definition: &Definition, format: Format) -> String {
    let sketch = Sketch::of(definition);
    match format {
        Format::Mermaid => mermaid::write(&sketch),
        Format::Dot => dot::write(&sketch),
        Format::Svg => svg::write(&sketch),
    }
}

#[cfg(test)]
mod tests;
