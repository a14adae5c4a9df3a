//! `zmqv2 status`.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use zmqv2_broker::cli::{CommonFlags, Exit, Failure, say};
use zmqv2_broker::query_status;
use zmqv2_proto::config::find_ipc_dir;
use zmqv2_proto::control::{DeadLetter, DirectoryStatus, StatusReport, broker_socket};
use zmqv2_proto::transport::{Observation, Transport, TransportOptions};
use zmqv2_proto::{NoConnection, ReceiverKind};

/// A running broker answers within this time.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct StatusFlags {
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(common: &CommonFlags, flags: &StatusFlags) -> Result<(), Failure> {
    let setup = common.setup(log::LevelFilter::Warn)?;
    let dir = find_ipc_dir(&setup.config).map_err(Failure::usage)?;
    let transport = Transport::new(TransportOptions::from(&setup.config));
    let address = broker_socket(&dir).map_err(Failure::usage)?;
    match Observation::begin(&address).cause() {
        // Something listens there.
        NoConnection::NoAnswer | NoConnection::Full => {}
        cause => {
            let text = format!("Unreachable: cannot connect to {address}: {}", cause.explain(&address));
            return Err(Failure::new(Exit::Timeout, text));
        }
    }
    let report = query_status(&transport, &dir, TIMEOUT).map_err(|error| Failure::new(Exit::Timeout, error))?;
    Ok(if flags.json { say(serde_json::to_string_pretty(&report)?) } else { say(render(&report).trim_end()) }?)
}

fn render(report: &StatusReport) -> String {
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    let StatusReport { node, version, pid, uptime_s, .. } = report;
    line(format_args!("broker of node {node}, version {version}, process {pid}, up {uptime_s:.1} s"));
    for address in &report.listening {
        line(format_args!("  listens at {address}"));
    }
    if report.draining {
        line(format_args!("  stopping"));
    }
    let StatusReport { in_flight, queued, held_bytes, .. } = report;
    line(format_args!("  {in_flight} requests in flight, {queued} waiting ({held_bytes} bytes)"));
    // Empty if the broker has an earlier version, which does not report this.
    if !report.store.is_empty() {
        line(format_args!("  {} notifications kept in {}", report.notifications, report.store));
    }
    if let Some(directory) = &report.directory {
        line(format_args!("  {}", directory_line(directory)));
    }
    if report.topics.is_empty() {
        line(format_args!("no server is registered"));
    }
    for topic in &report.topics {
        let listeners = if topic.receivers == ReceiverKind::Listener { " (listeners)" } else { "" };
        line(format_args!("{}/{}{listeners}: {} waiting", topic.exchange, topic.topic, topic.queued));
        for server in &topic.servers {
            let stopping = if server.withdrawing { ", stopping" } else { "" };
            line(format_args!(
                "  {}: {} workers ready, {} busy, {} waiting for it, process {}{stopping}",
                server.server, server.workers_ready, server.workers_busy, server.queued, server.pid
            ));
        }
    }
    if !report.dead_letters.is_empty() {
        line(format_args!("dead letters, the latest last:"));
    }
    for letter in &report.dead_letters {
        let DeadLetter { key, pool, id, deliveries, why, age_s, bytes, body, .. } = letter;
        let pool = pool.as_ref().map_or_else(|| "no pool".to_owned(), |pool| format!("pool {pool}"));
        line(format_args!(
            "  {key}, {pool}, message {id}: {}; delivered {deliveries} times, given up {age_s:.1} s ago",
            plain(why)
        ));
        line(format_args!("    {}", beginning(body, *bytes)));
    }
    let counted: Vec<_> = report.counters.iter().filter(|(_, count)| **count > 0).collect();
    if !counted.is_empty() {
        line(format_args!("since its start:"));
        for (name, count) in counted {
            line(format_args!("  {name} {count}"));
        }
    }
    out
}

fn directory_line(directory: &DirectoryStatus) -> String {
    let DirectoryStatus { kind, registrations, missing, leaving, confirmed_s, problem, .. } = directory;
    let mut text = format!("directory {kind}: {registrations} registrations");
    // Writing into a `String` cannot fail.
    if *missing > 0 {
        let _ = write!(text, ", {missing} not taken yet");
    }
    if *leaving > 0 {
        let _ = write!(text, ", {leaving} not withdrawn yet");
    }
    if let Some(seconds) = confirmed_s {
        let _ = write!(text, ", confirmed {seconds:.1} s ago");
    }
    match problem {
        Some(problem) => text + "; " + &plain(problem),
        None => text,
    }
}

/// The number of characters of a dead letter's body that are printed. `--json` prints all.
const SHOWN_CHARACTERS: usize = 200;

fn beginning(body: &str, bytes: u64) -> String {
    let shown: String = body.chars().take(SHOWN_CHARACTERS).collect();
    let more = if (shown.len() as u64) < bytes { format!("... ({bytes} bytes)") } else { String::new() };
    format!("{}{more}", plain(&shown))
}

/// Escapes control characters: the text came from the network, and goes to a terminal.
fn plain(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::{MessageId, TopicKey};

    use super::*;

    #[test]
    fn the_state_of_the_directory_is_shown() {
        let mut report = StatusReport::default();
        assert!(!render(&report).contains("directory"), "a broker that does not report it");
        let mut directory = DirectoryStatus::new("redis");
        directory.registrations = 3;
        directory.confirmed_s = Some(2.0);
        report.directory = Some(directory.clone());
        assert!(render(&report).contains("  directory redis: 3 registrations, confirmed 2.0 s ago\n"));
        (directory.missing, directory.leaving, directory.problem) = (2, 1, Some("gone\u{1b}[2J".to_owned()));
        report.directory = Some(directory);
        let text = render(&report);
        let expected = "3 registrations, 2 not taken yet, 1 not withdrawn yet, confirmed 2.0 s ago; gone\\u{1b}[2J\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn dead_letters_are_shown_and_cannot_harm_a_terminal() {
        let mut report = StatusReport::default();
        assert!(!render(&report).contains("notifications kept"), "a broker that does not report them");
        report.notifications = 3;
        report.store = "/var/lib/zmqv2/notifications".to_owned();
        let key = TopicKey::parse("openstack/notifications.info").unwrap();
        let mut letter = DeadLetter::new(key, Some("audit".parse().unwrap()), MessageId::random());
        letter.deliveries = 5;
        letter.why = "delivered 5 times, the limit is 5".to_owned();
        letter.age_s = 2.25;
        letter.body = format!("{{\"a\": \"\u{1b}[2J\"}}{}", "\u{e9}".repeat(300));
        letter.bytes = letter.body.len() as u64;
        report.dead_letters = vec![letter];
        let text = render(&report);
        for part in [
            "3 notifications kept in /var/lib/zmqv2/notifications\n",
            "dead letters, the latest last:\n",
            "openstack/notifications.info, pool audit, message ",
            "delivered 5 times, given up 2.2 s ago",
            "\\u{1b}[2J",
            &format!("... ({} bytes)\n", report.dead_letters[0].bytes),
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && text.len() < 1_000, "{text}");
    }
}
