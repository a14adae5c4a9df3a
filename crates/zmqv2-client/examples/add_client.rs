//! Calls a method of the server in `add_server.rs`.

use std::time::Duration;
use zmqv2_client::{RequestContext, RpcClient, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = RpcClient::builder(Target::topic("calculator")?).timeout(Duration::from_secs(5)).build()?;
    let sum: i64 = client.call(&RequestContext::new(), "add", &(2, 3))?;
    println!("2 + 3 = {sum}");
    Ok(())
}
