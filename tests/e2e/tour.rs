//! The README's five-minute tour: every command of it is run as it stands, against a real server.

use sagamq_tests::ServerProcess;
use sagamq_tests::server::binary;
use std::path::Path;
use std::process::Command;

/// The commands of the README between the marks of the tour, in order.
fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("README.md");
    let text = std::fs::read_to_string(readme).expect("the README");
    let (_, tour) = text.split_once("<!-- tour -->").expect("the tour begins");
    let (tour, _) = tour.split_once("<!-- tour end -->").expect("the tour ends");
    tour.split("```sh\n").skip(1).map(|block| block.split("```").next().expect("a block ends").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_tour_works() {
    let server = ServerProcess::start().await;
    let commands = commands();
    assert!(commands.len() >= 8, "the tour has its steps: {}", commands.len());
    let folder = tempfile::tempdir().expect("a folder");
    // One shell for all blocks, because later ones use variables of earlier ones. The server of the tour is this test's.
    let mut script = String::from("set -eu -o pipefail\n");
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
    for part in ["\"duplicate\":true", "\"receipt\"", "COMPLETED"] {
        assert!(says.replace(' ', "").contains(part), "the tour shows {part}: {says}");
    }
}
