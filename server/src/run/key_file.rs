//! A file with the secret of a key, which only its owner may read.

use sagamq_broker::access::Secret;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Writes the secret, in the place of what is there. It is on disk when this returns.
///
/// # Errors
/// When the file or its folder cannot be written.
pub fn write(path: &Path, secret: &Secret) -> io::Result<()> {
    // A file that is there keeps its mode, and whoever has it open reads on.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.reveal())?;
    file.sync_all()?;
    // The file has its name for good only when the folder is on disk as well.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

/// Whether others than its owner may read it.
#[must_use]
pub fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0)
}

/// Reads one.
///
/// # Errors
/// Why it cannot be read, or is no key. What stands there is never repeated.
pub fn read(path: &Path) -> Result<Secret, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|error| format!("{error}; make one with `sagamq key init --file FILE`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_broker::env::Random;

    #[test]
    fn a_secret_takes_the_place_of_what_is_there_and_only_its_owner_reads_it() {
        let folder = std::env::temp_dir().join(format!("sagamq-key-file-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("key");
        fs::write(&path, "what was there").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
        let reader = File::open(&path).expect("it is there");
        assert!(is_open_to_others(&path));
        let secret = Secret::new(&mut Random::from_seed(1));
        write(&path, &secret).expect("written");
        assert!(!is_open_to_others(&path));
        assert_eq!(read(&path).expect("a key").reveal(), secret.reveal());
        assert_eq!(io::read_to_string(reader).expect("text"), "what was there", "whoever had it open sees nothing of it");
        fs::remove_dir_all(&folder).expect("ours");
    }
}
