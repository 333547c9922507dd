//! What a server needs of its process: where the log goes, and signals. The server itself is `sagamq-server`.

mod fields;
#[cfg(test)]
mod kept;
pub mod log;
mod one_line;
pub(crate) mod signals;
