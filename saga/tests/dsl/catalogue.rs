//! The sagas that count as published where definitions of these tests start some.

use sagamq_api::SagaName;
use sagamq_saga::dsl::{self, Catalogue, Published};

/// Their texts, from the key on. Each is there as version 1 and 2.
const PUBLISHED: [(&str, &str); 5] = [
    ("payment", "services: { a: { topic: t } }\nsteps: [ { id: pay, call: a.pay, compensate: a.back } ]"),
    ("dispatch", "services: { a: { topic: t } }\nsteps: [ { id: send, call: a.send, pivot: true } ]"),
    ("round", "services: {}\nsteps: [ { id: again, saga: order } ]"),
    (
        "refund",
        "input:\n  schema:\n    type: object\n    required: [id]\n    additionalProperties: false\n    properties:\n      id: { type: string }\n      \
         amount: { type: integer, minimum: 1 }\n      to: { type: object, required: [iban], properties: { iban: { type: string } } }\n\
         services: { a: { topic: t } }\nsteps: [ { id: pay, call: a.pay, compensate: a.back } ]",
    ),
    ("transfer", "mode: 2pc\nservices: { a: { http: \"http://a\" } }\nsteps: [ { id: out, call: a.out }, { id: in, call: a.in } ]"),
];

/// `payment` has no pivot, `dispatch` has one, `round` comes back to `order`, `refund` has a schema, and `transfer` is for two phases only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known;

impl Catalogue for Known {
    fn look_up(&self, saga: &SagaName, version: Option<u32>) -> Option<Published> {
        let (name, rest) = PUBLISHED.iter().find(|(name, _)| *name == saga.as_str())?;
        let version = version.filter(|version| *version <= 2).or_else(|| version.is_none().then_some(1))?;
        let text = format!("saga: {name}\nversion: {version}\nkey: ${{ input.id }}\n{rest}\n");
        let compiled = dsl::compile(&text).unwrap_or_else(|faults| panic!("{}", dsl::render(name, &text, &faults)));
        Some(Published::of(&compiled.definition))
    }
}
