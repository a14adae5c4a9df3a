//! A server with one method. It needs a broker on this node: `cargo run --bin zmqv2-broker`.

use std::time::Duration;
use zmqv2_server::{Methods, RpcServer, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let methods = Methods::new().method("add", |(a, b): (i64, i64)| Ok(a + b))?;
    let target = Target::topic("calculator")?.with_server("alpha")?;
    let server = RpcServer::builder(target).endpoint(methods).workers(4).start()?;
    server.wait_ready(Duration::from_secs(10))?;
    println!("ready");
    loop {
        std::thread::park();
    }
}
