//! `zmqv2 topics`.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};
use zmqv2_broker::cli::{CommonFlags, Exit, Failure, say};
use zmqv2_matchmaker::{ListedServer, ListedTopic, MatchmakerError};
use zmqv2_proto::{ReceiverKind, TopicKey};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done, 5 the directory cannot be read, or the list may lack servers (stderr begins with \
Directory or Incomplete); 1 failure, 2 wrong usage or configuration."
)]
pub(crate) struct TopicsFlags {
    /// Only topics whose name contains this
    filter: Option<String>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &CommonFlags, flags: &TopicsFlags) -> Result<(), Failure> {
    let directory = common.setup(log::LevelFilter::Warn)?.directory()?;
    let mut topics = directory.list().map_err(|error| match error {
        MatchmakerError::NoList { .. } => Failure::new(Exit::Failed, error),
        error => Failure::new(Exit::Timeout, format!("Directory: {error}")),
    })?;
    let health = directory.health();
    if let Some(filter) = &flags.filter {
        topics.retain(|topic| topic.topic.contains(filter.as_str()));
    }
    let incomplete = health.problem();
    if flags.json {
        say(serde_json::to_string_pretty(&as_json(&topics, incomplete))?)?;
    } else {
        say(render(&topics, incomplete).trim_end())?;
    }
    incomplete.map_or(Ok(()), |reason| Err(Failure::new(Exit::Timeout, format!("Incomplete: {reason}"))))
}

fn by_node(topic: &ListedTopic) -> impl Iterator<Item = &[ListedServer]> {
    topic.servers.chunk_by(|one, other| one.node == other.node)
}

/// `None`: an entry of a ring file is for both kinds of receivers.
fn name_and_kind(topic: &ListedTopic) -> (String, Option<ReceiverKind>) {
    let is_leased = topic.servers.iter().any(|server| server.lease.is_some());
    match topic.topic.parse::<TopicKey>() {
        Ok(key) => (key.name().to_owned(), is_leased.then(|| key.receivers())),
        Err(_) => (topic.topic.clone(), None),
    }
}

/// The list as text. `incomplete`: why it may lack servers.
fn render(topics: &[ListedTopic], incomplete: Option<&str>) -> String {
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    if let Some(reason) = incomplete {
        let _ = writeln!(out, "this list may be incomplete: {reason}");
    }
    if topics.is_empty() {
        let _ = writeln!(out, "no topic is registered");
    }
    for topic in topics {
        let (name, listeners) = name_and_kind(topic);
        let listeners = if listeners == Some(ReceiverKind::Listener) { " (listeners)" } else { "" };
        let _ = writeln!(out, "{name}{listeners}");
        for servers in by_node(topic) {
            let node = &servers[0].node;
            let zone = node.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
            let _ = writeln!(out, "  {node}{zone}");
            for server in servers {
                let _ = match (&server.server, &server.lease) {
                    (None, _) => writeln!(out, "    any server"),
                    (Some(name), None) => writeln!(out, "    {name}"),
                    (Some(name), Some(lease)) => writeln!(
                        out,
                        "    {name}: renewed {:.1} s ago, ends in {:.1} s",
                        lease.age.as_secs_f64(),
                        lease.left.as_secs_f64()
                    ),
                };
            }
        }
    }
    out
}

fn as_json(topics: &[ListedTopic], incomplete: Option<&str>) -> Value {
    let server = |server: &ListedServer| {
        json!({
            "server": server.server,
            "renewed_s": server.lease.map(|lease| lease.age.as_secs_f64()),
            "ends_s": server.lease.map(|lease| lease.left.as_secs_f64()),
        })
    };
    let node = |servers: &[ListedServer]| {
        let node = &servers[0].node;
        json!({
            "node": node.name,
            "address": node.address,
            "zone": node.zone,
            "servers": servers.iter().map(server).collect::<Vec<_>>(),
        })
    };
    let topic = |topic: &ListedTopic| {
        let ((name, receivers), nodes) = (name_and_kind(topic), by_node(topic).map(node).collect::<Vec<_>>());
        json!({"topic": name, "receivers": receivers, "nodes": nodes})
    };
    json!({"may_be_incomplete": incomplete, "topics": topics.iter().map(topic).collect::<Vec<_>>()})
}
