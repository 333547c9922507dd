//! A small file system for a drill: memory that is mounted, and goes with it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const BLOCK: usize = 1 << 20;

/// A file system of a size, mounted as long as this lives.
#[derive(Debug)]
pub(super) struct Volume {
    folder: TempDir,
}

/// A file that takes room, as long as this lives.
#[derive(Debug)]
pub(super) struct Ballast(PathBuf);

impl Volume {
    /// Mounts one. The error says why that cannot be done here, as without the rights for it.
    pub(super) fn mount(mib: u64) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("sagamq-disk-").tempdir().map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "sagamq-disk-drill"]).arg(folder.path()).stdin(Stdio::null());
        let output = mount.output().map_err(|error| format!("there is no mount command: {error}"))?;
        match output.status.success() {
            true => Ok(Self { folder }),
            false => Err(format!("a tmpfs cannot be mounted: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).expect("a mounted file system");
        disk.f_bavail * disk.f_frsize
    }

    /// Takes so many bytes.
    pub(super) fn ballast(&self, bytes: u64) -> Ballast {
        let free_name = (0..).map(|number| self.path().join(format!("ballast-{number}"))).find(|path| !path.exists());
        let ballast = Ballast(free_name.expect("there is always a next number"));
        let mut file = File::create(&ballast.0).expect("there is room for a file");
        let block = vec![0xa5; BLOCK];
        for _ in 0..bytes / BLOCK as u64 {
            file.write_all(&block).expect("there is room for the ballast");
        }
        ballast
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // With the volume it is gone as well.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Drop for Volume {
    /// Even if somebody still has a file open there: a drill that failed must not leave a mount behind.
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}
