//! What is remembered of a remote directory, and what of its answers is believed. Pure: `now` comes from the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zmqv2_proto::{Node, NodeName, ServerName, TopicKey};

use super::CacheSettings;
use crate::api::{PlacedNode, Placement, Refreshed};
use crate::cached::remote::{DirectoryAnswer, Presence, Revision, ServerEntry, TopicQuery, TopicState};

/// The most topics that are remembered; above it, those that nobody has asked for the longest time are forgotten.
pub(crate) const MAX_TOPICS: usize = 4_096;
/// A topic that nobody has asked for so long is forgotten, unless the directory cannot be read.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// For how long it is believed that nobody offers a topic.
pub(crate) const NOBODY_FOR: Duration = Duration::from_secs(1);

/// Topics as they were read last.
///
/// After an **outage** the directory is in *doubt* for one lease: brokers could not renew, so leases may have ended although
/// their servers live. What was known before stays then, unless it was withdrawn; what is new counts; and that nobody offers a
/// topic is not believed. The same when the directory has lost its data, when another process answers for it (a replica that had
/// not got everything, or an old copy from a disk), when it is younger than a lease, and when its clock went ahead of ours.
#[derive(Debug)]
pub(crate) struct TopicCache {
    settings: CacheSettings,
    started: Instant,
    topics: HashMap<TopicKey, Topic>,
    /// What the directory said last of itself.
    last_answer: Option<LastAnswer>,
    /// When the directory answered last.
    fresh_at: Instant,
    failure: Option<Failure>,
    uncertain_until: Option<Instant>,
    /// Topics that nobody offers, says a directory in doubt; and when it said so.
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
    version: Revision,
    /// What is answered.
    shown: Arc<Placement>,
    /// What the directory says; the same, but while it is in doubt.
    fresh: Arc<Placement>,
    servers: KnownServers,
    checked: Instant,
    /// Seconds after `started`.
    asked: AtomicU64,
}

/// All that the directory has said of a topic.
#[derive(Debug, Default)]
struct KnownServers {
    /// Whether each server is there (else it was withdrawn).
    servers: BTreeMap<NodeName, BTreeMap<ServerName, bool>>,
    nodes: HashMap<NodeName, Node>,
}

/// Why the directory cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) reason: String,
}

/// What becomes of the first answer about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FirstAnswer {
    Known(Arc<Placement>),
    /// The directory is in doubt: that nobody is there says nothing, for this long.
    Unknown(Duration),
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

    /// What is known of a topic; `None`: ask the directory. That nobody offers it is believed for `nobody_for`.
    pub(crate) fn look(&self, key: &TopicKey, nobody_for: Duration, now: Instant) -> Option<Arc<Placement>> {
        let topic = self.topics.get(key)?;
        let asked = now.saturating_duration_since(self.started).as_secs();
        if topic.asked.load(Ordering::Relaxed) != asked {
            topic.asked.store(asked, Ordering::Relaxed);
        }
        let too_old = if topic.shown.is_empty() {
            self.uncertain_for(now).is_some() || now.saturating_duration_since(topic.checked) > nobody_for
        } else {
            self.failure.is_some() && now.saturating_duration_since(self.fresh_at) > self.settings.max_stale
        };
        (!too_old).then(|| Arc::clone(&topic.shown))
    }

    /// For how much longer the directory is not to be believed when it says that nobody offers this topic, as it did a moment ago.
    pub(crate) fn unconfirmed_for(&self, key: &TopicKey, now: Instant) -> Option<Duration> {
        let told = self.unconfirmed.get(key)?;
        self.uncertain_for(now).filter(|_| now.saturating_duration_since(*told) <= NOBODY_FOR)
    }

    fn uncertain_for(&self, now: Instant) -> Option<Duration> {
        self.uncertain_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// What to ask about all that is remembered.
    pub(crate) fn queries(&self) -> Vec<TopicQuery> {
        let query = |(key, topic): (&TopicKey, &Topic)| TopicQuery { key: key.clone(), known: Some(topic.version) };
        self.topics.iter().map(query).collect()
    }

    /// What to ask about these topics, if they are remembered.
    pub(crate) fn queries_about<'a>(&self, keys: impl IntoIterator<Item = &'a TopicKey>) -> Vec<TopicQuery> {
        let keys: BTreeSet<_> = keys.into_iter().collect();
        let known = |key: &TopicKey| Some(TopicQuery { key: key.clone(), known: Some(self.topics.get(key)?.version) });
        keys.into_iter().filter_map(known).collect()
    }

    /// The answer to a question about a topic that is not known.
    pub(crate) fn first(&mut self, key: &TopicKey, reading: DirectoryAnswer, late: bool, now: Instant) -> FirstAnswer {
        let known = self.topics.contains_key(key);
        let queries = [TopicQuery { key: key.clone(), known: None }];
        self.notice(&queries, &reading, late, now);
        let uncertain = self.uncertain_for(now);
        let there = |entry: &ServerEntry| matches!(entry.presence, Presence::At(_));
        if !known
            && uncertain.is_some()
            && !reading.states.iter().flatten().any(|state| state.entries.iter().any(there))
        {
            return self.not_believed(key, uncertain, now);
        }
        if !known && self.topics.len() >= MAX_TOPICS {
            self.forget_one();
        }
        let _ = self.take(&queries, reading, now);
        match self.topics.get(key) {
            Some(topic) if !topic.shown.is_empty() => FirstAnswer::Known(Arc::clone(&topic.shown)),
            _ if uncertain.is_some() => self.not_believed(key, uncertain, now),
            _ => FirstAnswer::Known(Arc::default()),
        }
    }

    fn not_believed(&mut self, key: &TopicKey, uncertain: Option<Duration>, now: Instant) -> FirstAnswer {
        if self.unconfirmed.len() >= MAX_TOPICS {
            self.unconfirmed.retain(|_, told| now.saturating_duration_since(*told) <= NOBODY_FOR);
        }
        if self.unconfirmed.len() < MAX_TOPICS {
            self.unconfirmed.insert(key.clone(), now);
        }
        FirstAnswer::Unknown(uncertain.unwrap_or_default())
    }

    /// Takes what was read about remembered topics. `late`: it took so long that brokers cannot have renewed meanwhile.
    pub(crate) fn reading(
        &mut self,
        queries: &[TopicQuery],
        mut reading: DirectoryAnswer,
        late: bool,
        now: Instant,
    ) -> Refreshed {
        self.notice(queries, &reading, late, now);
        let in_cache = |(query, state): (&TopicQuery, Option<TopicState>)| {
            self.topics.contains_key(&query.key).then(|| (query.clone(), state))
        };
        let (queries, states): (Vec<_>, Vec<_>) =
            queries.iter().zip(std::mem::take(&mut reading.states)).filter_map(in_cache).unzip();
        self.take(&queries, DirectoryAnswer { states, ..reading }, now)
    }

    /// The directory answered, but was not asked for anything.
    pub(crate) fn reached(&mut self, now: Instant) {
        if self.topics.is_empty() {
            self.failure = None;
            self.fresh_at = now;
        }
    }

    /// The directory could not be read; whether that is new.
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

    /// Ends doubts whose time is over, and forgets what nobody asks for.
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
        let started = self.started;
        let long_ago = |topic: &Topic| {
            let asked = started + Duration::from_secs(topic.asked.load(Ordering::Relaxed));
            now.saturating_duration_since(asked) > FORGET_AFTER
        };
        self.topics.retain(|_, topic| !long_ago(topic));
        refreshed
    }

    /// Looks for signs of an outage or a loss, before anything is believed.
    fn notice(&mut self, queries: &[TopicQuery], reading: &DirectoryAnswer, late: bool, now: Instant) {
        let until = now + self.settings.lease;
        let DirectoryAnswer { epoch, instance, clock, age, .. } = reading;
        match &self.last_answer {
            None if *age < self.settings.lease => {
                // Whether it was there before, and with what, nobody has seen.
                self.uncertain_until = Some(until - *age);
            }
            None => {}
            Some(last) if last.epoch != *epoch => {
                log::warn!("the directory has lost its data; what was known stays in use until brokers have renewed");
                self.uncertain_until = Some(until);
            }
            Some(last) if last.instance != *instance => {
                log::info!("another process answers for the directory; what was known stays in use for one lease");
                self.uncertain_until = Some(until);
            }
            Some(last) => {
                let passed = now.saturating_duration_since(last.at) + self.settings.allowance();
                if clock.saturating_sub(last.clock) > passed {
                    log::warn!("the directory's clock was put forward; what was known stays in use for one lease");
                    self.uncertain_until = Some(until);
                }
            }
        }
        self.last_answer =
            Some(LastAnswer { epoch: epoch.clone(), instance: instance.clone(), clock: *clock, at: now });
        if self.failure.take().is_some() || late {
            self.uncertain_until = Some(until);
        }
        let back = |(query, state): (&TopicQuery, &Option<TopicState>)| {
            let known = self.topics.get(&query.key).map(|topic| topic.version);
            state.as_ref().is_some_and(|state| state.version != Revision::NONE && Some(state.version) < known)
        };
        if queries.iter().zip(&reading.states).any(back) {
            // Such as a replica that had not got everything when it became the primary.
            self.uncertain_until = Some(until);
        }
        self.fresh_at = now;
    }

    fn take(&mut self, queries: &[TopicQuery], reading: DirectoryAnswer, now: Instant) -> Refreshed {
        let uncertain = self.uncertain_for(now).is_some();
        let asked = now.saturating_duration_since(self.started).as_secs();
        let mut refreshed = Refreshed::Unchanged;
        for (query, state) in queries.iter().zip(reading.states) {
            let topic = self.topics.entry(query.key.clone()).or_insert_with(|| Topic {
                version: Revision::NONE,
                shown: Arc::default(),
                fresh: Arc::default(),
                servers: KnownServers::default(),
                checked: now,
                asked: AtomicU64::new(asked),
            });
            topic.checked = now;
            let Some(state) = state else { continue };
            // Changes of another state than the one at hand say nothing; the next look begins anew.
            if state.changes_only && query.known != Some(topic.version) {
                topic.version = Revision::NONE;
                continue;
            }
            topic.version = state.version;
            topic.servers.hear(state);
            let fresh = topic.servers.nodes();
            let shown = if uncertain { topic.servers.merged(&topic.shown, &fresh) } else { fresh.clone() };
            topic.fresh = Arc::new(Placement::new(fresh));
            let shown = Placement::new(shown);
            if shown != *topic.shown {
                // One allocation for both, when they are the same.
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
    fn hear(&mut self, state: TopicState) {
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
                    // The later one is the newer one.
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

    fn is_withdrawn(&self, node: &NodeName, server: &ServerName) -> bool {
        self.servers.get(node).and_then(|servers| servers.get(server)) == Some(&false)
    }

    /// What is fresh, and what was shown before unless it was withdrawn.
    fn merged(&self, shown: &Placement, fresh: &[PlacedNode]) -> Vec<PlacedNode> {
        let mut nodes: BTreeMap<NodeName, PlacedNode> =
            fresh.iter().map(|placed| (placed.node.name.clone(), placed.clone())).collect();
        for old in shown.nodes() {
            let name = &old.node.name;
            for server in old.servers.iter().filter(|server| !self.is_withdrawn(name, server)) {
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
