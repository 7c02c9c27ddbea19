//! The flags of `load`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use crate::{
    cli::{args::OutputArgs, ssh::SshArgs},
    load::ClientGroup,
};

/// A part of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Phase {
    /// Full load, until two members serve
    #[value(name = "100")]
    Full,
    /// What one member could do, over all of them
    Split,
    /// A few requests, until one member is left
    Calm,
}

impl Phase {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Full => "100",
            Phase::Split => "split",
            Phase::Calm => "calm",
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArgs {
    /// Parts of the story, in this order: 100 (until scale-out), split, calm (until handover) [default: all]
    #[arg(value_enum, hide_possible_values = true, conflicts_with_all = ["rate", "duration"])]
    phases: Vec<Phase>,
    /// What is loaded, as `http://host[:port][/path]` [default: the pool's service address]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// No story: at most so many requests a second
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    pub(super) rate: Option<f64>,
    /// No story: for so long [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Clients, each with one connection and one request at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// CPU time that a request burns in the guest, in milliseconds [default: 50 in the story, none with --rate]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    burn_ms: Option<u32>,
    /// Where the guests burn it
    #[arg(long, value_name = "PATH", default_value = "/burn?ms={ms}")]
    burn_path: String,
    /// How long `split` lasts
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(super) split_for: Duration,
    /// The story ends after this time in any case
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    stop_after: Duration,
    /// Burn over SSH, with a process for each vCPU, in guests that have no such path
    #[arg(long, conflicts_with_all = ["rate", "duration", "burn_ms", "burn_path"])]
    pub(super) ssh: bool,
    /// End every load that was started here, burners in guests included
    #[arg(long, conflicts_with_all = ["phases", "url", "rate", "duration", "ssh"])]
    pub(super) stop: bool,
    /// End with 2 when a request was lost
    #[arg(long)]
    pub(super) expect_no_loss: bool,
    #[command(flatten)]
    pub(super) out: OutputArgs,
    #[command(flatten)]
    pub(super) ssh_args: SshArgs,
}

impl LoadArgs {
    /// Whether it is a load without a story.
    pub(super) fn is_steady(&self) -> bool {
        self.rate.is_some() || self.duration.is_some()
    }

    pub(super) fn phases(&self) -> Vec<Phase> {
        if self.phases.is_empty() {
            vec![Phase::Full, Phase::Split, Phase::Calm]
        } else {
            self.phases.clone()
        }
    }

    /// When it ends in any case.
    pub(super) fn hard_stop(&self) -> Duration {
        if self.is_steady() { self.duration.unwrap_or(Duration::from_secs(60)) } else { self.stop_after }
    }

    /// Clients without a pause between their requests.
    pub(super) fn busy(&self, name: &str) -> ClientGroup {
        ClientGroup {
            name: name.to_owned(),
            ..ClientGroup::keep_alive(self.connections.into(), Duration::ZERO)
        }
    }

    /// CPU milliseconds of a request in the story.
    pub(super) fn story_burn_ms(&self) -> u32 {
        self.burn_ms.unwrap_or(50)
    }

    /// The path that burns, when a steady load shall burn.
    pub(super) fn burn_path(&self) -> Option<String> {
        self.burn_ms.map(|ms| self.burn_path_of(ms))
    }

    pub(super) fn burn_path_of(&self, ms: u32) -> String {
        self.burn_path.replace("{ms}", &ms.to_string())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        Ok(_) | Err(_) => Err("use a number of requests a second above 0, at most 1000000".to_owned()),
    }
}

/// `90s`, `10m`, `1h 30m`; a bare number means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok()),
    };
    let longest = Duration::from_secs(24 * 3600);
    parsed
        .filter(|time| !time.is_zero() && *time <= longest)
        .ok_or_else(|| "use a time such as 90s, 10m or 1h 30m, at most 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_read_and_nonsense_is_refused() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h 30m", 5400), ("7", 7)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0", "-5s", "x", "inf", "NaN", "25h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "x"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
