//! The ring file: reading and lookup.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zmqv2_proto::{Node, NodeName, ServerName, TcpAddress, Topic, TopicKey, Zone};

use crate::api::{Completeness, ListedServer, ListedTopic, MatchmakerError, PlacedNode, Placement};

/// The largest ring file, in bytes. 10,000 nodes in 100 topics need about half of it.
pub(crate) const MAX_RING_BYTES: u64 = 64 << 20;

/// The content of a ring file.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// By `exchange/topic`, or by `topic` for every exchange.
    placements: HashMap<String, Arc<Placement>>,
    nobody: Arc<Placement>,
}

impl Ring {
    /// Reads the ring in `path`.
    pub(crate) fn read(path: &Path, default_port: u16) -> Result<Self, MatchmakerError> {
        let unreadable = |source| MatchmakerError::UnreadableRing { file: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            // Opening a named pipe would wait for a writer.
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let too_large = |bytes| MatchmakerError::RingTooLarge { file: path.to_owned(), bytes };
        if metadata.len() > MAX_RING_BYTES {
            return Err(too_large(metadata.len()));
        }
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_RING_BYTES + 1).read_to_end(&mut text));
        read.map_err(unreadable)?;
        if text.len() as u64 > MAX_RING_BYTES {
            return Err(too_large(text.len() as u64));
        }
        Self::parse(&text, default_port).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let shown = error.to_string();
            let problem = shown.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&shown).to_owned();
            MatchmakerError::BadRing { file: path.to_owned(), line, column, problem }
        })
    }

    fn parse(text: &[u8], default_port: u16) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let ring = RingSeed(default_port).deserialize(&mut json)?;
        json.end()?;
        Ok(ring)
    }

    /// The placement of `key`, for servers and listeners alike: that of `exchange/topic`, else that of `topic`, else an empty one.
    pub(crate) fn placement(&self, key: &TopicKey) -> &Arc<Placement> {
        let exact = self.placements.get(key.name());
        exact.or_else(|| self.placements.get(key.topic())).unwrap_or(&self.nobody)
    }

    /// The same ring, with this mark at every topic. Copies no node.
    pub(crate) fn marked(&self, mark: &Completeness) -> Self {
        let marked = |placement: &Arc<Placement>| Arc::new(placement.marked(mark.clone()));
        let placements = self.placements.iter().map(|(topic, nodes)| (topic.clone(), marked(nodes))).collect();
        Self { placements, nobody: marked(&self.nobody) }
    }

    /// All topics by name, with the servers that the file lists.
    pub(crate) fn list(&self) -> Vec<ListedTopic> {
        let mut topics: Vec<_> = self
            .placements
            .iter()
            .map(|(topic, placement)| {
                let servers = placement.nodes().iter().flat_map(|placed| {
                    let unlisted = placed.servers.is_empty().then_some(None);
                    let names = unlisted.into_iter().chain(placed.servers.iter().cloned().map(Some));
                    names.map(|name| ListedServer::new(placed.node.clone(), name))
                });
                ListedTopic::new(topic, servers.collect())
            })
            .collect();
        topics.sort_by(|one, other| one.topic.cmp(&other.topic));
        topics
    }

    /// Shares unchanged placements with `old`. Returns whether anything changed.
    pub(crate) fn share_unchanged(&mut self, old: &Self) -> bool {
        // Marked in one of them.
        let mut changed = self.nobody != old.nobody;
        if !changed {
            self.nobody = Arc::clone(&old.nobody);
        }
        changed |= self.placements.len() != old.placements.len();
        for (topic, placement) in &mut self.placements {
            match old.placements.get(topic) {
                Some(same) if same == placement => *placement = Arc::clone(same),
                _ => changed = true,
            }
        }
        changed
    }
}

/// Distinguishes two versions of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp([i64; 4], [u64; 3]);

impl Stamp {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let stamp =
            |m: Metadata| Self([m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()], [m.dev(), m.ino(), m.len()]);
        fs::metadata(path).ok().map(stamp)
    }
}

// Seeds instead of derived types: they carry the default port, refuse a repeated key, and their
// errors get line and column.

type DefaultPort = u16;

struct RingSeed(DefaultPort);

impl<'de> DeserializeSeed<'de> for RingSeed {
    type Value = Ring;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Ring, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RingSeed {
    type Value = Ring;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object of topics, such as {"topic": ["host1", "host2:9502"]}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ring, A::Error> {
        let mut ring = Ring::default();
        while let Some(topic) = map.next_key::<String>()? {
            let whole = topic.contains('/');
            let valid = if whole { TopicKey::parse(&topic).map(drop) } else { Topic::new(&topic).map(drop) };
            valid.map_err(A::Error::custom)?;
            let placement = map.next_value_seed(NodesSeed(self.0))?;
            if ring.placements.insert(topic.clone(), placement).is_some() {
                return Err(A::Error::custom(format!("{topic:?} stands here a second time; join the two lists")));
            }
        }
        Ok(ring)
    }
}

struct NodesSeed(DefaultPort);

impl<'de> DeserializeSeed<'de> for NodesSeed {
    type Value = Arc<Placement>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Arc<Placement>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for NodesSeed {
    type Value = Arc<Placement>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a list of nodes, such as ["host1", "host2:9502"]"#)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Arc<Placement>, A::Error> {
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        let mut nodes = Vec::new();
        while let Some(placed) = list.next_element_seed(NodeSeed(self.0))? {
            let Node { name, address, .. } = &placed.node;
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!(
                    "node {name} stands twice in this list; to run two brokers on a host, name them: \
                     {{\"node\": \"name\", \"address\": \"{address}\"}}"
                )));
            }
            if !addresses.insert(address.clone()) {
                return Err(A::Error::custom(format!("address {address} stands twice in this list")));
            }
            nodes.push(placed);
        }
        Ok(Arc::new(Placement::new(nodes)))
    }
}

struct NodeSeed(DefaultPort);

impl NodeSeed {
    fn place<E: Error>(
        &self,
        name: Option<NodeName>,
        address: &str,
        servers: Vec<ServerName>,
        zone: Option<Zone>,
    ) -> Result<PlacedNode, E> {
        let address = TcpAddress::parse(address, self.0).map_err(E::custom)?;
        if address.host() == "*" || address.port() == 0 {
            return Err(E::custom(format!("{address} is no address to connect to; write a host and a port above 0")));
        }
        let name = name.map_or_else(|| NodeName::new(address.host()), Ok).map_err(E::custom)?;
        let mut seen = HashSet::new();
        if let Some(twice) = servers.iter().find(|server| !seen.insert(*server)) {
            return Err(E::custom(format!("server {twice} stands twice at node {name}")));
        }
        Ok(PlacedNode { node: Node::new(name, address).in_zone(zone), servers })
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed {
    type Value = PlacedNode;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<PlacedNode, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed {
    type Value = PlacedNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a node, such as "host:9501" or {"node": "n1", "address": "host:9501", "servers": ["s1"]}"#)
    }

    fn visit_str<E: Error>(self, address: &str) -> Result<PlacedNode, E> {
        self.place(None, address, Vec::new(), None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PlacedNode, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            node: Option<NodeName>,
            address: String,
            #[serde(default)]
            servers: Vec<ServerName>,
            zone: Option<Zone>,
        }
        let Fields { node, address, servers, zone } = Fields::deserialize(MapAccessDeserializer::new(map))?;
        self.place(node, &address, servers, zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ring: &Ring, key: &str) -> Vec<String> {
        let placement = ring.placement(&TopicKey::parse(key).unwrap());
        placement.nodes().iter().map(|p| format!("{}={} {:?}", p.node.name, p.node.address, p.servers)).collect()
    }

    #[test]
    fn the_legacy_form_and_the_long_form_are_read() {
        let text = br#"{"t": ["h1", "h2:9502", "[::1]:7", "10.0.0.1", "::2"],
            "nova/t": [{"node": "n1", "address": "127.0.0.2:9", "servers": ["s@b"]}, {"address": "h3", "zone": "z"}], "none": []}"#;
        let ring = Ring::parse(text, 9501).unwrap();
        let plain =
            ["h1=h1:9501 []", "h2=h2:9502 []", "::1=[::1]:7 []", "10.0.0.1=10.0.0.1:9501 []", "::2=[::2]:9501 []"];
        assert_eq!(shown(&ring, "openstack/t"), plain);
        assert_eq!(shown(&ring, "nova/t"), ["n1=127.0.0.2:9 [\"s@b\"]", "h3=h3:9501 []"]);
        let listed = ring.list();
        let topics: Vec<_> = listed.iter().map(|topic| (topic.topic.as_str(), topic.servers.len())).collect();
        assert_eq!(topics, [("none", 0), ("nova/t", 2), ("t", 5)]);
        assert_eq!(listed[1].servers[0].server, Some("s@b".parse().unwrap()));
        assert_eq!(listed[1].servers[1].server, None);
        let zones = ring.placement(&TopicKey::parse("nova/t").unwrap()).nodes().iter().map(|p| p.node.zone.clone());
        assert_eq!(zones.collect::<Vec<_>>(), [None, Some("z".parse().unwrap())]);
        assert!(shown(&ring, "nova/none").is_empty() && shown(&ring, "nova/unknown").is_empty());
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, line, problem) in [
            ("", 1, "EOF while parsing"),
            ("[]", 1, "expected an object of topics"),
            ("{\"t\": \"h\"}", 1, "expected a list of nodes"),
            ("{\"t\":\n[1]}", 2, "expected a node, such as"),
            ("{\"t\": [\"h\"]}\nx", 2, "trailing characters"),
            ("{\"a b\": []}", 1, "invalid topic \"a b\""),
            ("{\"e/t/x\": []}", 1, "'/' is not allowed"),
            ("{\"t\": [],\n \"t\": []}", 2, "\"t\" stands here a second time"),
            ("{\"e/t\": [], \"e/t\": []}", 1, "\"e/t\" stands here a second time"),
            ("{\"t\": [\n\"h:99999\"]}", 2, "invalid address \"h:99999\""),
            ("{\"t\": [\"*\"]}", 1, "*:9501 is no address to connect to"),
            ("{\"t\": [\"h:0\"]}", 1, "h:0 is no address to connect to"),
            ("{\"t\": [\"h\",\n\"h:1\"]}", 2, "node h stands twice in this list"),
            ("{\"t\": [\"h\", {\"node\": \"n\", \"address\": \"h\"}]}", 1, "address h:9501 stands twice"),
            ("{\"t\": [{\"node\": \"a/b\", \"address\": \"h\"}]}", 1, "invalid node \"a/b\""),
            ("{\"t\": [{\"node\": \"n\"}]}", 1, "missing field `address`"),
            ("{\"t\": [{\"adress\": \"h\"}]}", 1, "unknown field `adress`"),
            ("{\"t\": [{\"address\": \"h\", \"servers\": [\"s\", \"s\"]}]}", 1, "server s stands twice at node h"),
            ("{\"t\": [\"\u{1}\"]}", 1, "control character"),
        ] {
            let error = Ring::parse(text.as_bytes(), 9501).unwrap_err();
            assert!(error.to_string().contains(problem), "{text}: {error}");
            assert_eq!(error.line(), line, "{text}: {error}");
        }
        assert!(Ring::parse(b"{\"\xff\": []}", 1).is_err());
        assert!(Ring::parse("[".repeat(1 << 20).as_bytes(), 1).is_err());
    }
}
