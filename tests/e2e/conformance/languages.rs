//! The participants in other languages: they conform, what they have answered is on disk, and the guides show the code that is tested.

use super::{LIMIT, conformance, conforms};
use sagamq_sdk::Client;
use sagamq_sdk::api::saga::{SagaState, StartSaga};
use sagamq_tests::ServerProcess;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// From this version on Node runs TypeScript as it stands.
const NODE_STRIPS_TYPES: (u32, u32) = (22, 18);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn participants() -> PathBuf {
    root().join("examples/participants")
}

/// A participant that runs as a process on a folder, and is killed when it is dropped.
struct Participant {
    url: String,
    child: Child,
}

impl Drop for Participant {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Participant {
    fn start(program: &[PathBuf], folder: &Path) -> Self {
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).arg("0").arg(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says where it listens");
        assert!(line.starts_with("http://"), "{program:?} did not start: {line:?}");
        Self { url: line.trim().to_owned(), child }
    }

    async fn call(&self, call: &Value) -> (u16, Value) {
        let url = format!("{}/saga/{}", self.url, call["call"].as_str().expect("a name"));
        let answer = reqwest::Client::new().post(url).json(call).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn reserved(&self) -> Value {
        let answer = reqwest::get(format!("{}/stock", self.url)).await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["mug"]["reserved"].take()
    }
}

fn call(step: &str, operation: &str, name: &str, pieces: u64) -> Value {
    json!({
        "instance": "00070198-5c3e-8d3a-9f6e-2f1f5a7f0b11", "step": step, "operation": operation, "call": name, "must_succeed": false,
        "epoch": 1, "arguments": { "order": "o-1", "sku": "mug", "pieces": pieces },
    })
}

/// Two reservations of one order.
fn definition(participant: &str) -> String {
    let reserve = |id: &str, pieces: &str| {
        format!(
            "  - id: {id}\n    call: stock.reserve\n    with: {{ order: \"${{ input.order }}\", sku: mug, pieces: {pieces} }}\n    \
             compensate: stock.release\n"
        )
    };
    format!(
        "saga: order\nversion: 1\nkey: ${{ input.order }}\nservices: {{ stock: {{ http: \"{participant}/saga\" }} }}\nsteps:\n{}{}\
         output: ${{ steps.second.output }}\n",
        reserve("first", "2"),
        reserve("second", "\"${ input.pieces }\"")
    )
}

/// Sells this order by a saga; how that ended.
async fn sell(client: &Client, order: &str, pieces: u64) -> (SagaState, Value) {
    let input = json!({ "order": order, "pieces": pieces }).into();
    let start = StartSaga { saga: "order".parse().expect("legal"), version: None, mode: None, input };
    let started = client.sagas().start(&start).await.expect("started");
    let saga = client.sagas().wait(started.id, LIMIT).await.expect("it ends");
    let failure = saga.summary.failure.map(|failure| failure.code);
    (saga.summary.state, saga.output.map_or_else(|| json!(failure), |output| output.to_value()))
}

/// Real sagas call it: one that completes, and one whose second reservation is refused, so that the first is undone.
async fn takes_part_in_sagas(participant: &Participant) {
    let server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(&definition(&participant.url)).await.expect("published");
    let before = participant.reserved().await.as_u64().expect("a number");
    let (state, output) = sell(&client, "o-1", 3).await;
    assert_eq!((state, &output["order"]), (SagaState::Completed, &json!("o-1")), "{output}");
    assert_eq!(participant.reserved().await, json!(before + 5));
    assert_eq!(sell(&client, "o-2", u64::from(u32::MAX)).await, (SagaState::Compensated, json!("OUT_OF_STOCK")));
    assert_eq!(participant.reserved().await, json!(before + 5), "the first reservation of the second order is released");
}

/// It conforms, takes part in sagas, and what it has answered is still so after a kill in the middle of everything.
async fn judge(what: &str, program: &[PathBuf]) {
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let participant = Participant::start(program, folder.path());
    let profile = participants().join("conformance.yaml");
    let probe = format!("{}/stock", participant.url);
    let args = ["--file", profile.to_str().expect("a path"), "--probe", &probe, "--probe-pointer", "/mug/reserved"];
    conforms(what, &conformance(&format!("{}/saga", participant.url), &args).await, &["doubt", "ongoing", "large-output"]);

    takes_part_in_sagas(&participant).await;

    // Of a transaction it does nothing, and says so at once: nobody waits for its vote.
    for operation in ["action", "prepare"] {
        let before = participant.reserved().await;
        let mut branch = call("branch", operation, "reserve", 7);
        branch["transaction"] = json!({ "cluster": "00000000-0000-0000-0000-000000000000", "branch": "stock", "actions_done": 0 });
        let (status, refused) = participant.call(&branch).await;
        assert_eq!((status, &refused["code"]), (409, &json!("SAGAS_ONLY")), "{operation}: {refused}");
        assert_eq!(participant.reserved().await, before);
    }

    let before = participant.reserved().await.as_u64().expect("a number");
    let done = participant.call(&call("kept", "action", "reserve", 7)).await;
    let refused = participant.call(&call("refused", "action", "reserve", u64::from(u32::MAX))).await;
    let empty = participant.call(&call("undone", "compensation", "release", 7)).await;
    assert_eq!((done.0, refused.0, empty), (200, 409, (200, Value::Null)));
    drop(participant);
    let participant = Participant::start(program, folder.path());
    assert_eq!(participant.call(&call("kept", "action", "reserve", 7)).await, done, "the same answer after a kill");
    assert_eq!(participant.call(&call("refused", "action", "reserve", u64::from(u32::MAX))).await, refused);
    assert_eq!(participant.call(&call("undone", "action", "reserve", 7)).await.0, 409, "it is compensated");
    assert_eq!(participant.reserved().await, json!(before + 7));
    assert_eq!(participant.call(&call("kept", "compensation", "release", 7)).await, (200, Value::Null));
    assert_eq!(participant.reserved().await, json!(before));
}

/// What a program says of its version, if it is there.
fn version(program: &str) -> Option<String> {
    let run = Command::new(program).arg("--version").output().ok()?;
    run.status.success().then(|| String::from_utf8_lossy(&run.stdout).trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn python_conforms() {
    if version("python3").is_none() {
        eprintln!("NOT RUN: there is no python3 on this machine; scripts/setup says how to get it");
        return;
    }
    judge("python", &["python3".into(), participants().join("python/stock.py")]).await;
}

/// What a compensation that is refused leaves behind it: nothing, so that it undoes its action when the cause is mended. No operation of the
/// participant refuses one, but whoever begins with its code may write one that does.
const REFUSED_COMPENSATION: &str = r#"
import json, pathlib, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import stock

database = stock.Database(pathlib.Path(sys.argv[2]) / "stock.db")

def call(operation, effect):
    arguments = {"order": "o-1", "sku": "mug", "pieces": 7}
    call = {"instance": "i", "step": "s", "operation": operation, "must_succeed": operation == "compensation", "arguments": arguments}
    return database.call(call, effect)[0]

def refuses(db, arguments):
    db.execute("UPDATE stock SET reserved = 1000")
    raise stock.Refused("CLOSED", "the shelf is closed")

answers = [call("action", stock.reserve), call("compensation", refuses), call("compensation", stock.release), call("action", stock.reserve)]
print(json.dumps([answers, database.stock()["mug"]["reserved"]]))
"#;

#[test]
fn a_compensation_in_python_that_was_refused_undoes_its_action_when_it_is_asked_again() {
    if version("python3").is_none() {
        eprintln!("NOT RUN: there is no python3 on this machine; scripts/setup says how to get it");
        return;
    }
    let folder: TempDir = tempfile::tempdir().expect("a folder");
    let mut python = Command::new("python3");
    python.args(["-c", REFUSED_COMPENSATION]).args([&participants().join("python"), folder.path()]);
    let run = python.output().expect("it runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said: Value = serde_json::from_slice(&run.stdout).expect("JSON");
    assert_eq!(said, json!([[200, 409, 200, 409], 0]), "the reservation is released");
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_conforms() {
    let built = tempfile::tempdir().expect("a folder");
    let Some(program) = typescript(built.path()) else { return };
    judge("typescript", &["node".into(), program]).await;
}

/// The program that Node runs: the source itself where it can, else what the compiler makes of it.
fn typescript(built: &Path) -> Option<PathBuf> {
    let folder = participants().join("typescript");
    let Some(node) = version("node") else {
        eprintln!("NOT RUN: there is no node on this machine; scripts/setup says how to get it");
        return None;
    };
    let mut numbers = node.trim_start_matches('v').split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let node = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let compiler = folder.join("node_modules/typescript/bin/tsc");
    if compiler.is_file() {
        let compiled = Command::new("node").arg(&compiler).args(["--project"]).arg(&folder).arg("--outDir").arg(built).output();
        let compiled = compiled.expect("the compiler runs");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));
        // Node reads from it that these are modules.
        std::fs::copy(folder.join("package.json"), built.join("package.json")).expect("copied");
        return Some(built.join("stock.js"));
    }
    if node >= NODE_STRIPS_TYPES {
        return Some(folder.join("stock.ts"));
    }
    eprintln!(
        "NOT RUN: node {node:?} does not run TypeScript by itself, and there is no compiler: run scripts/setup, or `npm ci` in {}",
        folder.display()
    );
    None
}

/// The lines of a guide's code in this language that are not empty, in order.
fn code(guide: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/guides").join(guide)).expect("the guide");
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("a block ends"));
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_guides_show_the_code_that_is_tested_line_by_line() {
    for (guide, language, source) in [("python.md", "python", "python/stock.py"), ("typescript.md", "ts", "typescript/stock.ts")] {
        let text = std::fs::read_to_string(participants().join(source)).expect("the source");
        let tested: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        assert_eq!(code(guide, language), tested, "{guide} shows other code than {source}");
    }
}
