//! The same work as sagas and as two-phase commits, on the same services, measured.

pub mod books;
pub mod cells;
pub mod form;
pub mod load;
pub mod report;
pub mod run;
pub mod service;
pub mod site;
pub mod work;
