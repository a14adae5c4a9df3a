//! How much code there is only for replies.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// An item of a source file that is there only to get an answer back to its caller.
struct Item {
    file: &'static str,
    /// How its first line begins, without indentation.
    begins: &'static str,
}

const fn item(file: &'static str, begins: &'static str) -> Item {
    Item { file, begins }
}

/// Of the legacy driver: a reply is a message of its own, over sockets of its own.
const LEGACY: &[Item] = &[
    // The caller: a SUB socket for each call, its subscription, the wait for it.
    item("tests/src/legacy/client.rs", "struct Waiter {"),
    item("tests/src/legacy/client.rs", "impl Waiter {"),
    item("tests/src/legacy/client.rs", "fn wait(pause: Duration) {"),
    item("tests/src/legacy/sockets.rs", "pub(super) fn subscriber("),
    item("tests/src/legacy/sockets.rs", "pub(super) fn receive("),
    // The request is packed into one that says where its reply shall go.
    item("tests/src/legacy/frames.rs", "struct Curried<'a> {"),
    item("tests/src/legacy/frames.rs", "pub fn call("),
    item("tests/src/legacy/options.rs", "pub(super) fn reply_topic("),
    // The server: a client of the caller's daemon, with a pool of PUSH sockets.
    item("tests/src/legacy/client.rs", "pub(super) fn reply("),
    item("tests/src/legacy/frames.rs", "pub fn reply("),
    item("tests/src/legacy/frames.rs", "struct Response<'a, R> {"),
    item("tests/src/legacy/frames.rs", "struct Exception {"),
    item("tests/src/legacy/frames.rs", "pub fn read_reply("),
    // The daemon: PUB sockets beside those for requests.
    item("tests/src/legacy/daemon.rs", "fn have_faith() {"),
];

/// Of zmqv2: the reply takes the way of the request back.
const ZMQV2: &[Item] = &[
    // The caller: its REQ socket gives it the reply. This also notices that the broker is gone, and watches long calls.
    item("crates/zmqv2-client/src/exchange.rs", "fn wait_answer("),
    item("crates/zmqv2-client/src/exchange.rs", "fn read("),
    // The server: its REP socket takes the reply, or a refusal of one that is too large.
    item("crates/zmqv2-server/src/lane.rs", "pub(crate) fn answer_to("),
    item("crates/zmqv2-server/src/rpc.rs", "fn write("),
    // The broker: the sender's tag and path are put back.
    item("crates/zmqv2-broker/src/parcel.rs", "pub(crate) fn take_reply("),
    item("crates/zmqv2-broker/src/parcel.rs", "pub(crate) fn answer("),
    // The body: a result or a failure.
    item("crates/zmqv2-proto/src/reply.rs", "struct Message {"),
    item("crates/zmqv2-proto/src/reply.rs", "pub fn encode("),
    item("crates/zmqv2-proto/src/reply.rs", "pub fn decode("),
];

/// An item and its lines of code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lines {
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

/// Counts the code for replies.
///
/// # Errors
/// Names an item that is not there any more.
pub fn count() -> Result<Counted> {
    Ok(Counted { legacy: lines_of(LEGACY)?, zmqv2: lines_of(ZMQV2)? })
}

fn lines_of(items: &[Item]) -> Result<Vec<Lines>> {
    let count = |item: &Item| {
        let name = item.begins.trim_end_matches(['(', ' ', '{']);
        Ok(Lines { item: format!("{}: {name}", item.file), lines: lines(item)? })
    };
    items.iter().map(count).collect()
}

fn lines(item: &Item) -> Result<usize> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
    let text = std::fs::read_to_string(root.join(item.file)).with_context(|| item.file.to_owned())?;
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with(item.begins)).peekable();
    let first = lines.peek().with_context(|| format!("{} has no {:?}", item.file, item.begins))?;
    // It ends with the first closing brace at its own depth.
    let end = format!("{}}}", &first[..first.len() - first.trim_start().len()]);
    let mut count = 0;
    for line in lines {
        let code = line.trim();
        if !code.is_empty() && !code.starts_with("//") {
            count += 1;
        }
        if line.starts_with(&end) {
            return Ok(count);
        }
    }
    anyhow::bail!("{}: {:?} has no end", item.file, item.begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_there_and_has_lines() {
        for item in LEGACY.iter().chain(ZMQV2) {
            let lines = lines(item).unwrap();
            assert!((1..100).contains(&lines), "{} {}: {lines}", item.file, item.begins);
        }
    }
}
