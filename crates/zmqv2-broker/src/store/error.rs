use std::io;
use std::path::PathBuf;

/// Why a store cannot be opened, read or written. Each message says what an operator can do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("rpc_zmq_notification_store = {path}: its directory does not exist; create it, or choose another path")]
    NoDirectory { path: PathBuf },
    #[error("the notification store {path} is gone; restart the broker to begin a new one")]
    Gone { path: PathBuf },
    /// The broker is not permitted to write the file.
    #[error(
        "cannot write the notification store {path}: {source}; give the broker's user the right to write the file and its \
         directory, or choose another rpc_zmq_notification_store"
    )]
    Denied { path: PathBuf, source: io::Error },
    #[error(
        "no room for the notification store {path}: {source}; make room on its disk. Until then notifications are refused, \
         and those that are stored already are safe"
    )]
    Full { path: PathBuf, source: io::Error },
    #[error(
        "another process uses the notification store {path}; stop it, or give each broker an rpc_zmq_notification_store of \
         its own"
    )]
    InUse { path: PathBuf },
    /// The file is damaged, or is not a store.
    #[error(
        "{path} is not a notification store, or is damaged: {detail}; move it away to begin with an empty store, or put a \
         backup in its place"
    )]
    Damaged { path: PathBuf, detail: String },
    #[error(
        "the notification store {path} has format {found}, this version reads {known}; use the version that wrote it, \
         or move the file away to begin with an empty store"
    )]
    Format { path: PathBuf, found: u64, known: u64 },
    /// The operating system failed in some other way.
    #[error("cannot use the notification store {path}: {source}; check its disk")]
    Io { path: PathBuf, source: io::Error },
    /// The thread that writes cannot be started.
    #[error("cannot start the thread of the notification store: {0}")]
    Thread(#[source] io::Error),
    /// An error of another kind of store.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Translates an error of the operating system on the file at `path`.
    pub(super) fn of_file(path: &std::path::Path, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let path = path.to_owned();
        match source.kind() {
            Kind::NotFound => Self::Gone { path },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Denied { path, source },
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Full { path, source },
            Kind::InvalidData | Kind::UnexpectedEof => Self::Damaged { path, detail: source.to_string() },
            _ => Self::Io { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_error_of_the_system_says_what_to_do() {
        for (errno, remedy) in [
            (rustix::io::Errno::ACCESS, "right to write"),
            (rustix::io::Errno::ROFS, "choose another rpc_zmq_notification_store"),
            (rustix::io::Errno::NOSPC, "make room"),
            (rustix::io::Errno::DQUOT, "make room"),
            (rustix::io::Errno::FBIG, "make room"),
            (rustix::io::Errno::IO, "check its disk"),
            (rustix::io::Errno::NOENT, "restart the broker"),
        ] {
            let text = StoreError::of_file(Path::new("/srv/kept.db"), errno.into()).to_string();
            assert!(text.contains(remedy) && text.contains("/srv/kept.db"), "{text}");
        }
    }
}
