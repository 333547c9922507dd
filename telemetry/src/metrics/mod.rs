//! Metrics over OTLP: the numbers of `/metrics`, read from its text, sent from time to time.
//!
//! There is one set of metrics and one register of them. What is exported is made of what a scrape would get, so the two cannot differ.

mod otlp;
mod pusher;
mod text;

pub(crate) use pusher::Pusher;
