//! A directory in a file that an operator writes.

pub(crate) mod file;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use zmqv2_proto::TopicKey;

use crate::api::{Completeness, Health, ListedTopic, Matchmaker, MatchmakerError, Placement, Refreshed, Registration};
use crate::ring::file::{Ring, Stamp};

/// The shortest time between two checks of a ring file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after a change every check reads the file, even when its times and size are the same.
/// File systems count time in steps of up to 2 s, and two edits in one step look like one.
const SETTLING: Duration = Duration::from_secs(2);
/// How many registrations are remembered so that a warning is not repeated.
const MAX_WARNED: usize = 1_000;

/// A JSON file lists the nodes of each topic (`rpc_zmq_matchmaker = ring`).
///
/// ```json
/// {
///   "demo": ["host1", "host2:9502", "[::1]:9501"],
///   "nova/demo": [{"node": "n1", "address": "127.0.0.2:9501", "servers": ["s1"]}]
/// }
/// ```
/// A key `topic` counts in every exchange. A key `exchange/topic` replaces it in that exchange. A
/// node written as text has the name of its host, and its servers are unknown. The long form gives
/// the node's name (default: its host) and its servers (default, or empty: unknown). A topic, node
/// or address that is listed twice is an error.
///
/// **Changes** are noticed while answering (not by `known`), by at most one `stat` per second. The
/// thread that notices a change reads the file, while other threads use the old ring. While the
/// file is broken or missing, the last good ring stays in use, one log line per change gives the
/// reason, [`health`](Matchmaker::health) is stale, and answers are marked incomplete: a topic that
/// the old ring lacks may be in the file, so it is [`Refilling`](MatchmakerError::Refilling). Topics
/// that an edit did not change keep their snapshot.
///
/// **Registrations** are accepted and ignored: the file decides. A server that clients cannot find
/// through the file is reported in the log, once.
pub struct RingMatchmaker {
    file: PathBuf,
    default_port: u16,
    check_interval: Duration,
    opened: Instant,
    /// In nanoseconds after `opened`.
    next_check: AtomicU64,
    generation: AtomicU64,
    current: RwLock<Current>,
    /// Held while the file is checked. Questions never wait for it.
    watch: Mutex<Watch>,
    warned: Mutex<HashSet<Registration>>,
}

struct Current {
    ring: Ring,
    problem: Option<Problem>,
}

/// Why the file cannot be used, and since when.
#[derive(Debug, Clone)]
struct Problem {
    reason: String,
    since: Instant,
}

struct Watch {
    stamp: Option<Stamp>,
    /// When this stamp was first seen.
    since: Instant,
    /// Whether the file was read so late that another edit must change the stamp.
    settled: bool,
}

impl RingMatchmaker {
    /// Reads the ring in `file`. An address without a port gets `default_port`.
    ///
    /// # Errors
    /// [`MatchmakerError`] with file, line and problem when the file is missing, too large, or not
    /// a ring.
    pub fn open(file: impl Into<PathBuf>, default_port: u16) -> Result<Self, MatchmakerError> {
        let file = file.into();
        let stamp = Stamp::of(&file);
        let opened = now();
        let ring = Ring::read(&file, default_port)?;
        Ok(Self {
            file,
            default_port,
            check_interval: CHECK_INTERVAL,
            opened,
            next_check: AtomicU64::new(nanos(CHECK_INTERVAL)),
            generation: AtomicU64::new(0),
            current: RwLock::new(Current { ring, problem: None }),
            watch: Mutex::new(Watch { stamp, since: opened, settled: false }),
            warned: Mutex::default(),
        })
    }

    #[cfg(test)]
    fn with_check_interval(mut self, interval: Duration) -> Self {
        self.check_interval = interval;
        self.next_check = AtomicU64::new(nanos(interval));
        self
    }

    fn look(&self, key: &TopicKey) -> Arc<Placement> {
        Arc::clone(self.read().ring.placement(key))
    }

    fn check_if_due(&self) {
        let elapsed = now().saturating_duration_since(self.opened);
        if nanos(elapsed) < self.next_check.load(Ordering::Relaxed) {
            return;
        }
        let mut watch = match self.watch.try_lock() {
            Ok(watch) => watch,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.next_check.store(nanos(elapsed.saturating_add(self.check_interval)), Ordering::Relaxed);
        if !watch.settled || watch.stamp != Stamp::of(&self.file) {
            // `reload` has logged the problem, and `health` shows it.
            let _ = self.reload(&mut watch);
        }
    }

    fn reload(&self, watch: &mut Watch) -> Result<Refreshed, MatchmakerError> {
        let stamp = Stamp::of(&self.file);
        let now = now();
        let edited = stamp != watch.stamp;
        if edited {
            *watch = Watch { stamp, since: now, settled: false };
        }
        let read = Ring::read(&self.file, self.default_port);
        // An unreadable file may become readable without a new stamp, for example when file
        // descriptors are free again.
        let had_content = !matches!(read, Err(MatchmakerError::UnreadableRing { .. }));
        watch.settled = had_content && now.saturating_duration_since(watch.since) >= SETTLING;

        match read {
            Ok(mut ring) => {
                // A read lock is enough: only the holder of `watch` writes.
                let changed = ring.share_unchanged(&self.read().ring);
                let new = Current { ring, problem: None };
                let old = std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), new);
                if old.problem.is_some() || changed {
                    log::info!("ring file {}: read again", self.file.display());
                }
                if !changed {
                    return Ok(Refreshed::Unchanged);
                }
                // After the replacement: a caller that reads the number before it asks misses nothing.
                self.generation.fetch_add(1, Ordering::Release);
                Ok(Refreshed::Changed)
            }
            Err(error) => {
                let reason = error.to_string();
                let before = self.read().problem.clone();
                let news = edited || before.as_ref().is_none_or(|before| before.reason != reason);
                let since = before.map_or(now, |before| before.since);
                if news {
                    let ring = self.read().ring.marked(&Completeness::incomplete(&*reason));
                    let new = Current { ring, problem: Some(Problem { reason, since }) };
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                    self.generation.fetch_add(1, Ordering::Release);
                }
                if news {
                    log::warn!("{error}; the last good ring stays in use");
                }
                Err(error)
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason why clients cannot find `registration` by this placement. `None`: they find it.
fn unfindable(placement: &Arc<Placement>, registration: &Registration) -> Option<String> {
    let Registration { key, server, node } = registration;
    let Some(placed) = placement.nodes().iter().find(|p| p.node.name == node.name || p.node.address == node.address)
    else {
        return Some(format!("lists no node {node} for {key}"));
    };
    if placed.node.address.port() != node.address.port() {
        return Some(format!("lists {key} at {}, another port than that of {node}", placed.node));
    }
    let found = placement.candidates(Some(server)).iter().any(|candidate| *candidate == placed.node);
    (!found).then(|| format!("does not lead to {server} of {key} at {node}"))
}

#[expect(clippy::disallowed_methods, reason = "the one place where this directory reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for RingMatchmaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A log line must not contain a whole ring.
        f.debug_struct("RingMatchmaker")
            .field("file", &self.file)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

impl Matchmaker for RingMatchmaker {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn resolve_all(&self, key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        self.check_if_due();
        let placement = self.look(key);
        match placement.completeness().reason().filter(|_| placement.is_empty()) {
            None => Ok(placement),
            Some(reason) => Err(MatchmakerError::Refilling {
                directory: "ring".to_owned(),
                reason: reason.to_owned(),
                within: CHECK_INTERVAL,
            }),
        }
    }

    fn known(&self, key: &TopicKey) -> Option<Arc<Placement>> {
        Some(self.look(key)).filter(|placement| !placement.is_empty() || placement.completeness().is_complete())
    }

    fn register(&self, registration: &Registration, _lease: Duration) -> Result<(), MatchmakerError> {
        self.check_if_due();
        let Some(problem) = unfindable(&self.look(&registration.key), registration) else {
            return self.withdraw(registration);
        };
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MAX_WARNED && warned.insert(registration.clone()) {
            log::warn!("ring file {} {problem}: clients cannot find that server", self.file.display());
        }
        Ok(())
    }

    /// Forgets the warning about the server.
    fn withdraw(&self, registration: &Registration) -> Result<(), MatchmakerError> {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner).remove(registration);
        Ok(())
    }

    fn list(&self) -> Result<Vec<ListedTopic>, MatchmakerError> {
        self.check_if_due();
        Ok(self.read().ring.list())
    }

    fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
        self.reload(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn health(&self) -> Health {
        match &self.read().problem {
            None => Health::Ok,
            Some(Problem { reason, since }) => Health::Stale { reason: reason.clone(), since: *since },
        }
    }
}

#[cfg(test)]
mod tests;
