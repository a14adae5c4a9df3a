//! The remembered answers of a remote directory, and the rules by which new answers replace them.
//! Pure: `now` comes from the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zmqv2_proto::{Node, NodeName, ServerName, TopicKey, deadline};

use super::CacheSettings;
use crate::api::{PlacedNode, Placement, Refreshed};
use crate::cached::remote::{DirectoryAnswer, Presence, Revision, ServerEntry, TopicQuery, TopicState};

/// The most topics that are remembered. At this limit, a new topic replaces the longest unused one.
pub(crate) const MAX_TOPICS: usize = 4_096;
/// A topic that was unused for so long is forgotten, unless the directory cannot be read.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// How long an empty answer is used.
pub(crate) const EMPTY_FOR: Duration = Duration::from_secs(1);

/// The remembered topics.
///
/// After an outage the directory is **uncertain** for one lease: brokers could not renew, so leases
/// may have ended although their servers live. In this state, earlier entries stay unless they were
/// withdrawn, new entries are used, and an empty answer is unconfirmed. The directory is also
/// uncertain when it has lost its data; when another process answers for it (a replica that missed
/// some writes, or an old copy from a disk); while it is younger than a lease; and when its clock
/// was put forward.
#[derive(Debug)]
pub(crate) struct TopicCache {
    settings: CacheSettings,
    started: Instant,
    topics: HashMap<TopicKey, Topic>,
    last_answer: Option<LastAnswer>,
    /// When the directory answered last.
    fresh_at: Instant,
    failure: Option<Failure>,
    uncertain_until: Option<Instant>,
    /// Empty topics of an uncertain directory, and when the directory was asked for them.
    unconfirmed: HashMap<TopicKey, Instant>,
    generation: u64,
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
    /// The directory's last answer. It differs from `shown` only while the directory is uncertain.
    fresh: Arc<Placement>,
    servers: KnownServers,
    checked: Instant,
    /// When a caller last asked for the topic, in seconds after `started`.
    asked: AtomicU64,
}

/// All known entries of a topic.
#[derive(Debug, Default)]
struct KnownServers {
    /// `true` for a server that is there, `false` for a withdrawn one.
    servers: BTreeMap<NodeName, BTreeMap<ServerName, bool>>,
    nodes: HashMap<NodeName, Node>,
}

/// Why the directory cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) reason: String,
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
            uncertain_until: None,
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
        self.uncertain_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
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
    pub(crate) fn failed(&mut self, reason: String, now: Instant) -> bool {
        self.failure.replace(Failure { at: now, reason }).is_none()
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
        let mut refreshed = Refreshed::Unchanged;
        if self.uncertain_until.take_if(|until| *until <= now).is_some() {
            self.unconfirmed.clear();
            for topic in self.topics.values_mut().filter(|topic| topic.shown != topic.fresh) {
                topic.shown = Arc::clone(&topic.fresh);
                refreshed = Refreshed::Changed;
            }
            self.generation += u64::from(refreshed == Refreshed::Changed);
        }
        let asked = |topic: &Topic| deadline(self.started, Duration::from_secs(topic.asked.load(Ordering::Relaxed)));
        self.topics.retain(|_, topic| now.saturating_duration_since(asked(topic)) <= FORGET_AFTER);
        refreshed
    }

    /// Looks for signs of an outage or a loss of data, before the answer is applied.
    fn note_outages(&mut self, queries: &[TopicQuery], answer: &DirectoryAnswer, late: bool, now: Instant) {
        let until = deadline(now, self.settings.lease);
        let DirectoryAnswer { epoch, instance, clock, age, .. } = answer;
        match &self.last_answer {
            // The directory may have had other data before.
            None if *age < self.settings.lease => self.uncertain_until = Some(until - *age),
            None => {}
            Some(last) if last.epoch != *epoch => {
                log::warn!("the directory has lost its data; earlier answers stay in use until brokers have renewed");
                self.uncertain_until = Some(until);
            }
            Some(last) if last.instance != *instance => {
                log::info!("another process answers for the directory; earlier answers stay in use for one lease");
                self.uncertain_until = Some(until);
            }
            Some(last) => {
                let passed = now.saturating_duration_since(last.at) + self.settings.allowance();
                if clock.saturating_sub(last.clock) > passed {
                    log::warn!("the directory's clock was put forward; earlier answers stay in use for one lease");
                    self.uncertain_until = Some(until);
                }
            }
        }
        self.last_answer =
            Some(LastAnswer { epoch: epoch.clone(), instance: instance.clone(), clock: *clock, at: now });
        if self.failure.take().is_some() || late {
            self.uncertain_until = Some(until);
        }
        let is_older = |(query, state): (&TopicQuery, &Option<TopicState>)| {
            let known = self.topics.get(&query.key).map(|topic| topic.revision);
            state.as_ref().is_some_and(|state| state.revision != Revision::NONE && Some(state.revision) < known)
        };
        if queries.iter().zip(&answer.states).any(is_older) {
            // For example, a replica that missed some writes became the primary.
            self.uncertain_until = Some(until);
        }
        self.fresh_at = now;
    }

    fn apply(&mut self, queries: &[TopicQuery], answer: DirectoryAnswer, now: Instant) -> Refreshed {
        let uncertain = self.uncertain_for(now).is_some();
        let asked = now.saturating_duration_since(self.started).as_secs();
        let mut refreshed = Refreshed::Unchanged;
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
            topic.fresh = Arc::new(Placement::new(fresh));
            let shown = Placement::new(shown);
            if shown != *topic.shown {
                // Equal placements share one allocation.
                topic.shown = if shown == *topic.fresh { Arc::clone(&topic.fresh) } else { Arc::new(shown) };
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

impl KnownServers {
    fn apply(&mut self, state: TopicState) {
        if !state.changes_only {
            *self = Self::default();
        }
        for ServerEntry { node, server, presence } in state.entries {
            match presence {
                Presence::Ended => {
                    let servers = self.servers.entry(node.clone()).or_default();
                    servers.remove(&server);
                    if servers.is_empty() {
                        self.servers.remove(&node);
                        self.nodes.remove(&node);
                    }
                }
                Presence::Withdrawn => drop(self.servers.entry(node).or_default().insert(server, false)),
                Presence::At(at) => {
                    self.servers.entry(node.clone()).or_default().insert(server, true);
                    // The last address is the newest.
                    self.nodes.insert(node, at);
                }
            }
        }
    }

    /// The nodes that have servers, by name.
    fn nodes(&self) -> Vec<PlacedNode> {
        let placed = |(name, servers): (&NodeName, &BTreeMap<ServerName, bool>)| {
            let there: Vec<_> = servers.iter().filter(|(_, there)| **there).map(|(server, _)| server.clone()).collect();
            let node = self.nodes.get(name).filter(|_| !there.is_empty())?;
            Some(PlacedNode { node: node.clone(), servers: there })
        };
        self.servers.iter().filter_map(placed).collect()
    }

    /// The fresh entries, and all shown entries that were not withdrawn.
    fn merged(&self, shown: &Placement, fresh: &[PlacedNode]) -> Vec<PlacedNode> {
        let mut nodes: BTreeMap<NodeName, PlacedNode> =
            fresh.iter().map(|placed| (placed.node.name.clone(), placed.clone())).collect();
        for old in shown.nodes() {
            let name = &old.node.name;
            let withdrawn = |server| self.servers.get(name).and_then(|servers| servers.get(server)) == Some(&false);
            for server in old.servers.iter().filter(|server| !withdrawn(*server)) {
                let placed = nodes.entry(name.clone()).or_insert_with(|| PlacedNode::unlisted(old.node.clone()));
                if let Err(place) = placed.servers.binary_search(server) {
                    placed.servers.insert(place, server.clone());
                }
            }
        }
        nodes.into_values().collect()
    }
}

#[cfg(test)]
mod tests;
