//! From a configuration to the directory it asks for.

use std::sync::Arc;

use zmqv2_proto::config::MatchmakerKind;
use zmqv2_proto::{Config, Node, TcpAddress};

use crate::{LocalMatchmaker, Matchmaker, MatchmakerError, RingMatchmaker};

/// Opens the directory that `config` names (option `rpc_zmq_matchmaker`).
///
/// # Errors
/// [`MatchmakerError`] when the directory cannot be used, such as a ring file with a mistake in it, or a Redis that cannot be
/// reached. For Redis, it says so within a few seconds.
pub fn open(config: &Config) -> Result<Arc<dyn Matchmaker>, MatchmakerError> {
    Ok(match config.matchmaker {
        MatchmakerKind::Ring => Arc::new(RingMatchmaker::open(&config.ring_file, config.port)?),
        #[cfg(feature = "redis")]
        MatchmakerKind::Redis => Arc::new(crate::RedisDirectory::open(config)?),
        #[cfg(not(feature = "redis"))]
        MatchmakerKind::Redis => {
            return Err(MatchmakerError::Misconfigured {
                directory: "redis".to_owned(),
                problem: "this program was built without it".to_owned(),
                remedy: "build zmqv2-matchmaker with its feature redis, or correct rpc_zmq_matchmaker".to_owned(),
            });
        }
        // `local`, and whatever kind this build does not know: the configuration has refused that already.
        _ => {
            let name = config.host.clone();
            // The own node is reached over its socket directory; a name that is no host name does no harm.
            let address =
                TcpAddress::new(name.as_str(), config.port).or_else(|_| TcpAddress::new("127.0.0.1", config.port));
            match address {
                Ok(address) => Arc::new(LocalMatchmaker::new(Node::new(name, address))),
                Err(source) => {
                    return Err(MatchmakerError::Unavailable { directory: "local".to_owned(), source: source.into() });
                }
            }
        }
    })
}
