//! [`Note`]: an entry of the audit log before it has its time.

use super::act::Act;
use core::fmt::Display;
use jiff::Timestamp;
use sagamq_api::JsonText;
use sagamq_api::audit::{AUDIT_TYPE, AuditEntry, AuditOutcome};
use sagamq_api::headers::{APPLICATION_JSON, CONTENT_TYPE, cloud_event};
use sagamq_api::record::{Headers, Payload};
use serde::Serialize;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Most bytes of the settings as they were, and as they are: more of it is left out. All that is noted today is far below.
const SETTINGS_BYTES_MAX: usize = 128 * 1024;

/// What is to be written down with a change, if the audit log is kept and somebody acts; else nothing.
///
/// It goes with the change to the shard that commits it, and becomes an entry there: in the same commit, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Note(Option<Box<Draft>>);

#[derive(Clone, Debug)]
struct Draft {
    act: Act,
    outcome: AuditOutcome,
    on: BTreeMap<String, String>,
    said: Option<String>,
    reason: Option<String>,
    before: Option<JsonText>,
    after: Option<JsonText>,
    result: Option<JsonText>,
    code: Option<String>,
    left_out: u64,
}

impl Note {
    /// Nothing is written down.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// This came of what somebody asked for. `on` is what it was done to, by kind.
    #[must_use]
    pub fn of(act: &Act, outcome: AuditOutcome, on: &[(&str, &dyn Display)]) -> Self {
        let on = on.iter().map(|(kind, name)| ((*kind).to_owned(), name.to_string())).collect();
        let (said, reason, before, after, result, code) = (None, None, None, None, None, None);
        Self(Some(Box::new(Draft { act: act.clone(), outcome, on, said, reason, before, after, result, code, left_out: 0 })))
    }

    /// Whether there is nothing to write down.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// What it was done to, beside what is said already.
    #[must_use]
    pub fn on(self, kind: &str, name: &dyn Display) -> Self {
        self.with(|draft| drop(draft.on.insert(kind.to_owned(), name.to_string())))
    }

    /// The settings as they were.
    #[must_use]
    pub fn before(self, settings: &impl Serialize) -> Self {
        self.with(|draft| draft.before = text_of(settings))
    }

    /// The settings as they are.
    #[must_use]
    pub fn after(self, settings: &impl Serialize) -> Self {
        self.with(|draft| draft.after = text_of(settings))
    }

    /// What else there is to tell.
    #[must_use]
    pub fn result(self, result: &impl Serialize) -> Self {
        self.with(|draft| draft.result = text_of(result))
    }

    /// Whom the request says, and why. Histories have both names in one, `key:ann (bob)`; here the one that nothing vouches for stands apart.
    #[must_use]
    pub fn by(self, said: Option<&str>, reason: Option<&str>) -> Self {
        self.with(|draft| {
            let own = said.filter(|said| *said != draft.act.actor());
            let inner = own.map(|said| {
                let in_brackets = said.strip_prefix(draft.act.actor()).and_then(|rest| rest.strip_prefix(" (")?.strip_suffix(')'));
                in_brackets.unwrap_or(said).to_owned()
            });
            draft.said = inner;
            draft.reason = reason.map(str::to_owned);
        })
    }

    /// It is a refusal with this error, and so many before it are not in the log.
    #[must_use]
    pub fn refused(self, code: &str, left_out: u64) -> Self {
        self.with(|draft| {
            draft.code = Some(code.to_owned());
            draft.left_out = left_out;
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Draft)) -> Self {
        if let Some(draft) = &mut self.0 {
            change(draft);
        }
        self
    }

    /// The record that says it: a CloudEvent in the binary mode of the binding to Kafka, as the events of sagas are.
    pub(crate) fn into_payload(self, source: &str, id: Uuid, now_ms: u64) -> Option<Payload> {
        let Draft { act, outcome, on, said, reason, before, after, result, code, left_out } = *self.0?;
        let (id, mut headers) = (id.to_string(), Headers::default());
        let at = i64::try_from(now_ms).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok()).unwrap_or_default();
        let subject: Vec<String> = on.iter().map(|(kind, name)| format!("{kind}={name}")).collect();
        headers.set(cloud_event::SPECVERSION, "1.0");
        headers.set(cloud_event::ID, id.clone());
        headers.set(cloud_event::SOURCE, source);
        headers.set(cloud_event::TYPE, format!("{AUDIT_TYPE}{}", act.operation()));
        if !subject.is_empty() {
            headers.set(cloud_event::SUBJECT, subject.join(","));
        }
        headers.set(cloud_event::TIME, at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
        headers.set(CONTENT_TYPE, APPLICATION_JSON);
        let entry = AuditEntry {
            id,
            at_ms: now_ms,
            actor: act.actor().to_owned(),
            said,
            operation: act.operation().to_owned(),
            outcome,
            on,
            before,
            after,
            result,
            reason,
            code,
            left_out: (left_out > 0).then_some(left_out),
            request_id: act.request_id().cloned(),
            address: act.address().map(|address| address.to_string()),
        };
        let value = serde_json::to_vec(&entry).expect("an entry has text keys only");
        Some(Payload { key: None, value: Some(value.into()), headers })
    }
}

fn text_of(settings: &impl Serialize) -> Option<JsonText> {
    JsonText::of(settings).ok().filter(|text| text.as_str().len() <= SETTINGS_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_the_request_says_stands_apart_from_who_has_shown_a_key() {
        let act = Act::of_request("key:ann".to_owned(), "saga.cancel", Some("r-1".to_owned()), None);
        let said = |text: Option<&str>| {
            let note = Note::of(&act, AuditOutcome::Done, &[("id", &7)]).by(text, Some("why"));
            let payload = note.into_payload("urn:x", Uuid::nil(), 1_000).expect("there is one");
            let value = payload.value.expect("there is one");
            let entry: AuditEntry = serde_json::from_slice(&value).expect("an entry");
            assert_eq!((entry.actor.as_str(), entry.reason.as_deref(), entry.on["id"].as_str()), ("key:ann", Some("why"), "7"));
            entry.said
        };
        assert_eq!(said(None), None);
        assert_eq!(said(Some("key:ann")), None);
        assert_eq!(said(Some("key:ann (bob)")).as_deref(), Some("bob"));
        assert_eq!(said(Some("bob")).as_deref(), Some("bob"));
        let long = Note::of(&act, AuditOutcome::Done, &[]).before(&"x".repeat(SETTINGS_BYTES_MAX)).after(&1);
        let value = long.into_payload("urn:x", Uuid::nil(), 1).and_then(|payload| payload.value).expect("there is one");
        let entry: AuditEntry = serde_json::from_slice(&value).expect("an entry");
        assert_eq!((entry.before, entry.after.as_ref().map(JsonText::as_str)), (None, Some("1")), "what is too long is left out");
        assert!(Note::nothing().before(&1).into_payload("urn:x", Uuid::nil(), 1).is_none());
    }
}
