//! SIGHUP: reads the configuration again.

use std::sync::Arc;

use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::config::{EffectiveOption, Loaded, MatchmakerKind};

use super::flags::{CommonFlags, Setup};

/// The option that a running program takes over.
const LOG_LEVEL: &str = "rpc_zmq_log_level";

/// Reads the configuration of a running program again.
pub struct Reloader {
    flags: CommonFlags,
    default_level: log::LevelFilter,
    /// The values in use.
    loaded: Loaded,
    directory: Option<Arc<dyn Matchmaker>>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    /// For a program that was started with these flags and this configuration. `directory` is the
    /// directory of services that it uses, if it does.
    #[must_use]
    pub fn new(flags: &CommonFlags, setup: &Setup, directory: Option<Arc<dyn Matchmaker>>) -> Self {
        let (default_level, loaded) = (setup.default_level, setup.loaded.clone());
        Self { flags: flags.clone(), default_level, loaded, directory }
    }

    /// Takes over the level of the log, reads the ring file again, and logs which options have
    /// changed and need a restart. A configuration with a mistake changes nothing.
    pub fn reload(&self) {
        log::info!("got SIGHUP: reading the configuration again");
        match self.flags.load() {
            Ok(new) => self.take_over(&new),
            Err(error) => log::error!("the configuration stays as it was: {error}"),
        }
        self.read_ring();
    }

    fn take_over(&self, new: &Loaded) {
        super::flags::warn(&new.warnings);
        let before = log::max_level();
        let level = self.flags.level(&new.config, self.default_level);
        // The new level counts from here on, but the line about it must appear.
        log::set_max_level(level.max(before));
        if level != before {
            log::warn!("the level of the log is {level} now, before it was {before}");
        }
        let restart = needing_restart(&self.loaded, new);
        for (old, new) in &restart {
            let [old_value, new_value] = [old, new].map(|option| option.value.as_deref().unwrap_or("unset"));
            log::warn!(
                "[{}] {} is {new_value} now ({}), but {old_value} stays in use until a restart",
                new.group,
                new.name,
                new.source
            );
        }
        let mut same = new.config.clone();
        same.log_level = self.loaded.config.log_level;
        if restart.is_empty() && same != self.loaded.config {
            log::warn!("a password has changed; the old one stays in use until a restart");
        } else if restart.is_empty() {
            log::info!("no option has changed that needs a restart");
        }
        log::set_max_level(level);
    }

    fn read_ring(&self) {
        if self.loaded.config.matchmaker == MatchmakerKind::Ring
            && let Some(directory) = &self.directory
        {
            match directory.refresh() {
                Ok(_) => log::info!("the ring file {} was read again", self.loaded.config.ring_file.display()),
                // The directory has logged why.
                Err(error) => log::debug!("{error}"),
            }
        }
    }
}

/// The options whose new values do not count, with both.
fn needing_restart<'a>(old: &'a Loaded, new: &'a Loaded) -> Vec<(&'a EffectiveOption, &'a EffectiveOption)> {
    let pairs = old.effective.iter().zip(&new.effective);
    let changed = |(old, new): &(&EffectiveOption, &EffectiveOption)| {
        old.name != LOG_LEVEL && (&old.value, old.overridden) != (&new.value, new.overridden)
    };
    pairs.filter(changed).collect()
}
