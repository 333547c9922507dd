//! The README's five-minute tour, and the shell of guides: every command is run as it stands, against a real server.

use sagamq_tests::ServerProcess;
use sagamq_tests::server::binary;
use std::path::Path;
use std::process::Command;

/// The text of a document.
fn document(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join(path);
    std::fs::read_to_string(path).expect("the document")
}

/// The blocks of commands in a text, in order.
fn blocks(text: &str) -> Vec<String> {
    text.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("a block ends").to_owned()).collect()
}

/// The commands of the README between the marks of the tour.
fn commands() -> Vec<String> {
    let text = document("README.md");
    let (_, tour) = text.split_once("<!-- tour -->").expect("the tour begins");
    let (tour, _) = tour.split_once("<!-- tour end -->").expect("the tour ends");
    blocks(tour)
}

/// The commands of the console blocks below a heading, up to the next heading.
fn console(path: &str, heading: &str) -> Vec<String> {
    let text = document(path);
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{path} has {heading}"));
    let section = section.split("\n#").next().expect("there is always a first part");
    let blocks = section.split("```console\n").skip(1).map(|block| block.split("```").next().expect("a block ends"));
    blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// Runs commands in one shell, because later ones use variables of earlier ones. What they say.
fn run(commands: &[String], server: &ServerProcess) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut script = String::from("set -eu -o pipefail\n");
    // The server of the tour is this test's.
    for (index, command) in commands.iter().enumerate().filter(|(_, command)| !command.contains("sagamq serve")) {
        script.push_str(&format!("echo '== block {index}'\n"));
        script.push_str(&command.replace("http://127.0.0.1:7070", &server.url()).replace("127.0.0.1:7070", &server.url()));
        script.push_str("\necho\n");
    }
    let path = format!("{}:{}", binary("sagamq").parent().expect("a folder").display(), std::env::var("PATH").expect("a path"));
    let run = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .env("PATH", path)
        .env("SAGAMQ_SERVER", server.url())
        .current_dir(folder.path())
        .output();
    let run = run.expect("bash runs");
    let says = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{says}");
    says
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_tour_works() {
    let server = ServerProcess::start().await;
    let commands = commands();
    assert!(commands.len() >= 8, "the tour has its steps: {}", commands.len());
    let says = run(&commands, &server);
    for part in ["\"duplicate\":true", "\"receipt\"", "COMPLETED"] {
        assert!(says.replace(' ', "").contains(part), "the tour shows {part}: {says}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_guide_to_stream_groups_works() {
    let server = ServerProcess::start().await;
    let commands = blocks(&document("docs/guides/stream-groups.md"));
    assert_eq!(commands.len(), 1);
    let says = run(&commands, &server);
    let values: Vec<u32> = says.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!((values.len(), values.iter().sum::<u32>()), (100, 5_050), "each record is read once: {says}");
    let read_again = says.lines().filter(|line| line.starts_with('{') && line.contains("\"offset\"")).count();
    assert_eq!(read_again, 10, "the group was moved to the start: {says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_guide_to_records_for_later_works() {
    let server = ServerProcess::start().await;
    let commands = blocks(&document("docs/guides/schedules.md"));
    assert_eq!(commands.len(), 1);
    let says = run(&commands, &server);
    for part in ["1 of them wait for their time", "SCHEDULE", "customer-7", "1 schedule cancelled", "in a moment"] {
        assert!(says.contains(part), "the guide shows {part}: {says}");
    }
    let left = schedules_left(&server).await;
    assert_eq!(left, 1, "one was cancelled, one is appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_guide_to_pipelines_works() {
    let server = ServerProcess::start().await;
    let commands = blocks(&document("docs/guides/pipelines.md"));
    assert_eq!(commands.len(), 1);
    let says = run(&commands, &server);
    let times = |end: &str| says.lines().filter(|line| line.ends_with(end)).count();
    assert_eq!([times("}true"), times("\tone"), times("\ttwo")], [1; 3], "each output is there once, and the repetition is told: {says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_guide_to_cloud_events_works() {
    let server = ServerProcess::start().await;
    let commands = blocks(&document("docs/guides/cloudevents.md"));
    assert_eq!(commands.len(), 6);
    let says = run(&commands, &server);
    let has = |line: &str| says.lines().filter(|found| *found == line).count();
    assert_eq!(has(r#"["4711","/shop","order.placed","customer-7",{"order":4711,"total":12}]"#), 1, "once: {says}");
    assert_eq!(has(r#"["4712","/shop","order.placed","customer-7",{"order":4712,"total":3}]"#), 1, "{says}");
    assert_eq!(has(r#"["4713","/shop","order.placed","customer-8","none"]"#), 1, "{says}");
    assert_eq!(says.matches(r#""duplicate":true"#).count(), 1, "what was sent twice is told: {says}");
    assert_eq!(has("3"), 1, "three are received and acknowledged: {says}");
    assert_eq!(has(r#"["notes/0/0","sagamq.record","shelf","green","text/plain","buy tea"]"#), 1, "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_guide_to_adding_partitions_works() {
    let server = ServerProcess::start().await;
    let commands = blocks(&document("docs/guides/adding-partitions.md"));
    assert_eq!(commands.len(), 1);
    let says = run(&commands, &server);
    let values: Vec<u32> = says.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(values, (1..=40).collect::<Vec<_>>(), "the key is in order: {says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_order_retention_and_compaction_works() {
    let server = ServerProcess::start().await;
    let sections = [
        ("docs/guides/ordering.md", "## Order by key", 2),
        ("docs/operations.md", "## Retention", 3),
        ("docs/operations.md", "### Compaction by key", 3),
    ];
    for (path, heading, count) in sections {
        let commands = console(path, heading);
        assert_eq!(commands.len(), count, "{heading}: {commands:?}");
        run(&commands, &server);
    }
    let config = async |topic: &str| server.client().describe_topic(&topic.parse().expect("legal")).await.expect("there").config;
    assert_eq!(config("accounts").await.ordering, sagamq_api::topic::Ordering::Key);
    assert_eq!(config("clicks").await.retention_ms, 30 * 24 * 3_600_000);
    assert!(config("prices").await.cleanup_policy.compacts());
}

/// Six dead letters of a partition, and records that wait: what the operator's commands are for.
const TROUBLE: &str = r#"
sagamq topic create orders --partitions 4
for n in $(seq 0 9); do sagamq produce orders --partition 0 --value "order $n"; done
leased=$(curl -sf -X POST "$SAGAMQ_SERVER/v1/topics/orders/groups/billing:receive" -H 'content-type: application/json' -d '{"max_records": 6}')
body=$(echo "$leased" | jq '{receipts: [.deliveries[].receipt], reason: "no such account"}')
curl -sf "$SAGAMQ_SERVER/v1/topics/orders/groups/billing:terminate" -H 'content-type: application/json' -d "$body"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_groups_and_dead_letters_works() {
    let (topic, group) = ("orders".parse().expect("legal"), "billing".parse().expect("legal"));
    let letters = console("docs/operations.md", "## Dead letters");
    assert_eq!(letters.len(), 7, "{letters:?}");
    // What is left of the six letters behind each.
    for (command, left) in letters.iter().zip([6, 0, 6, 4, 0, 5, 5]) {
        let server = ServerProcess::start().await;
        let says = run(&[TROUBLE.to_owned(), command.clone()], &server);
        let waiting = server.client().describe_group(&topic, &group).await.expect("there").dead_letters;
        assert_eq!(waiting, left, "{command}: {says}");
    }
    let server = ServerProcess::start().await;
    let pausing = console("docs/operations.md", "## Pausing, skipping and repeating");
    assert_eq!(pausing.len(), 4, "{pausing:?}");
    run(&[&[TROUBLE.to_owned()], &pausing[..]].concat(), &server);
    let group = server.client().describe_group(&topic, &group).await.expect("there");
    assert_eq!((group.lag_records, group.paused), (10, false), "everything again");
}

/// How many records of the guide still wait.
async fn schedules_left(server: &ServerProcess) -> usize {
    let topic = "reminders".parse().expect("a legal name");
    server.client().schedules(&topic, &sagamq_api::schedule::ScheduleQuery::default()).await.expect("listed").schedules.len()
}
