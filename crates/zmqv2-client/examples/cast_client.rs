//! Casts to the server in `add_server.rs`: nothing to wait for, and yet an outcome for each.

use std::time::Duration;
use zmqv2_client::{Outcome, RequestContext, RpcClient, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = RpcClient::builder(Target::topic("calculator")?).build()?;
    let context = RequestContext::new();

    // Many at once, over one connection; each handle can be polled, waited for, awaited or dropped.
    let handles: Result<Vec<_>, _> = (0..100).map(|n| client.cast(&context, "add", &(n, 1))).collect();
    let mut acked = 0;
    for handle in handles? {
        match handle.wait(Duration::from_secs(5)) {
            Some(Outcome::Acked { .. }) => acked += 1,
            Some(outcome) => println!("cast {}: {outcome}", handle.id()),
            None => println!("cast {}: nothing known yet", handle.id()),
        }
    }
    println!("{acked} of 100 casts accepted");

    // Whoever keeps no handle has the counters, an observer, and this.
    client.cast(&context, "add", &(2, 3)).map(drop)?;
    println!("left open: {}", client.close(Duration::from_secs(5)).open);
    Ok(())
}
