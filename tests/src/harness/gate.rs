//! A gate at which handlers wait until a test opens it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::clock::PATIENCE;

/// A gate. Clones of its `Arc` go into handlers.
#[derive(Debug)]
pub struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    #[must_use]
    pub fn new(is_open: bool) -> Arc<Self> {
        let (changed, waiting) = Default::default();
        Arc::new(Self { is_open: Mutex::new(is_open), changed, waiting })
    }

    pub fn open(&self) {
        self.set(true);
    }

    pub fn close(&self) {
        self.set(false);
    }

    fn set(&self, is_open: bool) {
        *self.is_open.lock().expect("no panic in here") = is_open;
        self.changed.notify_all();
    }

    pub fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let guard = self.is_open.lock().expect("no panic in here");
        drop(self.changed.wait_timeout_while(guard, PATIENCE, |is_open| !*is_open).expect("no panic in here"));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}
