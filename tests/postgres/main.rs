//! Services with their state in PostgreSQL, as processes that are killed between an effect and its acknowledgement. `scripts/with-postgres`
//! starts the server and names it in `SAGAMQ_TEST_POSTGRES`; without that the tests are skipped and say so.

mod fate;
mod kills;
mod participant;
mod service;
mod transactions;
