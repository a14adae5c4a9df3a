//! Many workers that share one ROUTER socket, and take turns with it.
//!
//! Most handlers are quick, and waking another thread costs more than running one. So the thread
//! that has read a few requests runs them itself, one after the other, sends the answers, and
//! reads on. Nobody reads meanwhile.
//!
//! Another thread, the *watcher*, looks once a millisecond. If a handler takes its time, the
//! watcher takes the reader's place, and the next thread becomes the watcher. For a while after
//! that, each new request wakes another thread. So a slow handler delays others by about a tick.
//!
//! The broker sends no more requests at a time than there are workers, or more while handlers are
//! quick ([`window`]). When handlers are slow, the requests above the number of workers go back.
//!
//! Answers leave in bundles, at the latest when no request is left to run. If a handler takes its
//! time meanwhile, the watcher sends them.
//!
//! The broker says when nobody waits for a call any more. If it has not begun, it goes back: the
//! broker drops it. If it runs, its handler can see it ([`begun`]).
//!
//! An acknowledged request keeps its place until it has run. The place goes back to the broker
//! with the next answers, or on its own if there are none.

mod begun;
mod deferred;
mod io;
#[cfg(test)]
#[path = "tests/scenarios.rs"]
mod scenarios;
mod threads;
mod turns;
mod window;

pub(crate) use deferred::{Deferred, DeferredPool, Inbox};
pub(crate) use threads::WorkerPool;
