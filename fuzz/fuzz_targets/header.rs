//! Any bytes as a header: both readers accept the same ones, and a header is written as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zmqv2_proto::{Flags, Header, HeaderView, MAX_HEADER_BYTES, Ttl, rewrite_hop};

fuzz_target!(|bytes: &[u8]| {
    let view = HeaderView::new(bytes).ok();
    if let Ok(header) = Header::decode(bytes) {
        let view = view.expect("the view accepts every header that decodes");
        assert_eq!((view.kind(), view.flags(), view.count()), (header.kind, header.flags, header.count));
        assert_eq!((view.tag(), view.id(), view.ttl()), (header.tag, header.id, header.ttl));
        assert_eq!((view.delivered(), view.reason().ok()), (header.delivered, Some(header.reason)));
        assert_eq!(header.encode(), bytes);
        assert!(bytes.len() <= MAX_HEADER_BYTES);
    } else if let Some(view) = view {
        let _ = (view.key(), view.server(), view.node(), view.reason().is_ok());
    }
    let mut frame = bytes.to_vec();
    rewrite_hop(&mut frame, 42, Ttl::from_millis(1_000));
    Header::stamp_delivered(&mut frame, 7);
    Header::stamp_flags(&mut frame, Flags::BUNDLES);
    Header::stamp_count(&mut frame, 3);
    assert_eq!(frame.len(), bytes.len());
    assert_eq!(Header::decode(&frame).is_ok(), Header::decode(bytes).is_ok());
});
