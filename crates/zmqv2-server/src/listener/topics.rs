//! The topics of a listener, each with its priorities.

use zmqv2_proto::control::MAX_TOPICS;
use zmqv2_proto::{Exchange, Topic, TopicKey};

use super::priorities::Priorities;
use crate::error::ServerError;

#[derive(Debug, Default)]
pub(crate) struct Topics(Vec<(Option<Exchange>, Topic, Priorities)>);

impl Topics {
    pub(crate) fn add(&mut self, exchange: Option<Exchange>, topic: Topic, priorities: Priorities) {
        self.0.push((exchange, topic, priorities));
    }

    /// One key for each topic and priority, without repetitions. Topics without an exchange are in
    /// `default`.
    pub(crate) fn keys(&self, default: &Exchange) -> Result<Vec<TopicKey>, ServerError> {
        if self.0.is_empty() {
            return Err(ServerError::NoTopic);
        }
        let mut keys = Vec::new();
        for (exchange, topic, priorities) in &self.0 {
            for priority in priorities.iter() {
                let key = TopicKey::new(exchange.as_ref().unwrap_or(default), &priority.topic(topic)?);
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        if keys.len() > MAX_TOPICS { Err(ServerError::Topics(keys.len())) } else { Ok(keys) }
    }
}
