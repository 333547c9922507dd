//! The token for a proxy in front of the server. Certificates are tested with a proxy that asks for them, end to end.

use crate::support::{Run, Scripted, run_command, sagamq};
use serde_json::json;

fn run(server: &Scripted, args: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = sagamq();
    command.args(["topic", "list", "--server", &server.url]).args(args).envs(environment.iter().copied());
    run_command(command)
}

#[test]
fn a_token_is_sent_with_each_request_and_does_not_show() {
    let server = Scripted::answering(&json!({ "topics": [] }));
    run(&server, &["--token", "of the flag"], &[("SAGAMQ_TOKEN", "of the environment")]).expect(0);
    run(&server, &[], &[("SAGAMQ_TOKEN", "of the environment")]).expect(0);
    run(&server, &[], &[("SAGAMQ_TOKEN", "")]).expect(0);
    run(&server, &[], &[]).expect(0);
    let sent: Vec<Option<String>> = server
        .asked()
        .iter()
        .map(|asked| asked.headers.get("authorization").map(|value| value.to_str().expect("text").to_owned()))
        .collect();
    let wanted = [Some("Bearer of the flag"), Some("Bearer of the environment"), None, None];
    assert_eq!(sent, wanted.map(|value| value.map(str::to_owned)));

    let keys = run(&server, &["--api-key", "sq_of-the-flag"], &[("SAGAMQ_API_KEY", "sq_of-the-environment")]).expect(0);
    assert_eq!(server.asked().last().expect("asked").headers["authorization"], "Bearer sq_of-the-flag", "{keys:?}");
    let both = run(&server, &["--api-key", "sq_s3cret", "--token", "s3cret"], &[]).expect(2);
    assert!(both.stderr.contains("leave one out") && !both.stderr.contains("s3cret"), "{both:?}");

    let help = run(&server, &["--help"], &[("SAGAMQ_TOKEN", "s3cret")]).expect(0).stdout;
    assert!(help.contains("SAGAMQ_TOKEN") && !help.contains("s3cret"), "{help}");
    let unsent = run(&server, &["--verbose"], &[("SAGAMQ_TOKEN", "s3cret\n")]).expect(1);
    assert!(!format!("{unsent:?}").contains("s3cret"), "{unsent:?}");
    let cli = <sagamq::args::Cli as clap::Parser>::try_parse_from(["sagamq", "health", "--token", "s3cret"]).expect("legal");
    assert!(!format!("{cli:?}").contains("s3cret"), "{cli:?}");
}
