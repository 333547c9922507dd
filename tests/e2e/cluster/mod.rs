//! Clusters of real processes over a log in a folder: who takes over, who is fenced, what is refused.

mod bench;
mod drain;
mod drill;
mod fencing;
mod init;
mod load;
mod newer;
mod node;
mod passing;
mod refusals;
mod renewal;
mod replay;
mod secured;
mod takeover;
