//! Any bytes as the body of a control message, between a broker and its servers or the tool.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zmqv2_proto::control::{Registered, ServerRegistration, StatusReport, Withdrawal};

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<Registered>(bytes);
    let _ = serde_json::from_slice::<ServerRegistration>(bytes);
    let _ = serde_json::from_slice::<Withdrawal>(bytes);
    if let Ok(report) = serde_json::from_slice::<StatusReport>(bytes) {
        let text = serde_json::to_vec(&report).expect("JSON");
        serde_json::from_slice::<StatusReport>(&text).expect("a report");
    }
});
