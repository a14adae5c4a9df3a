//! Where asynchronous handlers run.

use std::pin::Pin;

/// A future that can move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs the handlers of an [`AsyncRpcServer`](crate::AsyncRpcServer). With feature `tokio`,
/// `tokio::runtime::Handle` is one. For other runtimes, implement it: most have a function `spawn`.
///
/// ```
/// use std::sync::Arc;
/// use std::task::{Context, Wake};
/// use std::thread::{self, Thread};
/// use zmqv2_server::{BoxFuture, Executor};
///
/// /// Runs each handler on a thread of its own.
/// struct Threads;
///
/// impl Executor for Threads {
///     fn spawn(&self, mut handler: BoxFuture<()>) {
///         thread::spawn(move || {
///             let waker = Arc::new(Unpark(thread::current())).into();
///             while handler.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
///                 thread::park();
///             }
///         });
///     }
/// }
///
/// struct Unpark(Thread);
///
/// impl Wake for Unpark {
///     fn wake(self: Arc<Self>) {
///         self.0.unpark();
///     }
/// }
/// ```
pub trait Executor: Send + Sync + 'static {
    /// Runs a handler to its end. It must not block, and it must not run the handler itself: the
    /// thread that calls it reads the requests of the server.
    ///
    /// A call whose handler is dropped before it has begun ends with the reason `ShuttingDown`, so
    /// another node may run it. One that is dropped later ends with `ServerLost`.
    fn spawn(&self, handler: BoxFuture<()>);
}

#[cfg(feature = "tokio")]
impl Executor for tokio::runtime::Handle {
    fn spawn(&self, handler: BoxFuture<()>) {
        drop(self.spawn(handler));
    }
}
