//! A simulated disk whose power can be cut, and that can be full.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// Shared by all that have it open, as a file is.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The bytes that are read.
    bytes: Vec<u8>,
    /// The bytes that surely survive a power cut.
    synced: Vec<u8>,
    /// Steps since the last sync. Each may survive by itself, because a disk writes in any order.
    unsynced: Vec<Step>,
    full: bool,
    /// The disk ignores syncs: a planted bug.
    lies: bool,
    /// The bytes that a power cut during each sync would have left.
    cuts: Vec<Vec<u8>>,
    random: u64,
}

#[derive(Debug)]
enum Step {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Step {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(at, data) => {
                // A write behind the end of the file is lost.
                if let Some(place) = bytes.get_mut(*at..at + data.len()) {
                    place.copy_from_slice(data);
                }
            }
        }
    }
}

impl State {
    fn coin(&mut self) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 63 == 1
    }

    /// The bytes after a power cut now: all that was synced, and a random part of the rest.
    fn cut(&mut self) -> Vec<u8> {
        let mut left = self.synced.clone();
        for at in 0..self.unsynced.len() {
            if self.coin() {
                self.unsynced[at].apply(&mut left);
            }
        }
        left
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        if self.full {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        step.apply(&mut self.bytes);
        self.unsynced.push(step);
        Ok(())
    }
}

impl Disk {
    pub(super) fn new(bytes: Vec<u8>, random: u64) -> Self {
        Self(Arc::new(Mutex::new(State { synced: bytes.clone(), bytes, random, ..State::default() })))
    }

    pub(super) fn fill(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    pub(super) fn lie(&self) {
        self.0.lock().unwrap().lies = true;
    }

    /// The bytes after a power cut now.
    pub(super) fn cut(&self) -> Vec<u8> {
        self.0.lock().unwrap().cut()
    }

    /// The bytes that power cuts during each sync since the last call would have left.
    pub(super) fn cuts(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap().cuts)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let from = offset as usize;
        let found = state.bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().step(Step::Length(length as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let cut = state.cut();
        state.cuts.push(cut);
        if !state.lies {
            state.synced = state.bytes.clone();
            state.unsynced.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().step(Step::Write(offset as usize, data.to_vec()))
    }
}
