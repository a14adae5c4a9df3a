//! Many callers as tasks of one asynchronous runtime, as clients of the other systems are written.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use zmqv2_tests::measured_process::{Error, Measurement, measure, now, timed};

/// Time to make connections and touch memory.
const WARM_UP: Duration = Duration::from_millis(300);

/// Measures callers, each a task that waits for its answer before it calls again; `call` makes one
/// call.
pub(super) fn callers<F, C>(runtime: &Runtime, callers: usize, call: F) -> Result<(), Error>
where
    F: Fn() -> C + Clone + Send + 'static,
    C: Future<Output = Result<(), Error>> + Send,
{
    measure(WARM_UP, |span| runtime.block_on(all(callers, span, call.clone())))
}

async fn all<F, C>(callers: usize, span: Duration, call: F) -> Result<Measurement, Error>
where
    F: Fn() -> C + Clone + Send + 'static,
    C: Future<Output = Result<(), Error>> + Send,
{
    let began = now();
    let one = |_| {
        let call = call.clone();
        tokio::spawn(async move {
            let (mut at, mut nanos) = (now(), Vec::new());
            while at < began + span {
                call().await?;
                let end = now();
                nanos.push(u32::try_from((end - at).as_nanos()).unwrap_or(u32::MAX));
                at = end;
            }
            Ok::<_, Error>(nanos)
        })
    };
    let tasks: Vec<_> = (0..callers).map(one).collect();
    let mut nanos = Vec::new();
    for task in tasks {
        nanos.extend(task.await??);
    }
    Ok(timed((now() - began).as_secs_f64(), nanos))
}

/// Serves until its standard input ends.
pub(super) fn serve(
    runtime: &Runtime,
    server: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> Result<(), Error> {
    runtime.spawn(async {
        if let Err(error) = server.await {
            eprintln!("the server ends: {error}");
        }
    });
    zmqv2_tests::measured_process::serve_until_stdin_ends()
}
