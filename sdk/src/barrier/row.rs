//! The rows of the barrier on RocksDB: writing and reading the bytes that the module's documentation describes.

use super::recorded::{Recorded, Row};
use sagamq_api::JsonText;
use sagamq_api::json::JsonTextError;
use sagamq_api::saga::{CallId, Operation};
use uuid::Uuid;

const VERSION: u8 = 2;
const KIND_SUCCEEDED: u8 = 1;
const KIND_REFUSED: u8 = 2;
const KIND_PREVENTED: u8 = 3;
const KIND_IN_DOUBT: u8 = 4;
const KIND_WATERMARK: u8 = 5;

/// Bytes of a value before its payload.
const HEAD_BYTES: usize = 1 + 1 + 8;

/// Why a row cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The row is shorter than its head.
    #[error("the barrier's row has {bytes} bytes, at least {HEAD_BYTES} are needed: it was not written by the barrier, or it is damaged")]
    Short {
        /// Its length.
        bytes: usize,
    },
    /// The row is of another version of the format.
    #[error("the barrier's row has version {version}, this build reads version {VERSION} alone")]
    Version {
        /// Its version.
        version: u8,
    },
    /// The row has a kind that does not exist.
    #[error("the barrier's row has the unknown kind {kind}")]
    Kind {
        /// Its kind.
        kind: u8,
    },
    /// The recorded output is no JSON.
    #[error("the output in the barrier's row cannot be read: {0}")]
    Output(#[from] JsonTextError),
    /// The recorded refusal cannot be read.
    #[error("the refusal in the barrier's row cannot be read: {0}")]
    Refusal(#[from] serde_json::Error),
    /// The row of an action in doubt has no id of a run.
    #[error("the barrier's row of an action in doubt has {bytes} bytes where the id of its run has 16")]
    Run {
        /// What is there.
        bytes: usize,
    },
}

/// The key of a call's row.
///
/// The byte behind the step says whether an item follows, and no step holds either byte: no key is another's, or the beginning of one.
pub(super) fn encode_key(prefix: &[u8], call: &CallId) -> Vec<u8> {
    let step = call.step.as_str().as_bytes();
    let mut key = Vec::with_capacity(prefix.len() + 16 + step.len() + 6);
    key.extend_from_slice(prefix);
    key.extend_from_slice(call.instance.as_bytes());
    key.extend_from_slice(step);
    match call.item {
        None => key.push(0),
        Some(item) => {
            key.push(1);
            key.extend_from_slice(&item.0.to_be_bytes());
        }
    }
    key.push(match call.operation {
        Operation::Action => 1,
        Operation::Compensation => 2,
        Operation::Prepare => 3,
        Operation::Commit => 4,
        Operation::Rollback => 5,
        Operation::CommitOnePhase => 6,
    });
    key
}

/// The value of a row.
pub(super) fn encode_value(row: &Row) -> Result<Vec<u8>, RowError> {
    let (kind, payload) = match &row.recorded {
        Recorded::Succeeded(output) => (KIND_SUCCEEDED, output.as_str().as_bytes().to_vec()),
        Recorded::Refused(failure) => (KIND_REFUSED, serde_json::to_vec(failure)?),
        Recorded::Prevented => (KIND_PREVENTED, Vec::new()),
        Recorded::InDoubt { run } => (KIND_IN_DOUBT, run.as_bytes().to_vec()),
    };
    Ok(value(kind, row.at_ms, &payload))
}

/// The value of the watermark: rows of calls that were recorded before this time may have been deleted.
pub(super) fn encode_watermark(before_ms: u64) -> Vec<u8> {
    value(KIND_WATERMARK, before_ms, &[])
}

fn value(kind: u8, at_ms: u64, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD_BYTES + payload.len());
    value.extend_from_slice(&[VERSION, kind]);
    value.extend_from_slice(&at_ms.to_be_bytes());
    value.extend_from_slice(payload);
    value
}

/// Kind, time and payload of a value.
fn split(value: &[u8]) -> Result<(u8, u64, &[u8]), RowError> {
    let Some((head, payload)) = value.split_first_chunk::<HEAD_BYTES>() else {
        return Err(RowError::Short { bytes: value.len() });
    };
    let &[version, kind, ref at_ms @ ..] = head;
    if version != VERSION {
        return Err(RowError::Version { version });
    }
    Ok((kind, u64::from_be_bytes(*at_ms), payload))
}

/// Reads a row.
pub(super) fn decode_value(value: &[u8]) -> Result<Row, RowError> {
    let (kind, at_ms, payload) = split(value)?;
    let recorded = match kind {
        KIND_SUCCEEDED => Recorded::Succeeded(JsonText::parse(payload)?),
        KIND_REFUSED => Recorded::Refused(serde_json::from_slice(payload)?),
        KIND_PREVENTED => Recorded::Prevented,
        KIND_IN_DOUBT => {
            let run = Uuid::from_slice(payload).map_err(|_| RowError::Run { bytes: payload.len() })?;
            Recorded::InDoubt { run }
        }
        kind => return Err(RowError::Kind { kind }),
    };
    Ok(Row { at_ms, recorded })
}

/// Reads the watermark.
pub(super) fn decode_watermark(value: &[u8]) -> Result<u64, RowError> {
    match split(value)? {
        (KIND_WATERMARK, before_ms, _) => Ok(before_ms),
        (kind, ..) => Err(RowError::Kind { kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sagamq_api::ids::ItemIndex;
    use sagamq_api::saga::Failure;

    fn call(instance: u128, step: &str, item: Option<u32>, operation: Operation) -> CallId {
        let (instance, step) = (Uuid::from_u128(instance), step.parse().expect("legal"));
        CallId { instance, step, item: item.map(ItemIndex), operation }
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let key = encode_key(b"p/", &call(0x0102, "pay", None, Operation::Compensation));
        assert_eq!(key, [b"p/".as_slice(), &[0; 14], &[1, 2], b"pay", &[0, 2]].concat());
        let key = encode_key(b"p/", &call(0x0102, "pay", Some(258), Operation::Action));
        assert_eq!(key, [b"p/".as_slice(), &[0; 14], &[1, 2], b"pay", &[1, 0, 0, 1, 2, 1]].concat());
        let value = encode_value(&Row { at_ms: 258, recorded: Recorded::Succeeded(serde_json::json!({"a": 1}).into()) }).expect("json");
        assert_eq!(value, [&[2, 1, 0, 0, 0, 0, 0, 0, 1, 2], br#"{"a":1}"#.as_slice()].concat());
        assert_eq!(encode_watermark(258), [2, 5, 0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_row_that_is_none_says_what_is_wrong() {
        assert!(matches!(decode_value(&[1, 1]), Err(RowError::Short { bytes: 2 })));
        assert!(matches!(decode_value(&[9, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(RowError::Version { version: 9 })));
        assert!(matches!(decode_value(&[2, 9, 0, 0, 0, 0, 0, 0, 0, 0]), Err(RowError::Kind { kind: 9 })));
        assert!(matches!(decode_value(&[2, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(RowError::Output(_))));
        assert!(matches!(decode_value(&[2, 2, 0, 0, 0, 0, 0, 0, 0, 0]), Err(RowError::Refusal(_))));
        assert!(matches!(decode_value(&[2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 7]), Err(RowError::Run { bytes: 1 })));
        assert!(matches!(decode_watermark(&[2, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(RowError::Kind { kind: 1 })));
    }

    #[test]
    fn an_output_comes_back_byte_for_byte() {
        for text in ["0.1", "1.0000000000000002", "12345678901234567890123.50", r#"{"b":1, "a":1E400,"b":2}"#] {
            let row = Row { at_ms: 1, recorded: Recorded::Succeeded(JsonText::parse(text.as_bytes()).expect("JSON")) };
            let Recorded::Succeeded(output) = decode_value(&encode_value(&row).expect("writable")).expect("readable").recorded else {
                panic!("it succeeded")
            };
            assert_eq!(output.as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(at_ms: u64, code in ".{0,20}", message in ".{0,40}", number: i64, run: u128) {
            for recorded in [
                Recorded::Succeeded(serde_json::json!({ "n": number, "text": &message }).into()),
                Recorded::Refused(Failure { code, message }),
                Recorded::Prevented,
                Recorded::InDoubt { run: Uuid::from_u128(run) },
            ] {
                let row = Row { at_ms, recorded };
                prop_assert_eq!(decode_value(&encode_value(&row).expect("json")).expect("readable"), row);
            }
            prop_assert_eq!(decode_watermark(&encode_watermark(at_ms)).expect("readable"), at_ms);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (decode_value(&value), decode_watermark(&value));
        }

        #[test]
        fn different_calls_have_different_keys_and_none_begins_another(
            ids in proptest::collection::vec(any::<u128>(), 1..3),
            steps in proptest::collection::vec("[A-Za-z_][A-Za-z0-9_]{0,3}", 1..4),
            items in proptest::collection::vec(proptest::option::of(any::<u32>()), 1..4),
        ) {
            let mut calls = std::collections::BTreeSet::new();
            for id in ids {
                for step in &steps {
                    for item in &items {
                        calls.extend(Operation::ALL.map(|operation| call(id, step, *item, operation)));
                    }
                }
            }
            let keys: std::collections::BTreeSet<_> = calls.iter().map(|call| encode_key(b"x", call)).collect();
            prop_assert_eq!(keys.len(), calls.len());
            let keys: Vec<_> = keys.into_iter().collect();
            for pair in keys.windows(2) {
                prop_assert!(!pair[1].starts_with(&pair[0]));
            }
        }
    }
}
