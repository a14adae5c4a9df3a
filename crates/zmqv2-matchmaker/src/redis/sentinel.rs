//! Asks Sentinels where the primary is.

use redis::{ErrorKind, RedisError, cmd};
use zmqv2_proto::TcpAddress;
use zmqv2_proto::config::Secret;

use super::connection::{Login, Trouble, connect, remedy};
use super::settings::RedisSettings;

/// The address of the primary of `group`, from the first Sentinel that knows it. What it says may be old for a moment: whoever
/// connects there asks the server itself for its role.
pub(super) fn primary(
    settings: &RedisSettings,
    sentinels: &[TcpAddress],
    group: &str,
    password: Option<&Secret>,
) -> Result<TcpAddress, Trouble> {
    let mut trouble = None;
    let mut strangers = 0;
    for sentinel in sentinels {
        match ask(settings, sentinel, group, password) {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => strangers += 1,
            Err(error) => trouble = Some(error),
        }
    }
    // One that answers but does not know the group is a mistake; one that does not answer may come back.
    if strangers == sentinels.len() {
        return Err(Trouble::Useless {
            problem: format!("no Sentinel knows a group {group:?}"),
            remedy: remedy("sentinel_group_name"),
        });
    }
    Err(trouble.unwrap_or_else(|| Trouble::Failed(RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel")))))
}

fn ask(
    settings: &RedisSettings,
    sentinel: &TcpAddress,
    group: &str,
    password: Option<&Secret>,
) -> Result<Option<TcpAddress>, Trouble> {
    let login = Login { user: None, password };
    let mut connection = connect(sentinel, &login, 0, settings.tls.as_ref())?;
    let answer: Option<(String, u16)> =
        cmd("SENTINEL").arg("get-master-addr-by-name").arg(group).query(&mut connection)?;
    let Some((host, port)) = answer else { return Ok(None) };
    let address = TcpAddress::new(&host, port).map_err(|error| Trouble::Useless {
        problem: format!("Sentinel {sentinel} names a primary that cannot be reached: {error}"),
        remedy: "correct the Sentinels' configuration".to_owned(),
    })?;
    Ok(Some(address))
}
