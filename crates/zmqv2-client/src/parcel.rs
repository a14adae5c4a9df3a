//! A message as the I/O thread needs it.

use std::sync::Arc;
use std::time::Instant;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{HeaderView, Kind, MessageId, NodeName, Reason, Refusal, ServerName, Target, Ttl, rewrite_hop};

use crate::directory::Question;
use crate::outcome::{Finish, How};
use crate::outstanding::{Ending, LinkId, Tag, Terms};
use crate::promise::Promise;
use crate::routes::Stop;

/// The most bytes of a refusal's detail that are kept.
pub(crate) const MAX_DETAIL_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) id: MessageId,
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    /// Encoded; tag and time to live are written at each send.
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) started: Instant,
    pub(crate) terms: Terms,
    pub(crate) promise: Promise,
    /// A question to the directory that has no answer yet.
    pub(crate) question: Option<Arc<Question>>,
    /// The link that has sent it last, and the number of that send.
    pub(crate) sent_as: Option<(LinkId, u64)>,
}

/// An answer from the network, understood.
#[derive(Debug)]
pub(crate) enum Answer {
    Positive(Positive),
    Refusal(Refusal, Option<NodeName>),
}

/// An acknowledgement or a reply.
#[derive(Debug)]
pub(crate) struct Positive {
    pub(crate) server: ServerName,
    pub(crate) node: NodeName,
    pub(crate) body: Option<Frame>,
}

impl Parcel {
    /// The frames as they go over a DEALER: the delimiter that a REQ would add, header, body.
    pub(crate) fn frames(&self, tag: Tag, ttl: Ttl) -> [Frame; 3] {
        let mut header = Frame::from(&self.header[..]);
        rewrite_hop(&mut header, tag.to_wire(), ttl);
        [Frame::new(), header, Frame::from(&self.body[..])]
    }

    /// What this answer says of it; the error says why it is none.
    pub(crate) fn read(
        &self,
        view: &HeaderView<'_>,
        body: Frame,
        names: &mut Option<(ServerName, NodeName)>,
    ) -> Result<Answer, String> {
        if view.id() != self.id {
            return Err(format!("it answers message {}", view.id()));
        }
        match (self.kind, view.kind()) {
            (Kind::Cast, Kind::Ack) | (Kind::Call, Kind::Reply) => {
                let (server, node) = self.names(view, names)?;
                let body = (self.kind == Kind::Call).then_some(body);
                Ok(Answer::Positive(Positive { server, node, body }))
            }
            (_, Kind::Refusal) => {
                let reason = view.reason().map_err(|error| error.to_string())?;
                let reason = reason.ok_or("it is a refusal without a reason")?;
                let shown = &body[..body.len().min(MAX_DETAIL_BYTES)];
                let node = (!view.node().is_empty()).then(|| NodeName::new(view.node())).transpose();
                let node = node.map_err(|error| error.to_string())?;
                Ok(Answer::Refusal(Refusal::new(reason, String::from_utf8_lossy(shown)), node))
            }
            (asked, kind) => Err(format!("it is a {kind:?}, and a {asked:?} was sent")),
        }
    }

    /// Server and node of an answer. Those of the last one over the same link most often fit, and cost nothing.
    fn names(
        &self,
        view: &HeaderView<'_>,
        last: &mut Option<(ServerName, NodeName)>,
    ) -> Result<(ServerName, NodeName), String> {
        if let Some((server, node)) = last
            && server.as_str() == view.server()
            && node.as_str() == view.node()
        {
            return Ok((server.clone(), node.clone()));
        }
        let server = match view.server() {
            "" => self.target.server.clone().ok_or("it does not name its server")?,
            name => ServerName::new(name).map_err(|error| error.to_string())?,
        };
        let node = match view.node() {
            "" => self.stops.first().map(|stop| stop.node.clone()).ok_or("it does not name its node")?,
            name => NodeName::new(name).map_err(|error| error.to_string())?,
        };
        *last = Some((server.clone(), node.clone()));
        Ok((server, node))
    }

    /// How it ended, in the words of its sender.
    pub(crate) fn finish(&self, ending: Ending<Positive>, now: Instant) -> Finish {
        let after = now.saturating_duration_since(self.started);
        let stop = |candidate: usize| self.stops.get(candidate).or(self.stops.first()).cloned();
        let refusal = |reason, detail: String| How::Refused { refusal: Refusal::new(reason, detail), node: None };
        let how = match ending {
            Ending::Answered(Positive { server, node, body }) => How::Answered { server, node, body },
            Ending::Refused(refusal, node) => How::Refused { refusal, node },
            Ending::Nowhere => refusal(Reason::NoRoute, format!("the directory knows no node of {}", self.target)),
            Ending::NeverReady => {
                refusal(Reason::Expired, format!("nobody became ready to take it for {}", self.target))
            }
            Ending::Closed { sent } => How::Closed { sent },
            Ending::Unreachable { candidate } => stop(candidate)
                .map_or(How::Closed { sent: false }, |Stop { node, address }| How::Unreachable { node, address }),
            Ending::Lost { candidate } => {
                stop(candidate).map_or(How::Closed { sent: true }, |Stop { node, address }| How::Lost { node, address })
            }
            Ending::Silent { candidate } => stop(candidate)
                .map_or(How::Closed { sent: true }, |Stop { node, address }| How::Silent { node, address }),
        };
        Finish { how, after }
    }
}
