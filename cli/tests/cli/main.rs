//! The command as its users meet it: the real binary against a scripted server, and against a real one.

mod arguments;
mod bench;
mod commands;
mod completions;
mod connection;
mod documents;
mod errors;
mod items;
mod keys;
mod locks;
mod man;
mod output;
mod participants;
mod raw;
mod repair;
mod round_trip;
mod saga;
mod serve;
mod service;
mod settings;
mod support;
mod tx;
mod verify;
