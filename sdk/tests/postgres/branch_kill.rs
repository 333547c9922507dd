//! Participants that are killed (`SIGKILL`) after the work, after the vote, in and after the commit: what was promised stands, with its locks,
//! and nothing is left behind.

use crate::branch::{add, builder, code, id};
use crate::server::{Database, database, prepared, reserved, until};
use sagamq_sdk::branch::{BRANCH_COMMITTED, BRANCH_PREPARED, BRANCH_UNKNOWN, BranchManager, Vote};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const DATABASE: &str = "SAGAMQ_TEST_BRANCH_DATABASE";
const POINT: &str = "SAGAMQ_TEST_BRANCH_POINT";

/// The participant. It says what it has done, and goes on until it is killed.
#[tokio::test]
#[ignore = "is started by the tests of this file, in a process of its own"]
async fn participant() {
    let (Ok(name), Ok(point)) = (std::env::var(DATABASE), std::env::var(POINT)) else { return };
    let database = Database::named(&name);
    let branches = builder(&database, 4).start().await.expect("started");
    if point == "busy" {
        for instance in 1.. {
            add(&branches, instance, &format!("k{instance}")).await.expect("done");
            say(&format!("asked {instance}"));
            if instance % 4 == 0 {
                code(branches.commit_one_phase(&id(instance), 1).await).expect("committed");
                say(&format!("committed {instance}"));
                continue;
            }
            code(branches.prepare(&id(instance), 1).await).expect("a vote");
            say(&format!("prepared {instance}"));
            if instance % 3 != 0 {
                code(branches.commit(&id(instance)).await).expect("committed");
                say(&format!("committed {instance}"));
            }
        }
    }
    add(&branches, 1, "a").await.expect("done");
    if point != "worked" {
        code(branches.prepare(&id(1), 1).await).expect("a vote");
    }
    if point == "committed" {
        code(branches.commit(&id(1)).await).expect("committed");
    }
    say(&point);
    // The answer is never sent; the parent's kill comes, or its end.
    drop(std::io::stdin().read(&mut [0]));
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
    fn start(database: &Database, point: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "branch_kill::participant", "--ignored", "--nocapture"])
            .env(DATABASE, database.name())
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

fn killed_at(database: &Database, point: &str) {
    let mut participant = Participant::start(database, point);
    assert_eq!(participant.next().as_deref(), Some(point));
    participant.kill();
}

#[tokio::test]
async fn a_branch_that_was_killed_after_its_work_is_gone_without_a_trace() {
    let Some(database) = database().await else { return };
    killed_at(&database, "worked");
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    assert!(branches.in_doubt().await.expect("known").is_empty());
    assert_eq!(code(branches.prepare(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.commit_one_phase(&id(1), 1).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.commit(&id(1)).await), Err(BRANCH_UNKNOWN.into()));
    assert_eq!(code(branches.rollback(&id(1)).await), Ok(()));
    until("the server has noticed", async || add(&branches, 2, "a").await.is_ok()).await;
    assert_eq!((reserved(&db, "a").await, prepared(&db).await), (0, 0));
}

#[tokio::test]
async fn a_branch_that_was_killed_after_its_vote_keeps_its_locks_and_can_be_decided_either_way() {
    for commits in [true, false] {
        let Some(database) = database().await else { return };
        killed_at(&database, "prepared");
        let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
        let doubt = branches.in_doubt().await.expect("known");
        assert_eq!(doubt.iter().map(|branch| &branch.id).collect::<Vec<_>>(), [&id(1)]);
        assert_eq!(add(&branches, 2, "a").await, Err("LOCK_TIMEOUT".into()), "another branch meets the lock");
        assert_eq!(code(branches.prepare(&id(1), 1).await), Ok(Vote::Yes));
        let decided = if commits { branches.commit(&id(1)).await } else { branches.rollback(&id(1)).await };
        assert_eq!(code(decided), Ok(()));
        assert_eq!((reserved(&db, "a").await, prepared(&db).await), (i64::from(commits), 0));
        add(&branches, 3, "a").await.expect("the lock is let go");
    }
}

#[tokio::test]
async fn a_branch_that_was_killed_after_its_commit_says_so_when_it_is_asked_again() {
    let Some(database) = database().await else { return };
    killed_at(&database, "committed");
    let (db, branches) = (database.client().await, builder(&database, 4).start().await.expect("started"));
    assert_eq!((reserved(&db, "a").await, prepared(&db).await), (1, 0));
    assert_eq!(code(branches.commit(&id(1)).await), Ok(()));
    assert_eq!(code(branches.rollback(&id(1)).await), Err(BRANCH_COMMITTED.into()));
    assert_eq!(reserved(&db, "a").await, 1);
}

/// The session of a process that died is still at its last statement: whoever asks waits for it, or makes sure that it can never come.
#[tokio::test]
async fn a_commit_in_flight_of_a_session_that_died_is_waited_for_or_prevented() {
    let Some(database) = database().await else { return };
    let (mut dying, look) = (database.client().await, database.client().await);
    let branches = builder(&database, 4).start().await.expect("started");
    let own_row = |instance| format!("INSERT INTO sagamq.branches (gid, is_committed) VALUES ('{}', true)", id(instance));
    for (instance, commits) in [(1, true), (2, false)] {
        // Its row is written, its commit is on its way.
        let txn = dying.transaction().await.expect("begun");
        txn.batch_execute(&own_row(instance)).await.expect("written");
        let asks = tokio::spawn({
            let branches = branches.clone();
            async move { branches.commit_one_phase(&id(instance), 1).await }
        });
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        until("it waits", async || look.query_one(waits, &[]).await.expect("readable").get::<_, i64>(0) == 1).await;
        if commits {
            txn.commit().await.expect("committed")
        } else {
            txn.rollback().await.expect("rolled back")
        }
        let expected = if commits { Ok(()) } else { Err(BRANCH_UNKNOWN.to_owned()) };
        assert_eq!(code(asks.await.expect("no panic")), expected);
    }
    // Its last statement has not come yet: it must not come any more.
    assert_eq!(code(branches.commit_one_phase(&id(3), 1).await), Err(BRANCH_UNKNOWN.into()));
    let late = dying.transaction().await.expect("begun");
    late.batch_execute(&own_row(3)).await.expect_err("somebody was told that it is lost");
    drop(late);
    // And one that is prepared just now is found.
    let txn = dying.transaction().await.expect("begun");
    txn.batch_execute(&format!("{}; PREPARE TRANSACTION '{}'", own_row(4), id(4))).await.expect("prepared");
    assert_eq!(code(branches.prepare(&id(4), 1).await), Ok(Vote::Yes));
    assert_eq!(code(branches.commit(&id(4)).await), Ok(()));
}

#[tokio::test]
async fn a_participant_that_is_killed_at_any_moment_keeps_every_promise() {
    const ROUNDS: u64 = 12;
    let mut table = String::from("round  asked  prepared  committed  in doubt  lost\n");
    for round in 0..ROUNDS {
        let Some(database) = database().await else { return };
        let db = database.client().await;
        db.batch_execute("INSERT INTO stock SELECT 'k' || n, 0 FROM generate_series(1, 2000) n").await.expect("filled");
        let mut participant = Participant::start(&database, "busy");
        let (mut asked, mut voted, mut committed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut hear = |line: String| {
            let (what, instance) = line.split_once(' ').expect("two words");
            let instance: u128 = instance.parse().expect("a number");
            match what {
                "asked" => asked.insert(instance),
                "prepared" => voted.insert(instance),
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
        let branches = builder(&database, 4).start().await.expect("started");
        let doubt = branches.in_doubt().await.expect("known");
        let doubt: BTreeSet<u128> = doubt.into_iter().map(|branch| branch.id.instance.as_u128()).collect();
        let mut lost = 0;
        for &instance in &asked {
            let sku = format!("k{instance}");
            // Asked as its coordinator would: one that has not voted is told to commit in one phase, the others to commit.
            let answer = if voted.contains(&instance) || doubt.contains(&instance) {
                code(branches.commit(&id(instance)).await)
            } else {
                match code(branches.commit_one_phase(&id(instance), 1).await) {
                    // Its vote was on its way when the process died, and came through.
                    Err(code_of_it) if code_of_it == BRANCH_PREPARED => code(branches.commit(&id(instance)).await),
                    other => other,
                }
            };
            let is_visible = reserved(&db, &sku).await == 1;
            lost += u32::from((voted.contains(&instance) || committed.contains(&instance)) && !is_visible);
            assert_eq!(answer, if is_visible { Ok(()) } else { Err(BRANCH_UNKNOWN.to_owned()) }, "what is said is what is: {instance}");
        }
        assert!(branches.in_doubt().await.expect("known").is_empty(), "every branch in doubt was asked for");
        assert_eq!(prepared(&db).await, 0, "nothing is left behind");
        table.push_str(&format!(
            "{round:>5}  {:>5}  {:>8}  {:>9}  {:>8}  {lost:>4}\n",
            asked.len(),
            voted.len(),
            committed.len(),
            doubt.len()
        ));
        assert_eq!(lost, 0, "{table}");
    }
    println!("{table}");
}
