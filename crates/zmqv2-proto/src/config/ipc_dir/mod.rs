//! The rule that chooses the directory of local sockets.
//!
//! An explicit `rpc_zmq_ipc_dir` is used as given. Otherwise it is `/var/run/openstack` if this
//! process can create it or write in it, else `zmqv2` in `$XDG_RUNTIME_DIR`, else `zmqv2-<uid>` in
//! the temporary directory. The last two are private: mode 0700, owned by this user, no symbolic
//! link.
//!
//! This module finds every problem of a directory, because the binding of libzmq panics on some of
//! these errors (EPERM, EROFS, ENOTDIR, ENOSPC).

mod error;

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

pub use crate::naming::MAX_SOCKET_PATH_BYTES;

use crate::config::settings::Config;

pub use error::IpcDirError;

/// The longest name of a socket in the directory, in bytes.
pub const LONGEST_SOCKET_NAME_BYTES: usize = 32;

/// The directory of the legacy driver.
const SYSTEM_IPC_DIR: &str = "/var/run/openstack";

/// The longest directory that leaves room for the names of sockets, in bytes.
pub(super) const LONGEST_DIR_BYTES: usize = MAX_SOCKET_PATH_BYTES - LONGEST_SOCKET_NAME_BYTES - 1;

/// The directory for a process that binds sockets: chosen, created, and tested by binding one.
///
/// # Errors
/// [`IpcDirError`] says what is wrong with which directory and what to do.
pub fn resolve_ipc_dir(config: &Config) -> Result<PathBuf, IpcDirError> {
    let facts = Facts::gather(config);
    let (path, why) = decide(&facts);
    check_path(&path)?;
    if why.is_private() {
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                return Err(IpcDirError::Create { path, cause });
            }
            _ => check_private(&path, facts.uid)?,
        }
    } else if let Err(cause) = DirBuilder::new().mode(0o755).recursive(true).create(&path) {
        // `recursive` accepts an existing directory, so something else has this path.
        return Err(match cause.kind() {
            io::ErrorKind::AlreadyExists => IpcDirError::NotADirectory { path },
            _ => IpcDirError::Create { path, cause },
        });
    }
    probe(&path)?;
    log::info!("socket directory {}: {why}", path.display());
    Ok(path)
}

/// The directory for a process that only connects: chosen by the same rule, but neither created nor
/// written to. It need not exist yet, because the broker of this node may start later.
///
/// # Errors
/// [`IpcDirError`] when no broker can be reached through that directory.
pub fn find_ipc_dir(config: &Config) -> Result<PathBuf, IpcDirError> {
    let facts = Facts::gather(config);
    let (path, why) = decide(&facts);
    check_path(&path)?;
    match fs::symlink_metadata(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(path),
        Err(cause) => return Err(IpcDirError::Unusable { path, cause }),
        // Another user's directory would lead to that user's broker.
        Ok(_) if why.is_private() => check_private(&path, facts.uid)?,
        Ok(_) if !path.is_dir() => return Err(IpcDirError::NotADirectory { path }),
        Ok(_) => {}
    }
    let reachable = accessat(CWD, &path, Access::EXEC_OK, AtFlags::EACCESS);
    reachable.map_err(|errno| IpcDirError::Unusable { path: path.clone(), cause: errno.into() })?;
    Ok(path)
}

/// Checks whether [`resolve_ipc_dir`] would find a directory, without creating it.
///
/// # Errors
/// [`IpcDirError`], as from `resolve_ipc_dir`, but for full disks and the like.
pub fn check_ipc_dir(config: &Config) -> Result<(), IpcDirError> {
    let path = find_ipc_dir(config)?;
    let existing = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Err(IpcDirError::Create { path, cause: io::ErrorKind::NotADirectory.into() });
    }
    let writable = accessat(CWD, existing, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    writable.map_err(|errno| match existing == path {
        true => IpcDirError::Unusable { path: path.clone(), cause: errno.into() },
        false => IpcDirError::Create { path: path.clone(), cause: errno.into() },
    })
}

/// The facts that the rule depends on.
#[derive(Debug, Clone)]
struct Facts {
    explicit: Option<PathBuf>,
    /// Whether this process can create [`SYSTEM_IPC_DIR`] or write in it.
    system: bool,
    /// `$XDG_RUNTIME_DIR`, when it is a directory of this user in which this process can write.
    runtime: Option<PathBuf>,
    temporary: PathBuf,
    uid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Explicit,
    System,
    Runtime,
    Temporary,
}

impl Why {
    /// Whether the directory must belong to this user alone.
    fn is_private(self) -> bool {
        matches!(self, Self::Runtime | Self::Temporary)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explicit => f.write_str("set by rpc_zmq_ipc_dir"),
            Self::System => f.write_str("the default, and this process can write there"),
            Self::Runtime => write!(f, "in XDG_RUNTIME_DIR, because this process cannot write in {SYSTEM_IPC_DIR}"),
            Self::Temporary => write!(
                f,
                "in the temporary directory, because this process cannot write in \
                 {SYSTEM_IPC_DIR} and has no usable XDG_RUNTIME_DIR"
            ),
        }
    }
}

impl Facts {
    fn gather(config: &Config) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let own =
            |path: &PathBuf| path.is_absolute() && writable(path) && fs::metadata(path).is_ok_and(|m| m.uid() == uid);
        Self {
            explicit: config.ipc_dir.clone(),
            system: usable_or_creatable(Path::new(SYSTEM_IPC_DIR)),
            runtime: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(own),
            temporary: std::env::temp_dir(),
            uid,
        }
    }
}

fn decide(facts: &Facts) -> (PathBuf, Why) {
    let Facts { explicit, system, runtime, temporary, uid } = facts;
    match (explicit, system, runtime) {
        (Some(path), ..) => (path.clone(), Why::Explicit),
        (None, true, _) => (PathBuf::from(SYSTEM_IPC_DIR), Why::System),
        (None, false, Some(runtime)) => (runtime.join("zmqv2"), Why::Runtime),
        (None, false, None) => (temporary.join(format!("zmqv2-{uid}")), Why::Temporary),
    }
}

fn check_path(path: &Path) -> Result<(), IpcDirError> {
    let path = path.to_owned();
    let length = path.as_os_str().as_bytes().len();
    if !path.is_absolute() {
        Err(IpcDirError::NotAbsolute { path })
    } else if length > LONGEST_DIR_BYTES {
        Err(IpcDirError::TooLong { path, length, longest: LONGEST_DIR_BYTES })
    } else {
        Ok(())
    }
}

/// Refuses a directory that another user owns or can change.
fn check_private(path: &Path, uid: u32) -> Result<(), IpcDirError> {
    let path = path.to_owned();
    let metadata = fs::symlink_metadata(&path).map_err(|cause| IpcDirError::Unusable { path: path.clone(), cause })?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_symlink() {
        Err(IpcDirError::Symlink { path })
    } else if !metadata.is_dir() {
        Err(IpcDirError::NotADirectory { path })
    } else if metadata.uid() != uid {
        Err(IpcDirError::Foreign { path, owner: metadata.uid(), uid })
    } else if mode & 0o022 != 0 {
        Err(IpcDirError::Open { path, mode })
    } else {
        Ok(())
    }
}

/// Binds a socket, to find missing permissions, full quotas and read-only file systems.
fn probe(dir: &Path) -> Result<(), IpcDirError> {
    let unusable = |cause| IpcDirError::Unusable { path: dir.to_owned(), cause };
    // Random, because two processes may probe at the same time.
    let mut name = format!(".probe-{}", uuid::Uuid::new_v4().simple());
    name.truncate(LONGEST_SOCKET_NAME_BYTES);
    let path = dir.join(name);
    UnixListener::bind(&path).map_err(unusable)?;
    fs::remove_file(&path).map_err(unusable)
}

fn writable(dir: &Path) -> bool {
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    dir.is_dir() && accessat(CWD, dir, wanted, AtFlags::EACCESS).is_ok()
}

/// Whether this process can write in `dir` or create it.
fn usable_or_creatable(dir: &Path) -> bool {
    match fs::symlink_metadata(dir) {
        Ok(_) => writable(dir),
        Err(cause) => cause.kind() == io::ErrorKind::NotFound && dir.parent().is_some_and(writable),
    }
}

#[cfg(test)]
mod tests;
