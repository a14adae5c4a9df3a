//! Reading an answer from the network.

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{HeaderView, Kind, NodeName, Refusal, ServerName};

use crate::io::outbound::{Message, Outbound};
use crate::outcome::receiver_answer::{AnswerKind, ReceiverAnswer};
use crate::routing::router::Router;
use crate::routing::server_search::ServerSearch;

/// The most bytes of a refusal's detail that are kept.
pub(crate) const MAX_DETAIL_BYTES: usize = 4096;

/// An answer from the network, understood.
#[derive(Debug)]
pub(crate) enum ParsedAnswer {
    /// One receiver speaks. With `more`, others will.
    FromReceiver { answer: ReceiverAnswer, more: bool },
    /// The call itself is still waiting or running.
    InFlight,
    /// Of the whole message.
    Refusal(Refusal, Option<NodeName>),
}

impl Outbound {
    /// What this answer to its send `attempt` says of it; the error says why it is none.
    pub(crate) fn read(
        &self,
        view: &HeaderView<'_>,
        body: Frame,
        attempt: u8,
        names: &mut Option<(ServerName, NodeName)>,
        router: &Router,
    ) -> Result<ParsedAnswer, String> {
        let Message { id, kind, .. } = *self.message;
        if view.id() != id {
            return Err(format!("it answers message {}", view.id()));
        }
        // Of one that has many receivers, each speaks for itself, under its name.
        let many = kind == Kind::Fanout || kind == Kind::Notify && self.message.target.server.is_none();
        let answer_kind = match (kind, view.kind()) {
            (Kind::Cast | Kind::Fanout | Kind::Notify, Kind::Ack) => AnswerKind::Accepted,
            (Kind::Notify, Kind::Stored) if many && view.server().is_empty() => {
                let node = self.node(view, router)?;
                let answer = ReceiverAnswer { server: None, node, kind: AnswerKind::Stored, attempt };
                return Ok(ParsedAnswer::FromReceiver { answer, more: view.count() > 0 });
            }
            (Kind::Notify, Kind::Stored) => AnswerKind::Stored,
            (Kind::Call, Kind::Reply) => AnswerKind::Reply(body),
            (Kind::Call, Kind::InFlight) => return Ok(ParsedAnswer::InFlight),
            (Kind::Inquire, Kind::InFlight) => {
                let answer = ReceiverAnswer {
                    server: None,
                    node: self.node(view, router)?,
                    kind: AnswerKind::InFlight,
                    attempt,
                };
                return Ok(ParsedAnswer::FromReceiver { answer, more: false });
            }
            (_, Kind::Refusal) => {
                let refusal = read_refusal(view, &body)?;
                if !many || view.server().is_empty() {
                    let node = (!view.node().is_empty()).then(|| NodeName::new(view.node())).transpose();
                    return Ok(ParsedAnswer::Refusal(refusal, node.map_err(|error| error.to_string())?));
                }
                AnswerKind::Refused(refusal)
            }
            (asked, kind) => return Err(format!("it is a {kind:?}, and a {asked:?} was sent")),
        };
        let (server, node) = self.names(view, names, router)?;
        let answer = ReceiverAnswer { server: Some(server), node, kind: answer_kind, attempt };
        Ok(ParsedAnswer::FromReceiver { answer, more: many && view.count() > 0 })
    }

    /// Server and node of an answer. Those of the last one over the same link most often fit, and cost nothing.
    fn names(
        &self,
        view: &HeaderView<'_>,
        last: &mut Option<(ServerName, NodeName)>,
        router: &Router,
    ) -> Result<(ServerName, NodeName), String> {
        if let Some((server, node)) = last
            && server.as_str() == view.server()
            && node.as_str() == view.node()
        {
            return Ok((server.clone(), node.clone()));
        }
        let server = match view.server() {
            "" => self.message.target.server.clone().ok_or("it does not name its server")?,
            name => ServerName::new(name).map_err(|error| error.to_string())?,
        };
        let node = self.node(view, router)?;
        *last = Some((server.clone(), node.clone()));
        Ok((server, node))
    }

    fn node(&self, view: &HeaderView<'_>, router: &Router) -> Result<NodeName, String> {
        match view.node() {
            "" => {
                let asked = self.search.as_ref().and_then(ServerSearch::asked).map(|node| node.name.clone());
                let node = asked.or_else(|| Some(self.destination(0, router)?.node));
                Ok(node.ok_or("it does not name its node")?)
            }
            name => NodeName::new(name).map_err(|error| error.to_string()),
        }
    }
}

fn read_refusal(view: &HeaderView<'_>, body: &[u8]) -> Result<Refusal, String> {
    let reason = view.reason().map_err(|error| error.to_string())?;
    let reason = reason.ok_or("it is a refusal without a reason")?;
    let shown = &body[..body.len().min(MAX_DETAIL_BYTES)];
    Ok(Refusal::new(reason, String::from_utf8_lossy(shown)))
}
