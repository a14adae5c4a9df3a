//! Sends a fanout to the server in `add_server.rs` and to every other server of its topic.

use std::time::Duration;
use zmqv2_client::{RequestContext, RpcClient, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = RpcClient::builder(Target::topic("calculator")?).build()?;
    let handle = client.fanout(&RequestContext::new(), "add", &(2, 3))?;
    let report = handle.wait(Duration::from_secs(5)).unwrap_or_else(|| handle.so_far());
    for result in &report.results {
        let server = result.server.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
        println!("{server}: {}", if result.outcome.is_acked() { "accepted" } else { "not accepted" });
    }
    println!("accepted by {} of {}", report.acked(), report.results.len());
    Ok(())
}
