//! Rust client of SagaMQ: producer, consumer, saga worker and saga client.
