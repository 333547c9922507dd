//! How participants are reached: through their command topic, or over HTTP. [`Dispatcher`] decides which; nobody else has to know.
//!
//! | way | the call leaves | is taken back | was it handed out? |
//! |---|---|---|---|
//! | topic | as a record of the commit that decided it | by settling the record in the commit | the shard's hand-out marks |
//! | HTTP | when that commit is durable | in the register of calls | the register |

mod commands;
mod dispatch;
mod headers;
mod hold;
pub(crate) mod http;
mod output;
mod records;
mod word;

pub(crate) use commands::OpenCommands;
pub(crate) use dispatch::{Dispatch, Dispatcher};
pub(crate) use headers::attempt_of;
pub(crate) use hold::Hold;
pub(crate) use http::Held;
pub(crate) use records::reply;
pub(crate) use word::Word;
