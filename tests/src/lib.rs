//! End-to-end, crash and container tests of SagaMQ.
