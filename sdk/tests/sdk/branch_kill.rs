//! Participants that are killed (`SIGKILL`) after the work, after the vote and after the commit: what was promised stands, with its locks.

use crate::branch::{add, builder, call, code, id, is_locked, number, open_db, value, work};
use sagamq_sdk::branch::rocks::{BranchDb, RocksBranches};
use sagamq_sdk::branch::{BRANCH_COMMITTED, BRANCH_UNKNOWN, BranchManager, Vote};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const DIR: &str = "SAGAMQ_TEST_BRANCH_DIR";
const POINT: &str = "SAGAMQ_TEST_BRANCH_POINT";

/// The participant. It says what it has done, and goes on until it is killed.
#[tokio::test]
#[ignore = "is started by the tests of this file, in a process of its own"]
async fn participant() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let point = std::env::var(POINT).expect("a point");
    let db = open_db(Path::new(&dir), &["orders"]);
    let branches = participant_of(&db);
    if point == "busy" {
        return busy(&branches).await;
    }
    add(&branches, 1, "n").await.expect("done");
    work(&branches, call(1, "b", "order", "o", 1)).await.expect("done");
    if point != "worked" {
        code(branches.prepare(&id(1), 2).await).expect("a vote");
    }
    if point == "committed" {
        code(branches.commit(&id(1)).await).expect("committed");
    }
    say(&point);
    // The answer is never sent; the parent's kill comes, or its end.
    drop(std::io::stdin().read_line(&mut String::new()));
}

fn participant_of(db: &Arc<BranchDb>) -> RocksBranches {
    let orders = Arc::clone(db);
    let order = move |txn: &rocksdb::Transaction<'_, BranchDb>, _: &sagamq_sdk::Call| {
        txn.put_cf(&orders.cf_handle("orders").expect("it exists"), "o", 1_u64.to_be_bytes())?;
        Ok(())
    };
    builder().column_families(["orders"]).on("order", order).open(Arc::clone(db)).expect("open")
}

/// One branch after the other, every one told of before and after each vote and each commit.
async fn busy(branches: &RocksBranches) {
    for instance in 1.. {
        add(branches, instance, &format!("k{instance}")).await.expect("done");
        say(&format!("asked {instance}"));
        code(branches.prepare(&id(instance), 1).await).expect("a vote");
        say(&format!("prepared {instance}"));
        if instance % 3 != 0 {
            code(branches.commit(&id(instance)).await).expect("committed");
            say(&format!("committed {instance}"));
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "!{line}").expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// A process that ends with the test.
struct Participant {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Participant {
    fn start(dir: &Path, point: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "branch_kill::participant", "--ignored", "--nocapture"])
            .env(DIR, dir)
            .env(POINT, point)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test starts again");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    /// What it says next; none if it has ended.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("readable") == 0 {
                return None;
            }
            // The harness may have begun the line.
            if let Some((_, said)) = line.split_once('!') {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    /// `SIGKILL`.
    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn killed_at(dir: &Path, point: &str) {
    let mut participant = Participant::start(dir, point);
    assert_eq!(participant.next().as_deref(), Some(point));
    participant.kill();
}

#[tokio::test]
async fn a_branch_that_was_killed_after_its_work_is_gone_without_a_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    killed_at(dir.path(), "worked");
    let db = open_db(dir.path(), &["orders"]);
    let branches = participant_of(&db);
    assert!(branches.in_doubt().await.expect("known").is_empty());
    assert_eq!((value(&db, "n"), is_locked(&db, "n")), (0, false));
    assert_eq!(work(&branches, call(1, "c", "add", "n", 2)).await, Err(BRANCH_UNKNOWN.into()), "the rest alone must not be done");
    assert_eq!(code(branches.prepare(&id(1), 2).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.commit(&id(1)).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.rollback(&id(1)).await), Ok(()));
}

#[tokio::test]
async fn a_branch_that_was_killed_after_its_vote_keeps_its_locks_and_can_be_decided_either_way() {
    for commits in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        killed_at(dir.path(), "prepared");
        // Over more than one restart.
        for _ in 0..2 {
            let db = open_db(dir.path(), &["orders"]);
            let branches = participant_of(&db);
            let doubt = branches.in_doubt().await.expect("known");
            assert_eq!(doubt.iter().map(|branch| &branch.id).collect::<Vec<_>>(), [&id(1)]);
            assert!(doubt[0].prepared_at_ms > 1_600_000_000_000, "it is known for how long it has been in doubt");
            assert_held(&db).await;
            assert_eq!(add(&branches, 2, "n").await, Err("LOCK_TIMEOUT".into()), "another branch meets the lock");
            assert_eq!(code(branches.prepare(&id(1), 2).await), Ok(Vote::Yes));
            drop(db);
            branches.close().await;
        }
        let db = open_db(dir.path(), &["orders"]);
        let branches = participant_of(&db);
        let decided = if commits { branches.commit(&id(1)).await } else { branches.rollback(&id(1)).await };
        assert_eq!(code(decided), Ok(()));
        let orders = db.cf_handle("orders").expect("it exists");
        let order = db.get_cf(&orders, "o").expect("readable").map_or(0, |bytes| number(&bytes));
        assert_eq!((value(&db, "n"), order), if commits { (1, 1) } else { (0, 0) });
        assert!(!is_locked(&db, "n"));
        db.put_cf(&orders, "o", "free").expect("the lock is let go");
        assert!(branches.in_doubt().await.expect("known").is_empty());
    }
}

/// Nobody sees what is prepared, and nobody can write it: neither a transaction nor a write outside of one.
async fn assert_held(db: &Arc<BranchDb>) {
    assert_eq!(value(db, "n"), 0);
    assert!(is_locked(db, "n"));
    let orders = db.cf_handle("orders").expect("it exists");
    assert_eq!(db.get_cf(&orders, "o").expect("readable"), None);
    for error in [db.put("n", "stolen"), db.put_cf(&orders, "o", "stolen"), db.delete("n")] {
        assert_eq!(error.expect_err("locked").kind(), rocksdb::ErrorKind::TimedOut);
    }
}

#[tokio::test]
async fn a_branch_that_was_killed_after_its_commit_says_so_when_it_is_asked_again() {
    let dir = tempfile::tempdir().expect("a directory");
    killed_at(dir.path(), "committed");
    let db = open_db(dir.path(), &["orders"]);
    let branches = participant_of(&db);
    assert_eq!((value(&db, "n"), is_locked(&db, "n")), (1, false));
    assert!(branches.in_doubt().await.expect("known").is_empty());
    assert_eq!(code(branches.commit(&id(1)).await), Ok(()));
    assert_eq!(code(branches.rollback(&id(1)).await), Err(BRANCH_COMMITTED.into()));
    assert_eq!(value(&db, "n"), 1);
}

#[tokio::test]
async fn a_participant_that_is_killed_at_any_moment_keeps_every_promise() {
    const ROUNDS: u64 = 12;
    let mut table = String::from("round  asked  prepared  committed  in doubt  lost\n");
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().expect("a directory");
        let mut participant = Participant::start(dir.path(), "busy");
        let (mut asked, mut prepared, mut committed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut hear = |line: String| {
            let (what, instance) = line.split_once(' ').expect("two words");
            let instance: u128 = instance.parse().expect("a number");
            match what {
                "asked" => asked.insert(instance),
                "prepared" => prepared.insert(instance),
                _ => committed.insert(instance),
            }
        };
        // Long enough to be in the middle, and each time somewhere else.
        for _ in 0..(7 + 11 * round) {
            hear(participant.next().expect("it goes on until it is killed"));
        }
        std::thread::sleep(Duration::from_micros(300 * round));
        participant.kill();
        // What it said before it died was promised.
        while let Some(line) = participant.next() {
            hear(line);
        }
        let db = open_db(dir.path(), &["orders"]);
        let branches = participant_of(&db);
        let doubt: BTreeSet<u128> =
            branches.in_doubt().await.expect("known").into_iter().map(|branch| branch.id.instance.as_u128()).collect();
        let mut lost = 0;
        for &instance in &asked {
            let key = format!("k{instance}");
            let (is_visible, is_in_doubt) = (value(&db, &key) == 1, doubt.contains(&instance));
            assert!(!(is_visible && is_in_doubt), "a branch is one or the other: {instance}");
            assert_eq!(is_locked(&db, &key), is_in_doubt, "exactly what is in doubt is locked: {instance}");
            lost += u32::from(prepared.contains(&instance) && !is_visible && !is_in_doubt);
            lost += u32::from(committed.contains(&instance) && !is_visible);
            let answer = code(branches.commit(&id(instance)).await);
            let expected = if is_visible || is_in_doubt { Ok(()) } else { Err(BRANCH_UNKNOWN.to_owned()) };
            assert_eq!(answer, expected, "{instance}");
            assert_eq!(value(&db, &key), u64::from(is_visible || is_in_doubt));
        }
        assert!(branches.in_doubt().await.expect("known").is_empty(), "every branch in doubt was asked for");
        table.push_str(&format!(
            "{round:>5}  {:>5}  {:>8}  {:>9}  {:>8}  {lost:>4}\n",
            asked.len(),
            prepared.len(),
            committed.len(),
            doubt.len()
        ));
        assert_eq!(lost, 0, "{table}");
    }
    println!("{table}");
}
