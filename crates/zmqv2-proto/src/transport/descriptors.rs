//! File descriptors: how many are left, and for whom they are kept.
//!
//! libzmq aborts the process when it needs a descriptor and there is none: when a context starts,
//! and when a connection over IPC arrives. So contexts and sockets are opened only while enough are
//! free, and [`accept_gate`](super::accept_gate) refuses connections before the last one is used.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Once;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that no connection takes: for files, for name resolution, and for the sockets that
/// the process opens itself.
pub(super) const KEPT_FOR_PROCESS: u64 = 24;
/// Bounds of the descriptors that connections from the network leave to those of the node.
const LEAST_KEPT_FOR_NODE: u64 = 48;
const MOST_KEPT_FOR_NODE: u64 = 4_096;
/// With fewer descriptors, a library warns once.
const LEAST_FOR_LIBRARIES: u64 = 96;

/// The least limit of open files with which a broker starts.
pub const LEAST_FOR_BROKER: u64 = 128;

/// The limit of open files of this process (`ulimit -n`). [`u64::MAX`]: none.
#[must_use]
pub fn open_file_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of open files to the most that the system allows (`ulimit -Hn`). For programs:
/// a library must not change the limits of its process.
///
/// # Errors
/// The operating system's reason. The limit is unchanged.
pub fn raise_open_file_limit() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum { Ok(()) } else { Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?) }
}

/// A quarter of the limit, within bounds: the descriptors that connections from the network leave
/// to the processes of the node.
#[must_use]
fn kept_for_node(limit: u64) -> u64 {
    (limit / 4).clamp(LEAST_KEPT_FOR_NODE, MOST_KEPT_FOR_NODE)
}

/// The most open descriptors with which a connection from the network is still accepted.
#[must_use]
pub fn network_ceiling(limit: u64) -> u64 {
    limit.saturating_sub(KEPT_FOR_PROCESS + kept_for_node(limit))
}

/// Fails if fewer than `count` descriptors are free. Another thread may take them afterwards.
pub(super) fn check_free(count: usize) -> io::Result<()> {
    let first = eventfd(0, EventfdFlags::CLOEXEC)?;
    let others: Result<Vec<OwnedFd>, _> = (1..count).map(|_| fcntl_dupfd_cloexec(&first, 0)).collect();
    Ok(others.map(drop)?)
}

/// Warns once if the limit is so low that a client or server hardly works.
pub(super) fn warn_if_few() {
    static WARNED: Once = Once::new();
    let limit = open_file_limit();
    if limit < LEAST_FOR_LIBRARIES {
        WARNED.call_once(|| {
            log::warn!(
                "this process may open only {limit} files; zmqv2 needs at least {LEAST_FOR_LIBRARIES}: raise the limit (ulimit -n)"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_grows_with_the_limit_within_bounds() {
        assert_eq!([128, 1_024, 1 << 20].map(kept_for_node), [48, 256, 4_096]);
        assert_eq!([0, LEAST_FOR_BROKER, 1_024].map(network_ceiling), [0, 56, 744]);
        assert_eq!(network_ceiling(u64::MAX), u64::MAX - KEPT_FOR_PROCESS - MOST_KEPT_FOR_NODE);
    }

    #[test]
    fn free_descriptors_are_counted() {
        check_free(10).unwrap();
        let error = check_free(usize::try_from(open_file_limit()).unwrap_or(usize::MAX).min(1 << 30)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    }
}
