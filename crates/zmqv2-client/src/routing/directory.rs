//! Asks the directory, so that no call outlives its deadline.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_matchmaker::{Matchmaker, MatchmakerError, Placement, Rotation};
use zmqv2_proto::{Target, TopicKey};

use crate::clock;
use crate::delivery::request::{CallOptions, Request};
use crate::outcome::send_error::SendError;

/// The most topics that are looked up at one time. Each has a thread until the directory answers.
const MAX_LOOKUPS: usize = 64;

/// The directory, and the turns of this client.
///
/// A known topic is looked up on the calling thread, which needs no I/O. The first lookup of a
/// topic may take long, so it has a thread of its own. Other calls for this topic wait for the same
/// answer, each until its own deadline.
#[derive(Debug)]
pub(crate) struct Directory {
    matchmaker: Arc<dyn Matchmaker>,
    turns: Rotation,
    lookups: Arc<Lookups>,
}

/// Why a lookup failed.
#[derive(Debug)]
pub(crate) enum LookupError {
    Failed(Arc<MatchmakerError>),
    NoAnswer,
}

impl LookupError {
    /// Whether a message that waits for a server goes on waiting, because the directory may answer
    /// later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Failed(error) if error.may_pass())
    }
}

type LookupResult = Result<Arc<Placement>, Arc<MatchmakerError>>;

/// Lookups without an answer yet.
#[derive(Debug, Default)]
struct Lookups(Mutex<HashMap<TopicKey, Arc<Lookup>>>);

#[derive(Debug, Default)]
pub(crate) struct Lookup {
    answer: Mutex<Option<LookupResult>>,
    answered: Condvar,
}

impl Directory {
    pub(crate) fn new(matchmaker: Arc<dyn Matchmaker>) -> Self {
        Self { matchmaker, turns: Rotation::new(), lookups: Arc::default() }
    }

    /// The nodes of a message that starts now. If it waits for a server, it also waits for a
    /// directory whose failure may pass.
    pub(crate) fn first_placement(&self, request: &Request<'_>) -> Result<Arc<Placement>, SendError> {
        let CallOptions { target, key, wait_for_ready, .. } = request.options;
        match self.placement(key, request.deadline) {
            Err(error) if *wait_for_ready && error.may_pass() => {
                log::debug!("cannot look up {target}: {error:?}");
                Ok(Arc::default())
            }
            placement => placement.map_err(|error| self.send_error(error, target, request.started)),
        }
    }

    /// The error of a message that started at `started` and cannot be sent because of `error`.
    pub(crate) fn send_error(&self, error: LookupError, target: &Target, started: Instant) -> SendError {
        let (target, after) = (Box::new(target.clone()), clock::now().saturating_duration_since(started));
        match error {
            LookupError::Failed(source) => SendError::Directory { target, after, source },
            LookupError::NoAnswer => SendError::DirectorySilent { target, directory: self.matchmaker.name(), after },
        }
    }

    /// All nodes of a topic.
    pub(crate) fn placement(&self, key: &TopicKey, deadline: Instant) -> Result<Arc<Placement>, LookupError> {
        match self.cached(key) {
            Some(answer) => answer,
            None => self.start_lookup(key.clone())?.wait(deadline),
        }
    }

    /// Like [`placement`](Self::placement), without waiting. Returns `None` if the lookup failed.
    /// Returns `None` too while there is no answer, and keeps the lookup in `open`.
    pub(crate) fn poll_placement(&self, key: &TopicKey, open: &mut Option<Arc<Lookup>>) -> Option<Arc<Placement>> {
        let started = open.take();
        let answer = self.cached(key).or_else(|| {
            let lookup = match started.map_or_else(|| self.start_lookup(key.clone()), Ok) {
                Ok(lookup) => lookup,
                Err(error) => return Some(Err(error)),
            };
            let answer = lookup.lock().clone();
            if answer.is_none() {
                *open = Some(lookup);
            }
            Some(answer?.map_err(LookupError::Failed))
        });
        answer?.inspect_err(|error| log::debug!("cannot look up {key}: {error:?}")).ok()
    }

    /// The known placement of a topic. Resolving it lets the directory notice changes.
    fn cached(&self, key: &TopicKey) -> Option<Result<Arc<Placement>, LookupError>> {
        self.matchmaker.known(key)?;
        Some(self.matchmaker.resolve_all(key).map_err(|error| LookupError::Failed(Arc::new(error))))
    }

    /// Takes the next turn of a topic.
    pub(crate) fn turn(&self, key: &TopicKey) -> usize {
        self.turns.turn(key)
    }

    fn start_lookup(&self, key: TopicKey) -> Result<Arc<Lookup>, LookupError> {
        let mut open = self.lookups.lock();
        if let Some(lookup) = open.get(&key) {
            return Ok(Arc::clone(lookup));
        }
        if open.len() >= MAX_LOOKUPS {
            return Err(self.unavailable(format!("it has not answered {MAX_LOOKUPS} questions yet").into()));
        }
        let lookup = Arc::new(Lookup::default());
        open.insert(key.clone(), Arc::clone(&lookup));
        drop(open);

        let (matchmaker, asked) = (Arc::clone(&self.matchmaker), Arc::clone(&lookup));
        let guard = LookupGuard { key, lookups: Arc::clone(&self.lookups) };
        let ask = move || {
            let answer = matchmaker.resolve_all(&guard.key).map_err(Arc::new);
            // Closed before it is answered: a caller with an answer that asks again starts a new
            // lookup.
            drop(guard);
            asked.finish(answer);
        };
        if let Err(error) = std::thread::Builder::new().name("zmqv2-lookup".to_owned()).spawn(ask) {
            // Without the thread, nobody else answers callers that wait for this lookup.
            let failed = self.unavailable(format!("no thread to ask it: {error}").into());
            if let LookupError::Failed(error) = &failed {
                lookup.finish(Err(Arc::clone(error)));
            }
            return Err(failed);
        }
        Ok(lookup)
    }

    fn unavailable(&self, source: Box<dyn std::error::Error + Send + Sync>) -> LookupError {
        let directory = self.matchmaker.name().to_owned();
        LookupError::Failed(Arc::new(MatchmakerError::Unavailable { directory, source }))
    }
}

impl Lookup {
    fn finish(&self, answer: LookupResult) {
        *self.lock() = Some(answer);
        self.answered.notify_all();
    }

    fn wait(&self, deadline: Instant) -> Result<Arc<Placement>, LookupError> {
        let left = deadline.saturating_duration_since(clock::now());
        let waited = self.answered.wait_timeout_while(self.lock(), left, |answer| answer.is_none());
        let (answer, _) = waited.unwrap_or_else(PoisonError::into_inner);
        answer.clone().ok_or(LookupError::NoAnswer)?.map_err(LookupError::Failed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<LookupResult>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookups {
    fn lock(&self) -> MutexGuard<'_, HashMap<TopicKey, Arc<Lookup>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a lookup even when the directory panics.
struct LookupGuard {
    key: TopicKey,
    lookups: Arc<Lookups>,
}

impl Drop for LookupGuard {
    fn drop(&mut self) {
        self.lookups.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use zmqv2_matchmaker::{Health, PlacedNode, Refreshed, Registration};
    use zmqv2_proto::Node;

    use super::*;

    /// Answers when it gets a signal. Panics when the sender is gone.
    #[derive(Debug)]
    struct Slow {
        go: Mutex<mpsc::Receiver<()>>,
        known: Mutex<Option<Arc<Placement>>>,
    }

    impl Matchmaker for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }
        fn resolve_all(&self, _: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
            self.go.lock().unwrap().recv().unwrap();
            let node = Node::new("n".parse().unwrap(), "n".parse().unwrap());
            Ok(Arc::new(Placement::new(vec![PlacedNode::unlisted(node)])))
        }
        fn known(&self, _: &TopicKey) -> Option<Arc<Placement>> {
            self.known.lock().unwrap().clone()
        }
        fn register(&self, _: &Registration, _: Duration) -> Result<(), MatchmakerError> {
            Ok(())
        }
        fn withdraw(&self, _: &Registration) -> Result<(), MatchmakerError> {
            Ok(())
        }
        fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
            Ok(Refreshed::Unchanged)
        }
        fn generation(&self) -> u64 {
            0
        }
        fn health(&self) -> Health {
            Health::Ok
        }
    }

    #[test]
    fn a_slow_directory_is_asked_once_and_outlives_no_deadline() {
        let (go, signal) = mpsc::channel();
        let slow = Slow { go: Mutex::new(signal), known: Mutex::default() };
        let directory = Directory::new(Arc::new(slow));
        let key = TopicKey::parse("e/t").unwrap();
        for _ in 0..3 {
            let early = directory.placement(&key, clock::now() + Duration::from_millis(5));
            assert!(matches!(early, Err(LookupError::NoAnswer)));
        }
        let open: Vec<_> = directory.lookups.lock().values().cloned().collect();
        assert_eq!(open.len(), 1);
        go.send(()).unwrap();
        let answer = open[0].wait(clock::now() + Duration::from_secs(30)).unwrap();
        assert_eq!(answer.nodes().len(), 1);
        // The next lookup is a new one. A directory that panics leaves nothing behind.
        drop(go);
        let none = directory.placement(&key, clock::now() + Duration::from_millis(5));
        assert!(matches!(none, Err(LookupError::NoAnswer)));
    }
}
