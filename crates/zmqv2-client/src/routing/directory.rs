//! Asks the directory, so that no call outlives its deadline.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zmqv2_matchmaker::{Completeness, Health, Matchmaker, MatchmakerError, Placement, Rotation};
use zmqv2_proto::{Target, TopicKey};

use crate::outcome::send_error::SendError;
use crate::routing::lookup::{Lookup, LookupResult};

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

/// Why the answer of the directory is not certain.
#[derive(Debug, Clone)]
pub(crate) enum Doubt {
    /// It could not answer.
    Failed(Arc<MatchmakerError>),
    /// Its list may lack servers, for this reason. All may be registered after `within`.
    Incomplete { directory: &'static str, reason: Arc<str>, within: Duration },
    /// It has not answered yet. Its kind.
    Silent(&'static str),
}

/// What the directory says about a topic.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) placement: Arc<Placement>,
    /// Servers may be missing in the placement. `None`: it is complete.
    pub(crate) doubt: Option<Doubt>,
}

impl Doubt {
    /// The error of a message to `target` that cannot be sent because of this, `after` its start.
    pub(crate) fn into_error(self, target: Box<Target>, after: Duration) -> SendError {
        match self {
            Self::Failed(source) => SendError::Directory { target, after, source },
            Self::Incomplete { directory, reason, within } => {
                let (directory, reason) = (directory.to_owned(), reason.to_string());
                let source = Arc::new(MatchmakerError::Refilling { directory, reason, within });
                SendError::Directory { target, after, source }
            }
            Self::Silent(directory) => SendError::DirectorySilent { target, directory, after },
        }
    }

    /// Whether an answer is on its way.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => match &**error {
                MatchmakerError::Refilling { reason, .. } => f.write_str(reason),
                error => write!(f, "{error}"),
            },
            Self::Incomplete { reason, .. } => f.write_str(reason),
            Self::Silent(directory) => write!(f, "the {directory} directory has not answered yet"),
        }
    }
}

impl Listing {
    /// No list, because of this doubt.
    fn none(doubt: Doubt) -> Self {
        Self { placement: Arc::default(), doubt: Some(doubt) }
    }
}

/// Lookups without an answer yet.
#[derive(Debug, Default)]
struct Lookups(Mutex<HashMap<TopicKey, Arc<Lookup>>>);

/// The first reaction of the directory to a question.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It knows the answer.
    Answered(Listing),
    /// It is being asked.
    Open(Arc<Lookup>),
}

impl Directory {
    pub(crate) fn new(matchmaker: Arc<dyn Matchmaker>) -> Self {
        Self { matchmaker, turns: Rotation::new(), lookups: Arc::default() }
    }

    /// What the directory says about a topic. If it must be asked, waits for its answer until
    /// `wait_until`. Afterwards, the lookup is in `open`.
    pub(crate) fn listing(
        &self,
        key: &TopicKey,
        wait_until: impl FnOnce() -> Instant,
        open: &mut Option<Arc<Lookup>>,
    ) -> Listing {
        match self.ask(key) {
            Asked::Answered(listing) => listing,
            Asked::Open(lookup) => {
                let answer = lookup.wait(wait_until());
                self.listing_after(answer, lookup, open)
            }
        }
    }

    /// Asks about a topic, without waiting.
    pub(crate) fn ask(&self, key: &TopicKey) -> Asked {
        if let Some(known) = self.known(key) {
            return Asked::Answered(known);
        }
        match self.start_lookup(key.clone()) {
            Ok(lookup) => Asked::Open(lookup),
            Err(error) => Asked::Answered(Listing::none(Doubt::Failed(error))),
        }
    }

    /// What is known after a lookup. Without an answer, `open` keeps the lookup.
    pub(crate) fn listing_after(
        &self,
        answer: Option<LookupResult>,
        lookup: Arc<Lookup>,
        open: &mut Option<Arc<Lookup>>,
    ) -> Listing {
        match answer {
            Some(answer) => self.listing_of(answer),
            None => {
                *open = Some(lookup);
                self.silent()
            }
        }
    }

    /// Like [`listing`](Self::listing), without waiting. While there is no answer, `open` keeps the
    /// lookup.
    pub(crate) fn poll_listing(&self, key: &TopicKey, open: &mut Option<Arc<Lookup>>) -> Listing {
        let started = open.take();
        if let Some(known) = self.known(key) {
            return known;
        }
        let lookup = match started.map_or_else(|| self.start_lookup(key.clone()), Ok) {
            Ok(lookup) => lookup,
            Err(error) => return Listing::none(Doubt::Failed(error)),
        };
        self.listing_after(lookup.answer(), lookup, open)
    }

    /// What is known of a topic. Resolving it lets the directory notice changes.
    fn known(&self, key: &TopicKey) -> Option<Listing> {
        self.matchmaker.known(key)?;
        Some(self.listing_of(self.matchmaker.resolve_all(key).map_err(Arc::new)))
    }

    fn listing_of(&self, answer: LookupResult) -> Listing {
        let placement = match answer {
            Ok(placement) => placement,
            Err(error) => return Listing::none(Doubt::Failed(error)),
        };
        let doubt = match placement.completeness() {
            Completeness::Complete => None,
            Completeness::Incomplete { reason } => {
                let within = match self.matchmaker.health() {
                    Health::Refilling { within, .. } => within,
                    _ => Duration::ZERO,
                };
                Some(Doubt::Incomplete { directory: self.matchmaker.name(), reason: Arc::clone(reason), within })
            }
        };
        Listing { placement, doubt }
    }

    fn silent(&self) -> Listing {
        Listing::none(Doubt::Silent(self.matchmaker.name()))
    }

    /// Takes the next turn of a topic.
    pub(crate) fn turn(&self, key: &TopicKey) -> usize {
        self.turns.turn(key)
    }

    fn start_lookup(&self, key: TopicKey) -> Result<Arc<Lookup>, Arc<MatchmakerError>> {
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
            lookup.finish(Err(Arc::clone(&failed)));
            return Err(failed);
        }
        Ok(lookup)
    }

    fn unavailable(&self, source: Box<dyn std::error::Error + Send + Sync>) -> Arc<MatchmakerError> {
        let directory = self.matchmaker.name().to_owned();
        Arc::new(MatchmakerError::Unavailable { directory, source })
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

    use zmqv2_matchmaker::{PlacedNode, Refreshed, Registration};
    use zmqv2_proto::Node;

    use super::*;
    use crate::clock;

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
            let early = directory.listing(&key, || clock::now() + Duration::from_millis(5), &mut None);
            assert!(matches!(early.doubt, Some(Doubt::Silent("slow"))));
        }
        let open: Vec<_> = directory.lookups.lock().values().cloned().collect();
        assert_eq!(open.len(), 1);
        go.send(()).unwrap();
        let answer = open[0].wait(clock::now() + Duration::from_secs(30)).unwrap().unwrap();
        assert_eq!(answer.nodes().len(), 1);
        // The next lookup is a new one. A directory that panics leaves nothing behind.
        drop(go);
        let mut open = None;
        let none = directory.listing(&key, || clock::now() + Duration::from_millis(5), &mut open);
        assert!(none.doubt.is_some_and(|doubt| doubt.is_silence()) && open.is_some());
    }
}
