//! How much code there is only for replies.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a piece of code is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// That the answer finds its way back: sockets, addresses, waiting.
    Way,
    /// What the answer looks like.
    Body,
    /// That it is an answer to this call, complete, and within the limits. The legacy driver has none of this.
    Checks,
}

/// An item of a source file that is there only to get an answer back to its caller.
struct Item {
    purpose: Purpose,
    file: &'static str,
    /// How its first line begins, without indentation.
    begins: &'static str,
}

const fn way(file: &'static str, begins: &'static str) -> Item {
    Item { purpose: Purpose::Way, file, begins }
}

const fn body(file: &'static str, begins: &'static str) -> Item {
    Item { purpose: Purpose::Body, file, begins }
}

const fn checks(file: &'static str, begins: &'static str) -> Item {
    Item { purpose: Purpose::Checks, file, begins }
}

/// Of the legacy driver: a reply is a message of its own, over sockets of its own.
const LEGACY: &[Item] = &[
    // The caller: a SUB socket for each call, its subscription, the wait for it.
    way("tests/src/legacy/client.rs", "struct Waiter {"),
    way("tests/src/legacy/client.rs", "impl Waiter {"),
    way("tests/src/legacy/sockets.rs", "pub(super) fn subscriber("),
    way("tests/src/legacy/sockets.rs", "pub(super) fn receive("),
    // The request is packed into one that says where its reply shall go.
    way("tests/src/legacy/options.rs", "pub(super) fn reply_topic("),
    way("tests/src/legacy/frames.rs", "struct Curried<'a> {"),
    way("tests/src/legacy/frames.rs", "pub fn call("),
    way("tests/src/legacy/frames.rs", "fn call_of("),
    // The server: a client of the caller's daemon.
    way("tests/src/legacy/client.rs", "pub(super) fn reply("),
    // The daemon: a PUB socket beside those for requests.
    way("tests/src/legacy/daemon.rs", "fn is_for_replies("),
    way("tests/src/legacy/daemon.rs", "fn have_faith() {"),
    body("tests/src/legacy/frames.rs", "struct Response<'a, R> {"),
    body("tests/src/legacy/frames.rs", "struct Exception {"),
    body("tests/src/legacy/frames.rs", "pub fn reply("),
    body("tests/src/legacy/frames.rs", "pub fn read_reply("),
];

/// Of zmqv2: the reply takes the way of the request back.
const ZMQV2: &[Item] = &[
    // The server's REP socket takes the reply.
    way("crates/zmqv2-server/src/lane.rs", "pub(crate) fn answer_to("),
    // The broker puts the sender's tag and path back.
    way("crates/zmqv2-broker/src/parcel.rs", "pub(crate) fn answer("),
    // The caller's REQ socket gives it the reply. This also notices that the broker is gone, and watches long calls.
    way("crates/zmqv2-client/src/exchange.rs", "fn wait_answer("),
    body("crates/zmqv2-proto/src/reply.rs", "struct Message {"),
    body("crates/zmqv2-proto/src/reply.rs", "pub fn encode("),
    body("crates/zmqv2-proto/src/reply.rs", "pub fn decode("),
    checks("crates/zmqv2-server/src/rpc.rs", "fn write("),
    checks("crates/zmqv2-broker/src/parcel.rs", "pub(crate) fn take_reply("),
    checks("crates/zmqv2-client/src/exchange.rs", "fn read("),
];

/// An item and its lines of code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// What it is for.
    pub purpose: Purpose,
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

/// All lines, or those with a purpose.
#[must_use]
pub(super) fn total(lines: &[Lines], purpose: Option<Purpose>) -> usize {
    let counted = lines.iter().filter(|item| purpose.is_none_or(|purpose| purpose == item.purpose));
    counted.map(|item| item.lines).sum()
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
        Ok(Lines { purpose: item.purpose, item: format!("{}: {name}", item.file), lines: lines(item)? })
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
