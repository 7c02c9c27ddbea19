//! Misbehaviour on demand: rules that say which requests go wrong, how, and how often.

use std::sync::{Mutex, MutexGuard, PoisonError};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::errors::Service;

/// One rule. The first rule that matches a request and has not been used up is played on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Only requests to this service.
    #[serde(default)]
    pub service: Option<Service>,
    /// Only this method.
    #[serde(default)]
    pub method: Option<String>,
    /// A regular expression that path and query must match somewhere, e.g. `^/v2.1/servers$`.
    pub path: String,
    /// What happens.
    pub what: What,
    /// How often; `None` is for ever.
    #[serde(default)]
    pub times: Option<u32>,
}

/// What happens to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// It is not carried out; this is the answer.
    Answer {
        /// The status.
        status: u16,
        /// The body; the service's usual error body when there is none.
        #[serde(default)]
        body: Option<Value>,
        /// A `Retry-After` header, seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// It is carried out after this time.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// It is neither carried out nor answered; the connection stays open.
    Hang,
    /// It is not carried out; the connection is closed.
    Close,
    /// It is carried out, and its answer is lost: replaced by an error with this status, or by a closed connection.
    LostReply {
        /// The status.
        #[serde(default)]
        status: Option<u16>,
    },
    /// It is carried out, and the connection is closed in the middle of the answer's body.
    Truncate,
    /// `POST /servers`: the server stays in BUILD.
    StuckBuild,
    /// `POST /servers`: the server ends in ERROR.
    BuildError {
        /// The fault's message; `No valid host was found. ` when there is none.
        #[serde(default)]
        message: Option<String>,
    },
    /// `DELETE /servers/<id>`: it stays with task `deleting`.
    StuckDelete,
    /// A list does not show yet what was made in the last seconds.
    ListLag {
        /// Seconds.
        seconds: u64,
    },
}

/// A rule that is in force, or was.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// Its id.
    pub id: u64,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// How often it was played.
    pub hits: u32,
    #[serde(skip)]
    path: Regex,
}

/// The switchboard.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Standing>>,
}

impl Faults {
    /// Puts a rule in force; answers its id.
    ///
    /// # Errors
    /// When the rule's path is not a regular expression.
    pub fn add(&self, rule: Rule) -> Result<u64, regex::Error> {
        let path = Regex::new(&rule.path)?;
        let mut rules = self.lock();
        let id = rules.last().map_or(1, |last| last.id + 1);
        rules.push(Standing { id, rule, hits: 0, path });
        Ok(id)
    }

    /// All rules, used up or not.
    #[must_use]
    pub fn list(&self) -> Vec<Standing> {
        self.lock().clone()
    }

    /// Takes all rules back.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Finds the rule for a request and counts it as played.
    pub(super) fn strike(&self, service: Service, method: &str, path: &str) -> Option<(u64, What)> {
        let mut rules = self.lock();
        let standing = rules.iter_mut().find(|standing| {
            let rule = &standing.rule;
            rule.times.is_none_or(|times| standing.hits < times)
                && rule.service.is_none_or(|own| own == service)
                && rule.method.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(method))
                && standing.path.is_match(path)
        })?;
        standing.hits += 1;
        Some((standing.id, standing.rule.what.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
