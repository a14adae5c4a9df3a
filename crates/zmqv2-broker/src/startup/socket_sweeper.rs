//! Removes the socket files of servers that have died, on a thread of its own: the event loop must
//! not wait for a disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::stale_sockets::{DeadSocket, dead_in, remove_if_dead};
use crate::threads::{BackgroundThread, now};

/// When the kernel ends a process, it may close the connections before the socket that listens. So
/// the first look at the file may find the server alive. The pauses between looks double.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// After this pause, the file is left to the next sweep.
const LAST_PAUSE: Duration = Duration::from_secs(4);
/// The most files that are looked at again and again.
const MAX_WATCHED: usize = 10_000;
/// The time between sweeps of the whole directory. They find files of servers that died before they
/// were connected, or long after.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// The time between the two looks of a sweep.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// Removes the files that earlier servers have left in `dir`. Waits for the second look.
pub(crate) fn sweep_now(dir: &Path) {
    let dead = dead_in(dir);
    if !dead.is_empty() {
        // A timer that fires once.
        let _ = crossbeam_channel::after(SECOND_LOOK).recv();
        dead.iter().for_each(DeadSocket::remove_if_still_dead);
    }
}

/// Sends paths to the thread.
pub(crate) struct SocketSweeper(BackgroundThread<PathBuf>);

impl std::fmt::Debug for SocketSweeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketSweeper").finish_non_exhaustive()
    }
}

impl SocketSweeper {
    /// Starts the thread, which also sweeps `dir` now and then.
    pub(crate) fn start(dir: PathBuf) -> io::Result<Self> {
        let if_slow = "the disk of the socket directory is slow; files of ended servers may be left there";
        BackgroundThread::start("socket-files", if_slow, move |closed| run(&dir, closed)).map(Self)
    }

    /// The connection to the server with this socket file has ended.
    pub(crate) fn link_closed(&self, path: PathBuf) {
        // Without the thread, the next start of a broker removes the file.
        self.0.submit(path);
    }
}

/// A file that is to be looked at.
struct Watched {
    at: Instant,
    pause: Duration,
}

fn run(dir: &Path, closed: &Receiver<PathBuf>) {
    let mut watched = BTreeMap::<PathBuf, Watched>::new();
    let mut sweep_at = now() + SWEEP_EVERY;
    loop {
        let next = watched.values().map(|file| file.at).min().map_or(sweep_at, |at| at.min(sweep_at));
        let path = closed.recv_deadline(next);
        let ended = matches!(path, Err(RecvTimeoutError::Disconnected));
        for path in path.into_iter().chain(closed.try_iter()) {
            if watched.len() < MAX_WATCHED {
                watched.insert(path, Watched { at: now(), pause: FIRST_PAUSE });
            }
        }
        watched.retain(|path, file| {
            if !ended && file.at > now() {
                return true;
            }
            let keep = !remove_if_dead(path) && file.pause <= LAST_PAUSE;
            *file = Watched { at: zmqv2_proto::deadline(now(), file.pause), pause: file.pause * 2 };
            keep
        });
        if ended {
            return;
        }
        if sweep_at <= now() {
            sweep_now(dir);
            sweep_at = now() + SWEEP_EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_server_that_still_listens_when_its_link_ends_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zmqv2-00112233445566aa.0");
        let listens = UnixListener::bind(&path).unwrap();
        let sweeper = SocketSweeper::start(dir.path().to_owned()).unwrap();
        sweeper.link_closed(path.clone());
        // The first look has come, and found the server alive.
        listens.accept().unwrap();
        drop(listens);
        // Later, the sweep of the whole folder would remove it.
        let end_at = now() + SWEEP_EVERY * 3 / 4;
        while path.exists() {
            assert!(now() < end_at, "the file is still there");
            std::thread::yield_now();
        }
    }
}
