//! Socket files of crashed servers.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use zmqv2_proto::control::{BROKER_SOCKET, WORKER_SOCKET_PREFIX};

/// Removes every worker's socket file in `dir` on which no process listens.
pub(crate) fn sweep(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(WORKER_SOCKET_PREFIX) && name != BROKER_SOCKET);
        if ours {
            remove_if_dead(&entry.path());
        }
    }
}

pub(crate) fn remove_if_dead(path: &Path) {
    if is_dead(path) {
        // Another process may have removed it first.
        let _ = std::fs::remove_file(path);
    }
}

/// Only a refused connection proves that the server is dead: a living one may have a full queue,
/// for example. A file that is no socket refuses as well, so that is checked first. Never blocks.
fn is_dead(path: &Path) -> bool {
    if !std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return false;
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe = || {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    probe() == Err(Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_dead_sockets_of_workers_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let living = UnixListener::bind(path("zmqv2-00aa.0")).unwrap();
        drop(UnixListener::bind(path("zmqv2-00aa.1")).unwrap());
        drop(UnixListener::bind(path("other.sock")).unwrap());
        std::fs::write(path("zmqv2-notes.txt"), "not a socket").unwrap();
        sweep(dir.path());
        assert!(path("zmqv2-00aa.0").exists() && path("other.sock").exists() && path("zmqv2-notes.txt").exists());
        assert!(!path("zmqv2-00aa.1").exists());
        drop(living);
    }
}
