//! Opens the directory that the configuration names.

use std::sync::Arc;

use zmqv2_proto::config::MatchmakerKind;
use zmqv2_proto::{Config, Node, TcpAddress};

use crate::{LocalMatchmaker, Matchmaker, MatchmakerError, RingMatchmaker};

/// Opens the directory that `config` names (option `rpc_zmq_matchmaker`).
///
/// # Errors
/// [`MatchmakerError`] when the directory cannot be used: a ring file with a mistake, or, within a
/// few seconds, a Redis that cannot be reached.
pub fn open(config: &Config) -> Result<Arc<dyn Matchmaker>, MatchmakerError> {
    let config = &config.clone().bounded();
    Ok(match config.matchmaker {
        MatchmakerKind::Ring => Arc::new(RingMatchmaker::open(&config.ring_file, config.port)?),
        #[cfg(feature = "redis")]
        MatchmakerKind::Redis => Arc::new(crate::RedisDirectory::open(config)?),
        #[cfg(not(feature = "redis"))]
        MatchmakerKind::Redis => {
            return Err(MatchmakerError::Misconfigured {
                directory: "redis".to_owned(),
                problem: "this program was built without Redis".to_owned(),
                remedy: "turn on the feature `redis` of the dependency zmqv2-client, zmqv2-broker or \
                         zmqv2-matchmaker, such as `cargo add zmqv2-client --features redis`, or correct \
                         rpc_zmq_matchmaker"
                    .to_owned(),
            });
        }
        MatchmakerKind::Local => {
            let name = config.host.clone();
            // Clients reach their own node over its socket directory, so the address is not used. A
            // node name need not be a host name.
            let address =
                TcpAddress::new(name.as_str(), config.port).or_else(|_| TcpAddress::new("127.0.0.1", config.port));
            let failed =
                |source| MatchmakerError::Unavailable { directory: "local".to_owned(), source: Box::new(source) };
            Arc::new(LocalMatchmaker::new(Node::new(name, address.map_err(failed)?)))
        }
        kind => {
            return Err(MatchmakerError::Misconfigured {
                directory: format!("{kind:?}").to_lowercase(),
                problem: "this program does not know this kind of directory".to_owned(),
                remedy: "update zmqv2-matchmaker, or correct rpc_zmq_matchmaker".to_owned(),
            });
        }
    })
}

#[cfg(all(test, not(feature = "redis")))]
mod tests {
    use super::*;

    /// `.ci/run features` runs it.
    #[test]
    fn a_program_without_redis_names_the_feature_and_how_to_get_it() {
        let config = Config::builder().set("rpc_zmq_matchmaker", "redis").build().unwrap().config;
        let error = open(&config).unwrap_err();
        assert!(!error.may_pass());
        let error = error.to_string();
        assert_eq!(
            error,
            "cannot use the redis directory: this program was built without Redis; turn on the feature `redis` of the \
             dependency zmqv2-client, zmqv2-broker or zmqv2-matchmaker, such as `cargo add zmqv2-client --features \
             redis`, or correct rpc_zmq_matchmaker"
        );
    }
}
