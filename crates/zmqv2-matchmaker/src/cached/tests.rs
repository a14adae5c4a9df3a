//! The thread that follows a directory, and what it survives.

use super::*;
use crate::cached::remote::{DirectoryList, Renewals, Revision, TopicState};

/// A directory that answers, fails, or panics.
#[derive(Debug, Default)]
struct Moody {
    /// What it does, and how often somebody has looked.
    state: Mutex<(Mood, usize)>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Good,
    Failing,
    Panicking,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Moody>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, (Mood, usize)> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mood: Mood) {
        self.state().0 = mood;
        self.0.changed.notify_all();
    }

    fn looks(&self) -> usize {
        self.state().1
    }

    fn look(&self) -> Result<(), MatchmakerError> {
        let mood = {
            let mut state = self.state();
            state.1 += 1;
            state.0
        };
        self.0.changed.notify_all();
        assert_ne!(mood, Mood::Panicking, "as it was told to");
        if mood == Mood::Good { Ok(()) } else { Err(unavailable()) }
    }

    /// Waits until `met`, which is asked again after each look.
    fn eventually(&self, what: &str, mut met: impl FnMut() -> bool) {
        let by = now() + Duration::from_secs(30);
        // The thread applies the answer to a look after the look.
        let shortest = Duration::from_millis(10);
        while !met() {
            assert!(now() < by, "not in time: {what}");
            let state = self.state();
            drop(self.0.changed.wait_timeout(state, shortest));
        }
    }
}

fn unavailable() -> MatchmakerError {
    MatchmakerError::Unavailable { directory: "moody".to_owned(), source: "failing".into() }
}

impl RemoteDirectory for Shared {
    fn name(&self) -> &'static str {
        "moody"
    }
    fn location(&self) -> String {
        "moody".to_owned()
    }
    fn read(&self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError> {
        self.look()?;
        let states =
            queries.iter().map(|_| Some(TopicState { revision: Revision(1, 0), ..TopicState::default() })).collect();
        let (epoch, instance) = Default::default();
        let renewals = Renewals::Unknown;
        Ok(DirectoryAnswer { epoch, instance, clock: Duration::ZERO, age: Duration::MAX, renewals, states })
    }
    fn register(&self, _: &[Registration], _: Duration) -> Result<(), MatchmakerError> {
        self.look()
    }
    fn withdraw(&self, _: &[Registration]) -> Result<(), MatchmakerError> {
        self.look()
    }
    fn list(&self) -> Result<DirectoryList, MatchmakerError> {
        Ok(DirectoryList::default())
    }
    fn watcher(&self) -> Box<dyn ChangeWatcher> {
        Box::new(self.clone())
    }
}

impl ChangeWatcher for Shared {
    fn wait(&mut self, _: &[TopicQuery], timeout: Duration) -> Result<bool, MatchmakerError> {
        self.look()?;
        let state = self.state();
        let mood = state.0;
        // As a directory does that tells of its end.
        drop(self.0.changed.wait_timeout_while(state, timeout, |state| state.0 == mood));
        Ok(false)
    }
    fn read(&mut self, queries: &[TopicQuery]) -> Result<DirectoryAnswer, MatchmakerError> {
        RemoteDirectory::read(self, queries)
    }
}

fn remembering(refresh: Duration) -> (Shared, CachedMatchmaker) {
    let minute = Duration::from_secs(60);
    let settings = CacheSettings { refresh, max_stale: minute, lease: minute, renew_every: minute / 2 };
    let directory = Shared::default();
    let cached = CachedMatchmaker::new(Box::new(directory.clone()), settings);
    cached.resolve_all(&TopicKey::parse("x/t").unwrap()).unwrap();
    (directory, cached)
}

#[test]
fn a_panic_in_the_thread_makes_health_stale_and_the_thread_goes_on() {
    let (directory, cached) = remembering(Duration::from_millis(100));
    assert_eq!(cached.health(), Health::Ok);
    directory.set(Mood::Panicking);
    directory.eventually(
        "the health tells",
        || matches!(cached.health(), Health::Stale { reason, .. } if reason.contains("its thread panicked")),
    );
    directory.set(Mood::Good);
    directory.eventually("it is followed again", || !matches!(cached.health(), Health::Stale { .. }));
}

/// So many looks of a thread that does not spin take longer than two of its waits.
const LOOKS: usize = 8;

#[test]
fn with_a_refresh_interval_of_zero_the_thread_does_not_spin() {
    let (directory, cached) = remembering(Duration::from_millis(1));
    for mood in [Mood::Good, Mood::Failing] {
        directory.set(mood);
        directory.eventually("it is noticed", || (cached.health() == Health::Ok) == (mood == Mood::Good));
        let (before, started) = (directory.looks(), now());
        directory.eventually("it looks again", || directory.looks() >= before + LOOKS);
        let took = started.elapsed();
        // Two looks for each wait of at least 80 ms, or, after failures, one for each pause of at
        // least 50 ms, of which all later ones are longer.
        assert!(took >= SHORTEST * 2, "{LOOKS} looks in {took:?}, {mood:?}");
    }
}
