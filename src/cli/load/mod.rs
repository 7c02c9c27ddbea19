//! `load`: the counting client on the pool's service address, as a story that follows the pool or at a steady rate, and its verdict.
//!
//! ```text
//!  100    one member burns at full speed                     until two members serve
//!  split  what one member could do, spread over all          for --split-for
//!  calm   a few requests a second                            until one member is left
//! ```

mod args;
mod burners;
mod record;
mod story;
mod text;

pub(super) use self::args::LoadArgs;
use self::{burners::Burners, record::Record, story::End, text::Screen};
use super::{
    args::Output,
    out::{self, Failure},
    small_runtime, ssh,
};
use crate::{
    admin::{
        SCHEMA,
        client::{Client, ClientError},
        view::StatusView,
    },
    config::Places,
    exit::Exit,
    load::{ClientGroup, Load, LoadError, LoadPlan, LoadReport, Target, Verdict},
};

pub(super) fn run(places: &Places, args: &LoadArgs) -> Result<Exit, Failure> {
    let work =
        async { if args.stop { record::stop_all(&places.run_dir).await } else { drive(places, args).await } };
    small_runtime()?.block_on(work)
}

async fn drive(places: &Places, args: &LoadArgs) -> Result<Exit, Failure> {
    let client = Client::new(&places.admin.socket);
    // The story follows the pool; a steady load needs nobody but a URL.
    let view = match client.status().await {
        Ok(view) => Some(view),
        Err(_) if args.is_steady() && args.url.is_some() => None,
        Err(error @ ClientError::NotRunning(_)) => {
            let why = if args.is_steady() {
                "give the address to load by --url"
            } else {
                "the phases follow the pool; without it, give --url and --rate or --duration"
            };
            return Err(Failure::new(Exit::NotRunning, format!("failed to {error}; {why}")));
        }
        Err(error) => return Err(error.into()),
    };
    let url = match (&args.url, view.as_ref()) {
        (Some(url), _) => url.clone(),
        (None, view) => service_url(view)?,
    };
    let target = Target::resolve(&url).await?;
    let mut plan = LoadPlan::new(target, Vec::new());
    plan.duration = Some(args.hard_stop());
    plan.rate = args.rate;
    if args.is_steady() {
        plan.groups.push(ClientGroup { path: args.burn_path(), ..args.busy("steady") });
    }
    let burners = args.ssh.then(|| Burners::new(&args.ssh_args, ssh::netns_of(places.pool.as_str())));
    let load = Load::start(plan)?;
    let record = Record::begin(&places.run_dir);
    let screen = Screen::new(&args.out);
    let mut story = story::Story::new(args, &client, &load, record, burners, screen)?;
    let end = if args.is_steady() { story.steady().await? } else { story.tell().await? };
    // Requests in flight get their answers before anything is counted.
    drop(story);
    let report = load.stop().await;
    verdict(args, &report, &end)
}

/// The service address, as the daemon knows it.
fn service_url(view: Option<&StatusView>) -> Result<String, Failure> {
    let address = view.and_then(|view| view.vip.address);
    let address = address.ok_or_else(|| {
        Failure::new(Exit::Unavailable, "the daemon does not know its service address yet: give one by --url")
    })?;
    Ok(if address.is_ipv6() { format!("http://[{address}]/") } else { format!("http://{address}/") })
}

fn verdict(args: &LoadArgs, report: &LoadReport, end: &End) -> Result<Exit, Failure> {
    let lost = report.verdict != Verdict::NothingLost;
    let exit = match end {
        _ if lost && args.expect_no_loss => Exit::Degraded,
        End::OutOfTime(_) => Exit::Failure,
        End::Done | End::Interrupted => Exit::Ok,
    };
    match args.out.output {
        Output::Text => out::data(&text::report(report, &out::Look::of(&args.out)))?,
        Output::Json => {
            let mut value =
                serde_json::json!({ "schema": SCHEMA, "exit": exit as u8, "ended": end.as_str() });
            if let (Some(all), Ok(serde_json::Value::Object(report))) =
                (value.as_object_mut(), serde_json::to_value(report))
            {
                all.extend(report);
            }
            out::data(&out::json(&value)?)?;
        }
    }
    if let End::OutOfTime(phase) = end {
        out::talk(&format!(
            "the time was over in phase {phase}: see `lbsidecar explain` for what the pool waits for"
        ));
    }
    Ok(exit)
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let exit = match &error {
            LoadError::Target { .. } | LoadError::Plan(_) => Exit::Usage,
            LoadError::Histogram(_) => Exit::Internal,
        };
        Failure::new(exit, format!("failed to {error}"))
    }
}
