//! Any bytes as the body of a request, a reply or a notification: one that is read can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use zmqv2_proto::{Notification, Reply, Request, envelope};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = envelope::open(bytes) {
        assert_eq!(envelope::open(&envelope::seal(&text)).expect("an envelope"), text);
    }
    if let Ok(request) = Request::decode(bytes) {
        let again = Request::decode(&request.encode().expect("JSON")).expect("a request");
        assert_eq!((again.method, again.unique_id), (request.method, request.unique_id));
    }
    if let Ok(reply) = Reply::decode::<Box<RawValue>>(bytes) {
        let again = reply.map_or_else(Reply::Failure, Reply::Result).encode().expect("JSON");
        Reply::decode::<Box<RawValue>>(&again).expect("a reply").ok();
    }
    let _ = Reply::decode::<String>(bytes);
    if let Ok(notification) = Notification::decode(bytes) {
        let again = Notification::decode(&notification.encode().expect("JSON")).expect("a notification");
        assert_eq!(again.event_type, notification.event_type);
    }
});
