//! One broker per socket directory: binding would silently take the socket of a living one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use zmqv2_proto::control::BROKER_LOCK;

use crate::error::BrokerError;

/// Held while the broker lives; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock of `dir`.
    pub(crate) fn take(dir: &Path) -> Result<Self, BrokerError> {
        let path = dir.join(BROKER_LOCK);
        let failed = |source| BrokerError::File { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // What it says is of a holder that is dead.
                file.set_len(0).map_err(failed)?;
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Told for information only: a half-written line is no reason to say nothing.
                let _ = Read::by_ref(&mut file).take(300).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "it is just starting" } else { holder.trim() };
                Err(BrokerError::AlreadyRunning { dir: dir.to_owned(), holder: holder.to_owned() })
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Writes who holds the lock, for the next one to read.
    pub(crate) fn describe(&mut self, holder: &str) {
        let written = self.0.set_len(0).and_then(|()| self.0.rewind()).and_then(|()| writeln!(self.0, "{holder}"));
        if let Err(error) = written {
            log::warn!("cannot write into the lock file: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Lock::take(dir.path()).unwrap();
        first.describe("process 7 at tcp://x:1");
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains("process 7 at tcp://x:1") && error.contains("rpc_zmq_ipc_dir"), "{error}");
        drop(first);
        let _second = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains("it is just starting"), "{error}");
    }
}
