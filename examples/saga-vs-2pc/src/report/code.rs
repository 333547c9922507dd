//! The code that a service needs in each mode, counted from the sources of this example.

use serde::{Deserialize, Serialize};

/// The handlers' sources: service, saga, two-phase commit.
const SOURCES: [(&str, &str, &str); 5] = [
    ("orders", include_str!("../service/saga/orders.rs"), include_str!("../service/twopc/orders.rs")),
    ("payments", include_str!("../service/saga/payments.rs"), include_str!("../service/twopc/payments.rs")),
    ("stock", include_str!("../service/saga/stock.rs"), include_str!("../service/twopc/stock.rs")),
    ("shipping", include_str!("../service/saga/shipping.rs"), include_str!("../service/twopc/shipping.rs")),
    ("bank", include_str!("../service/saga/bank.rs"), include_str!("../service/twopc/bank.rs")),
];

/// What a service's source holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Functions that a coordinator calls.
    pub handlers: usize,
    /// Lines that are neither empty nor a comment.
    pub lines: usize,
    /// States that its rows can be stored in.
    pub states: usize,
}

/// The code of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCode {
    /// Its name.
    pub service: String,
    /// As a participant of sagas.
    pub saga: Counts,
    /// As a participant of two-phase commits.
    pub two_phase: Counts,
}

/// Counts the code of every service.
#[must_use]
pub fn code() -> Vec<ServiceCode> {
    let of = |&(service, saga, two_phase): &(&str, &str, &str)| ServiceCode {
        service: service.to_owned(),
        saga: count(saga),
        two_phase: count(two_phase),
    };
    SOURCES.iter().map(of).collect()
}

fn count(source: &str) -> Counts {
    let lines: Vec<&str> = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).collect();
    let handlers = lines.iter().filter(|line| line.starts_with("pub fn ")).count();
    let mut states = 0;
    let mut within = false;
    for line in &lines {
        within = line.starts_with("pub enum ") || (within && *line != "}");
        // A variant is a name and a comma.
        states += usize::from(within && line.strip_suffix(',').is_some_and(|name| name.chars().all(char::is_alphanumeric)));
    }
    Counts { handlers, lines: lines.len(), states }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_lines_and_states_are_counted_without_comments() {
        let source =
            "//! A.\n\n/// B.\npub enum State {\n    /// C.\n    One,\n    /// D.\n    Two,\n}\n\npub fn act() {\n    // E.\n    f();\n}\n";
        assert_eq!(count(source), Counts { handlers: 1, lines: 7, states: 2 });
        assert!(code().iter().all(|service| service.saga.handlers == 2 && service.saga.states == 2));
        assert!(code().iter().all(|service| service.two_phase.handlers == 1 && service.two_phase.states == 0));
    }
}
