//! A saga definition as the protocol sees it: plain data, checked and resolved, without a trace of YAML.
//!
//! [`crate::dsl`] is the only way to make one from text, and proves what the protocol relies on: ids are unique, `after` is
//! acyclic and points to earlier indices only, at most one pivot lies on a path, every step before a pivot that has an effect can be
//! compensated or says that it need not be, and every expression refers to what is there when it is evaluated.
//!
//! What runs is stored as it is here (`stored.rs`), beside its text: a definition outlives the compiler that made it.

mod action;
mod call;
mod distinct;
mod emission;
mod for_each;
mod invariant;
mod key;
mod lock;
mod model;
mod schema;
mod service;
mod stored;

pub(crate) use action::LOCKS_WOULD_SLEEP;
pub use action::{Action, OnTimeout, Sleep, WaitFor};
pub use call::{BRANCH_BYTES_MAX, CALL_TIMEOUT_DEFAULT, Call, HttpTarget, RetryPolicy, SubSaga, Target};
pub(crate) use call::{LOCKS_WOULD_LAST, LOCKS_WOULD_WAIT, long_service_name, only_in_sagas, service_with_topic};
pub use emission::Emission;
pub use for_each::{ForEach, MAX_PARALLEL_DEFAULT};
pub use invariant::{Invariant, Moment, SAGA_FACTS, STEP_FACTS};
pub use key::NoKey;
pub use lock::Lock;
pub use model::{Definition, Step, StepKind};
pub use schema::{InputSchema, Misfit};
pub(crate) use schema::{SCHEMA_STEPS_MAX, options as schema_options};
pub(crate) use service::ServiceAddress;
pub use stored::{StoredError, load, store};
