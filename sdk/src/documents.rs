//! The Rust of the project's documents, compiled and run as documentation tests.

#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(feature = "rocksdb")]
#[doc = include_str!("../../docs/sagas.md")]
struct Sagas;

#[cfg(feature = "rocksdb")]
#[doc = include_str!("../../docs/guides/outside-effects.md")]
struct OutsideEffects;

#[cfg(all(feature = "rocksdb", feature = "postgres"))]
#[doc = include_str!("../../docs/guides/inbox-and-outbox.md")]
struct InboxAndOutbox;

#[cfg(feature = "postgres")]
#[doc = include_str!("../../docs/guides/postgres-barrier.md")]
struct PostgresBarrier;

#[doc = include_str!("../../docs/guides/ordering.md")]
struct Ordering;

#[doc = include_str!("../../docs/guides/stream-groups.md")]
struct StreamGroups;

#[doc = include_str!("../../docs/guides/schedules.md")]
struct Schedules;

#[doc = include_str!("../../docs/guides/pipelines.md")]
struct Pipelines;

#[doc = include_str!("../../docs/guides/proxy-and-authorization.md")]
struct ProxyAndAuthorization;

#[doc = include_str!("../../docs/guides/testing-handlers.md")]
struct TestingHandlers;

#[cfg(all(feature = "branch", feature = "postgres", feature = "rocksdb"))]
#[doc = include_str!("../../docs/guides/two-phase-commit.md")]
struct TwoPhaseCommit;
