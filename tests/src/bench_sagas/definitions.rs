//! The sagas that are measured: four steps each, two that can be undone, a pivot and one behind it.

/// Topics of the workers.
pub(super) const TOPICS: [&str; 2] = ["bench.a.commands", "bench.b.commands"];

/// Over two command topics.
pub(super) fn over_topics() -> String {
    with_services("bench-topics", "{ topic: bench.a.commands }", "{ topic: bench.b.commands }")
}

/// Over a command topic that nobody serves.
pub(super) fn over_nobody() -> String {
    with_services("bench-nobody", "{ topic: bench.nobody.commands }", "{ topic: bench.nobody.commands }")
}

/// Over HTTP, at this address.
pub(super) fn over_http(name: &str, base: &str) -> String {
    let service = format!("{{ http: \"{base}\" }}");
    with_services(name, &service, &service)
}

fn with_services(name: &str, a: &str, b: &str) -> String {
    format!(
        "\
saga: {name}
version: 1
key: ${{ input.id }}
services:
  a: {a}
  b: {b}
steps:
  - {{ id: one, call: a.do, with: {{ id: \"${{ input.id }}\" }}, compensate: a.undo }}
  - {{ id: two, call: b.do, with: {{ id: \"${{ input.id }}\" }}, compensate: b.undo }}
  - {{ id: three, call: a.pay, pivot: true, with: {{ id: \"${{ input.id }}\" }} }}
  - {{ id: four, call: b.ship, with: {{ id: \"${{ input.id }}\" }} }}
"
    )
}
