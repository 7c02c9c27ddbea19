//! `provision`: from an empty project to one that a pool can live in.

use clap::Args;

use super::{
    out::{self, Failure},
    progress::Progress,
    small_runtime, text,
};
use crate::{
    config::{self, Config, Env, Flags, PlaceFlags, Problems, ProvisionFlags},
    core::cloud::FailureKind,
    exit::Exit,
    openstack::{Cloud, CloudError},
    provision::{self, Pace, Plan, ProvisionError, Seen},
};

#[derive(Debug, Args)]
pub(super) struct ProvisionArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Make the pool's first snapshot too, for `run --clone-source snapshot`
    #[arg(long)]
    snapshot: bool,
    #[command(flatten)]
    pool: ProjectFlags,
    #[command(flatten)]
    what: ProvisionFlags,
}

/// The flags of `run` that also say what is made and removed.
#[derive(Debug, Clone, Args)]
pub(super) struct ProjectFlags {
    /// Name of the VM that serves at first [default: vm-test]
    #[arg(long, visible_alias = "server", value_name = "VM")]
    base: Option<String>,
    /// Port that the VMs serve on [default: 80]
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// The service address: a floating IP that the project has [default: the base's own, or a new one]
    #[arg(long, value_name = "IP")]
    vip: Option<String>,
    /// How it reaches HAProxy: port, host, static [default: port]
    #[arg(long, value_name = "MODE")]
    vip_mode: Option<String>,
    /// Name of the cloud in clouds.yaml (or OS_CLOUD)
    #[arg(long, value_name = "CLOUD")]
    os_cloud: Option<String>,
}

/// Reads the configuration. A clone's name, which it must have for `run`, is not needed here.
pub(super) fn load(
    places: &PlaceFlags,
    pool: &ProjectFlags,
    what: &ProvisionFlags,
) -> Result<Config, Problems> {
    let env = Env::of_process();
    let mut flags = Flags {
        places: places.clone(),
        base: pool.base.clone(),
        port: pool.port.clone(),
        vip: pool.vip.clone(),
        vip_mode: pool.vip_mode.clone(),
        os_cloud: pool.os_cloud.clone(),
        provision: what.clone(),
        ..Flags::default()
    };
    let loaded = config::load(&flags, &env).or_else(|_| {
        flags.clone = Some(format!("{}-clone", pool.base.as_deref().unwrap_or("vm-test")));
        config::load(&flags, &env)
    })?;
    Ok(loaded.config)
}

pub(super) fn run(places: &PlaceFlags, args: &ProvisionArgs) -> Result<Exit, Failure> {
    let config = load(places, &args.pool, &args.what)?;
    small_runtime()?.block_on(provision(&config, args))
}

async fn provision(config: &Config, args: &ProvisionArgs) -> Result<Exit, Failure> {
    let settings = &config.provision;
    let cloud = Cloud::new(config.cloud.clone()).map_err(cloud_failed)?;
    let seen = provision::look(&cloud, settings).await.map_err(cloud_failed)?;
    let plan = provision::plan(settings, &seen, args.snapshot);
    out::data(&shown(&plan, settings.pool.as_str()))?;
    if !plan.obstacles.is_empty() {
        return Err(Failure::new(
            Exit::Failure,
            format!(
                "failed to provision pool {}: nothing was changed; {} in the way",
                settings.pool,
                things(plan.obstacles.len())
            ),
        ));
    }
    if args.dry_run {
        out::data("Nothing was changed (--dry-run).\n")?;
        return Ok(Exit::Ok);
    }
    let seen = if plan.steps.is_empty() {
        seen
    } else {
        let progress = Progress::new();
        let tell = |event| progress.event(event);
        let work = provision::apply(&cloud, settings, seen, &plan, Pace::default(), &tell);
        match progress.show(work).await? {
            Some(Ok(outcome)) => outcome.seen,
            Some(Err(error)) => {
                let left = left_behind(&progress, config);
                return Err(Failure::new(exit_of(&error), format!("failed to {error}\n{left}")));
            }
            None => {
                let left = left_behind(&progress, config);
                return Err(Failure::new(Exit::Failure, format!("interrupted\n{left}")));
            }
        }
    };
    out::data(&next(config, &seen))?;
    Ok(Exit::Ok)
}

/// The plan, for people.
fn shown(plan: &Plan, pool: &str) -> String {
    let mut text = String::new();
    for note in &plan.notes {
        text += &format!("  = {}\n", text::clean(note));
    }
    for step in &plan.steps {
        let sign = if step.mends { '~' } else { '+' };
        text += &format!("  {sign} {}\n", text::clean(&step.text));
    }
    for obstacle in &plan.obstacles {
        text += &format!("  ! {}\n", text::clean(obstacle));
    }
    let head = match (plan.steps.len(), plan.obstacles.len()) {
        (0, 0) => format!("Pool {pool} has everything: nothing to do.\n"),
        (_, 0) => {
            let mends = plan.steps.iter().filter(|step| step.mends).count();
            let mended = if mends == 0 {
                String::new()
            } else {
                format!(", {mends} of them to mend what is there (~)")
            };
            format!("Pool {pool}: {} to do{mended}.\n", things(plan.steps.len()))
        }
        _ => format!("Pool {pool}: what is in the way (!) must be settled first.\n"),
    };
    head + &text
}

fn things(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}

/// What a run that did not end well leaves, and the commands that go on or remove it.
fn left_behind(progress: &Progress, config: &Config) -> String {
    let me = program(config);
    let done = progress.done();
    let mut text = String::new();
    if done.is_empty() {
        text += "Nothing was made.";
    } else {
        text += "Made so far:";
        for what in &done {
            text += &format!("\n  {}", text::clean(what));
        }
    }
    if let Some(current) = progress.current() {
        text += &format!("\nUnder way, and perhaps done: {}", text::clean(&current));
    }
    text + &format!(
        "\nThe same command goes on from here; `{me} cleanup --network --snapshots` removes all of it."
    )
}

/// Our name and pool, as they are typed.
pub(super) fn program(config: &Config) -> String {
    match config.places.pool.as_str() {
        "default" => "lbsidecar".to_owned(),
        pool => format!("lbsidecar --pool {pool}"),
    }
}

/// What to do now, ready to paste.
fn next(config: &Config, seen: &Seen) -> String {
    let (settings, me) = (&config.provision, program(config));
    let mut flags = format!("--base {} --clone {}", quoted(&settings.base), quoted(&config.core.clone));
    if settings.port != 80 {
        flags += &format!(" --port {}", settings.port);
    }
    if let Some(address) = settings.address {
        flags += &format!(" --vip {address}");
    }
    let mut text = "\nNext:\n".to_owned();
    let mut line = |command: String, what: &str| text += &format!("  {command}\n      # {what}\n");
    if let Some(ip) = &seen.floating_ip {
        let port = if settings.port == 80 { String::new() } else { format!(":{}", settings.port) };
        let led = if seen.balancer.as_ref().is_some_and(|port| ip.port.is_some_and(|p| p.0 == port.id)) {
            "the service answers, through HAProxy"
        } else {
            "the VM answers; from elsewhere than this host, as soon as HAProxy is before it"
        };
        line(format!("curl http://{}{port}/", ip.address), led);
        if settings.public_key.is_none() {
            let key = settings.key_file.display().to_string();
            line(
                format!("ssh -i {} USER@{}", quoted(&key), ip.address),
                "log in; USER is what the image says",
            );
        }
    }
    line(format!("{me} check {flags}"), "everything that the daemon needs, line by line");
    line(format!("{me} run {flags}"), "the daemon: it takes the service over without losing a request");
    line(format!("{me} cleanup --network --snapshots"), "remove everything again");
    text
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", text::clean(word).replace('\'', r"'\''"))
}

fn exit_of(error: &ProvisionError) -> Exit {
    of_kind(error.kind())
}

fn of_kind(kind: FailureKind) -> Exit {
    match kind {
        FailureKind::Unauthorized => Exit::NoPermission,
        FailureKind::Transient | FailureKind::Unknown => Exit::Unavailable,
        FailureKind::Capacity | FailureKind::Conflict | FailureKind::NotFound | FailureKind::Permanent => {
            Exit::Failure
        }
    }
}

/// A call that failed before anything was changed.
pub(super) fn cloud_failed(error: CloudError) -> Failure {
    Failure::new(of_kind(error.kind()), format!("failed to {error}; nothing was changed"))
}
