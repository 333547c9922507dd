//! What every [`CommitLog`] must do, as one suite that each adapter passes: also those of other crates and those over a network.
//!
//! Each check takes a log of its own, so one empty place to store is enough for all of them.

use super::{AppendError, Bounds, CommitLog, Entry, LogName, Pos, ReadError};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use std::sync::Arc;

/// What is checked.
#[expect(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct Subject<'a> {
    /// Whether an append goes behind the place that was named or nowhere. Else it goes behind the last one, and its place tells.
    pub is_conditional: bool,
    /// Makes a client of the logs, the same ones each time. They must be empty at first.
    pub client: &'a (dyn Fn() -> Arc<dyn CommitLog> + Sync),
}

type Check = for<'a> fn(&'a Subject<'a>, LogName) -> BoxFuture<'a, ()>;

/// Enough for every entry of a check but the largest.
const PAGE: usize = 1 << 20;

/// Larger entries than this are not tried: a check need not move gigabytes.
const TRIED_BYTES_MAX: usize = 64 << 20;

/// Checks everything.
///
/// # Panics
/// When the log does not do what it must. The message says what.
pub async fn check(subject: &Subject<'_>) {
    let checks: [Check; 14] = [
        |subject, log| Box::pin(an_empty_log_has_nothing(subject, log)),
        |subject, log| Box::pin(entries_come_back_as_they_were_in_order(subject, log)),
        |subject, log| Box::pin(the_largest_entry_fits_and_a_larger_one_is_not_stored(subject, log)),
        |subject, log| Box::pin(behind_a_place_that_is_taken(subject, log)),
        |subject, log| Box::pin(of_many_at_once_none_is_lost(subject, log)),
        |subject, log| Box::pin(a_loser_finds_the_winner_at_once(subject, log)),
        |subject, log| Box::pin(pages_walk_the_whole_log(subject, log)),
        |subject, log| Box::pin(other_clients_see_what_was_acknowledged(subject, log)),
        |subject, log| Box::pin(what_is_trimmed_is_gone_for_everybody(subject, log)),
        |subject, log| Box::pin(trimming_may_be_repeated_and_never_goes_back(subject, log)),
        |subject, log| Box::pin(a_log_that_is_trimmed_empty_goes_on_behind_its_end(subject, log)),
        |subject, log| Box::pin(nothing_is_acknowledged_where_nobody_reads_it(subject, log, 3)),
        |subject, log| Box::pin(nothing_is_acknowledged_where_nobody_reads_it(subject, log, 4)),
        |subject, log| Box::pin(clients_that_come_and_go_find_their_place(subject, log)),
    ];
    for (shard, check) in (0..).zip(checks) {
        check(subject, LogName::Shard(shard)).await;
    }
    logs_are_apart(subject).await;
}

async fn append(client: &dyn CommitLog, log: LogName, after: Pos, bytes: impl AsRef<[u8]>) -> Pos {
    client.append(log, after, Bytes::copy_from_slice(bytes.as_ref())).await.expect("an append behind the last entry is taken")
}

/// Appends one behind the other. Gives their places.
async fn append_all<const N: usize>(client: &dyn CommitLog, log: LogName, contents: [&str; N]) -> [Pos; N] {
    let mut places = [Pos::START; N];
    let mut last = client.bounds(log).await.expect("the log answers").last;
    for (place, content) in places.iter_mut().zip(contents) {
        last = append(client, log, last, content).await;
        *place = last;
    }
    places
}

async fn read(client: &dyn CommitLog, log: LogName, after: Pos) -> Vec<Entry> {
    client.read(log, after, PAGE).await.expect("the log answers")
}

async fn content(client: &dyn CommitLog, log: LogName, after: Pos) -> Vec<String> {
    let entries = read(client, log, after).await.into_iter();
    entries.map(|entry| String::from_utf8(entry.bytes.to_vec()).expect("entries of checks are text")).collect()
}

async fn bounds(client: &dyn CommitLog, log: LogName) -> Bounds {
    client.bounds(log).await.expect("the log answers")
}

async fn trim(client: &dyn CommitLog, log: LogName, upto: Pos) {
    client.trim(log, upto).await.expect("the log is trimmed");
}

async fn an_empty_log_has_nothing(subject: &Subject<'_>, log: LogName) {
    let client = (subject.client)();
    assert_eq!(bounds(&*client, log).await, Bounds { trimmed: Pos::START, last: Pos::START });
    assert_eq!(read(&*client, log, Pos::START).await, []);
    trim(&*client, log, Pos::START).await;
    assert_eq!(bounds(&*client, log).await, Bounds::default(), "nothing to trim");
}

async fn entries_come_back_as_they_were_in_order(subject: &Subject<'_>, log: LogName) {
    let client = (subject.client)();
    let every_byte: Vec<u8> = (0..=255).collect();
    let contents: [&[u8]; 4] = [b"\0", &every_byte, b"{\"text\": \"\r\n\"}", &[0xff; 5000]];
    let mut expected = Vec::new();
    let mut last = Pos::START;
    for bytes in contents {
        let pos = append(&*client, log, last, bytes).await;
        assert!(pos > last, "places rise: {pos:?} behind {last:?}");
        last = pos;
        expected.push(Entry { pos, bytes: Bytes::copy_from_slice(bytes) });
    }
    assert_eq!(read(&*client, log, Pos::START).await, expected);
    assert_eq!(read(&*client, log, expected[1].pos).await, expected[2..], "a read begins behind the place that it names");
    assert_eq!(read(&*client, log, last).await, [], "nothing is behind the last entry");
    assert_eq!(bounds(&*client, log).await, Bounds { trimmed: Pos::START, last });
}

async fn the_largest_entry_fits_and_a_larger_one_is_not_stored(subject: &Subject<'_>, log: LogName) {
    let client = (subject.client)();
    let max = client.entry_bytes_max();
    assert!(max >= 1024, "a claim must fit into an entry");
    if max > TRIED_BYTES_MAX {
        return;
    }
    let largest: Bytes = (0..max).map(|at| at.to_le_bytes()[0]).collect();
    let pos = append(&*client, log, Pos::START, &largest).await;
    assert_eq!(read(&*client, log, Pos::START).await, [Entry { pos, bytes: largest }], "at least one entry is read, however large");
    let larger = client.append(log, pos, Bytes::from(vec![7; max + 1])).await;
    assert!(matches!(larger, Err(AppendError::NotStored(_))), "{larger:?}");
    assert_eq!(read(&*client, log, pos).await, [], "what was not stored is not there");
}

async fn behind_a_place_that_is_taken(subject: &Subject<'_>, log: LogName) {
    let client = (subject.client)();
    let [first, second] = append_all(&*client, log, ["first", "second"]).await;
    for after in [Pos::START, first] {
        let answer = client.append(log, after, Bytes::from_static(b"stale")).await;
        if subject.is_conditional {
            assert_eq!(answer, Err(AppendError::Conflict), "another entry stands behind {after:?}");
        } else {
            assert!(answer.as_ref().is_ok_and(|pos| *pos > second), "it goes behind the last entry, and its place tells: {answer:?}");
        }
    }
    let stale: &[&str] = if subject.is_conditional { &[] } else { &["stale", "stale"] };
    assert_eq!(content(&*client, log, Pos::START).await, [&["first", "second"], stale].concat());
    let last = bounds(&*client, log).await.last;
    append(&*client, log, last, "third").await;
    assert_eq!(content(&*client, log, last).await, ["third"], "a conflict spoils nothing");
}

async fn of_many_at_once_none_is_lost(subject: &Subject<'_>, log: LogName) {
    let clients: Vec<_> = (0..8).map(|_| (subject.client)()).collect();
    let mut last = append(&*clients[0], log, Pos::START, "before").await;
    for round in 0..5 {
        let appends = clients.iter().enumerate().map(|(number, client)| {
            let bytes = Bytes::from(format!("{round}/{number}"));
            async move { (client.append(log, last, bytes.clone()).await, bytes) }
        });
        let (mut acknowledged, mut conflicts) = (Vec::new(), 0);
        for (answer, bytes) in join_all(appends).await {
            match answer {
                Ok(pos) => acknowledged.push(Entry { pos, bytes }),
                Err(AppendError::Conflict) => conflicts += 1,
                Err(error) => panic!("an append at the same time as others must end well: {error}"),
            }
        }
        acknowledged.sort_by_key(|entry| entry.pos);
        assert_eq!(read(&*clients[round % 8], log, last).await, acknowledged, "what was acknowledged is there, and nothing else");
        let (won, lost) = if subject.is_conditional { (1, 7) } else { (8, 0) };
        assert_eq!((acknowledged.len(), conflicts), (won, lost), "acknowledged and conflicts");
        last = acknowledged[won - 1].pos;
    }
}

async fn a_loser_finds_the_winner_at_once(subject: &Subject<'_>, log: LogName) {
    let (one, other) = ((subject.client)(), (subject.client)());
    let pos = append(&*one, log, Pos::START, "winner").await;
    match other.append(log, Pos::START, Bytes::from_static(b"loser")).await {
        Err(AppendError::Conflict) => {
            let found = read(&*other, log, Pos::START).await;
            assert_eq!(found, [Entry { pos, bytes: Bytes::from_static(b"winner") }], "after a conflict a read shows with whom");
        }
        Ok(own) => {
            let found = content(&*other, log, Pos::START).await;
            assert_eq!(found, ["winner", "loser"], "after an append a read shows what came before it");
            assert!(own.0 > pos.0, "{own:?} is not the next place behind the start");
        }
        Err(error) => panic!("the log answers: {error}"),
    }
}

async fn pages_walk_the_whole_log(subject: &Subject<'_>, log: LogName) {
    let client = (subject.client)();
    let mut last = Pos::START;
    for number in 0..40 {
        last = append(&*client, log, last, format!("{number:0width$}", width = 1 + number * 7 % 90)).await;
    }
    let whole = client.read(log, Pos::START, PAGE).await.expect("the log answers");
    assert_eq!(whole.len(), 40);
    for bytes_max in [0, 1, 100, 1000] {
        let mut walked = Vec::new();
        loop {
            let after = walked.last().map_or(Pos::START, |entry: &Entry| entry.pos);
            let page = client.read(log, after, bytes_max).await.expect("the log answers");
            if page.is_empty() {
                break;
            }
            walked.extend(page);
            assert!(walked.len() <= 40, "a page begins behind the one before");
        }
        assert_eq!(walked, whole, "pages of {bytes_max} bytes");
    }
    let page = client.read(log, Pos::START, 200).await.expect("the log answers");
    assert!(page.len() < 40, "a page is about as large as was asked for, not the whole log");
}

async fn other_clients_see_what_was_acknowledged(subject: &Subject<'_>, log: LogName) {
    let (one, other) = ((subject.client)(), (subject.client)());
    let mut last = Pos::START;
    for number in 0..10 {
        let (writer, reader) = if number % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let before = last;
        last = append(&**writer, log, before, format!("{number}")).await;
        assert_eq!(bounds(&**reader, log).await.last, last, "bounds are not older than an acknowledgement");
        assert_eq!(content(&**reader, log, before).await, [format!("{number}")], "nor is a read");
    }
}

async fn what_is_trimmed_is_gone_for_everybody(subject: &Subject<'_>, log: LogName) {
    let (one, other) = ((subject.client)(), (subject.client)());
    let [a, b, c, d] = append_all(&*one, log, ["a", "b", "c", "d"]).await;
    assert_eq!(content(&*other, log, Pos::START).await.len(), 4, "the other one knows them");
    trim(&*one, log, b).await;
    for client in [&*one, &*other, &*(subject.client)()] {
        assert_eq!(bounds(client, log).await, Bounds { trimmed: b, last: d });
        for after in [Pos::START, a] {
            assert_eq!(client.read(log, after, PAGE).await, Err(ReadError::Trimmed(b)), "behind {after:?} something is gone");
        }
        assert_eq!(content(client, log, b).await, ["c", "d"]);
        assert_eq!(content(client, log, c).await, ["d"]);
    }
}

async fn trimming_may_be_repeated_and_never_goes_back(subject: &Subject<'_>, log: LogName) {
    let client = (subject.client)();
    let [a, _, c, d] = append_all(&*client, log, ["a", "b", "c", "d"]).await;
    for upto in [c, c, a, Pos::START] {
        trim(&*client, log, upto).await;
        assert_eq!(bounds(&*client, log).await, Bounds { trimmed: c, last: d }, "trimmed up to {upto:?}");
    }
    assert_eq!(content(&*client, log, c).await, ["d"]);
}

async fn a_log_that_is_trimmed_empty_goes_on_behind_its_end(subject: &Subject<'_>, log: LogName) {
    let client = (subject.client)();
    let [_, last] = append_all(&*client, log, ["a", "b"]).await;
    trim(&*client, log, last).await;
    for client in [&client, &(subject.client)()] {
        assert_eq!(bounds(&**client, log).await, Bounds { trimmed: last, last }, "an emptied log knows its end");
        assert_eq!(read(&**client, log, last).await, []);
    }
    let next = append(&*(subject.client)(), log, last, "c").await;
    assert!(next > last, "no place is given twice");
    assert_eq!(content(&*client, log, last).await, ["c"]);
    assert_eq!(bounds(&*client, log).await, Bounds { trimmed: last, last: next });
}

/// The writer that slept while the log was trimmed: where it means to append is nothing any more, and nobody would ever read it there.
async fn nothing_is_acknowledged_where_nobody_reads_it(subject: &Subject<'_>, log: LogName, trimmed: usize) {
    let (sleeper, other) = ((subject.client)(), (subject.client)());
    let places = append_all(&*sleeper, log, ["a", "b", "c", "d"]).await;
    let ([a, .., last], trimmed) = (places, places[trimmed - 1]);
    trim(&*other, log, trimmed).await;
    for (client, after) in [(&sleeper, a), (&sleeper, Pos::START), (&(subject.client)(), a)] {
        match client.append(log, after, Bytes::from_static(b"stale")).await {
            Ok(pos) => {
                assert!(!subject.is_conditional, "the place behind {after:?} was taken and trimmed, and is given again: {pos:?}");
                assert!(pos > last, "no place is given twice");
            }
            // Nobody can be sure any more whether it was this very entry that was trimmed.
            Err(AppendError::Conflict | AppendError::Unknown(_)) => assert!(subject.is_conditional),
            Err(error) => panic!("the log answers: {error}"),
        }
    }
    let stale: &[&str] = if subject.is_conditional { &[] } else { &["stale"; 3] };
    assert_eq!(content(&*other, log, last).await, stale);
    let end = bounds(&*other, log).await;
    assert_eq!(end.trimmed, trimmed);
    append(&*other, log, end.last, "goes on").await;
    assert_eq!(content(&*sleeper, log, end.last).await, ["goes on"]);
}

async fn clients_that_come_and_go_find_their_place(subject: &Subject<'_>, log: LogName) {
    let mut last = Pos::START;
    for number in 0..6 {
        let client = (subject.client)();
        assert_eq!(bounds(&*client, log).await.last, last);
        last = append(&*client, log, last, format!("{number}")).await;
        if number == 3 {
            trim(&*client, log, last).await;
        }
    }
    let client = (subject.client)();
    let trimmed = bounds(&*client, log).await.trimmed;
    assert_eq!(content(&*client, log, trimmed).await, ["4", "5"]);
}

async fn logs_are_apart(subject: &Subject<'_>) {
    let client = (subject.client)();
    // Names of which one is the beginning of another as text.
    let logs = [LogName::Members, LogName::Shard(101), LogName::Shard(1010), LogName::Shard(u16::MAX)];
    for log in logs {
        append(&*client, log, Pos::START, log.to_string()).await;
    }
    let [last] = append_all(&*client, logs[1], ["second"]).await;
    trim(&*client, logs[1], last).await;
    for log in [logs[0], logs[2], logs[3]] {
        assert_eq!(content(&*client, log, Pos::START).await, [log.to_string()]);
        assert_eq!(bounds(&*client, log).await.trimmed, Pos::START);
    }
}

#[cfg(test)]
mod tests;
