//! Reads the replies to calls of one method.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use zmqv2_proto::{MethodName, Target};

use crate::outcome::Completion;
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::raw_reply::RawReply;

/// Reads the reply to a call, and knows what its errors name.
pub(crate) struct ResultReader<R> {
    /// `None`: the method is in a ready body.
    method: Option<MethodName>,
    target: Arc<Target>,
    allowed_modules: Arc<[String]>,
    read: fn(&Self, Completion) -> Result<Answered<R>, CallError>,
}

impl<R: DeserializeOwned> ResultReader<R> {
    /// Reads a result of `method`.
    pub(crate) fn typed(method: Option<MethodName>, target: &Arc<Target>, allowed_modules: &Arc<[String]>) -> Self {
        let read = |reader: &Self, completion: Completion| {
            let method = reader.method.as_ref().map_or("", MethodName::as_str);
            completion.into_answered(method, &reader.target, &reader.allowed_modules)
        };
        let (target, allowed_modules) = (Arc::clone(target), Arc::clone(allowed_modules));
        Self { method, target, allowed_modules, read }
    }
}

impl ResultReader<RawReply> {
    /// Leaves the reply unread.
    pub(crate) fn raw(target: &Arc<Target>) -> Self {
        let read = |reader: &Self, completion: Completion| completion.into_raw(&reader.target);
        Self { method: None, target: Arc::clone(target), allowed_modules: Arc::default(), read }
    }
}

impl<R> ResultReader<R> {
    pub(crate) fn read(&self, completion: Completion) -> Result<Answered<R>, CallError> {
        (self.read)(self, completion)
    }

    pub(crate) fn target(&self) -> Box<Target> {
        Box::new(Target::clone(&self.target))
    }
}

impl<R> Clone for ResultReader<R> {
    fn clone(&self) -> Self {
        let Self { method, target, allowed_modules, read } = self;
        let (target, allowed_modules) = (Arc::clone(target), Arc::clone(allowed_modules));
        Self { method: method.clone(), target, allowed_modules, read: *read }
    }
}

impl<R> fmt::Debug for ResultReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target, .. } = self;
        f.debug_struct("ResultReader").field("method", method).field("target", target).finish_non_exhaustive()
    }
}
