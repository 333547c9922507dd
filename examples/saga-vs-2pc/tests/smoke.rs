//! The comparison as a test: the smallest grid with real processes, whose books must balance.

use std::path::Path;
use std::process::Command;

#[test]
fn the_smallest_grid_has_figures_tables_and_plots_and_its_books_balance() {
    let program = Path::new(env!("CARGO_BIN_EXE_sagamq-compare"));
    let sagamq = program.with_file_name(format!("sagamq{}", std::env::consts::EXE_SUFFIX));
    assert!(sagamq.is_file(), "{} is not built; `make test` builds it first", sagamq.display());
    let out = tempfile::tempdir().expect("a folder");
    let run = Command::new(program).args(["run", "--smoke", "--sagamq"]).arg(&sagamq).arg("--out").arg(out.path()).output();
    let run = run.expect("the program starts");
    let said = format!("{}\n{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && said.contains("all books balance"), "{said}");
    let result = std::fs::read(out.path().join("result.json")).expect("the figures");
    let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
    let cells = result["cells"].as_array().expect("a list");
    assert!(cells.iter().all(|cell| cell["done"].as_u64() > Some(0) && cell["messages"].as_f64() > Some(0.0)), "{result:#}");
    assert!(cells.iter().any(|cell| cell["undone"].as_u64() > Some(0)), "some were told to refuse: {result:#}");
    let plot = std::fs::read_to_string(out.path().join("participants-latency.svg")).expect("a plot");
    assert!(plot.starts_with("<svg") && plot.contains("list saga"), "{plot}");
}
