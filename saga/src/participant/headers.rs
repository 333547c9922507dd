//! The headers that say which call something is about: of command records, of reply records, and of calls over HTTP.

use core::fmt::Display;
use core::str::FromStr;
use sagamq_api::JsonText;
use sagamq_api::headers::saga as headers;
use sagamq_api::ids::ItemIndex;
use sagamq_api::record::Payload;
use sagamq_api::saga::{AttemptId, Call};

/// How many headers a call has at the most, with those that a record or a request adds.
pub(super) const HEADERS: usize = 20;

/// What most calls take in JSON beside their payloads.
const CALL_BYTES: usize = 640;

/// The headers of a call.
pub(super) fn call_headers(call: &Call) -> Vec<(&'static str, String)> {
    let mut all = Vec::with_capacity(HEADERS);
    all.extend(attempt_headers(&call.attempt));
    all.extend([
        (headers::NAME, call.saga.as_str().to_owned()),
        (headers::VERSION, call.version.to_string()),
        (headers::KEY, call.key.clone()),
        (headers::CALL, call.call.clone()),
        (headers::IDEMPOTENCY_KEY, call.idempotency_key.clone()),
        (headers::MUST_SUCCEED, call.must_succeed.to_string()),
        (headers::STARTED_AT, call.started_at_ms.to_string()),
        (headers::DEADLINE, call.deadline_ms.to_string()),
    ]);
    if let Some(lock) = &call.lock {
        all.extend([(headers::LOCK_KEY, lock.key.clone()), (headers::LOCK_TOKEN, lock.token.to_string())]);
    }
    all
}

/// The JSON of a call, as a record and a request have it.
pub(super) fn call_json(call: &Call) -> Vec<u8> {
    let payloads = call.arguments.len() + call.action_output.as_ref().map_or(0, JsonText::len);
    let mut json = Vec::with_capacity(CALL_BYTES + payloads);
    serde_json::to_writer(&mut json, call).expect("a call is JSON, and a vector takes any bytes");
    json
}

/// The headers of an attempt: what a reply must repeat. Without an item there is no header for it.
fn attempt_headers(attempt: &AttemptId) -> impl Iterator<Item = (&'static str, String)> {
    let AttemptId { instance, step, item, operation, epoch } = attempt;
    let item = item.map(|item| (headers::ITEM, item.to_string()));
    let before = [(headers::INSTANCE, instance.to_string()), (headers::STEP, step.as_str().to_owned())];
    let behind = [(headers::OPERATION, operation.as_str().to_owned()), (headers::EPOCH, epoch.to_string())];
    before.into_iter().chain(item).chain(behind)
}

/// Reads the attempt out of the headers of a command or a reply.
pub(crate) fn attempt_of(payload: &Payload) -> Result<AttemptId, String> {
    let item = match payload.headers.get(headers::ITEM) {
        Some(_) => Some(ItemIndex(parsed(payload, headers::ITEM)?)),
        None => None,
    };
    Ok(AttemptId {
        instance: parsed(payload, headers::INSTANCE)?,
        step: parsed(payload, headers::STEP)?,
        item,
        operation: parsed(payload, headers::OPERATION)?,
        epoch: parsed(payload, headers::EPOCH)?,
    })
}

pub(super) fn header<'a>(payload: &'a Payload, name: &str) -> Result<&'a str, String> {
    payload.headers.get(name).ok_or_else(|| format!("header `{name}` is missing"))
}

fn parsed<T: FromStr<Err: Display>>(payload: &Payload, name: &str) -> Result<T, String> {
    header(payload, name)?.parse().map_err(|error| format!("header `{name}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sagamq_api::saga::Operation;
    use uuid::Uuid;

    fn payload(headers: Vec<(&'static str, String)>) -> Payload {
        Payload { key: None, value: None, headers: headers.into_iter().collect() }
    }

    #[test]
    fn the_headers_of_an_attempt_have_their_golden_text() {
        let attempt = |item| AttemptId {
            instance: Uuid::from_u128(5),
            step: "pay".parse().expect("legal"),
            item,
            operation: Operation::Compensation,
            epoch: 3,
        };
        let text = |headers: Vec<(&'static str, String)>| {
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
        };
        let id = "saga-id: 00000000-0000-0000-0000-000000000005\nsaga-step: pay";
        assert_eq!(text(attempt_headers(&attempt(None)).collect()), format!("{id}\nsaga-operation: compensation\nsaga-epoch: 3"));
        let item = text(attempt_headers(&attempt(Some(ItemIndex(7)))).collect());
        assert_eq!(item, format!("{id}\nsaga-item: 7\nsaga-operation: compensation\nsaga-epoch: 3"));
    }

    #[test]
    fn headers_that_name_no_attempt_say_which_one_is_wrong() {
        let good = [("saga-id", Uuid::nil().to_string()), ("saga-step", "a".to_owned()), ("saga-operation", "action".to_owned())];
        let good: Vec<_> = good.into_iter().chain([("saga-epoch", "1".to_owned())]).collect();
        assert!(attempt_of(&payload(good.clone())).is_ok());
        for (at, value) in [(0, "x"), (1, "1st"), (2, "acted"), (3, "one")] {
            let mut wrong = good.clone();
            let name = wrong[at].0;
            wrong[at].1 = value.to_owned();
            assert!(attempt_of(&payload(wrong.clone())).expect_err(value).contains(name));
            wrong.remove(at);
            assert!(attempt_of(&payload(wrong)).expect_err(value).contains(name));
        }
        let item: Vec<_> = good.into_iter().chain([("saga-item", "-1".to_owned())]).collect();
        assert!(attempt_of(&payload(item)).expect_err("no item").contains("saga-item"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_attempt_is_read_back(instance: u128, step in "[A-Za-z_][A-Za-z0-9_]{0,40}", item: Option<u32>, undo: bool, epoch: u32) {
            let operation = if undo { Operation::Compensation } else { Operation::Action };
            let (instance, step) = (Uuid::from_u128(instance), step.parse().expect("legal"));
            let attempt = AttemptId { instance, step, item: item.map(ItemIndex), operation, epoch };
            prop_assert_eq!(attempt_of(&payload(attempt_headers(&attempt).collect())), Ok(attempt));
        }
    }
}
