//! How much code there is for replies.
//!
//! The rule, for both drivers:
//! - An item (a function, a type, the methods of a type) counts, whole, if it exists because a call is answered: it makes the
//!   answer, says where it shall go, carries it, waits for it, reads it or checks it; also if acknowledgements use it, too.
//! - An item that requests pass through as well does not count, whatever of it is for answers: the verbs, the forwarding,
//!   sockets and pools.
//! - What an answer can do in zmqv2 beyond what the legacy driver can (calls that do not block, answers that are kept for a
//!   request that comes again) does not count.
//!
//! No item is forgotten: a test finds every line of both drivers with the word "reply" in a name, and wants it to be in an item
//! of these lists, of those that count or of those that do not. Comments, tests, options and command-line tools are left out.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a piece of code is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// That the answer finds its way back: addresses, carrying, waiting.
    Way,
    /// What the answer looks like.
    Body,
    /// That it is an answer to this call, complete, and within the limits. The legacy driver has none of this.
    Checks,
}

/// An item of a source file that exists because calls are answered.
#[derive(Clone, Copy)]
struct Item {
    purpose: Purpose,
    /// Acknowledgements use it as well, which the legacy driver has not.
    for_acks: bool,
    file: &'static str,
    /// How its first line begins, without indentation.
    begins: &'static str,
}

const fn way(file: &'static str, begins: &'static str) -> Item {
    Item { purpose: Purpose::Way, for_acks: false, file, begins }
}

const fn body(file: &'static str, begins: &'static str) -> Item {
    Item { purpose: Purpose::Body, for_acks: false, file, begins }
}

const fn checks(file: &'static str, begins: &'static str) -> Item {
    Item { purpose: Purpose::Checks, for_acks: false, file, begins }
}

const fn and_acks(item: Item) -> Item {
    Item { for_acks: true, ..item }
}

/// Of the legacy driver: a reply is a message of its own, over sockets of its own.
const LEGACY: &[Item] = &[
    // The caller: a SUB socket for each call, its subscription, the wait for it.
    way("tests/src/legacy/client.rs", "struct Waiter {"),
    way("tests/src/legacy/client.rs", "impl Waiter {"),
    // The request is packed into one that says where its reply shall go.
    way("tests/src/legacy/options.rs", "pub(super) fn reply_topic("),
    way("tests/src/legacy/frames.rs", "const REPLY: &str"),
    way("tests/src/legacy/frames.rs", "const PROCESS_REPLY: &str"),
    way("tests/src/legacy/frames.rs", "struct Inner<A> {"),
    way("tests/src/legacy/frames.rs", "struct Curried<'a> {"),
    way("tests/src/legacy/frames.rs", "pub fn call("),
    way("tests/src/legacy/frames.rs", "fn call_of("),
    // The server: a client of the caller's daemon.
    way("tests/src/legacy/client.rs", "pub(super) fn reply("),
    // The daemon: a PUB socket beside those for requests.
    way("tests/src/legacy/daemon.rs", "fn is_for_replies("),
    body("tests/src/legacy/frames.rs", "struct Response<'a, R> {"),
    body("tests/src/legacy/frames.rs", "struct Exception {"),
    body("tests/src/legacy/frames.rs", "pub fn reply("),
    body("tests/src/legacy/frames.rs", "pub fn read_reply("),
];

/// Of zmqv2: the reply takes the way of the request back.
const ZMQV2: &[Item] = &[
    // The server gives the reply to the socket that the request came from.
    way("crates/zmqv2-server/src/lane.rs", "pub(crate) fn reply("),
    and_acks(way("crates/zmqv2-server/src/lane.rs", "pub(crate) fn answer_to(")),
    // The broker finds the request that it belongs to, and puts the sender's tag and path back.
    and_acks(way("crates/zmqv2-broker/src/message/worker_message.rs", "pub(crate) enum WorkerMessage {")),
    and_acks(way("crates/zmqv2-broker/src/driver/inbox.rs", "fn receive_from_worker(")),
    and_acks(way("crates/zmqv2-broker/src/driver/inbox.rs", "fn receive_answer(")),
    and_acks(way("crates/zmqv2-broker/src/engine/topics.rs", "pub(super) fn reply(")),
    and_acks(way("crates/zmqv2-broker/src/message/origin.rs", "pub(crate) fn answer(")),
    // The caller's REQ socket gives it the reply. This also notices that the broker is gone, and watches long calls.
    way("crates/zmqv2-client/src/exchange.rs", "pub(crate) enum Outcome {"),
    way("crates/zmqv2-client/src/exchange.rs", "fn wait_answer("),
    body("crates/zmqv2-server/src/endpoint.rs", "pub type HandlerResult ="),
    body("crates/zmqv2-server/src/endpoint.rs", "pub fn reply("),
    body("crates/zmqv2-proto/src/reply.rs", "pub enum Reply {"),
    body("crates/zmqv2-proto/src/reply.rs", "struct Message<"),
    body("crates/zmqv2-proto/src/reply.rs", "impl Reply {"),
    checks("crates/zmqv2-server/src/rpc.rs", "fn write("),
    and_acks(checks("crates/zmqv2-broker/src/message/framing.rs", "pub(crate) fn split_answer(")),
    and_acks(checks("crates/zmqv2-broker/src/message/worker_message.rs", "pub(crate) fn read(")),
    and_acks(checks("crates/zmqv2-broker/src/driver/actions.rs", "pub(super) fn drop_worker(")),
    checks("crates/zmqv2-client/src/exchange.rs", "fn read("),
];

/// An item and its lines of code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// What it is for.
    pub purpose: Purpose,
    /// Whether acknowledgements use it as well.
    pub for_acks: bool,
    /// File and beginning.
    pub item: String,
    /// How many lines it has that are neither empty nor comments.
    pub lines: usize,
}

/// The code for replies of both drivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Of the legacy driver.
    pub legacy: Vec<Lines>,
    /// Of zmqv2.
    pub zmqv2: Vec<Lines>,
}

/// The lines of those items for which this holds.
#[must_use]
pub(super) fn total(lines: &[Lines], which: impl Fn(&Lines) -> bool) -> usize {
    lines.iter().filter(|item| which(item)).map(|item| item.lines).sum()
}

/// Counts the code for replies.
///
/// # Errors
/// Names an item that is not there any more.
pub fn count() -> Result<Counted> {
    Ok(Counted { legacy: lines_of(LEGACY)?, zmqv2: lines_of(ZMQV2)? })
}

fn lines_of(items: &[Item]) -> Result<Vec<Lines>> {
    let count = |&Item { purpose, for_acks, file, begins }: &Item| {
        let name = begins.trim_end_matches(['(', ' ', '{', '=']);
        let text = source(file)?;
        let found = found(file, begins, &text)?;
        let lines = found.filter(|(_, line)| is_code(line)).count();
        Ok(Lines { purpose, for_acks, item: format!("{file}: {name}"), lines })
    };
    items.iter().map(count).collect()
}

fn source(file: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
    std::fs::read_to_string(root.join(file)).with_context(|| file.to_owned())
}

fn is_code(line: &str) -> bool {
    let code = line.trim();
    !code.is_empty() && !code.starts_with("//")
}

/// The lines of an item, with their numbers from 0.
fn found<'a>(file: &str, begins: &str, text: &'a str) -> Result<impl Iterator<Item = (usize, &'a str)> + use<'a>> {
    let mut from = text.lines().enumerate().skip_while(|(_, line)| !line.trim_start().starts_with(begins));
    let (number, first) = from.next().with_context(|| format!("{file} has no {begins:?}"))?;
    // It ends on its line, or with the first closing brace at its own depth, or where a list of a constant does.
    let depth = &first[..first.len() - first.trim_start().len()];
    let ends = |line: &str| line.strip_prefix(depth).is_some_and(|rest| rest.starts_with('}') || rest == "];");
    let length = if first.ends_with(';') { 0 } else { 1 + from.take_while(|(_, line)| !ends(line)).count() };
    anyhow::ensure!(text.lines().count() > number + length, "{file}: {begins:?} has no end");
    Ok(text.lines().enumerate().skip(number).take(length + 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    /// Items with a "reply" in them that do not count: file, beginning, reason.
    const UNCOUNTED: &[(&str, &str, &str)] = &[
        ("tests/src/legacy/client.rs", "fn call_at(", "the verb: it sends the request as well"),
        ("tests/src/legacy/daemon.rs", "fn forward(", "forwards requests as well"),
        ("tests/src/legacy/frames.rs", "fn received(", "reads requests as well"),
        ("tests/src/legacy/server.rs", "fn run(", "runs requests as well"),
        ("crates/zmqv2-client/src/engine.rs", "fn attempt<", "the verb: it sends the request as well"),
        ("crates/zmqv2-client/src/courier.rs", "fn close(", "another word: a channel"),
        ("crates/zmqv2-client/src/driver.rs", "fn take_orders(", "another word: a channel"),
        ("crates/zmqv2-client/src/driver.rs", "fn finish_closing(", "another word: a channel"),
        ("crates/zmqv2-client/src/gathering.rs", "pub(crate) fn note(", "acknowledgements of fanouts"),
        ("crates/zmqv2-client/src/handle.rs", "fn read<", "calls that do not block"),
        ("crates/zmqv2-client/src/monitor.rs", "const REPLY_GRACE:", "asks after long calls"),
        ("crates/zmqv2-client/src/monitor.rs", "pub(crate) fn look(", "asks after long calls"),
        ("crates/zmqv2-client/src/parcel.rs", "pub(crate) enum What {", "calls that do not block, and casts"),
        ("crates/zmqv2-client/src/parcel.rs", "pub(crate) fn read(", "calls that do not block, and casts"),
        ("crates/zmqv2-client/src/parcel.rs", "pub(crate) fn finish(", "calls that do not block, and casts"),
        ("crates/zmqv2-client/src/driver/inbox.rs", "fn read(", "calls that do not block, and casts"),
        ("crates/zmqv2-server/src/dispatcher.rs", "pub(crate) fn dispatch(", "runs requests as well"),
        ("crates/zmqv2-server/src/dispatcher.rs", "fn run(", "runs requests as well"),
        ("crates/zmqv2-server/src/endpoint.rs", "pub fn method<", "runs requests as well"),
        ("crates/zmqv2-server/src/lane.rs", "fn refuse<", "refuses requests, which the legacy driver does not"),
        ("crates/zmqv2-server/src/rpc.rs", "fn run_call(", "runs requests as well"),
        ("crates/zmqv2-server/src/rpc.rs", "fn repeat(", "answers that are kept for a request that comes again"),
        ("crates/zmqv2-broker/src/driver/actions.rs", "fn perform(", "sends requests as well"),
        ("crates/zmqv2-broker/src/driver/inbox.rs", "fn receive_message(", "takes requests"),
        ("crates/zmqv2-broker/src/driver/inbox.rs", "fn control(", "another word: what the broker itself says"),
        (
            "crates/zmqv2-broker/src/driver/actions.rs",
            "pub(super) fn reply(",
            "another word: what the broker itself says",
        ),
        (
            "crates/zmqv2-broker/src/message/origin.rs",
            "pub(crate) fn reply(",
            "another word: what the broker itself says",
        ),
        ("crates/zmqv2-broker/src/engine/events.rs", "pub enum Input<", "requests as well"),
        ("crates/zmqv2-broker/src/engine/mod.rs", "pub fn handle(", "requests as well"),
        ("crates/zmqv2-proto/src/header.rs", "pub enum Kind {", "kinds of requests as well"),
        ("crates/zmqv2-proto/src/header.rs", "const ALL: [Self;", "kinds of requests as well"),
    ];

    /// The sources of both drivers, without options, tools and tests.
    fn sources() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let crates = ["client", "server", "broker", "proto"].map(|name| root.join(format!("crates/zmqv2-{name}/src")));
        let (mut dirs, mut files) = (vec![root.join("tests/src/legacy")], Vec::new());
        dirs.extend(crates);
        while let Some(dir) = dirs.pop() {
            for path in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    if !["bin", "config", "tests"].contains(&name.as_str()) {
                        dirs.push(path);
                    }
                } else if name.ends_with(".rs") && !name.contains("test") {
                    files.push(path.strip_prefix(root).unwrap().to_owned());
                }
            }
        }
        files
    }

    /// Numbers of the lines with the word in a name: no comments, no texts, no lists of imports, no tests.
    fn with_the_word(text: &str) -> Vec<usize> {
        let (mut numbers, mut importing) = (Vec::new(), false);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if *line == "#[cfg(test)]" && lines.get(number + 1).is_some_and(|next| next.ends_with("mod tests {")) {
                break;
            }
            let code = line.trim();
            importing |= ["use ", "pub use ", "mod ", "pub mod "].iter().any(|start| code.starts_with(start));
            // Every other part is between quotes.
            let names: String = code.split('"').step_by(2).collect::<String>().to_lowercase();
            if is_code(line) && !importing && ["reply", "replies"].iter().any(|word| names.contains(word)) {
                numbers.push(number);
            }
            importing &= !code.ends_with(';');
        }
        numbers
    }

    #[test]
    fn every_item_is_there_once_and_has_lines() {
        let counted = count().unwrap();
        for item in counted.legacy.iter().chain(&counted.zmqv2) {
            assert!((1..100).contains(&item.lines), "{item:?}");
        }
        let all: Vec<_> = LEGACY.iter().chain(ZMQV2).map(|item| (item.file, item.begins)).collect();
        let all: Vec<_> = all.into_iter().chain(UNCOUNTED.iter().map(|(file, begins, _)| (*file, *begins))).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "an item is listed twice");
        for (file, begins) in all {
            let text = source(file).unwrap();
            assert!(found(file, begins, &text).is_ok(), "{file} has no {begins}");
        }
    }

    #[test]
    fn no_code_for_replies_is_forgotten() {
        let listed: Vec<_> = LEGACY.iter().chain(ZMQV2).map(|item| (item.file, item.begins)).collect();
        let listed = listed.into_iter().chain(UNCOUNTED.iter().map(|(file, begins, _)| (*file, *begins)));
        let listed: Vec<_> = listed.collect();
        let (mut seen, mut missing) = (0, Vec::new());
        for path in sources() {
            let file = path.to_str().unwrap();
            let text = source(file).unwrap();
            let mut covered = BTreeSet::new();
            for (_, begins) in listed.iter().filter(|(listed, _)| *listed == file) {
                covered.extend(found(file, begins, &text).unwrap().map(|(number, _)| number));
            }
            for number in with_the_word(&text) {
                let line = text.lines().nth(number).unwrap();
                if !covered.contains(&number) {
                    missing.push(format!("{file}:{}: {line}", number + 1));
                }
                seen += 1;
            }
        }
        assert!(missing.is_empty(), "counted or not?\n{}", missing.join("\n"));
        assert!(seen > 50, "the sources are not where they were: {seen}");
    }

    #[test]
    fn an_item_ends_at_its_own_depth() {
        let text = "x();\nimpl A {\n    fn f() {\n        y\n    }\n\n    // no\n}\ntype B = C;\nfn g() {";
        let numbers =
            |begins| found("f", begins, text).map(|lines| lines.map(|(number, _)| number).collect::<Vec<_>>());
        assert_eq!(numbers("impl A {").unwrap(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((numbers("fn f(").unwrap(), numbers("type B").unwrap()), (vec![2, 3, 4], vec![8]));
        assert!(numbers("fn g(").is_err() && numbers("fn h(").is_err());
        assert_eq!(with_the_word("use reply;\n// reply\nlet a = \"reply\";\nReply::new()\nlast_replies\n"), [3, 4]);
    }
}
