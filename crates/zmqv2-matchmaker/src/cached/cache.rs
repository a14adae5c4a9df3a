//! The remembered answers of a remote directory, and the rules by which new answers replace them.
//! Pure: `now` comes from the caller.

mod known_servers;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zmqv2_proto::{TopicKey, deadline};

use super::CacheSettings;
use crate::api::{Completeness, Health, MatchmakerError, Placement, Refreshed};
use crate::cached::remote::{DirectoryAnswer, DirectoryList, Presence, Renewals, Revision, TopicQuery, TopicState};
use known_servers::KnownServers;

/// The most topics that are remembered. At this limit, a new topic replaces the longest unused one.
pub(crate) const MAX_TOPICS: usize = 4_096;
/// A topic that was unused for so long is forgotten, unless the directory cannot be read.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// How long an empty answer is used.
pub(crate) const EMPTY_FOR: Duration = Duration::from_secs(1);

const YOUNG: &str = "the directory is younger than a lease";

/// The remembered topics.
///
/// After an outage the directory is **uncertain** for one lease: brokers could not renew, so leases
/// may have ended although their servers live. In this state, earlier entries stay unless they were
/// withdrawn, new entries are used, and an empty answer is unconfirmed. The directory is also
/// uncertain when it has lost its data; when another process answers for it (a replica that missed
/// some writes, or an old copy from a disk); while it is younger than a lease; and when its clock
/// was put forward. If the directory itself knows whether brokers can renew ([`Renewals`]), this
/// decides instead.
///
/// Every answer of an uncertain directory, or of one that cannot be read, is marked incomplete.
#[derive(Debug)]
pub(crate) struct TopicCache {
    settings: CacheSettings,
    started: Instant,
    topics: HashMap<TopicKey, Topic>,
    last_answer: Option<LastAnswer>,
    /// When the directory answered last.
    fresh_at: Instant,
    failure: Option<Failure>,
    uncertain: Option<Uncertain>,
    /// Why no broker can renew, and since when.
    stopped: Option<(Arc<str>, Instant)>,
    /// The mark of all shown answers.
    mark: Completeness,
    /// Empty topics of an uncertain directory, and when the directory was asked for them.
    unconfirmed: HashMap<TopicKey, Instant>,
    generation: u64,
}

/// Why the directory is uncertain, and for how long.
#[derive(Debug)]
struct Uncertain {
    reason: Arc<str>,
    since: Instant,
    until: Instant,
}

#[derive(Debug)]
struct LastAnswer {
    epoch: String,
    instance: String,
    clock: Duration,
    at: Instant,
}

#[derive(Debug)]
struct Topic {
    revision: Revision,
    /// The answer for callers.
    shown: Arc<Placement>,
    /// The directory's last answer. Its nodes differ from those of `shown` only while the directory
    /// is uncertain. It is never marked.
    fresh: Arc<Placement>,
    servers: KnownServers,
    checked: Instant,
    /// When a caller last asked for the topic, in seconds after `started`.
    asked: AtomicU64,
}

/// Why the directory cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The first of several failures.
    pub(crate) since: Instant,
    /// The last one.
    pub(crate) at: Instant,
    pub(crate) reason: String,
    /// Directory, problem and remedy, if an operator must correct something.
    misconfigured: Option<[String; 3]>,
}

impl Failure {
    /// The error of a question that is not asked, because the last one has just failed.
    pub(crate) fn error(&self, directory: String) -> MatchmakerError {
        match self.misconfigured.clone() {
            Some([directory, problem, remedy]) => MatchmakerError::Misconfigured { directory, problem, remedy },
            None => MatchmakerError::Unavailable { directory, source: self.reason.clone().into() },
        }
    }
}

impl TopicCache {
    pub(crate) fn new(settings: CacheSettings, now: Instant) -> Self {
        Self {
            settings,
            started: now,
            topics: HashMap::new(),
            last_answer: None,
            fresh_at: now,
            failure: None,
            uncertain: None,
            stopped: None,
            mark: Completeness::Complete,
            unconfirmed: HashMap::new(),
            generation: 0,
        }
    }

    /// The answer for a topic; `None`: ask the directory. An empty answer is used for `empty_for`.
    pub(crate) fn look(&self, key: &TopicKey, empty_for: Duration, now: Instant) -> Option<Arc<Placement>> {
        let topic = self.topics.get(key)?;
        let asked = now.saturating_duration_since(self.started).as_secs();
        if topic.asked.load(Ordering::Relaxed) != asked {
            topic.asked.store(asked, Ordering::Relaxed);
        }
        let too_old = if topic.shown.is_empty() {
            self.uncertain_for(now).is_some() || now.saturating_duration_since(topic.checked) > empty_for
        } else {
            self.failure.is_some() && now.saturating_duration_since(self.fresh_at) > self.settings.max_stale
        };
        (!too_old).then(|| Arc::clone(&topic.shown))
    }

    /// How long an empty answer about this topic stays unconfirmed. `None`: ask the directory.
    pub(crate) fn unconfirmed_for(&self, key: &TopicKey, now: Instant) -> Option<Duration> {
        let asked = self.unconfirmed.get(key)?;
        self.uncertain_for(now).filter(|_| now.saturating_duration_since(*asked) <= EMPTY_FOR)
    }

    fn uncertain_for(&self, now: Instant) -> Option<Duration> {
        let left = self.uncertain.as_ref()?.until.saturating_duration_since(now);
        Some(left).filter(|left| !left.is_zero())
    }

    /// Queries for all remembered topics.
    pub(crate) fn queries(&self) -> Vec<TopicQuery> {
        let query = |(key, topic): (&TopicKey, &Topic)| TopicQuery { key: key.clone(), known: Some(topic.revision) };
        self.topics.iter().map(query).collect()
    }

    /// Queries for those of `keys` that are remembered.
    pub(crate) fn queries_about<'a>(&self, keys: impl IntoIterator<Item = &'a TopicKey>) -> Vec<TopicQuery> {
        let keys: BTreeSet<_> = keys.into_iter().collect();
        let known = |key: &TopicKey| Some(TopicQuery { key: key.clone(), known: Some(self.topics.get(key)?.revision) });
        keys.into_iter().filter_map(known).collect()
    }

    /// Applies the answer to the first question about a topic. `Err`: the answer is empty and
    /// stays unconfirmed for this long.
    pub(crate) fn first(
        &mut self,
        key: &TopicKey,
        answer: DirectoryAnswer,
        late: bool,
        now: Instant,
    ) -> Result<Arc<Placement>, Duration> {
        let known = self.topics.contains_key(key);
        let queries = [TopicQuery { key: key.clone(), known: None }];
        self.note_outages(&queries, &answer, late, now);
        let uncertain = self.uncertain_for(now);
        let mut entries = answer.states.iter().flatten().flat_map(|state| &state.entries);
        let has_servers = entries.any(|entry| matches!(entry.presence, Presence::At(_)));
        // An unconfirmed answer adds no topic.
        if known || has_servers || uncertain.is_none() {
            if !known && self.topics.len() >= MAX_TOPICS {
                self.forget_one();
            }
            let _ = self.apply(&queries, answer, now);
        }
        let _ = self.mark_all(now);
        if let Some(topic) = self.topics.get(key).filter(|topic| !topic.shown.is_empty()) {
            return Ok(Arc::clone(&topic.shown));
        }
        let Some(left) = uncertain else { return Ok(Arc::default()) };
        if self.unconfirmed.len() >= MAX_TOPICS {
            self.unconfirmed.retain(|_, asked| now.saturating_duration_since(*asked) <= EMPTY_FOR);
        }
        if self.unconfirmed.len() < MAX_TOPICS {
            self.unconfirmed.insert(key.clone(), now);
        }
        Err(left)
    }

    /// Applies answers about remembered topics. `late`: the answer took so long that leases may
    /// have ended.
    pub(crate) fn update(
        &mut self,
        queries: &[TopicQuery],
        mut answer: DirectoryAnswer,
        late: bool,
        now: Instant,
    ) -> Refreshed {
        self.note_outages(queries, &answer, late, now);
        let pairs = queries.iter().cloned().zip(std::mem::take(&mut answer.states));
        let remembered = pairs.filter(|(query, _)| self.topics.contains_key(&query.key));
        let (queries, states): (Vec<_>, Vec<_>) = remembered.unzip();
        self.apply(&queries, DirectoryAnswer { states, ..answer }, now)
    }

    /// Records that the directory was reached, while no topic is remembered.
    pub(crate) fn reached(&mut self, now: Instant) {
        if self.topics.is_empty() {
            self.failure = None;
            self.fresh_at = now;
        }
    }

    /// Records that the directory could not be read. Returns whether this is the first failure.
    pub(crate) fn failed(&mut self, error: &MatchmakerError, now: Instant) -> bool {
        let misconfigured = match error {
            MatchmakerError::Misconfigured { directory, problem, remedy } => Some([directory, problem, remedy]),
            _ => None,
        };
        let since = self.failure.as_ref().map_or(now, |failure| failure.since);
        let (reason, misconfigured) = (error.to_string(), misconfigured.map(|texts| texts.map(String::clone)));
        let is_first = self.failure.replace(Failure { since, at: now, reason, misconfigured }).is_none();
        if is_first {
            let _ = self.mark_all(now);
        }
        is_first
    }

    /// Records that the directory refused a change. Returns whether this is news.
    pub(crate) fn refused(&mut self, reason: &str, now: Instant) -> bool {
        let is_news = self.stopped.is_none();
        let since = self.stopped.take().map_or(now, |(_, since)| since);
        self.stopped = Some((reason.into(), since));
        let _ = self.mark_all(now);
        is_news
    }

    /// Records that the directory accepted a change. Returns whether it refused the last one.
    pub(crate) fn accepted(&mut self, now: Instant) -> bool {
        let refused = self.stopped.take().is_some();
        if refused {
            // Until the next answer tells more.
            self.doubt(self.settings.lease, "the directory took no renewals", now);
            let _ = self.mark_all(now);
        }
        refused
    }

    pub(crate) fn health(&self, now: Instant) -> Health {
        if let Some(Failure { reason, since, .. }) = &self.failure {
            return Health::Stale { reason: reason.clone(), since: *since };
        }
        if let Some((reason, since)) = &self.stopped {
            return Health::RefusingWrites { reason: reason.to_string(), since: *since };
        }
        match (&self.uncertain, self.uncertain_for(now)) {
            (Some(Uncertain { reason, since, .. }), Some(within)) => {
                Health::Refilling { reason: reason.to_string(), since: *since, within }
            }
            _ => Health::Ok,
        }
    }

    /// Records what a list of all topics tells about itself.
    pub(crate) fn listed(&mut self, list: &DirectoryList, now: Instant) {
        self.reached(now);
        match &list.renewals {
            Renewals::Unknown if list.age < self.settings.lease => {
                self.doubt(self.settings.lease - list.age, YOUNG, now);
            }
            Renewals::Interrupted { left, reason } => self.doubt(*left, Arc::clone(reason), now),
            Renewals::Stopped { reason } => drop(self.refused(reason, now)),
            Renewals::Unknown | Renewals::Work => {}
        }
        let _ = self.mark_all(now);
    }

    /// Why an empty answer is not believed.
    pub(crate) fn doubts(&self) -> String {
        self.mark.reason().unwrap_or("brokers may not have registered all servers again").to_owned()
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Ends an uncertainty whose time is over, and forgets unused topics.
    pub(crate) fn settle(&mut self, now: Instant) -> Refreshed {
        if self.failure.is_some() {
            return Refreshed::Unchanged;
        }
        if self.uncertain.take_if(|uncertain| uncertain.until <= now).is_some() {
            self.unconfirmed.clear();
        }
        let refreshed = self.mark_all(now);
        let asked = |topic: &Topic| deadline(self.started, Duration::from_secs(topic.asked.load(Ordering::Relaxed)));
        self.topics.retain(|_, topic| now.saturating_duration_since(asked(topic)) <= FORGET_AFTER);
        refreshed
    }

    /// Brings the mark of all answers up to date.
    fn mark_all(&mut self, now: Instant) -> Refreshed {
        let uncertain = self.uncertain_for(now).is_some();
        let reason = match (&self.failure, &self.stopped, &self.uncertain) {
            (Some(_), ..) => Some("the directory cannot be read".into()),
            (_, Some((reason, _)), _) => Some(Arc::clone(reason)),
            (_, _, Some(Uncertain { reason, .. })) if uncertain => Some(Arc::clone(reason)),
            _ => None,
        };
        self.mark = reason.map_or(Completeness::Complete, Completeness::incomplete);
        let mut refreshed = Refreshed::Unchanged;
        for topic in self.topics.values_mut() {
            let keeps = uncertain || !self.mark.is_complete();
            if keeps && *topic.shown.completeness() == self.mark || Arc::ptr_eq(&topic.shown, &topic.fresh) && !keeps {
                continue;
            }
            topic.shown =
                if keeps { Arc::new(topic.shown.marked(self.mark.clone())) } else { Arc::clone(&topic.fresh) };
            refreshed = Refreshed::Changed;
        }
        self.generation += u64::from(refreshed == Refreshed::Changed);
        refreshed
    }

    /// From now on, missing entries stay for at least `time`.
    fn doubt(&mut self, time: Duration, reason: impl Into<Arc<str>>, now: Instant) {
        let since = self.uncertain.as_ref().map_or(now, |uncertain| uncertain.since);
        self.uncertain = Some(Uncertain { reason: reason.into(), since, until: deadline(now, time) });
    }

    /// Looks for signs of an outage or a loss of data, before the answer is applied.
    fn note_outages(&mut self, queries: &[TopicQuery], answer: &DirectoryAnswer, late: bool, now: Instant) {
        let lease = self.settings.lease;
        let DirectoryAnswer { epoch, instance, clock, age, renewals, .. } = answer;
        let stopped = self.stopped.take();
        match &self.last_answer {
            // The directory may have had other data before.
            None if *age < lease => self.doubt(lease - *age, YOUNG, now),
            None => {}
            Some(last) if last.epoch != *epoch => {
                log::warn!("the directory has lost its data; earlier answers stay in use until brokers have renewed");
                self.doubt(lease, "the directory has lost its data", now);
            }
            Some(last) if last.instance != *instance => {
                log::info!("another process answers for the directory; earlier answers stay in use for one lease");
                self.doubt(lease, "another process answers for the directory (restart or failover)", now);
            }
            Some(last) => {
                let passed = now.saturating_duration_since(last.at) + self.settings.allowance();
                if clock.saturating_sub(last.clock) > passed {
                    log::warn!("the directory's clock was put forward; earlier answers stay in use for one lease");
                    self.doubt(lease, "the clock of the directory was put forward", now);
                }
            }
        }
        self.last_answer =
            Some(LastAnswer { epoch: epoch.clone(), instance: instance.clone(), clock: *clock, at: now });
        if self.failure.take().is_some() || late {
            self.doubt(lease, "the directory could not be read", now);
        }
        let is_older = |(query, state): (&TopicQuery, &Option<TopicState>)| {
            let known = self.topics.get(&query.key).map(|topic| topic.revision);
            state.as_ref().is_some_and(|state| state.revision != Revision::NONE && Some(state.revision) < known)
        };
        if queries.iter().zip(&answer.states).any(is_older) {
            // For example, a replica that missed some writes became the primary.
            self.doubt(lease, "the directory has older data than before (failover)", now);
        }
        self.fresh_at = now;
        match renewals {
            Renewals::Unknown => {}
            // Whatever this process has missed, brokers could renew.
            Renewals::Work => self.uncertain = None,
            Renewals::Interrupted { left, reason } => self.doubt(*left, Arc::clone(reason), now),
            Renewals::Stopped { reason } => {
                if stopped.is_none() {
                    log::warn!("{reason}; nodes whose leases end stay in use");
                }
                let since = stopped.as_ref().map_or(now, |(_, since)| *since);
                self.doubt(lease, Arc::clone(reason), now);
                self.stopped = Some((Arc::clone(reason), since));
            }
        }
        if self.stopped.is_none() && stopped.is_some() {
            log::info!("brokers can renew their registrations again");
        }
    }

    fn apply(&mut self, queries: &[TopicQuery], answer: DirectoryAnswer, now: Instant) -> Refreshed {
        let uncertain = self.uncertain_for(now).is_some();
        let asked = now.saturating_duration_since(self.started).as_secs();
        let mut refreshed = self.mark_all(now);
        for (query, state) in queries.iter().zip(answer.states) {
            let topic = self.topics.entry(query.key.clone()).or_insert_with(|| Topic {
                revision: Revision::NONE,
                shown: Arc::default(),
                fresh: Arc::default(),
                servers: KnownServers::default(),
                checked: now,
                asked: AtomicU64::new(asked),
            });
            topic.checked = now;
            let Some(state) = state else { continue };
            // Changes since another revision cannot be applied. The next query asks for everything.
            if state.changes_only && query.known != Some(topic.revision) {
                topic.revision = Revision::NONE;
                continue;
            }
            topic.revision = state.revision;
            topic.servers.apply(state);
            let fresh = topic.servers.nodes();
            let shown = if uncertain { topic.servers.merged(&topic.shown, &fresh) } else { fresh.clone() };
            let fresh = Placement::new(fresh);
            if fresh != *topic.fresh {
                topic.fresh = Arc::new(fresh);
            }
            if shown != topic.shown.nodes() {
                // Equal placements share their nodes.
                let shown = if shown == topic.fresh.nodes() {
                    Arc::clone(&topic.fresh)
                } else {
                    Arc::new(Placement::new(shown))
                };
                topic.shown = if self.mark.is_complete() { shown } else { Arc::new(shown.marked(self.mark.clone())) };
                refreshed = Refreshed::Changed;
            }
        }
        self.generation += u64::from(refreshed == Refreshed::Changed);
        refreshed
    }

    fn forget_one(&mut self) {
        let oldest = self.topics.iter().min_by_key(|(_, topic)| topic.asked.load(Ordering::Relaxed));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.topics.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
