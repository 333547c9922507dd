//! Completion scripts.

use crate::support::run;

#[test]
fn each_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).expect(0).stdout;
        for word in ["produce", "redrive", "bench", "own-server", "completions"] {
            assert!(script.contains(word), "{shell}: {word} is missing");
        }
    }
    run(&["completions", "tcsh"]).expect(2);
}
