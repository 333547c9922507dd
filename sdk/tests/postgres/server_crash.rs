//! The PostgreSQL server itself dies (`SIGKILL` of its first process) between a vote and the decision, under a participant that lives on and
//! for one that comes anew: prepared branches are found again with their locks, open ones are gone, and what is decided is what is there.

use crate::branch::{add, builder, code, id};
use crate::server::{Database, LIMIT, database_at, prepared, reserved, until};
use sagamq_sdk::branch::{BRANCH_UNKNOWN, BranchManager, Vote};
use sagamq_sdk::postgres::tokio_postgres::{Config, NoTls};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Where the programs of the server are: `scripts/with-postgres` says it beside the server that it has started.
const PROGRAMS: &str = "SAGAMQ_POSTGRES_BIN";

/// A server of the test's own, which may be killed.
struct Server {
    programs: PathBuf,
    directory: TempDir,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program of the server, which does not run as root.
fn program(path: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

impl Server {
    /// `None` where no server is given: then the other tests have said so.
    async fn start() -> Option<Self> {
        std::env::var_os("SAGAMQ_TEST_POSTGRES")?;
        let programs = std::env::var_os(PROGRAMS).map(PathBuf::from);
        let programs = programs.unwrap_or_else(|| panic!("{PROGRAMS} says where initdb and postgres are: scripts/with-postgres sets it"));
        let directory = tempfile::Builder::new().prefix("sagamq-postgres-").tempdir().expect("a directory");
        // For root it is done; for everybody else the directory is their own.
        drop(Command::new("chown").arg("postgres").arg(directory.path()).stderr(Stdio::null()).status());
        let mut initdb = program(&programs.join("initdb"));
        initdb.arg("--pgdata").arg(directory.path().join("data")).args(["--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        let made = initdb.current_dir(directory.path()).stdout(Stdio::null()).output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = run(&programs, &directory);
        let mut server = Self { programs, directory, process };
        server.until_it_answers().await;
        Some(server)
    }

    /// Each start waits until processes of the one before have noticed that it is dead, so one may be refused.
    async fn until_it_answers(&mut self) {
        let wait = async {
            while self.config().connect(NoTls).await.is_err() {
                if self.process.try_wait().expect("its state").is_some() {
                    self.process = run(&self.programs, &self.directory);
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let came = tokio::time::timeout(LIMIT, wait).await;
        assert!(came.is_ok(), "{}", std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default());
    }

    async fn start_again(&mut self) {
        self.process = run(&self.programs, &self.directory);
        self.until_it_answers().await;
    }

    /// `SIGKILL` of the first process. All others end when they notice: until then one may still do what it is asked for.
    async fn kill(&mut self) {
        let others = children(self.process.id());
        self.end();
        until("all processes have ended", async || others.iter().all(|&other| parent_of(other).is_none())).await;
    }

    fn end(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.directory.path()).user("postgres").dbname("postgres");
        config
    }
}

/// The processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("it is there").flatten();
    let processes = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let children: Vec<u32> = processes.filter(|&process| parent_of(process) == Some(parent)).collect();
    assert!(!children.is_empty(), "a server has more than one process");
    children
}

/// The parent of a process that has not ended. One that ended and that nobody has asked for yet (`Z`) has.
fn parent_of(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which is in brackets: state and parent.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    (fields.next()? != "Z").then_some(fields.next()?.parse().ok()?)
}

/// It listens in its own folder alone: a port could be somebody else's when the server comes again.
fn run(programs: &Path, directory: &TempDir) -> Child {
    let log = File::options().create(true).append(true).open(directory.path().join("log")).expect("a file");
    let mut postgres = program(&programs.join("postgres"));
    postgres.arg("-D").arg(directory.path().join("data"));
    postgres.arg("-c").arg(format!("unix_socket_directories={}", directory.path().display()));
    for setting in ["listen_addresses=", "max_prepared_transactions=16", "fsync=on", "shared_buffers=16MB"] {
        postgres.args(["-c", setting]);
    }
    postgres.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the server runs")
}

async fn in_doubt(branches: &dyn BranchManager) -> BTreeSet<u128> {
    let doubts = branches.in_doubt().await.expect("known");
    doubts.into_iter().map(|branch| branch.id.instance.as_u128()).collect()
}

#[tokio::test]
async fn a_branch_that_was_prepared_before_the_server_died_is_found_again_and_decided() {
    let Some(mut server) = Server::start().await else { return };
    let database: Database = database_at(server.config()).await;
    let db = database.client().await;
    db.batch_execute("INSERT INTO stock SELECT 'k' || n, 0 FROM generate_series(1, 8) n").await.expect("filled");
    drop(db);
    let lives_on = builder(&database, 6).start().await.expect("started");
    for instance in [1, 2, 3, 4] {
        add(&lives_on, instance, &format!("k{instance}")).await.expect("done");
    }
    for instance in [1, 2, 3] {
        assert_eq!(code(lives_on.prepare(&id(instance), 1).await), Ok(Vote::Yes));
    }
    assert_eq!(code(lives_on.commit(&id(3)).await), Ok(()));

    server.kill().await;
    server.start_again().await;

    // One that was there all the time, and one that begins now: they see the same, and either of them may be told.
    let comes_anew = builder(&database, 6).start().await.expect("started");
    until("the participant has its connections again", async || lives_on.in_doubt().await.is_ok()).await;
    for branches in [&lives_on, &comes_anew] {
        assert_eq!(in_doubt(branches).await, [1, 2].into(), "what was prepared is, and nothing else");
        assert_eq!(code(branches.prepare(&id(1), 1).await), Ok(Vote::Yes), "its vote stands");
    }
    let db = database.client().await;
    assert_eq!((prepared(&db).await, reserved(&db, "k3").await, reserved(&db, "k4").await), (2, 1, 0));
    for instance in [1, 2] {
        let lock = add(&comes_anew, 10 + instance, &format!("k{instance}")).await;
        assert_eq!(lock, Err("LOCK_TIMEOUT".to_owned()), "{instance} keeps its locks until it is decided");
    }
    // Nobody had voted for this one, so it is gone, and says so to whoever has it alone.
    assert_eq!(code(comes_anew.commit_one_phase(&id(4), 1).await), Err(BRANCH_UNKNOWN.to_owned()));

    assert_eq!(code(comes_anew.commit(&id(1)).await), Ok(()));
    assert_eq!(code(lives_on.rollback(&id(2)).await), Ok(()));
    assert_eq!(code(lives_on.commit(&id(1)).await), Ok(()), "told again, by somebody else");
    assert_eq!(code(comes_anew.commit(&id(3)).await), Ok(()), "committed before the crash, and that stands");
    let mut books = Vec::new();
    for instance in 1..=4 {
        books.push(reserved(&db, &format!("k{instance}")).await);
    }
    assert_eq!((books, prepared(&db).await), (vec![1, 0, 1, 0], 0), "the books balance, and nothing is left behind");
    add(&lives_on, 20, "k1").await.expect("the locks are let go");
}

#[tokio::test]
async fn a_server_that_dies_again_and_again_loses_no_vote_and_no_decision() {
    const ROUNDS: u128 = 4;
    let Some(mut server) = Server::start().await else { return };
    let database: Database = database_at(server.config()).await;
    let branches = builder(&database, 6).start().await.expect("started");
    let mut must_be = 0;
    for round in 0..ROUNDS {
        let instance = 100 + round;
        until("a branch can be opened", async || matches!(branches.in_doubt().await, Ok(doubts) if doubts.is_empty())).await;
        add(&branches, instance, "a").await.expect("done");
        assert_eq!(code(branches.prepare(&id(instance), 1).await), Ok(Vote::Yes));
        server.kill().await;
        // The decision meets a dead server, and is told again until it is done.
        let commits = round % 2 == 0;
        let decide = async || if commits { branches.commit(&id(instance)).await } else { branches.rollback(&id(instance)).await };
        decide().await.expect_err("nobody is there");
        server.start_again().await;
        until("it is done", async || decide().await.is_ok()).await;
        must_be += i64::from(commits);
        let db = database.client().await;
        assert_eq!((reserved(&db, "a").await, prepared(&db).await), (must_be, 0), "round {round}");
    }
}
