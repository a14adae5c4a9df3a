//! Requests and notifications that Python has polled.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zmqv2_server::{BodyKind, PulledNotification, PulledRequest, Reason, Verdict};

/// A call or a cast. Any thread may use it. If it is dropped, it goes back to the broker, unless it was
/// acknowledged or answered.
#[pyclass(frozen)]
pub struct Request(Mutex<Option<PulledRequest>>);

impl Request {
    pub fn new(request: PulledRequest) -> Self {
        Self(Mutex::new(Some(request)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<PulledRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Request {
    /// The id of the message, in hexadecimal digits. Empty after its end.
    #[getter]
    fn id(&self) -> String {
        self.lock().as_ref().map(|request| request.id().to_string()).unwrap_or_default()
    }

    /// Whether the sender waits for a reply.
    #[getter]
    fn is_call(&self) -> bool {
        self.lock().as_ref().is_some_and(PulledRequest::is_call)
    }

    /// The body. Empty after the end.
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.lock().as_ref().map(PulledRequest::body).unwrap_or_default())
    }

    /// Tells the sender of a cast that it runs. Does nothing for a call.
    fn acknowledge(&self) {
        if let Some(request) = self.lock().as_mut() {
            request.acknowledge();
        }
    }

    /// Answers a call, and ends a cast. Returns whether it was open.
    fn reply(&self, body: Vec<u8>, is_failure: bool) -> bool {
        let request = self.lock().take();
        let kind = if is_failure { BodyKind::Failure } else { BodyKind::Result };
        request.map(|request| request.reply_bytes(body, kind)).is_some()
    }

    /// Refuses a request whose body cannot be read.
    fn refuse_malformed(&self, text: &str) {
        if let Some(request) = self.lock().take() {
            request.refuse(Reason::Malformed, text);
        }
    }

    /// Gives it back to the broker.
    fn requeue(&self) {
        drop(self.lock().take());
    }
}

/// A notification. Any thread may use it. If it is dropped, it comes again.
#[pyclass(frozen)]
pub struct Notification(Mutex<Option<PulledNotification>>);

impl Notification {
    pub fn new(notification: PulledNotification) -> Self {
        Self(Mutex::new(Some(notification)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<PulledNotification>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, verdict: Verdict) {
        if let Some(notification) = self.lock().take() {
            notification.end(verdict);
        }
    }
}

#[pymethods]
impl Notification {
    /// The id of the message, in hexadecimal digits. Empty after its end.
    #[getter]
    fn id(&self) -> String {
        self.lock().as_ref().map(|notification| notification.id().to_string()).unwrap_or_default()
    }

    /// The number of this delivery, from 1.
    #[getter]
    fn delivery(&self) -> u16 {
        self.lock().as_ref().map_or(0, PulledNotification::delivery)
    }

    /// The body. Empty after the end.
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.lock().as_ref().map(PulledNotification::body).unwrap_or_default())
    }

    /// It was handled.
    fn acknowledge(&self) {
        self.end(Verdict::Handled);
    }

    /// It comes again, as often as the broker's limit allows.
    fn requeue(&self) {
        self.end(Verdict::Requeue);
    }
}
