//! The problems of a socket directory. Each text says what to do.

use std::io;
use std::path::PathBuf;

use super::MAX_SOCKET_PATH_BYTES;

/// Why a directory cannot hold local sockets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpcDirError {
    /// A relative path would differ between processes.
    #[error("rpc_zmq_ipc_dir {path:?} is not an absolute path")]
    NotAbsolute {
        /// The directory.
        path: PathBuf,
    },
    /// Paths of sockets would be longer than the operating system allows.
    #[error(
        "socket directory {path:?} has {length} bytes, the longest allowed has {longest} \
         (a socket path has at most {MAX_SOCKET_PATH_BYTES}): set a shorter rpc_zmq_ipc_dir"
    )]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// The length of the path in bytes.
        length: usize,
        /// The longest allowed length in bytes.
        longest: usize,
    },
    /// The path exists and is not a directory.
    #[error("socket directory {path:?} is not a directory: remove it or set rpc_zmq_ipc_dir")]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A private directory must not be a symbolic link.
    #[error("socket directory {path:?} is a symbolic link: remove it or set rpc_zmq_ipc_dir")]
    Symlink {
        /// The path.
        path: PathBuf,
    },
    /// The owner of a private directory can replace its sockets.
    #[error(
        "socket directory {path:?} is owned by user {owner}, this process runs as {uid}: \
         remove it or set rpc_zmq_ipc_dir"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The owner of the directory.
        owner: u32,
        /// The user of this process.
        uid: u32,
    },
    /// Another user who can write in a private directory can replace its sockets.
    #[error(
        "others may write in socket directory {path:?} (mode {mode:04o}): chmod 700 it or set \
         rpc_zmq_ipc_dir"
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// The permission bits of the directory.
        mode: u32,
    },
    /// The directory does not exist and cannot be created.
    #[error("cannot create socket directory {path:?}: {cause}; create it or set rpc_zmq_ipc_dir")]
    Create {
        /// The directory.
        path: PathBuf,
        /// The reason that the operating system gives.
        cause: io::Error,
    },
    /// Sockets in the directory cannot be created or reached.
    #[error("cannot use socket directory {path:?}: {cause}; change it or set rpc_zmq_ipc_dir")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The reason that the operating system gives.
        cause: io::Error,
    },
}
