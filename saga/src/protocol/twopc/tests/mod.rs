//! The protocol of two-phase commit as a pure function.

mod actions;
mod detour;
mod ending;
mod event;
mod fixture;
mod impossible;
mod operate;
mod properties;
mod votes;
