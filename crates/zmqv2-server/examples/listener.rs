//! A listener that prints two notifications and ends. It needs a broker on this node:
//! `cargo run --bin zmqv2-broker`.

use std::sync::mpsc;
use std::time::Duration;
use zmqv2_server::{HandlerError, Notice, NotificationListener, Priority};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (seen, all) = mpsc::channel();
    let print = move |notice: &Notice| {
        let cores: u32 = notice.payload()?;
        println!("{} says {}: {cores} cores", notice.publisher_id(), notice.event_type());
        let _ = seen.send(());
        Ok::<_, HandlerError>(())
    };
    let listener = NotificationListener::builder()
        .topic("notifications")?
        .on([Priority::Info, Priority::Error], print)
        .workers(1)
        .start()?;
    listener.wait_ready(Duration::from_secs(10))?;
    println!("ready");
    for () in all.iter().take(2) {}
    listener.stop()?;
    Ok(())
}
