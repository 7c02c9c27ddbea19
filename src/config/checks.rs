//! Rules about values that are each well formed: ranges, and how settings must agree with each other.

use std::{fmt::Display, path::Path, time::Duration};

use super::{
    choices::{PlugWay, Way},
    env::Env,
    files::says,
    keys::Values,
    problem::{Origin, Problem},
    values::Sourced,
};
use crate::{core::units::Percent, telemetry::log::check_filter};

/// Below this distance between the thresholds a pool is likely to swing.
const WEAK_GAP: f64 = 15.0;
/// libvirt's counters move in steps of 10 ms on many hosts; a shorter sample is mostly noise.
const SHORTEST_SAMPLE: Duration = Duration::from_millis(100);
/// Below this the steps show.
const ROUGH_SAMPLE: Duration = Duration::from_millis(500);
/// What Nova takes as user data: 65535 bytes of base64.
const LONGEST_USER_DATA: u64 = 49_151;
/// HAProxy binds `<path>.<pid>.tmp` first, and a Unix socket's path has at most 107 bytes.
const LONGEST_RUN_DIR: usize = 75;

/// How one value must lie to another.
#[derive(Clone, Copy)]
enum Bound {
    Above,
    NotBelow,
}

/// What the rules found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Mistakes.
    pub(super) problems: Vec<Problem>,
    /// Doubts.
    pub(super) warnings: Vec<Problem>,
}

impl Findings {
    /// Looks at everything. Values that are not set, or were wrong by themselves, are left out.
    pub(super) fn all(&mut self, values: &Values, env: &Env) {
        self.pool(values);
        self.policy(values);
        self.transition(values);
        self.haproxy(values);
        self.addresses(values, env);
        self.clone_spec(values, env);
        if let Some(filter) = &values.log_filter
            && let Err(why) = check_filter(&filter.value)
        {
            self.wrong(filter, why);
        }
    }

    fn wrong<T>(&mut self, what: &Sourced<T>, why: impl Into<String>) {
        self.problems.push(what.problem(why));
    }

    fn doubt<T>(&mut self, what: &Sourced<T>, why: impl Into<String>) {
        self.warnings.push(what.problem(why));
    }

    /// Tells when `one` is not above `other` as it must be. The one that somebody set is to blame, and of two the first.
    fn must<T: PartialOrd>(
        &mut self,
        one: &Option<Sourced<T>>,
        bound: Bound,
        other: &Option<Sourced<T>>,
        because: &str,
    ) {
        let (Some(one), Some(other)) = (one, other) else { return };
        let (holds, forward, backward) = match bound {
            Bound::Above => (one.value > other.value, "must be above", "must be below"),
            Bound::NotBelow => (one.value >= other.value, "must not be below", "must not be above"),
        };
        if holds {
            return;
        }
        if one.origin == Origin::Default && other.origin != Origin::Default {
            self.wrong(other, format!("it {backward} {}: {because}", named(one)));
        } else {
            self.wrong(one, format!("it {forward} {}: {because}", named(other)));
        }
    }

    fn not_zero(&mut self, duration: Option<&Sourced<Duration>>) {
        if let Some(duration) = duration.filter(|duration| duration.value.is_zero()) {
            self.wrong(duration, "it must be longer than nothing");
        }
    }

    fn pool(&mut self, values: &Values) {
        if let Some(clone) = &values.pool_clone {
            if !plain(&clone.value) {
                self.wrong(clone, "a VM's name that we make has only A-Z, a-z, 0-9, '-', '_' and '.'");
            }
            if clone.value.len() > 60 {
                self.wrong(clone, "longer than 60 characters");
            }
            if values.pool_base.as_ref().is_some_and(|base| base.value == clone.value) {
                self.wrong(clone, "it is the base's own name: the clone needs another");
            }
        }
        if let Some(members) = values.pool_max_members.as_ref().filter(|members| members.value.get() < 2) {
            self.wrong(members, "it counts the base too, so that below 2 no clone could ever be made");
        }
    }

    fn policy(&mut self, values: &Values) {
        let (high, low) = (&values.policy_high, &values.policy_low);
        self.must(
            high,
            Bound::Above,
            low,
            "else one value would vote for a clone and for the handover at once",
        );
        self.must(high, Bound::Above, &values.policy_margin, "else no handover could ever be allowed");
        if let (Some(high), Some(low)) = (high, low) {
            let (h, l) = (high.value.get(), low.value.get());
            let margin = values.policy_margin.as_ref().map_or(0.0, |m| m.value.get());
            if h > l && h - l < WEAK_GAP {
                self.doubt(
                    low,
                    format!("less than {WEAK_GAP} points below {}: the pool may swing", named(high)),
                );
            } else if h > margin && 2.0 * l > h - margin {
                let most = Percent::clamped((h - margin) / 2.0);
                let because = format!(
                    "two VMs at that load do not fit into one with {margin} points to spare below {}",
                    named(high)
                );
                self.doubt(
                    low,
                    format!("a handover may be held back: {because}; {} or less is safe", most.get()),
                );
            }
        }
        self.must(
            &values.policy_interval,
            Bound::NotBelow,
            &values.policy_sample,
            "an interval needs a sample",
        );
        if let Some(sample) = &values.policy_sample {
            if sample.value < SHORTEST_SAMPLE {
                self.wrong(sample, "below 100ms the counters' own steps of 10ms are all that is seen");
            } else if sample.value < ROUGH_SAMPLE {
                self.doubt(
                    sample,
                    "below 500ms a reading is off by several points where counters move in steps of 10ms",
                );
            }
        }
    }

    fn transition(&mut self, values: &Values) {
        for duration in [
            &values.transition_build_deadline,
            &values.transition_healthy_deadline,
            &values.transition_drain_deadline,
            &values.transition_delete_deadline,
            &values.transition_backoff_first,
            &values.guests_deadline,
            &values.cloud_timeout,
        ] {
            self.not_zero(duration.as_ref());
        }
        if let Some(ramp) = &values.transition_ramp {
            let rising = ramp.value.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
            if !rising || ramp.value.first() == Some(&0) || ramp.value.last() != Some(&100) {
                self.wrong(ramp, "it must rise from at least 1 and end with 100, as in [1, 10, 50, 100]");
            }
        }
        self.must(
            &values.transition_backoff_max,
            Bound::NotBelow,
            &values.transition_backoff_first,
            "pauses grow",
        );
        if let (Some(deadline), Some(proofs), Some(interval)) =
            (&values.transition_healthy_deadline, &values.transition_proofs, &values.haproxy_check_interval)
        {
            let needed = interval.value.saturating_mul(proofs.value.get());
            if deadline.value <= needed {
                let why = format!("{} good checks, each {}, take longer", proofs.value, named(interval));
                self.wrong(deadline, why);
            }
        }
    }

    fn haproxy(&mut self, values: &Values) {
        self.must(
            &values.haproxy_hard_stop_after,
            Bound::Above,
            &values.transition_drain_deadline,
            "else a worker of a former configuration is ended while a drain still waits for its sessions",
        );
        self.must(
            &values.haproxy_hard_stop_after,
            Bound::NotBelow,
            &values.haproxy_server_timeout,
            "else a reload could cut a request that is still legal",
        );
        if let (Some(drain), Some(longest)) =
            (&values.transition_drain_deadline, &values.haproxy_server_timeout)
            && drain.value < longest.value
        {
            self.doubt(drain, format!("shorter than the longest legal request ({})", named(longest)));
        }
        for duration in [
            &values.haproxy_check_interval,
            &values.haproxy_server_timeout,
            &values.haproxy_keep_alive_timeout,
        ] {
            self.not_zero(duration.as_ref());
        }
        if let Some(path) = &values.haproxy_check_path {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-._~/?&=%:@+,;!*()".contains(c);
            if !path.value.starts_with('/') || !path.value.chars().all(legal) {
                self.wrong(path, "a path begins with '/' and has no spaces, quotes or control characters");
            }
        }
        if let Some(user) = &values.haproxy_stats_user
            && !plain(&user.value)
        {
            self.wrong(user, "use only A-Z, a-z, 0-9, '-', '_' and '.'");
        }
        if let Some(unit) = &values.haproxy_unit
            && !(unit.value.ends_with(".service")
                && unit.value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@\\:".contains(c)))
        {
            self.wrong(unit, "a unit's name ends with .service, as in lbsidecar-haproxy@web.service");
        }
    }

    fn addresses(&mut self, values: &Values, env: &Env) {
        for local in [&values.haproxy_stats_bind, &values.admin_listen].into_iter().flatten() {
            if !local.value.ip().is_loopback() {
                self.wrong(
                    local,
                    "it must be a loopback address, as 127.0.0.1: it is not meant for the network",
                );
            }
        }
        if let (Some(stats), Some(admin)) = (&values.haproxy_stats_bind, &values.admin_listen)
            && stats.value == admin.value
        {
            self.wrong(admin, format!("it is taken by {}", named(stats)));
        }
        if let Some(bind) = &values.haproxy_bind {
            if bind.value.is_empty() {
                self.wrong(bind, "HAProxy must listen somewhere: leave it out for the default");
            }
            if let Some(twice) =
                bind.value.iter().enumerate().find(|(i, a)| bind.value.iter().take(*i).any(|b| b == *a))
            {
                self.wrong(bind, format!("{} is in it twice", twice.1));
            }
        } else if let (Some(set @ Sourced { value: Way::Static, .. }), None) =
            (&values.vip_mode, &values.vip_address)
        {
            self.wrong(
                set,
                "the address must be known: give it by vip.address (--vip) or haproxy.bind (--bind)",
            );
        }
        if let Some(interface) = &values.vip_interface {
            let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
            if interface.value.len() > 15 || !interface.value.chars().all(legal) {
                self.wrong(
                    interface,
                    "an interface's name has at most 15 characters and no spaces, '/' or ':'",
                );
            }
        }
        if let Some(netns) = &values.vip_netns
            && !netns.value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        {
            self.wrong(netns, "use only A-Z, a-z, 0-9, '-' and '_'");
        }
        if let (Some(command), Some(plug)) = (&values.vip_ovs_command, &values.vip_plug)
            && command.origin != Origin::Default
            && plug.value != PlugWay::Ovs
        {
            self.doubt(command, "it is used with vip.plug = \"ovs\" only");
        }
        if let Some(run_dir) = &values.daemon_run_dir {
            let pool = values.pool_name.as_ref().map_or(0, |pool| pool.value.as_str().len() + 1);
            if env.path(&run_dir.value).as_os_str().len() + pool > LONGEST_RUN_DIR {
                let why = format!(
                    "with the pool's name longer than {LONGEST_RUN_DIR} characters, too long for a socket's path"
                );
                self.wrong(run_dir, why);
            }
        }
    }

    fn clone_spec(&mut self, values: &Values, env: &Env) {
        if let Some(user_data) = &values.clone_user_data {
            match readable(&env.path(&user_data.value)) {
                Err(why) => self.wrong(user_data, why),
                Ok(length) if length > LONGEST_USER_DATA => {
                    self.wrong(
                        user_data,
                        format!("{length} bytes long, and Nova takes {LONGEST_USER_DATA} at most"),
                    );
                }
                Ok(_) => {}
            }
        }
        if let Some(template) = &values.haproxy_template
            && let Err(why) = readable(&env.path(&template.value))
        {
            self.wrong(template, why);
        }
        if let Some(groups) = values.clone_security_groups.as_ref().filter(|groups| groups.value.is_empty()) {
            self.wrong(
                groups,
                "a clone without a security group answers nobody: leave it out to copy the base's",
            );
        }
    }
}

/// The length of a file that can be read.
fn readable(path: &Path) -> Result<u64, String> {
    let length = std::fs::File::open(path).and_then(|file| file.metadata());
    match length.map_err(|error| says(&error))? {
        file if file.is_file() => Ok(file.len()),
        _ => Err("it is not a file".to_owned()),
    }
}

/// Whether a name needs no quoting anywhere.
fn plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A setting's name and value, for a sentence about another one.
fn named<T>(setting: &Sourced<T>) -> impl Display + use<T> {
    format!("{} ({})", setting.key, setting.shown)
}
