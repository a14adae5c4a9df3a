//! One broker per socket directory. A second one would replace the socket of the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use zmqv2_proto::control::BROKER_LOCK;

use crate::error::BrokerError;

#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, BrokerError> {
        let path = dir.join(BROKER_LOCK);
        let failed = |source| BrokerError::File { path: path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // The text in the file is of an earlier broker.
                file.set_len(0).map_err(failed)?;
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // For information only, so a line that cannot be read in full is no error.
                let _ = Read::by_ref(&mut file).take(300).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "it is just starting" } else { holder.trim() };
                Err(BrokerError::AlreadyRunning { dir: dir.to_owned(), holder: holder.to_owned() })
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Writes the holder of the lock into the file, for the error of a second broker.
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
    fn a_second_broker_is_refused_and_learns_who_the_first_is() {
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
