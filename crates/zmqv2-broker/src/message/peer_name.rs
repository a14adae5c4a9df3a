//! The name of a sender in the log.

use std::hash::{BuildHasher, RandomState};

use zmqv2_proto::transport::Frame;

/// Names senders by their address and by a short hash of their routing id.
///
/// Routing ids stay secret: libzmq gives them out in sequence, and aborts a process in which a peer
/// claims the next one as its own. The salt of the hash is new in each run, so the hash only tells
/// the senders of one run apart.
#[derive(Debug, Default)]
pub(crate) struct PeerNames(RandomState);

impl PeerNames {
    /// The sender of the message that begins with this frame. `None`: the message is empty.
    pub(crate) fn of(&self, routing_id: Option<&mut Frame>) -> String {
        let Some(frame) = routing_id else { return "an unknown peer".to_owned() };
        let hash = self.0.hash_one(&frame[..]) as u32;
        format!("{} ({hash:08x})", address(frame.gets("Peer-Address")))
    }
}

/// libzmq gives the IP address of a network peer, and `:user:group:process` of a local one.
fn address(text: Option<&str>) -> String {
    let parts: Vec<_> = text.unwrap_or_default().split(':').collect();
    match (text, &parts[..]) {
        (_, ["", user, _, process]) if !user.is_empty() => format!("process {process} of user {user}"),
        (Some(text), _) if !text.is_empty() => text.to_owned(),
        _ => "a peer of unknown address".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_id_is_never_shown() {
        let names = PeerNames::default();
        let [one, other] = [[0, 0x6b, 0x8b, 0x45, 0x67], [0, 0x6b, 0x8b, 0x45, 0x68]]
            .map(|id: [u8; 5]| names.of(Some(&mut Frame::from(&id[..]))));
        assert_ne!(one, other);
        assert!(!one.contains("6b8b4567") && one.starts_with("a peer of unknown address ("), "{one}");
    }

    #[test]
    fn both_forms_of_addresses_are_read() {
        assert_eq!(address(Some(":1000:100:4242")), "process 4242 of user 1000");
        assert_eq!(address(Some("203.0.113.7")), "203.0.113.7");
        assert_eq!(address(Some("::1")), "::1");
        assert_eq!(address(Some("")), "a peer of unknown address");
        assert_eq!(address(None), "a peer of unknown address");
    }
}
