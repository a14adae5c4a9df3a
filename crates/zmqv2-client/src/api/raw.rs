//! Messages whose bodies are ready, for gateways and drivers: nothing is parsed on the way.

use zmqv2_proto::{Kind, Priority};

use crate::api::draft::{Content, Draft, FanoutDraft};
use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::notify::NotifyHandle;
use crate::api::handles::single::{CallHandle, CastHandle};
use crate::api::notifier::Notifier;
use crate::api::rpc_client::RpcClient;
use crate::api::send_notification::NotificationDraft;
use crate::interceptor::{EndResult, Verb};
use crate::outcome::answered::Answered;
use crate::outcome::call_error::CallError;
use crate::outcome::raw_reply::RawReply;
use crate::outcome::result_reader::ResultReader;
use crate::outcome::send_error::SendError;

/// Sending bodies that are ready.
///
/// The body is that of a request in the envelope of oslo.messaging: it names the method, the
/// arguments, the namespace, the version and the context. The client sends these bytes as they are.
/// The target, the timeout and the other options are those of this client. Its namespace and version
/// are not used. Bounds, retries, outcomes and counters are the same as for all messages.
impl RpcClient {
    /// Like [`call`](Self::call), with a body that is ready. The reply comes back unread, also if it is
    /// a failure.
    ///
    /// ```no_run
    /// # use zmqv2_client::{RpcClient, Target};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = RpcClient::builder(Target::topic("calculator")?).build()?;
    /// let body = r#"{"method": "add", "args": {"x": 1, "y": 2}}"#;
    /// let reply = client.call_raw(body)?.value;
    /// println!("failed: {}, {}", reply.is_failure(), String::from_utf8_lossy(reply.body()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`call`](Self::call), but never [`Remote`](CallError::Remote) or
    /// [`Answer`](CallError::Answer).
    pub fn call_raw(&self, body: impl Into<Vec<u8>>) -> Result<Answered<RawReply>, CallError> {
        let mut body = body.into();
        let content = |last| Content::<()>::Body(if last { std::mem::take(&mut body) } else { body.clone() });
        let mut around = self.interceptors().before_body(Verb::Call, &self.options.target)?;
        let result = self.call_blocking(content, &self.raw_reader());
        if result.as_ref().is_ok_and(|answered| answered.value.is_failure()) {
            around.end(EndResult::Failed, None);
        }
        around.returned(&result);
        result
    }

    /// Like [`call_async`](Self::call_async), with a body that is ready.
    ///
    /// # Errors
    /// As [`call_async`](Self::call_async).
    pub fn call_raw_async(&self, body: impl Into<Vec<u8>>) -> Result<CallHandle<RawReply>, SendError> {
        let draft = Draft::new(self, Kind::Call, Content::ready(body))?;
        Ok(CallHandle::new(self.send(draft)?, self.raw_reader()))
    }

    /// Like [`cast`](Self::cast), with a body that is ready.
    ///
    /// # Errors
    /// As [`cast`](Self::cast).
    pub fn cast_raw(&self, body: impl Into<Vec<u8>>) -> Result<CastHandle, SendError> {
        Ok(CastHandle::new(self.send(Draft::new(self, Kind::Cast, Content::ready(body))?)?))
    }

    /// Like [`fanout`](Self::fanout), with a body that is ready.
    ///
    /// # Errors
    /// As [`fanout`](Self::fanout).
    pub fn fanout_raw(&self, body: impl Into<Vec<u8>>) -> Result<FanoutHandle, SendError> {
        self.send_fanout(FanoutDraft::new(self, Content::ready(body))?)
    }

    /// Leaves replies unread.
    pub(super) fn raw_reader(&self) -> ResultReader<RawReply> {
        ResultReader::raw(&self.options.target)
    }
}

/// Sending bodies that are ready.
impl Notifier {
    /// Like [`notify`](Self::notify), with a body that is ready: a notification in the envelope of
    /// oslo.messaging, with its id, time, publisher and context. All topics get the same bytes. The
    /// [`message_id`](NotifyHandle::message_id) of the handle is the id in the logs, and not the one in
    /// the body.
    ///
    /// A sender that is content when a broker keeps the notification looks at
    /// [`all_taken_over`](crate::Report::all_taken_over): `Stored` means that a broker keeps it, and
    /// `Acked` that a listener has accepted it, too.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use zmqv2_client::{Notifier, Priority};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let notifier = Notifier::builder("gateway").topics(["notifications"])?.build()?;
    /// let body = r#"{"event_type": "instance.created", "priority": "INFO", "payload": {"id": 7}}"#;
    /// let handle = notifier.notify_raw(body, Priority::Info)?;
    /// let report = handle.wait(Duration::from_secs(5));
    /// assert!(report.is_some_and(|report| report.all_taken_over()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError`]: nothing was sent to any of the topics.
    pub fn notify_raw(&self, body: impl Into<Vec<u8>>, priority: Priority) -> Result<NotifyHandle, SendError> {
        self.send(NotificationDraft::ready(self, body.into(), priority)?)
    }
}
