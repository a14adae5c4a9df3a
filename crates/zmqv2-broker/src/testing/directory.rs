//! The socket directory of a test's broker.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use zmqv2_proto::{InstanceId, process_id};

/// A private directory that is removed with everything in it when this value is dropped.
#[derive(Debug)]
pub(super) struct OwnDirectory {
    path: PathBuf,
    /// A child of a fork leaves the directory to this process.
    pid: u32,
}

impl OwnDirectory {
    /// Makes a directory with a random name in `parent`.
    pub(super) fn create_in(parent: &Path) -> io::Result<Self> {
        let mut name = format!("zmqv2-test-{}", InstanceId::random());
        // Paths of sockets are short, and 64 random bits are enough.
        name.truncate("zmqv2-test-".len() + 16);
        let path = parent.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, pid: process_id() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        if self.pid == process_id()
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}
