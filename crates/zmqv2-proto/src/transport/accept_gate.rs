//! Refuses connections before the descriptors run out.
//!
//! libzmq accepts every connection. Out of descriptors, its TCP listener spins, and its IPC listener
//! aborts the process. It has no option for either. So this file defines the functions `accept` and
//! `accept4` of libc for the whole program, and libzmq calls them. For the listeners of this crate
//! they close what is too much at once, which to the peer is a lost connection. For all other
//! listeners of the process they do what libc does.
//!
//! The kernel always gives out the lowest free descriptor. So a new connection with the number `n`
//! proves that `n` others are open, without counting: no burst is too fast, and all connections from
//! the network together never take a descriptor from the ceiling on.
//!
//! On systems other than those named below, and where libzmq is loaded at run time, libc's own
//! functions are called.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::naming::Address;

static LISTENERS: RwLock<Vec<Listener>> = RwLock::new(Vec::new());
static REFUSED: RefusedCounts = RefusedCounts { network: AtomicU64::new(0), local: AtomicU64::new(0) };

#[derive(Debug, Clone, PartialEq, Eq)]
enum Listener {
    Network { port: u16 },
    Local(PathBuf),
}

struct RefusedCounts {
    network: AtomicU64,
    local: AtomicU64,
}

/// How many connections this process has refused, because too few descriptors were left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefusedConnections {
    /// Over TCP.
    pub network: u64,
    /// Over sockets of the socket directory.
    pub local: u64,
}

/// The connections that this process has refused so far.
#[must_use]
pub fn refused_connections() -> RefusedConnections {
    RefusedConnections {
        network: REFUSED.network.load(Ordering::Relaxed),
        local: REFUSED.local.load(Ordering::Relaxed),
    }
}

/// A bound address, whose connections pass the gate as long as this value lives.
#[derive(Debug)]
pub(super) struct Guarded(Listener);

impl Guarded {
    pub(super) fn new(address: &Address) -> Self {
        let listener = match address {
            Address::Tcp(tcp) => Listener::Network { port: tcp.port() },
            Address::Ipc(path) => Listener::Local(path.clone()),
        };
        LISTENERS.write().unwrap_or_else(PoisonError::into_inner).push(listener.clone());
        #[cfg(all(
            target_os = "linux",
            any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
        ))]
        linux::keep_spare();
        Self(listener)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let mut listeners = LISTENERS.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = listeners.iter().position(|listener| *listener == self.0) {
            listeners.swap_remove(at);
        }
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod linux {
    use std::ffi::{OsStr, c_int, c_long, c_void};
    use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::sync::atomic::{AtomicI32, Ordering};

    use rustix::event::{EventfdFlags, Timespec, eventfd, poll};
    use rustix::io::Errno;
    use rustix::net::{SocketAddrAny, SocketAddrUnix, getsockname};

    use super::{LISTENERS, Listener, REFUSED};
    use crate::transport::descriptors::{KEPT_FOR_PROCESS, network_ceiling, open_file_limit};

    #[cfg(target_arch = "x86_64")]
    const ACCEPT4: c_long = 288;
    #[cfg(not(target_arch = "x86_64"))]
    const ACCEPT4: c_long = 242;
    /// libzmq asks again at once, so a failure that lasts would take a whole core.
    const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    const NONE: c_int = -1;
    /// How often the lock of the listeners is tried. It is held for microseconds.
    const LOCK_TRIES: usize = 1_000;

    /// A descriptor that is given up to accept, and close, a connection when there is no other.
    static SPARE: AtomicI32 = AtomicI32::new(NONE);

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
        fn __errno_location() -> *mut c_int;
    }

    /// As libc's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn accept(fd: c_int, address: *mut c_void, length: *mut c_void) -> c_int {
        // SAFETY: the caller's arguments.
        unsafe { accept4(fd, address, length, 0) }
    }

    /// As libc's, except for the listeners of this crate.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn accept4(fd: c_int, address: *mut c_void, length: *mut c_void, flags: c_int) -> c_int {
        // SAFETY: the caller's arguments. `accept` is a system call with these four.
        let call = || unsafe { syscall(ACCEPT4, fd, address, length, flags) as c_int };
        let accepted = call();
        if accepted >= 0 {
            return match kind_of(fd) {
                Some(kind) if u64::from(accepted.unsigned_abs()) >= kind.ceiling() => kind.refuse(accepted),
                _ => accepted,
            };
        }
        // SAFETY: the number of this thread.
        let error = Errno::from_raw_os_error(unsafe { *__errno_location() });
        if !matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) {
            return accepted;
        }
        let Some(kind) = kind_of(fd) else {
            set_error(error);
            return accepted;
        };
        if let Some(spare) = take_spare() {
            drop(spare);
            let accepted = call();
            if accepted >= 0 {
                let refused = kind.refuse(accepted);
                keep_spare();
                set_error(Errno::CONNABORTED);
                return refused;
            }
        }
        keep_spare();
        let _ = poll(&mut [], Some(&PAUSE));
        // The only one of these numbers that does not make libzmq abort.
        set_error(Errno::NFILE);
        NONE
    }

    #[derive(Clone, Copy)]
    enum Kind {
        Network,
        Local,
    }

    impl Kind {
        fn ceiling(self) -> u64 {
            let limit = open_file_limit();
            match self {
                Self::Network => network_ceiling(limit),
                Self::Local => limit.saturating_sub(KEPT_FOR_PROCESS),
            }
        }

        /// Closes a new connection. Returns what `accept` returns then.
        fn refuse(self, connection: c_int) -> c_int {
            // SAFETY: `accept` has just returned it.
            drop(unsafe { OwnedFd::from_raw_fd(connection) });
            let count = match self {
                Self::Network => &REFUSED.network,
                Self::Local => &REFUSED.local,
            };
            count.fetch_add(1, Ordering::Relaxed);
            set_error(Errno::CONNABORTED);
            NONE
        }
    }

    /// The kind of this listener, if it is one of this crate. Waits only for a moment: after a fork,
    /// a thread that does not exist in the child may hold the lock.
    fn kind_of(fd: c_int) -> Option<Kind> {
        let try_read = || {
            std::thread::yield_now();
            LISTENERS.try_read().ok()
        };
        let listeners = LISTENERS.try_read().ok().or_else(|| (0..LOCK_TRIES).find_map(|_| try_read()))?;
        // SAFETY: the caller of `accept` keeps it open.
        let name = getsockname(unsafe { BorrowedFd::borrow_raw(fd) }).ok()?;
        let is_network = |port: u16| listeners.contains(&Listener::Network { port });
        match SocketAddrUnix::try_from(name.clone()) {
            Ok(unix) => {
                let path = Path::new(OsStr::from_bytes(unix.path_bytes()?));
                let ours = listeners.iter().any(|l| matches!(l, Listener::Local(other) if other == path));
                ours.then_some(Kind::Local)
            }
            Err(_) => is_network(port(name)?).then_some(Kind::Network),
        }
    }

    fn port(name: SocketAddrAny) -> Option<u16> {
        std::net::SocketAddr::try_from(name).ok().map(|address| address.port())
    }

    pub(super) fn keep_spare() {
        if SPARE.load(Ordering::Acquire) == NONE
            && let Ok(spare) = eventfd(0, EventfdFlags::CLOEXEC)
        {
            let spare = spare.into_raw_fd();
            if SPARE.compare_exchange(NONE, spare, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: opened above, and nobody else has it.
                drop(unsafe { OwnedFd::from_raw_fd(spare) });
            }
        }
    }

    fn take_spare() -> Option<OwnedFd> {
        let spare = SPARE.swap(NONE, Ordering::AcqRel);
        // SAFETY: from `into_raw_fd`, and taken once.
        (spare != NONE).then(|| unsafe { OwnedFd::from_raw_fd(spare) })
    }

    fn set_error(error: Errno) {
        // SAFETY: the number of this thread.
        unsafe { *__errno_location() = error.raw_os_error() };
    }
}
