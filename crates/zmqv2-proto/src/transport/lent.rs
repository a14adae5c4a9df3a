//! Frames that lend their bytes to libzmq, so that a body that may be sent again is not copied.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use zmq_sys::{zmq_free_fn, zmq_msg_close, zmq_msg_init_data, zmq_msg_send, zmq_msg_t};

/// A frame that only libzmq reads, because others may hold its bytes.
pub(super) struct Lent(zmq_msg_t);

impl Lent {
    /// Lends bytes to libzmq until they are sent or dropped.
    pub(super) fn new(bytes: &Arc<Vec<u8>>) -> Result<Self, zmq::Error> {
        let (data, size) = (bytes.as_ptr().cast_mut().cast(), bytes.len());
        let owner = Arc::into_raw(Arc::clone(bytes)).cast_mut().cast();
        let mut message = zmq_msg_t::default();
        let give_back: zmq_free_fn = Some(give_back);
        // SAFETY: a fresh message, and bytes that live and do not change until `owner` is given
        // back. libzmq never writes to bytes that it sends.
        if unsafe { zmq_msg_init_data(&raw mut message, data, size, give_back, owner) } == 0 {
            return Ok(Self(message));
        }
        let error = last_error();
        // SAFETY: from `Arc::into_raw` above; libzmq did not take it.
        unsafe { drop(Arc::from_raw(owner.cast_const().cast::<Vec<u8>>())) };
        Err(error)
    }

    /// Lends a frame to libzmq. When libzmq no longer needs it, `guard` is dropped as well.
    pub(super) fn keeping<G: Send + 'static>(frame: zmq::Message, guard: G) -> Result<Self, zmq::Error> {
        let kept = Box::new(Kept { frame, _guard: guard });
        let (data, size) = (kept.frame.as_ptr().cast_mut().cast(), kept.frame.len());
        let owner = Box::into_raw(kept);
        let mut message = zmq_msg_t::default();
        let give_back: zmq_free_fn = Some(drop_kept::<G>);
        // SAFETY: as in `new`. The box keeps a short frame, which has its bytes inside, in place.
        if unsafe { zmq_msg_init_data(&raw mut message, data, size, give_back, owner.cast()) } == 0 {
            return Ok(Self(message));
        }
        let error = last_error();
        // SAFETY: from `Box::into_raw` above; libzmq did not take it.
        unsafe { drop(Box::from_raw(owner)) };
        Err(error)
    }

    /// Sends it as the last frame of a message.
    pub(super) fn send(mut self, socket: &mut zmq::Socket, flags: c_int) -> Result<(), zmq::Error> {
        // SAFETY: a live message and a live socket. A sent message is empty and is closed as well.
        match unsafe { zmq_msg_send(&raw mut self.0, socket.as_mut_ptr(), flags) } {
            -1 => Err(last_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`, and closed only here.
        unsafe { zmq_msg_close(&raw mut self.0) };
    }
}

/// libzmq calls this once, on any of its threads, when it no longer needs the bytes.
unsafe extern "C" fn give_back(_: *mut c_void, owner: *mut c_void) {
    // SAFETY: from `Arc::into_raw` in `Lent::new`.
    unsafe { drop(Arc::from_raw(owner.cast_const().cast::<Vec<u8>>())) };
}

struct Kept<G> {
    frame: zmq::Message,
    _guard: G,
}

/// As `give_back`, for a frame.
unsafe extern "C" fn drop_kept<G>(_: *mut c_void, owner: *mut c_void) {
    // SAFETY: from `Box::into_raw` in `Lent::keeping`.
    unsafe { drop(Box::from_raw(owner.cast::<Kept<G>>())) };
}

fn last_error() -> zmq::Error {
    // SAFETY: reads a number of this thread.
    zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() })
}
