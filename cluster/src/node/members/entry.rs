//! [`MemberEntry`]: what a node says of itself in the log of members.
//!
//! One byte with the version, 1, then JSON. A field may be added with a default; nothing is renamed, removed or given another meaning.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Version of these bytes.
const VERSION: u8 = 1;

/// Which cluster a log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Made by chance with the cluster.
    pub cluster: Uuid,
    /// Into how many shards its data is divided, for good.
    pub shards: u16,
}

/// A process of a node: who it is, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The node's name.
    pub node: String,
    /// Made by chance at each start.
    pub boot: Uuid,
    /// Where clients reach it.
    pub url: String,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Says {
    /// It lives, and follows.
    Standby {
        /// How far it has folded the log of each shard.
        folded: Vec<u64>,
    },
    /// It takes over, if nobody else has this term. It also says that it lives.
    Claims {
        /// One higher than the last.
        term: u64,
        /// The last entry that was read when it was made. What the holder of the last term has said since makes it void.
        read: u64,
        /// For how long it may answer after a heartbeat, in milliseconds.
        lease_ms: u64,
    },
    /// It lives, and is the active one.
    Active {
        /// Its term.
        term: u64,
        /// For how long it may answer after a heartbeat, in milliseconds.
        lease_ms: u64,
        /// The last place of each shard's log that it has written.
        written: Vec<u64>,
    },
    /// It was the active one, has ended, and answers nobody any more.
    Resigned {
        /// Its term.
        term: u64,
    },
    /// It stood by, and has ended.
    Left {},
    /// Whoever says it, an operator or the process itself, wants a process to hand over and to end. Nobody becomes a member by that.
    Drains {
        /// The process.
        boot: Uuid,
    },
}

/// An entry of the log of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberEntry {
    /// Of which cluster. An entry of another one is void.
    pub of: Identity,
    /// Who says it.
    pub by: Process,
    /// Version of its program.
    pub version: String,
    /// When, by the machine's clock, in milliseconds since 1970: for people. Nothing is decided by it.
    pub time_ms: u64,
    /// What.
    pub says: Says,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberEntryError {
    /// A later version of this program wrote it.
    #[error("a node of a newer version has written an entry of version {0}, this sagamq reads {VERSION}: use that version here too")]
    Newer(u8),
    /// It is none.
    #[error("it is no entry of a member: {0}")]
    Damaged(String),
}

impl MemberEntry {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![VERSION];
        serde_json::to_writer(&mut bytes, self).expect("it has string keys, and a vector takes everything");
        bytes.into()
    }

    /// # Errors
    /// [`MemberEntryError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MemberEntryError> {
        match bytes.split_first() {
            Some((&VERSION, json)) => serde_json::from_slice(json).map_err(|error| MemberEntryError::Damaged(error.to_string())),
            Some((&newer, _)) if newer > VERSION => Err(MemberEntryError::Newer(newer)),
            _ => Err(MemberEntryError::Damaged("it has no version".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(says: Says) -> MemberEntry {
        MemberEntry {
            of: Identity { cluster: Uuid::from_u128(1), shards: 2 },
            by: Process { node: "a".to_owned(), boot: Uuid::from_u128(2), url: "http://a:7070".to_owned() },
            version: "0.1.0".to_owned(),
            time_ms: 9,
            says,
        }
    }

    #[test]
    fn golden_bytes() {
        let head = "\u{1}{\"of\":{\"cluster\":\"00000000-0000-0000-0000-000000000001\",\"shards\":2},\"by\":{\"node\":\"a\",\"boot\":\
                    \"00000000-0000-0000-0000-000000000002\",\"url\":\"http://a:7070\"},\"version\":\"0.1.0\",\"time_ms\":9,\"says\":";
        for (says, text) in [
            (Says::Standby { folded: vec![3, 4] }, r#"{"state":"standby","folded":[3,4]}"#),
            (Says::Claims { term: 5, read: 7, lease_ms: 8 }, r#"{"state":"claims","term":5,"read":7,"lease_ms":8}"#),
            (Says::Active { term: 5, lease_ms: 8, written: vec![6, 7] }, r#"{"state":"active","term":5,"lease_ms":8,"written":[6,7]}"#),
            (Says::Resigned { term: 5 }, r#"{"state":"resigned","term":5}"#),
            (Says::Left {}, r#"{"state":"left"}"#),
            (Says::Drains { boot: Uuid::from_u128(3) }, r#"{"state":"drains","boot":"00000000-0000-0000-0000-000000000003"}"#),
        ] {
            let entry = entry(says);
            assert_eq!(entry.encode(), format!("{head}{text}}}").as_bytes());
            assert_eq!(MemberEntry::decode(&entry.encode()), Ok(entry));
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused_and_so_is_what_is_not_known() {
        assert_eq!(MemberEntry::decode(&[2, b'{']), Err(MemberEntryError::Newer(2)));
        for damaged in [&b""[..], b"\0", b"\x01", b"\x01{}"] {
            assert!(matches!(MemberEntry::decode(damaged), Err(MemberEntryError::Damaged(_))), "{damaged:?}");
        }
        let more = String::from_utf8(entry(Says::Left {}).encode().to_vec()).expect("text").replace("\"left\"", "\"left\",\"more\":1");
        assert!(matches!(MemberEntry::decode(more.as_bytes()), Err(MemberEntryError::Damaged(_))), "{more}");
    }
}
