//! A cache in front of a directory that is asked over a network.

mod cache;
pub(crate) mod remote;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use zmqv2_proto::{PerProcess, TopicKey, Ttl};

use crate::api::{
    CheckIn, CheckedIn, Health, ListedTopic, Matchmaker, MatchmakerError, Placement, Refreshed, Registration,
};
use crate::cached::remote::{ChangeWatcher, DirectoryAnswer, RemoteDirectory, TopicQuery};
use crate::jitter::random_span;
use cache::{EMPTY_FOR, TopicCache};

/// How long after a failure questions about unknown topics fail without another attempt.
const FAIL_FAST: Duration = Duration::from_millis(500);
/// The first pause of the background thread after a failure. It doubles up to the refresh interval.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The thread pauses for up to this long between a change and reading it, because other processes
/// see the same change, and changes come in groups.
const MOST_SPREAD: Duration = Duration::from_millis(200);
/// The least wait and the least allowance: a shorter one costs more than it is worth.
const SHORTEST: Duration = Duration::from_millis(100);

/// How long a [`CachedMatchmaker`] uses its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// How often all topics are read again, even without a known change.
    pub refresh: Duration,
    /// How long answers are used while the directory cannot be read.
    pub max_stale: Duration,
    /// How long a registration lives without renewal (option `matchmaker_heartbeat_ttl`), and how
    /// long earlier answers stay in use after an outage.
    pub lease: Duration,
    /// How often registrations are renewed (option `matchmaker_heartbeat_freq`).
    pub renew_every: Duration,
}

impl CacheSettings {
    /// The same settings, with no span longer than on the wire: so that sums of spans fit.
    fn bounded(self) -> Self {
        let bounded = |span: Duration| span.min(Ttl::MAX.into());
        Self {
            refresh: bounded(self.refresh),
            max_stale: bounded(self.max_stale),
            lease: bounded(self.lease),
            renew_every: bounded(self.renew_every),
        }
    }

    /// How long the thread waits for a change. If an answer takes [`allowance`](Self::allowance)
    /// longer, the directory may have paused long enough for leases to end.
    fn wait(&self) -> Duration {
        self.refresh.min(self.slack() / 4).max(SHORTEST)
    }

    /// The longest pause after a failure, and four times the longest after a change.
    fn pause(&self) -> Duration {
        self.refresh.max(SHORTEST * 4)
    }

    fn allowance(&self) -> Duration {
        (self.slack() / 2).max(SHORTEST)
    }

    /// A shorter pause of the directory ends no lease of a live broker.
    fn slack(&self) -> Duration {
        self.lease.saturating_sub(self.renew_every)
    }
}

/// After a longer pause of renewals, leases of live brokers may end: they need some time to notice
/// that the directory works again.
#[cfg(feature = "redis")]
pub(crate) fn longest_pause(lease: Duration, renew_every: Duration) -> Duration {
    (lease.saturating_sub(renew_every) * 3 / 4).max(SHORTEST)
}

/// Answers from memory, and follows the changes of a [`RemoteDirectory`] in the background.
///
/// - The **first question** about a topic goes to the directory. Later questions are answered from
///   memory. A thread renews the memory on every change, and at least once per
///   [`refresh`](CacheSettings::refresh). So the directory gets a few commands per minute, however
///   many messages are sent. The thread and its one connection start with the first answer, and end
///   within one refresh after the matchmaker.
/// - An **empty answer** is used for one second. So is [`Refilling`](MatchmakerError::Refilling).
/// - While the directory **cannot be read**, known answers stay in use for up to
///   [`max_stale`](CacheSettings::max_stale), and [`health`](Matchmaker::health) is stale.
/// - While the directory **refuses renewals**, no node is removed because its lease ends.
/// - **After an outage**, nodes that are missing stay in use for one more
///   [`lease`](CacheSettings::lease), unless they were withdrawn, because their brokers could not
///   renew. New nodes count at once. An empty answer is [`Refilling`](MatchmakerError::Refilling)
///   during that time. The same holds when the directory comes back without its data or as another
///   process, and while it is younger than a lease.
/// - In all these states answers are marked [incomplete](crate::Completeness).
/// - At most 4,096 topics are remembered. A topic that nobody asked for in an hour is forgotten.
/// - A **child** that was forked has a memory and a thread of its own, and begins with its first
///   question.
pub struct CachedMatchmaker {
    remote: Arc<dyn RemoteDirectory>,
    settings: CacheSettings,
    shared: PerProcess<Arc<Shared>>,
}

struct Shared {
    remote: Arc<dyn RemoteDirectory>,
    settings: CacheSettings,
    cache: RwLock<TopicCache>,
    /// Held while the directory is read, so that answers are applied in their order.
    reading: Mutex<()>,
    thread: Mutex<bool>,
    stopped: AtomicBool,
    pause: Mutex<()>,
    wake: Condvar,
}

impl CachedMatchmaker {
    /// A cache in front of `remote`. Asks nothing yet.
    #[must_use]
    pub fn new(remote: Box<dyn RemoteDirectory>, settings: CacheSettings) -> Self {
        let (remote, settings) = (Arc::from(remote), settings.bounded());
        let shared = PerProcess::new(Arc::new(Shared::new(Arc::clone(&remote), settings)));
        Self { remote, settings, shared }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.get_or_renew(|| Arc::new(Shared::new(Arc::clone(&self.remote), self.settings)))
    }
}

impl Drop for CachedMatchmaker {
    fn drop(&mut self) {
        // A child has no thread to end.
        let Some(shared) = self.shared.get() else { return };
        shared.stopped.store(true, Ordering::Release);
        // Locked once, so that a thread between its check of the flag and its sleep is woken too.
        drop(shared.pause.lock());
        shared.wake.notify_all();
    }
}

impl fmt::Debug for CachedMatchmaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A log line must not contain thousands of nodes.
        f.debug_struct("CachedMatchmaker")
            .field("remote", &self.shared().remote)
            .field("topics", &self.shared().read().len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn new(remote: Arc<dyn RemoteDirectory>, settings: CacheSettings) -> Self {
        Self {
            remote,
            settings,
            cache: RwLock::new(TopicCache::new(settings, now())),
            reading: Mutex::default(),
            thread: Mutex::default(),
            stopped: AtomicBool::new(false),
            pause: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, TopicCache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, TopicCache> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the directory could not be reached, or refused a change.
    fn failed(&self, error: &MatchmakerError) {
        if let MatchmakerError::RefusesWrites { reason, .. } = error {
            if self.write().refused(reason, now()) {
                log::warn!("{error}");
            }
        } else if self.write().failed(error, now()) {
            log::warn!("{error}; known answers stay in use");
        }
    }

    /// Records that the directory accepted a change.
    fn accepted(&self) {
        if self.write().accepted(now()) {
            log::info!("{} takes changes again", self.remote.location());
        }
    }

    /// Answers the first question about a topic.
    fn ask(&self, key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        let _reading = self.reading();
        // Another thread may have got the answer meanwhile, or a failure.
        if let Some(placement) = self.read().look(key, EMPTY_FOR, now()) {
            return Ok(placement);
        }
        if let Some(within) = self.read().unconfirmed_for(key, now()) {
            return Err(self.refilling(within));
        }
        if let Some(failure) = self.read().failure().filter(|failure| failure.at + FAIL_FAST > now()) {
            return Err(failure.error(self.remote.location()));
        }
        let started = now();
        let answer = self.remote.read(&[TopicQuery { key: key.clone(), known: None }]);
        let answer = answer.inspect_err(|error| self.failed(error))?;
        let late = now().saturating_duration_since(started) > self.settings.allowance();
        let first = self.write().first(key, answer, late, now());
        first.map_err(|within| self.refilling(within))
    }

    fn refilling(&self, within: Duration) -> MatchmakerError {
        let reason = self.read().doubts();
        MatchmakerError::Refilling { directory: self.remote.location(), reason, within }
    }

    /// Reads remembered topics again.
    fn renew(
        &self,
        queries: &[TopicQuery],
        started: Instant,
        usual: Duration,
        read: impl FnOnce(&[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError>,
    ) -> Result<Refreshed, MatchmakerError> {
        let answer = read(queries).inspect_err(|error| self.failed(error))?;
        let late = now().saturating_duration_since(started) > usual + self.settings.allowance();
        let mut cache = self.write();
        if cache.failure().is_some() {
            log::info!("{} can be read again", self.remote.location());
        }
        let taken = cache.update(queries, answer, late, now());
        let settled = cache.settle(now());
        Ok(if [taken, settled].contains(&Refreshed::Changed) { Refreshed::Changed } else { Refreshed::Unchanged })
    }

    /// Reads the topics of registrations that were just written, so that the caller sees them.
    fn read_back<'a>(&self, registrations: impl Iterator<Item = &'a Registration>) -> Result<(), MatchmakerError> {
        let _reading = self.reading();
        let queries = self.read().queries_about(registrations.map(|registration| &registration.key));
        if queries.is_empty() {
            self.write().reached(now());
            return Ok(());
        }
        self.renew(&queries, now(), Duration::ZERO, |queries| self.remote.read(queries)).map(drop)
    }

    fn start_thread(self: &Arc<Self>) {
        let mut running = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if *running {
            return;
        }
        let shared = Arc::clone(self);
        match std::thread::Builder::new().name("zmqv2-directory".to_owned()).spawn(move || shared.follow()) {
            Ok(_) => *running = true,
            Err(error) => log::error!(
                "cannot start the thread that follows the directory: {error}; the next question tries again"
            ),
        }
    }

    /// The background thread.
    fn follow(&self) {
        let mut watcher = self.remote.watcher();
        // The pause after the next failure, if the last round failed.
        let mut retry = None;
        while !self.stopped.load(Ordering::Acquire) {
            let round = catch_unwind(AssertUnwindSafe(|| self.round(&mut *watcher, retry.is_some())));
            let pause = match round {
                Ok(Ok(pause)) => {
                    retry = None;
                    pause
                }
                failed => {
                    if failed.is_err() {
                        // The panic was printed. The thread goes on, because nobody would notice
                        // its end.
                        let (directory, source) = (self.remote.location(), "its thread panicked".into());
                        self.failed(&MatchmakerError::Unavailable { directory, source });
                        watcher = self.remote.watcher();
                    }
                    let most = retry.unwrap_or(FIRST_RETRY);
                    retry = Some((most * 2).min(self.settings.pause()));
                    random_span(most / 2, most)
                }
            };
            self.sleep(pause);
        }
    }

    /// Waits for a change, reads it, and returns the pause that follows. Does not wait when the
    /// last round `failed`.
    fn round(&self, watcher: &mut dyn ChangeWatcher, failed: bool) -> Result<Duration, MatchmakerError> {
        let queries = self.read().queries();
        let wait = self.settings.wait();
        if queries.is_empty() {
            return Ok(wait);
        }
        let (started, wait) = (now(), if failed { Duration::ZERO } else { random_span(wait * 4 / 5, wait) });
        let mut spread = Duration::ZERO;
        if !wait.is_zero() && watcher.wait(&queries, wait).inspect_err(|error| self.failed(error))? {
            spread = random_span(Duration::ZERO, MOST_SPREAD.min(self.settings.pause() / 4));
            self.sleep(spread);
        }
        let _reading = self.reading();
        // Includes topics that were added meanwhile.
        let queries = self.read().queries();
        let _ = self.renew(&queries, started, wait + spread, |queries| watcher.read(queries))?;
        self.remote.close_idle();
        Ok(Duration::ZERO)
    }

    /// Pauses until the matchmaker ends.
    fn sleep(&self, pause: Duration) {
        if pause.is_zero() {
            return;
        }
        let guard = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        let running = |(): &mut ()| !self.stopped.load(Ordering::Acquire);
        drop(self.wake.wait_timeout_while(guard, pause, running));
    }
}

impl Matchmaker for CachedMatchmaker {
    fn name(&self) -> &'static str {
        self.shared().remote.name()
    }

    fn resolve_all(&self, key: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        // A caller that has just found it `known` must not wait for the directory.
        if let Some(placement) = self.shared().read().look(key, EMPTY_FOR * 2, now()) {
            return Ok(placement);
        }
        let placement = self.shared().ask(key)?;
        self.shared().start_thread();
        Ok(placement)
    }

    fn known(&self, key: &TopicKey) -> Option<Arc<Placement>> {
        self.shared().read().look(key, EMPTY_FOR, now())
    }

    fn register(&self, registration: &Registration, lease: Duration) -> Result<(), MatchmakerError> {
        self.register_all(std::slice::from_ref(registration), lease)
    }

    fn withdraw(&self, registration: &Registration) -> Result<(), MatchmakerError> {
        self.withdraw_all(std::slice::from_ref(registration))
    }

    fn register_all(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError> {
        self.shared().remote.register(registrations, lease).inspect_err(|error| self.shared().failed(error))?;
        self.shared().accepted();
        self.shared().read_back(registrations.iter())
    }

    fn renew_all(&self, registrations: &[Registration], lease: Duration) -> Result<(), MatchmakerError> {
        self.register_all(registrations, lease)
    }

    fn withdraw_all(&self, registrations: &[Registration]) -> Result<(), MatchmakerError> {
        self.shared().remote.withdraw(registrations).inspect_err(|error| self.shared().failed(error))?;
        self.shared().accepted();
        self.shared().read_back(registrations.iter())
    }

    fn check_in(&self, check_in: &CheckIn<'_>) -> Result<CheckedIn, MatchmakerError> {
        let checked = self.shared().remote.check_in(check_in).inspect_err(|error| self.shared().failed(error))?;
        self.shared().accepted();
        self.shared().write().reached(now());
        Ok(checked)
    }

    fn list(&self) -> Result<Vec<ListedTopic>, MatchmakerError> {
        // The caller gets the error at once, so the log need not have it too.
        let list = self.shared().remote.list().inspect_err(|error| {
            let _ = self.shared().write().failed(error, now());
        })?;
        self.shared().write().listed(&list, now());
        Ok(list.topics)
    }

    fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
        let _reading = self.shared().reading();
        let queries = self.shared().read().queries();
        self.shared().renew(&queries, now(), Duration::ZERO, |queries| self.shared().remote.read(queries))
    }

    fn generation(&self) -> u64 {
        self.shared().read().generation()
    }

    fn health(&self) -> Health {
        self.shared().read().health(now())
    }
}

#[expect(clippy::disallowed_methods, reason = "the cache gets the time from here, and waits are bounded by it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
