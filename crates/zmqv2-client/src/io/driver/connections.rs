//! Opens, loses, reconnects and closes the connections of links.

use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use zmqv2_proto::NoConnection;
use zmqv2_proto::transport::Socket;

use super::{Driver, FIRST_LINK};
use crate::clock;
use crate::delivery::table::{Input, LinkId, Tag};
use crate::io::links::IDLE_LIMIT;
use crate::routing::node_health::cause_of;

/// The pause before a lost connection is made again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

impl Driver {
    pub(super) fn register_events(&mut self, id: LinkId) -> Option<LinkId> {
        let registered = self.links.get(id)?.socket.fds().try_for_each(|fd| {
            self.poll.registry().register(&mut SourceFd(&fd), Token(id + FIRST_LINK), Interest::READABLE)
        });
        match registered {
            Ok(()) => Some(id),
            Err(error) => {
                log::error!("cannot wait for events of a socket: {error}");
                self.links.close(id);
                None
            }
        }
    }

    pub(super) fn unregister_events(&self, socket: &Socket) {
        for fd in socket.fds() {
            drop(self.poll.registry().deregister(&mut SourceFd(&fd)));
        }
    }

    /// Closes unused links, at intervals.
    pub(super) fn close_idle_links(&mut self) {
        if self.links.is_empty() {
            self.idle_check_at = None;
            return;
        }
        let now = clock::now();
        if self.idle_check_at.is_some_and(|at| at <= now) {
            self.close_surplus(0, now);
            self.idle_check_at = None;
        }
        let _ = self.idle_check_at.get_or_insert(now + IDLE_LIMIT / 4);
    }

    pub(super) fn close_surplus(&mut self, room: usize, now: Instant) {
        for id in self.links.surplus(room, now, |id| self.table.is_idle(id)) {
            self.close(id);
        }
    }

    pub(super) fn close(&mut self, id: LinkId) {
        self.hot.retain(|other| *other != id);
        if let Some(link) = self.links.close(id) {
            self.unregister_events(&link.socket);
        }
    }

    /// The connection is lost. Messages that were sent may have run. Messages that wait use the
    /// next connection. It is made after a pause, because a peer may hang up at once every time.
    pub(super) fn connection_lost(&mut self, id: LinkId, now: Instant) {
        self.mark_unreachable(id, NoConnection::Unknown, now);
        match self.links.renew(id) {
            Ok(lost) => drop(lost.inspect(|socket| self.unregister_events(socket))),
            Err(error) => return self.socket_failed(id, now, &error),
        }
        self.reconnects.push_back((now + RECONNECT_PAUSE, id));
        let input = match self.register_events(id) {
            Some(link) => Input::ConnectionLost { link },
            None => Input::LinkClosed { link: id },
        };
        self.table.handle(now, input);
        self.perform(now);
    }

    /// Connects links whose pause is over.
    pub(super) fn reconnect(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.reconnects.front()
            && at <= now
        {
            self.reconnects.pop_front();
            // The number may belong to another link by now.
            if let Some(link) = self.links.get(id)
                && std::mem::take(&mut link.reconnects)
                && let Err(error) = self.connect(id)
            {
                match cause_of(&error) {
                    Some(cause) => self.link_failed(id, cause, now),
                    None => self.socket_failed(id, now, &error),
                }
            }
        }
    }

    /// The socket failed, which counts as a lost connection. The next message opens a new link.
    pub(super) fn socket_failed(&mut self, id: LinkId, now: Instant, error: &dyn std::error::Error) {
        log::error!("a socket failed: {error}");
        self.mark_unreachable(id, NoConnection::Unknown, now);
        self.close(id);
        self.table.handle(now, Input::LinkClosed { link: id });
        self.perform(now);
    }

    /// A message has waited too long for this link.
    pub(super) fn link_unreachable(&mut self, id: LinkId, now: Instant) {
        let Some(link) = self.links.get(id) else { return };
        if !(link.greeting.is_asked() && link.writable) {
            let cause = self.cause(id, now);
            self.mark_unreachable(id, cause, now);
            // The host may have another address by now.
            return self.resolve(id);
        }
        // The connection is there, but the broker does not answer its first question.
        link.suspected = true;
        self.router.not_answered(&link.address, None, now);
    }

    pub(super) fn mark_unreachable(&mut self, id: LinkId, cause: NoConnection, now: Instant) {
        if let Some(link) = self.links.get(id) {
            link.suspected = true;
            self.router.health().mark_unreachable(&link.address, cause, now);
        }
    }

    /// A message over this link was not answered in time.
    pub(super) fn not_answered(&mut self, tag: Tag, id: LinkId, now: Instant) {
        let Some(link) = self.links.get(id) else { return };
        link.suspected = true;
        // If the message has ended with that, `complete` handles its topic.
        let topic = self.table.message(tag).and_then(|outbound| outbound.message.for_any());
        self.router.not_answered(&link.address, topic.as_ref(), now);
    }
}
