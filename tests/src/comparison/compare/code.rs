//! Counts the code for replies in both drivers.
//!
//! The rule, for both drivers:
//! - An item (a function, a type, the methods of a type) counts as a whole if it exists because a
//!   call is answered: it makes the answer, stores its destination, carries it, waits for it, reads
//!   it or checks it. It counts even if acknowledgements use it as well.
//! - An item that also handles requests does not count, even if a part of it is for answers: the
//!   public verbs, forwarding, sockets and pools.
//! - An item for something that only zmqv2 can do with answers does not count: calls that do not
//!   block, and answers kept for a request that comes again.
//!
//! A test keeps the lists complete. It finds every line of both drivers with the word "reply" in a
//! name. The line must belong to an item of one of the lists: those that count, or those that do
//! not. Comments, tests, options and command-line tools are left out.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The answer finds its way back: addresses, carrying, waiting.
    Way,
    Body,
    /// Checks: the answer belongs to this call, is complete and within the limits. The legacy
    /// driver has none.
    Checks,
}

/// An item of a source file that exists because calls are answered.
#[derive(Clone, Copy)]
struct Item {
    purpose: Purpose,
    /// Whether acknowledgements use it as well. The legacy driver has no acknowledgements.
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

/// Items of the legacy driver. A reply is a message of its own, over its own sockets.
const LEGACY: &[Item] = &[
    // The caller: a SUB socket for each call, its subscription, the wait for it.
    way("tests/src/comparison/legacy/client.rs", "struct Waiter {"),
    way("tests/src/comparison/legacy/client.rs", "impl Waiter {"),
    // The request is packed into one that names the place for its reply.
    way("tests/src/comparison/legacy/options.rs", "pub(super) fn reply_topic("),
    way("tests/src/comparison/legacy/frames.rs", "const REPLY: &str"),
    way("tests/src/comparison/legacy/frames.rs", "const PROCESS_REPLY: &str"),
    way("tests/src/comparison/legacy/frames.rs", "struct Inner<A> {"),
    way("tests/src/comparison/legacy/frames.rs", "struct Curried<'a> {"),
    way("tests/src/comparison/legacy/frames.rs", "pub fn call("),
    way("tests/src/comparison/legacy/frames.rs", "fn call_of("),
    // The server: a client of the caller's daemon.
    way("tests/src/comparison/legacy/client.rs", "pub(super) fn reply("),
    // The daemon: a PUB socket beside those for requests.
    way("tests/src/comparison/legacy/daemon.rs", "fn is_for_replies("),
    body("tests/src/comparison/legacy/frames.rs", "struct Response<'a, R> {"),
    body("tests/src/comparison/legacy/frames.rs", "struct Exception {"),
    body("tests/src/comparison/legacy/frames.rs", "pub fn reply("),
    body("tests/src/comparison/legacy/frames.rs", "pub fn read_reply("),
];

/// Items of zmqv2. The reply goes back along the path of its request.
const ZMQV2: &[Item] = &[
    // The server gives the reply to the socket that the request came from.
    way("crates/zmqv2-server/src/runtime/worker.rs", "pub(crate) fn reply("),
    and_acks(way("crates/zmqv2-server/src/runtime/worker.rs", "pub(crate) fn answer_to(")),
    // The broker finds the request that it belongs to, and puts the sender's tag and path back.
    and_acks(way("crates/zmqv2-broker/src/message/worker_message.rs", "pub(crate) enum WorkerMessage {")),
    and_acks(way("crates/zmqv2-broker/src/driver/inbox.rs", "fn receive_from_worker(")),
    and_acks(way("crates/zmqv2-broker/src/driver/inbox.rs", "fn receive_bundle_from_worker(")),
    and_acks(way("crates/zmqv2-broker/src/driver/inbox.rs", "fn receive_answer(")),
    and_acks(way("crates/zmqv2-broker/src/engine/topics.rs", "pub(super) fn reply(")),
    and_acks(way("crates/zmqv2-broker/src/message/origin.rs", "pub(crate) fn answer(")),
    // The caller's REQ socket receives the reply. This code also notices that the broker is gone,
    // and monitors long calls.
    way("crates/zmqv2-client/src/direct/round_trip.rs", "pub(super) fn wait_answer("),
    and_acks(way("crates/zmqv2-client/src/io/answer.rs", "pub(crate) enum ParsedAnswer {")),
    body("crates/zmqv2-client/src/outcome/mod.rs", "pub(crate) fn into_answered<"),
    body("crates/zmqv2-server/src/rpc/endpoint.rs", "pub type HandlerResult ="),
    body("crates/zmqv2-server/src/rpc/endpoint.rs", "pub fn reply("),
    body("crates/zmqv2-proto/src/message/reply.rs", "pub enum Reply {"),
    body("crates/zmqv2-proto/src/message/reply.rs", "fn failure_text<"),
    body("crates/zmqv2-proto/src/message/reply.rs", "struct Message<"),
    body("crates/zmqv2-proto/src/message/reply.rs", "impl Reply {"),
    checks("crates/zmqv2-server/src/rpc/worker.rs", "fn write("),
    checks("crates/zmqv2-server/src/runtime/worker.rs", "pub(crate) fn check_reply("),
    and_acks(checks("crates/zmqv2-broker/src/message/framing.rs", "pub(crate) fn split_answer(")),
    and_acks(checks("crates/zmqv2-broker/src/message/worker_message.rs", "pub(crate) fn read(")),
    and_acks(checks("crates/zmqv2-broker/src/driver/actions.rs", "pub(super) fn drop_worker(")),
    and_acks(checks("crates/zmqv2-client/src/io/answer.rs", "pub(crate) fn read(")),
    checks("crates/zmqv2-client/src/direct/round_trip.rs", "fn read("),
];

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lines {
    pub purpose: Purpose,
    pub for_acks: bool,
    /// File and first words.
    pub item: String,
    /// Its lines that are neither empty nor comments.
    pub lines: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub legacy: Vec<Lines>,
    pub zmqv2: Vec<Lines>,
}

/// The number of lines of the items that `which` selects.
pub(super) fn total(lines: &[Lines], which: impl Fn(&Lines) -> bool) -> usize {
    lines.iter().filter(|item| which(item)).map(|item| item.lines).sum()
}

/// Counts the code for replies. Fails if a listed item no longer exists.
pub fn count() -> Result<Counted> {
    Ok(Counted { legacy: lines_of(LEGACY)?, zmqv2: lines_of(ZMQV2)? })
}

fn lines_of(items: &[Item]) -> Result<Vec<Lines>> {
    let count = |&Item { purpose, for_acks, file, begins }: &Item| {
        let name = begins.trim_end_matches(['(', ' ', '{', '=']);
        let text = source(file)?;
        let lines = lines_of_item(file, begins, &text)?;
        let lines = lines.filter(|(_, line)| is_code(line)).count();
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

/// The lines of an item, with their numbers from 0. `begins`: how its first line begins.
fn lines_of_item<'a>(
    file: &str,
    begins: &str,
    text: &'a str,
) -> Result<impl Iterator<Item = (usize, &'a str)> + use<'a>> {
    let mut from = text.lines().enumerate().skip_while(|(_, line)| !line.trim_start().starts_with(begins));
    let (number, first) = from.next().with_context(|| format!("{file} has no {begins:?}"))?;
    // An item ends on its first line, or with the first closing brace or bracket at its own depth.
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

    /// Items with "reply" in a name that do not count: file, first words, reason.
    const UNCOUNTED: &[(&str, &str, &str)] = &[
        ("tests/src/comparison/legacy/client.rs", "fn call_at(", "the verb: it sends the request as well"),
        ("tests/src/comparison/legacy/daemon.rs", "fn forward(", "forwards requests as well"),
        ("tests/src/comparison/legacy/frames.rs", "fn received(", "reads requests as well"),
        ("tests/src/comparison/legacy/server.rs", "fn run(", "runs requests as well"),
        ("crates/zmqv2-client/src/io/queue.rs", "pub(super) fn close(", "another word: a channel"),
        ("crates/zmqv2-client/src/io/driver/mod.rs", "fn take_commands(", "another word: a channel"),
        ("crates/zmqv2-client/src/io/driver/mod.rs", "fn finish_closing(", "another word: a channel"),
        ("crates/zmqv2-client/src/outcome/result_group.rs", "pub(crate) fn record(", "acknowledgements of fanouts"),
        ("crates/zmqv2-client/src/direct/monitor.rs", "const REPLY_GRACE:", "asks after long calls"),
        ("crates/zmqv2-client/src/direct/monitor.rs", "pub(crate) fn check(", "asks after long calls"),
        (
            "crates/zmqv2-client/src/outcome/receiver_answer.rs",
            "pub(crate) enum AnswerKind {",
            "calls that do not block, and casts",
        ),
        (
            "crates/zmqv2-client/src/outcome/counters.rs",
            "pub(crate) fn count_completion(",
            "counts calls that do not block",
        ),
        ("crates/zmqv2-client/src/outcome/mod.rs", "pub(crate) fn into_raw(", "replies as bytes"),
        ("crates/zmqv2-client/src/outcome/receiver_answer.rs", "pub(crate) fn outcome(", "acknowledgements"),
        ("crates/zmqv2-client/src/io/driver/answers.rs", "fn read(", "calls that do not block, and casts"),
        ("crates/zmqv2-server/src/rpc/dispatcher.rs", "pub(crate) fn dispatch(", "runs requests as well"),
        ("crates/zmqv2-server/src/rpc/ended.rs", "pub(crate) fn cast_ended(", "ends casts"),
        ("crates/zmqv2-server/src/rpc/ended.rs", "pub(crate) fn reply_of(", "counts and logs"),
        ("crates/zmqv2-server/src/rpc/endpoint.rs", "pub fn method<", "runs requests as well"),
        ("crates/zmqv2-server/src/rpc/service.rs", "fn call(", "runs requests as well"),
        (
            "crates/zmqv2-server/src/runtime/worker.rs",
            "pub(crate) fn refuse<",
            "refuses requests, which the legacy driver does not",
        ),
        ("crates/zmqv2-server/src/rpc/worker.rs", "fn run_call(", "runs requests as well"),
        ("crates/zmqv2-server/src/rpc/worker.rs", "fn repeat(", "answers that are kept for a request that comes again"),
        ("crates/zmqv2-broker/src/driver/actions.rs", "fn perform(", "sends requests as well"),
        ("crates/zmqv2-broker/src/driver/actions.rs", "fn refuse_for_worker(", "handles requests"),
        ("crates/zmqv2-server/src/rpc/worker.rs", "fn run(", "runs casts"),
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
        ("crates/zmqv2-proto/src/wire/header.rs", "kinds! {", "kinds of requests as well"),
    ];

    /// The sources of both drivers, without options, tools and tests.
    fn sources() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let crates = ["client", "server", "broker", "proto"].map(|name| root.join(format!("crates/zmqv2-{name}/src")));
        let (mut dirs, mut files) = (vec![root.join("tests/src/comparison/legacy")], Vec::new());
        dirs.extend(crates);
        while let Some(dir) = dirs.pop() {
            for path in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    // Servers that answer later, and replies as bytes, have no counterpart in the legacy driver.
                    if !["asynchronous", "bin", "config", "interceptor", "pull", "tests"].contains(&name.as_str()) {
                        dirs.push(path);
                    }
                } else if name.ends_with(".rs") && !name.contains("test") {
                    files.push(path.strip_prefix(root).unwrap().to_owned());
                }
            }
        }
        files
    }

    /// The numbers of the lines with the word in a name. Comments, string literals, imports and
    /// tests are left out.
    fn lines_with_reply_in_a_name(text: &str) -> Vec<usize> {
        let (mut numbers, mut importing) = (Vec::new(), false);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if *line == "#[cfg(test)]" && lines.get(number + 1).is_some_and(|next| next.ends_with("mod tests {")) {
                break;
            }
            let code = line.trim();
            importing |= ["use ", "pub use ", "mod ", "pub mod "].iter().any(|start| code.starts_with(start));
            // Every second part is a string literal.
            let names: String = code.split('"').step_by(2).collect::<String>().to_lowercase();
            // The legacy driver has no replies as bytes.
            let names = names.replace("rawreply", "").replace("raw_reply", "");
            if is_code(line) && !importing && ["reply", "replies"].iter().any(|word| names.contains(word)) {
                numbers.push(number);
            }
            importing &= !code.ends_with(';');
        }
        numbers
    }

    /// File and first words of the items of all lists.
    fn all_items() -> Vec<(&'static str, &'static str)> {
        let counted = LEGACY.iter().chain(ZMQV2).map(|item| (item.file, item.begins));
        counted.chain(UNCOUNTED.iter().map(|(file, begins, _)| (*file, *begins))).collect()
    }

    #[test]
    fn every_item_is_there_once_and_has_lines() {
        let counted = count().unwrap();
        for item in counted.legacy.iter().chain(&counted.zmqv2) {
            assert!((1..100).contains(&item.lines), "{item:?}");
        }
        let all = all_items();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "an item is listed twice");
        for (file, begins) in all {
            let text = source(file).unwrap();
            assert!(lines_of_item(file, begins, &text).is_ok(), "{file} has no {begins}");
        }
    }

    #[test]
    fn no_code_for_replies_is_forgotten() {
        let listed = all_items();
        let (mut seen, mut missing) = (0, Vec::new());
        for path in sources() {
            let file = path.to_str().unwrap();
            let text = source(file).unwrap();
            let mut covered = BTreeSet::new();
            for (_, begins) in listed.iter().filter(|(listed, _)| *listed == file) {
                covered.extend(lines_of_item(file, begins, &text).unwrap().map(|(number, _)| number));
            }
            for number in lines_with_reply_in_a_name(&text) {
                let line = text.lines().nth(number).unwrap();
                if !covered.contains(&number) {
                    missing.push(format!("{file}:{}: {line}", number + 1));
                }
                seen += 1;
            }
        }
        assert!(missing.is_empty(), "add these lines to a list in code.rs:\n{}", missing.join("\n"));
        assert!(seen > 50, "only {seen} lines with the word: have the sources moved?");
    }

    #[test]
    fn an_item_ends_at_its_own_depth() {
        let text = "x();\nimpl A {\n    fn f() {\n        y\n    }\n\n    // no\n}\ntype B = C;\nfn g() {";
        let numbers =
            |begins| lines_of_item("f", begins, text).map(|lines| lines.map(|(number, _)| number).collect::<Vec<_>>());
        assert_eq!(numbers("impl A {").unwrap(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((numbers("fn f(").unwrap(), numbers("type B").unwrap()), (vec![2, 3, 4], vec![8]));
        assert!(numbers("fn g(").is_err() && numbers("fn h(").is_err());
        assert_eq!(
            lines_with_reply_in_a_name("use reply;\n// reply\nlet a = \"reply\";\nReply::new()\nlast_replies\n"),
            [3, 4]
        );
    }
}
