//! Names and texts of the data in Redis. `docs/matchmaker.md` lists them.

use std::net::IpAddr;
use std::time::Duration;

use zmqv2_proto::{Node, NodeName, ServerName, TcpAddress, TopicKey, Zone};

use super::explain::refused_writes;
use crate::api::{BrokerProcess, OtherBroker, Registration};
use crate::cached::remote::{Presence, Renewals, Revision, ServerEntry};

/// The key of the name of the data set.
pub(super) const EPOCH: &str = "zmqv2:epoch";
/// The key of a sorted set of all topics, each with the end of its last lease.
pub(super) const TOPICS: &str = "zmqv2:topics";

/// The key of a text: what brokers have shown by checking in. See [`CheckIns`].
pub(super) const RENEWALS: &str = "zmqv2:renewals";
/// The key of a hash from nodes to the brokers that checked in last. See [`broker`].
pub(super) const NODES: &str = "zmqv2:nodes";

/// The key of a sorted set of members, each with the end of its lease.
pub(super) fn leases(key: &TopicKey) -> String {
    format!("zmqv2:{{{key}}}:leases")
}

/// The key of a hash from members to places.
pub(super) fn places(key: &TopicKey) -> String {
    format!("zmqv2:{{{key}}}:places")
}

/// The key of a stream. The id of the last entry is the topic's revision.
pub(super) fn changes(key: &TopicKey) -> String {
    format!("zmqv2:{{{key}}}:changes")
}

/// `node/server`; names contain no `/`.
pub(super) fn member(registration: &Registration) -> String {
    format!("{}/{}", registration.node.name, registration.server)
}

/// `address lease [zone]`, the lease in milliseconds. An empty text means withdrawn.
pub(super) fn place(node: &Node, lease: Duration) -> String {
    let zone = node.zone.as_ref().map(|zone| format!(" {zone}")).unwrap_or_default();
    format!("{} {}{zone}", node.address, millis(lease))
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The place of an ended registration, in an answer.
const ENDED: &str = "-";

/// Reads a member and its place: the entry and its lease. `None`: not an entry of this format.
pub(super) fn entry(member: &str, place: &str) -> Option<(ServerEntry, Duration)> {
    let (node, server) = member.split_once('/')?;
    let (node, server) = (NodeName::new(node).ok()?, ServerName::new(server).ok()?);
    let (presence, lease) = match place {
        "" => (Presence::Withdrawn, Duration::ZERO),
        ENDED => (Presence::Ended, Duration::ZERO),
        place => {
            let mut words = place.split(' ');
            let address: TcpAddress = words.next()?.parse().ok()?;
            let lease = Duration::from_millis(words.next()?.parse().ok()?);
            let zone = words.next().map(Zone::new).transpose().ok()?;
            (Presence::At(Node::new(node.clone(), address).in_zone(zone)), lease)
        }
    };
    Some((ServerEntry { node, server, presence }, lease))
}

/// The start of the data set with this name, by the clock of Redis.
pub(super) fn begun(epoch: &str) -> Option<Duration> {
    let (seconds, micros) = epoch.split_once('.')?;
    Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse::<u32>().ok()?.into()))
}

/// What brokers have shown by checking in: the value of [`RENEWALS`]. The scripts read it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckIns {
    /// When the last broker could write.
    last: Duration,
    /// Since when there was no gap.
    since: Duration,
    /// The process of Redis.
    run: String,
    /// The shortest gap in which leases may end.
    gap: Duration,
    lease: Duration,
}

/// Without a check-in for so long, the list of servers may lack some. Brokers check in every 2 s.
pub(super) const QUIET: Duration = Duration::from_secs(10);

impl CheckIns {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let time = |word: Option<&str>| word?.parse().ok().map(Duration::from_millis);
        let (last, since) = (time(words.next())?, time(words.next())?);
        let run = words.next()?.to_owned();
        Some(Self { last, since, run, gap: time(words.next())?, lease: time(words.next())? })
    }

    /// What the check-ins say at `now` to a connection to the process `run`. `refused`: why Redis
    /// refuses writes, or empty.
    pub(super) fn renewals(&self, now: Duration, run: &str, refused: &str) -> Renewals {
        let silent = now.saturating_sub(self.last);
        if !refused.is_empty() {
            let reason = refused_writes(refused).unwrap_or_else(|| refused.to_owned());
            return Renewals::Stopped { reason: format!("renewals are refused: {reason}").into() };
        }
        let interrupted = |left, reason: &str| Renewals::Interrupted { left, reason: reason.into() };
        if self.run != run {
            return interrupted(self.lease, "another Redis process answers, and no broker has checked in there yet");
        }
        if silent > QUIET.min(self.gap) {
            return Renewals::Stopped { reason: "no broker has renewed its registrations of late".into() };
        }
        let left = (self.since + self.lease).saturating_sub(now);
        if left.is_zero() {
            return Renewals::Work;
        }
        interrupted(left, "Redis has started, lost data, or taken no renewals, less than a lease ago")
    }

    /// Whether a lease that has ended means that its server is gone.
    pub(super) fn leases_count(&self, now: Duration, run: &str) -> bool {
        let (silent, unbroken) = (now.saturating_sub(self.last), now.saturating_sub(self.since));
        self.run == run && silent <= self.gap && unbroken >= self.lease
    }
}

/// What a broker writes about itself: `address process [ip]`. `ip` is its own address towards Redis:
/// two machines of the same name differ at least in that.
pub(super) fn broker(address: &TcpAddress, process: &BrokerProcess, ip: Option<IpAddr>) -> String {
    let ip = ip.map(|ip| format!(" {ip}")).unwrap_or_default();
    format!("{address} {process}{ip}")
}

/// Reads what a broker has [written](broker). `None`: it is this process, or nothing of this format.
pub(super) fn other_broker(text: &str, own: &BrokerProcess) -> Option<OtherBroker> {
    let mut words = text.split(' ');
    let address = words.next()?.parse().ok()?;
    let process: BrokerProcess = words.next()?.parse().ok().filter(|process| process != own)?;
    let ip: Option<IpAddr> = words.next().and_then(|ip| ip.parse().ok());
    let ip = ip.map(|ip| format!(", {ip}")).unwrap_or_default();
    Some(OtherBroker { address, about: process.about() + &ip })
}

/// The id of a stream's entry.
pub(super) fn revision(text: &str) -> Option<Revision> {
    let (millis, number) = text.split_once('-')?;
    Some(Revision(millis.parse().ok()?, number.parse().ok()?))
}

pub(super) fn shown(revision: Revision) -> String {
    format!("{}-{}", revision.0, revision.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_entry_is_read_back() {
        let plain = Node::new("n1".parse().unwrap(), "10.0.0.1:9501".parse().unwrap());
        for node in [plain.clone(), plain.in_zone(Some("rack-7".parse().unwrap()))] {
            let key = TopicKey::parse("nova/compute").unwrap();
            let registration = Registration { key, server: "host@backend".parse().unwrap(), node: node.clone() };
            let (text, lease) = (member(&registration), Duration::from_millis(1_500));
            let (entry, read) = entry(&text, &place(&node, lease)).unwrap();
            assert_eq!((entry.presence, entry.server, read), (Presence::At(node), registration.server, lease));
            assert_eq!(super::entry(&text, "").unwrap().0.presence, Presence::Withdrawn);
            assert_eq!(super::entry(&text, ENDED).unwrap().0.presence, Presence::Ended);
        }
        assert_eq!(revision(&shown(Revision(1_700_000_000_000, 3))), Some(Revision(1_700_000_000_000, 3)));
    }

    #[test]
    fn check_ins_tell_whether_leases_and_lists_can_be_trusted() {
        let seconds = Duration::from_secs;
        let state = CheckIns::parse("100000 40000 p1 15000 60000").unwrap();
        let told = |now: u64, run: &str, refused: &str| match state.renewals(seconds(now), run, refused) {
            Renewals::Work => "work".to_owned(),
            Renewals::Interrupted { left, reason } => format!("{} {}", left.as_secs(), &reason[..13]),
            Renewals::Stopped { reason } => reason[..20].to_owned(),
            Renewals::Unknown => "unknown".to_owned(),
        };
        assert_eq!(told(99, "p1", ""), "1 Redis has sta", "the clock of Redis was set back a little");
        assert_eq!([told(100, "p1", ""), told(110, "p1", "")], ["work", "work"]);
        assert_eq!(told(111, "p1", ""), "no broker has renewe");
        assert_eq!(told(101, "p1", "NOREPLICAS x"), "renewals are refused");
        assert_eq!(told(101, "p2", ""), "60 another Redis");
        let counts = |now, run| state.leases_count(seconds(now), run);
        assert_eq!(
            [counts(99, "p1"), counts(100, "p1"), counts(115, "p1"), counts(116, "p1")],
            [false, true, true, false]
        );
        assert!(!counts(100, "p2"));
        for text in ["", "1 2 p 3", "a 2 p 3 4", "1 2 p 3 -4"] {
            assert_eq!(CheckIns::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_broker_of_the_same_name_and_address_is_another_one() {
        let [one, other] = [BrokerProcess::new("m"), BrokerProcess::new("m")];
        let address: TcpAddress = "n1:9501".parse().unwrap();
        for (ip, words) in [(None, ""), (Some("10.0.0.7".parse().unwrap()), ", 10.0.0.7")] {
            let text = broker(&address, &other, ip);
            let about = format!("machine m, process {}{words}", std::process::id());
            assert_eq!(other_broker(&text, &one), Some(OtherBroker { address: address.clone(), about }));
            assert_eq!(other_broker(&text, &other), None, "it is the same run");
        }
        for text in ["", "n1:9501", "n1:9501 x", "n1:99999 m/1/00000000000000000000000000000001"] {
            assert_eq!(other_broker(text, &one), None, "{text}");
        }
    }

    #[test]
    fn entries_of_other_programs_are_left_out() {
        for (member, place) in [
            ("n1", "a:1 5"),
            ("/s", "a:1 5"),
            ("n1/a b", "a:1 5"),
            ("n/s", "a:99999 5"),
            ("n/s", "a:1"),
            ("n/s", "a:1 x"),
            ("n/s", "a:1 5 a/b"),
            ("n/s", "../x 5"),
        ] {
            assert_eq!(entry(member, place), None, "{member} {place}");
        }
        assert_eq!((revision(""), revision("5"), revision("-1-2")), (None, None, None));
        assert_eq!((begun(""), begun("7"), begun("-7.1"), begun("7.x")), (None, None, None, None));
        assert_eq!(begun("1700000000.25"), Some(Duration::from_micros(1_700_000_000_000_025)));
    }
}
