//! Tests of the protocol: a case each, and whole runs against random participants.

mod asleep;
mod backward;
mod conditions;
mod each;
mod early;
mod family;
mod fixture;
mod forward;
mod found_out;
mod impossible;
mod lock_circles;
mod locks;
mod optional;
mod oracle;
mod pivot;
mod properties;
mod queued;
mod replies;
mod rerun;
mod signals;
mod told;
mod verb_table;
mod verbs;
