//! Reading the configuration again while the daemon runs: what may change live, and what is named and left as it was.

use super::{Config, Env, Flags, Loaded, Problems, assemble, load};

/// What a second reading brings.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The configuration from now on: the old one with the new values of the keys that may change live.
    pub config: Config,
    /// A sentence for each change that takes a restart.
    pub refused: Vec<String>,
    /// Doubts, one sentence each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads everything again. Credentials are not compared: new ones are taken at the next start.
    ///
    /// # Errors
    /// Every mistake at once, also those that only the mixture of old and new has; nothing changes then.
    pub fn reread(&self, flags: &Flags, env: &Env) -> Result<Changed, Problems> {
        let new = load(flags, env)?.config;
        let (values, differing) = self.values.changed_live(&new.values);
        let shown = |config: &Config, key| {
            let row = config.values.effective().into_iter().find(|row| row.key == key);
            row.and_then(|row| row.value).unwrap_or_else(|| "not set".to_owned())
        };
        let refused = differing
            .into_iter()
            .map(|key| {
                format!("{key}: stays {}, becomes {} at the next start", shown(self, key), shown(&new, key))
            })
            .collect();
        let Loaded { config, warnings } = assemble(values, env, Vec::new(), Vec::new())?;
        let config = Config {
            cloud: self.cloud.clone(),
            haproxy: self.haproxy.clone(),
            password: self.password.clone(),
            ..config
        };
        Ok(Changed { config, refused, warnings })
    }
}
