//! Reads answers, both from a DEALER and from a REQ socket.

use std::time::Duration;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Flags, HeaderView, Kind, MessageId, NodeName, Reason, Refusal, ServerName};

use crate::outcome::receiver_answer::{AnswerKind, ReceiverAnswer};

/// The most bytes of a refusal's detail that are kept.
const MAX_DETAIL_BYTES: usize = 4096;

/// The message that is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) id: MessageId,
    pub(crate) kind: Kind,
    pub(crate) server: Option<&'a ServerName>,
    /// The number of the send that is answered.
    pub(crate) send: u8,
}

/// An answer from the network.
#[derive(Debug)]
pub(crate) enum ParsedAnswer {
    /// One receiver answers. With `more`, others will.
    FromReceiver { answer: ReceiverAnswer, more: bool },
    /// The call is still waiting or running. Its server gave no sign of life for `silence`.
    InFlight { silence: Duration, node: Option<NodeName> },
    /// The whole message was refused, by this node.
    Refusal(Refusal, Option<NodeName>),
}

impl Asked<'_> {
    /// Reads an answer. The error says why the answer is not valid. An answer without the name of a
    /// node is from `node`, which was asked. `names` holds the names in the last answer over the
    /// same link.
    pub(crate) fn read(
        &self,
        view: &HeaderView<'_>,
        body: Frame,
        names: &mut Option<(ServerName, NodeName)>,
        node: impl FnOnce() -> Option<NodeName>,
    ) -> Result<ParsedAnswer, String> {
        if view.id() != self.id {
            return Err(format!("it answers message {}", view.id()));
        }
        // Every receiver of such a message answers under its own name.
        let many = self.kind == Kind::Fanout || self.kind == Kind::Notify && self.server.is_none();
        let unnamed = view.server().is_empty();
        let (kind, named) = match (self.kind, view.kind()) {
            (Kind::Call, Kind::InFlight) => {
                return Ok(ParsedAnswer::InFlight { silence: view.ttl().into(), node: read_node(view, node)? });
            }
            (Kind::Cast | Kind::Fanout | Kind::Notify, Kind::Ack) => (AnswerKind::Accepted, true),
            (Kind::Notify, Kind::Stored) => (AnswerKind::Stored, !many || !unnamed),
            (Kind::Call, Kind::Reply) => {
                let is_failure = view.flags().contains(Flags::FAILURE);
                (AnswerKind::Reply { body, is_failure }, true)
            }
            (Kind::Inquire, Kind::InFlight) => (AnswerKind::InFlight { silence: view.ttl().into() }, false),
            (_, Kind::Refusal) => {
                let refusal = read_refusal(view, &body)?;
                if !many || unnamed {
                    return Ok(ParsedAnswer::Refusal(refusal, read_node(view, node)?));
                }
                (AnswerKind::Refused(refusal), true)
            }
            (asked, kind) => return Err(format!("it is a {kind:?}, and a {asked:?} was sent")),
        };
        let (server, node) = if named {
            let (server, node) = self.names(view, names, node)?;
            (Some(server), node)
        } else {
            (None, read_node(view, node)?.ok_or("it does not name its node")?)
        };
        let answer = ReceiverAnswer { server, node, kind, attempt: self.send };
        Ok(ParsedAnswer::FromReceiver { answer, more: many && view.count() > 0 })
    }

    /// The server and node of an answer. Usually they are those of the `last` answer, and are not
    /// read again.
    fn names(
        &self,
        view: &HeaderView<'_>,
        last: &mut Option<(ServerName, NodeName)>,
        node: impl FnOnce() -> Option<NodeName>,
    ) -> Result<(ServerName, NodeName), String> {
        if let Some((server, node)) = last
            && server.as_str() == view.server()
            && node.as_str() == view.node()
        {
            return Ok((server.clone(), node.clone()));
        }
        let server = match view.server() {
            "" => self.server.cloned().ok_or("it does not name its server")?,
            name => ServerName::new(name).map_err(|error| error.to_string())?,
        };
        let node = read_node(view, node)?.ok_or("it does not name its node")?;
        *last = Some((server.clone(), node.clone()));
        Ok((server, node))
    }
}

/// The node that an answer names, or the asked one.
fn read_node(view: &HeaderView<'_>, asked: impl FnOnce() -> Option<NodeName>) -> Result<Option<NodeName>, String> {
    match view.node() {
        "" => Ok(asked()),
        name => NodeName::new(name).map(Some).map_err(|error| error.to_string()),
    }
}

fn read_refusal(view: &HeaderView<'_>, body: &[u8]) -> Result<Refusal, String> {
    let shown = String::from_utf8_lossy(&body[..body.len().min(MAX_DETAIL_BYTES)]);
    match view.reason() {
        Ok(Some(reason)) => Ok(Refusal::new(reason, shown)),
        Ok(None) => Err("it is a refusal without a reason".to_owned()),
        // A later version may say anything with it, also that the request may have run. The message
        // ends all the same.
        Err(error) => {
            Ok(Refusal::new(Reason::ServerLost, format!("for a reason of a later version ({error}): {shown}")))
        }
    }
}
