//! The notifier for async programs: it never blocks the executor.

use std::sync::Arc;

use serde::Serialize;
use zmqv2_proto::{Priority, RequestContext};

use crate::api::connections::Connections;
use crate::api::handles::futures::SendFuture;
use crate::api::handles::notify::NotifyHandle;
use crate::api::notifier::Notifier;
use crate::api::send::not_queued;
use crate::api::send_notification::{Messages, NotificationDraft};
use crate::outcome::send_error::SendError;

/// A [`Notifier`] for async programs, made by [`Notifier::asynchronous`].
///
/// Its verbs return futures that never block the executor, as those of an
/// [`AsyncRpcClient`](crate::AsyncRpcClient). A future gives a handle as soon as the client has the
/// notification, and the handle gives the outcomes.
///
/// ```no_run
/// use zmqv2_client::{Notifier, RequestContext};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let notifier = Notifier::builder("compute.node-7").build()?.asynchronous();
/// let handle = notifier.info(&RequestContext::new(), "instance.created", &("i-1", "small")).await?;
/// println!("{:#}", handle.await);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a notifier does nothing until it sends a notification"]
pub struct AsyncNotifier(Arc<Notifier>);

impl Notifier {
    /// This notifier for async programs. It has the options of this one.
    pub fn asynchronous(&self) -> AsyncNotifier {
        AsyncNotifier(Arc::new(self.clone()))
    }
}

macro_rules! verbs {
    ($($verb:ident $priority:ident;)*) => {$(
        #[doc = concat!("Like [`Notifier::", stringify!($verb), "`].")]
        ///
        /// # Errors
        /// As [`notify`](Self::notify).
        pub fn $verb(
            &self,
            context: &RequestContext,
            event_type: &str,
            payload: &(impl Serialize + ?Sized),
        ) -> SendFuture<NotifyHandle> {
            self.notify(context, event_type, payload, Priority::$priority)
        }
    )*};
}

impl AsyncNotifier {
    /// The notifier behind this one, for its counters, and copies with other options. Its verbs and
    /// [`close`](Notifier::close) block.
    pub fn blocking(&self) -> &Notifier {
        &self.0
    }

    /// Like [`Notifier::notify`].
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent to any of the topics.
    pub fn notify(
        &self,
        context: &RequestContext,
        event_type: &str,
        payload: &(impl Serialize + ?Sized),
        priority: Priority,
    ) -> SendFuture<NotifyHandle> {
        self.send(NotificationDraft::new(&self.0, context, event_type, payload, priority))
    }

    /// Like [`Notifier::notify_raw`].
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_raw(&self, body: impl Into<Vec<u8>>, priority: Priority) -> SendFuture<NotifyHandle> {
        self.send(NotificationDraft::ready(&self.0, body.into(), priority))
    }

    verbs! {
        audit Audit;
        debug Debug;
        info Info;
        warn Warn;
        error Error;
        critical Critical;
        sample Sample;
    }

    fn send(&self, draft: Result<NotificationDraft, SendError>) -> SendFuture<NotifyHandle> {
        let notifier = Arc::clone(&self.0);
        match draft {
            Ok(draft) => SendFuture::waiting(Arc::clone(&draft.target), Box::pin(send(notifier, draft))),
            Err(error) => SendFuture::failed(error),
        }
    }
}

async fn send(notifier: Arc<Notifier>, mut draft: NotificationDraft) -> Result<NotifyHandle, SendError> {
    let Connections { router, io_thread, .. } = &**notifier.connections;
    let target = Arc::clone(&draft.target);
    let failed = |error| not_queued(error, &target);
    let mut messages = Messages::default();
    for topic in &draft.topics {
        let (key, wait_until) = (topic.target.key(), draft.lookup_until(router));
        let listing = io_thread.listing(&router.directory, &key, wait_until, &mut None).await;
        messages.add(router, &draft, topic, listing.map_err(failed)?)?;
    }
    let (outbounds, receiver) = messages.start(draft.started, std::mem::take(&mut draft.around));
    io_thread.send_all_later(outbounds).await.map_err(failed)?;
    Ok(NotifyHandle::new(draft.id, receiver))
}
