//! Sends notifications to the listener in `listener.rs`. A broker keeps them until it listens.

use std::time::Duration;
use zmqv2_client::{Notifier, RequestContext};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let notifier = Notifier::builder("compute.node-7").topics(["notifications"])?.build()?;
    let context = RequestContext::new().with("user", "ann");
    for (event, cores) in [("instance.created", 2), ("instance.resized", 4)] {
        let handle = notifier.info(&context, event, &cores)?;
        let report = handle.wait(Duration::from_secs(5)).ok_or("no outcome within 5 s")?;
        println!("{event}: {}", if report.all_taken_over() { "taken over" } else { "not taken over" });
    }
    Ok(())
}
