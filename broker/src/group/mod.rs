//! The protocols of consumer groups, pure and with a folder each: what a group has settled, what it is given next.

pub mod queue;
