//! A file with the secret of a key, which only its owner may read.

use sagamq_broker::access::Secret;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Writes the secret, in the place of what is there. It is on disk when this returns.
pub(crate) fn write(path: &Path, secret: &Secret) -> io::Result<()> {
    // A file that is there keeps its mode, and whoever has it open reads on.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.reveal())?;
    file.sync_all()
}

/// Reads one. What stands there is never repeated.
pub(crate) fn read(path: &Path) -> Result<Secret, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|error| format!("{error}; make one with `sagamq key init --file FILE`"))
}
