//! Socket files of crashed servers.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use zmqv2_proto::control::WORKER_SOCKET_PREFIX;

/// A socket file on which no process listens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeadSocket {
    path: PathBuf,
    /// Device and number of the file. A server that starts may use the path again.
    file: (u64, u64),
}

impl DeadSocket {
    /// Removes the file if it still is the same and still dead.
    ///
    /// One look is not enough: between `bind` and `listen`, a server that starts refuses
    /// connections as well.
    pub(crate) fn remove_if_still_dead(&self) {
        if look(&self.path).as_ref() == Some(self) {
            remove(&self.path);
        }
    }
}

/// The workers' socket files in `dir` on which no process listens.
pub(crate) fn dead_in(dir: &Path) -> Vec<DeadSocket> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let open = open_sockets();
    let paths = entries.flatten().filter(|entry| is_name_of_worker(&entry.file_name())).map(|entry| entry.path());
    // A connection costs a living server a descriptor for a moment, so those that the kernel lists
    // are left alone.
    paths.filter(|path| !open.contains(path.as_os_str())).filter_map(|path| look(&path)).collect()
}

/// Removes the file of a server to which a connection has ended, if nobody listens there any more.
/// Returns whether it is gone.
pub(crate) fn remove_if_dead(path: &Path) -> bool {
    let dead = look(path).is_some();
    if dead {
        remove(path);
    }
    dead || !path.exists()
}

fn remove(path: &Path) {
    // Another process may have removed it first.
    let _ = std::fs::remove_file(path);
}

/// `zmqv2-<16 hexadecimal digits>.<number>`.
fn is_name_of_worker(name: &OsStr) -> bool {
    let parts = name.to_str().and_then(|name| name.strip_prefix(WORKER_SOCKET_PREFIX)?.split_once('.'));
    parts.is_some_and(|(instance, number)| {
        instance.len() == 16
            && instance.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The paths of all Unix sockets that are open in this network namespace (Linux).
fn open_sockets() -> HashSet<OsString> {
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    let paths = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.iter().position(|b| *b == b'/').map(|at| &line[at..]));
    paths.map(|path| OsStr::from_bytes(path).to_owned()).collect()
}

/// Only a refused connection proves that the server is dead: a living one may have a full queue,
/// for example. A file that is no socket refuses as well, so that is checked first. Never blocks.
fn look(path: &Path) -> Option<DeadSocket> {
    let metadata = std::fs::symlink_metadata(path).ok().filter(|metadata| metadata.file_type().is_socket())?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe = || {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    let dead = probe() == Err(Errno::CONNREFUSED);
    dead.then(|| DeadSocket { path: path.to_owned(), file: (metadata.dev(), metadata.ino()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_dead_sockets_of_workers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let [alive, dead, again] = ["00112233445566aa.0", "00112233445566ab.1", "00112233445566ac.12"];
        let [alive, dead, again] = [alive, dead, again].map(|name| path(&format!("zmqv2-{name}")));
        let _alive = UnixListener::bind(&alive).unwrap();
        drop(UnixListener::bind(&dead).unwrap());
        drop(UnixListener::bind(&again).unwrap());
        drop(UnixListener::bind(path("other.sock")).unwrap());
        drop(UnixListener::bind(path("zmqv2-of-mine.0")).unwrap());
        std::fs::write(path("zmqv2-00112233445566ad.0"), "not a socket").unwrap();
        let found = dead_in(dir.path());
        assert_eq!(found.len(), 2, "{found:?}");
        // A server binds one of the paths between the two looks, and does not listen yet.
        std::fs::remove_file(&again).unwrap();
        let _next = UnixListener::bind(&again).unwrap();
        found.iter().for_each(DeadSocket::remove_if_still_dead);
        assert!(alive.exists() && again.exists() && !dead.exists());
        assert!(path("other.sock").exists() && path("zmqv2-of-mine.0").exists());
        assert!(path("zmqv2-00112233445566ad.0").exists());
        assert!(!remove_if_dead(&alive) && remove_if_dead(&dead));
    }
}
