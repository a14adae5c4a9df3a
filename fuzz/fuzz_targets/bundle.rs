//! Any bytes as a bundle: its messages are parts of it, in order, and a bundle of them reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zmqv2_proto::bundle::{Bundle, Bundled};

fuzz_target!(|bytes: &[u8]| {
    let Some(bundled) = Bundled::of(bytes) else { return };
    let Ok(messages) = bundled.collect::<Result<Vec<_>, _>>() else { return };
    let mut again = Bundle::new();
    for (header, body) in &messages {
        if !Bundle::takes(body.len()) || !again.has_room(header.len(), body.len()) {
            return;
        }
        again.push(header, body);
    }
    let read: Vec<_> =
        Bundled::of(again.frame()).into_iter().flatten().map(|message| message.expect("a message")).collect();
    assert_eq!(read, messages);
});
