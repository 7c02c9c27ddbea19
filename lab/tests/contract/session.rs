//! What the program itself asked of a real OpenStack, from an empty project to an empty project, asked of the lab's cloud again: each answer
//! must have the recorded status, headers, members and types, and each state must come in the recorded order.
//! `lab/tests/openstack/records.rs` makes these recordings; `sessions/README.md` says of which versions they are.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use lbsidecar_lab::cloud::{
    clock::Clock,
    null::NullDriver,
    options::{Host, Options, Seed},
    serve,
};
use reqwest::Client;
use serde_json::Value;

use crate::{
    Answered, Recording, Stage,
    compare::{Ids, kind},
    compared, urls,
};

/// How often a state is looked for while the driver is held back, and then while it is not; 50 ms of the cloud's time lie between.
const LOOKS: (u32, u32) = (40, 400);

/// Differences that are known: in which requests, how the line that tells of them goes on, and why.
const EXCUSED: &[(&str, &str, &str)] = &[
    (
        "GET 9292/v2/images",
        "/",
        "the lab's images tell their distribution, the recorded rig's own one does not",
    ),
    (
        "GET 9696/v2.0/routers?project_id",
        STATE,
        "the rig has MicroStack's own router, the lab begins with none",
    ),
    ("POST 9696/v2.0/ports", "/port/binding:vif_details/bound_drivers", "shown from the second look on"),
    (
        "9696/v2.0/ports",
        STATE,
        "a port comes up when something is plugged, which the driver here does at once",
    ),
    (
        "PUT 9696/v2.0/ports",
        "/port/binding:vif_details/",
        "a router's port is bound a moment after it was made; here at once",
    ),
    ("/servers", "/server/addresses/", MOMENT),
    ("/servers", "/server/security_groups: not recorded", MOMENT),
    ("/servers", "/servers/*/addresses/", MOMENT),
    ("/servers", "/servers/*/security_groups: not recorded", MOMENT),
];
const MOMENT: &str =
    "shown while the server has a port, which comes and goes at some moment of a build and a removal";

/// What a client waits for, of a resource or of all in a list: the recording proxy tells states apart alike.
fn states(body: &Value) -> BTreeSet<String> {
    let members = body.as_object().into_iter().flat_map(|body| body.values());
    let inner = members.flat_map(|value| match value {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    });
    std::iter::once(body)
        .chain(inner)
        .filter(|one| one["status"].is_string())
        .map(|one| {
            let port = one["port_id"].is_string();
            format!("{} {} {}", one["status"], one["OS-EXT-STS:task_state"], if port { "bound" } else { "" })
        })
        .collect()
}

/// How the line begins that tells of another state.
const STATE: &str = "the recorded state";

fn excused(kind: &str, line: &str) -> bool {
    EXCUSED.iter().any(|(of, path, _)| kind.contains(of) && line.starts_with(path))
}

struct Session {
    stage: Stage,
    driver: Arc<NullDriver>,
    token: String,
}

impl Session {
    async fn new() -> Self {
        let driver = Arc::new(NullDriver::default());
        let host = Host { name: "microstack".into(), ..Options::default().host };
        let clock = Arc::new(Clock::manual());
        let options = Options { host, clock, seed: Seed::Empty, ..Options::default() };
        let cloud = serve(driver.clone(), options).await.unwrap();
        let ids = Ids::new(urls(&cloud));
        let client = Client::new();
        let stage =
            Stage { cloud, client, ids, tokens: Default::default(), covered: 0, failures: Vec::new() };
        Self { stage, driver, token: String::new() }
    }

    async fn play(&mut self, recorded: &Recording) {
        let kind = kind(&recorded.request);
        // Servers change step by step, so that each step can be seen; all else is done at once.
        if recorded.request["method"] != "GET" {
            self.driver.hold(kind.contains("/servers"));
        }
        let answered = self.ask(recorded).await;
        if let Some(token) = answered.headers.get("x-subject-token") {
            self.token = token.to_str().unwrap().to_owned();
        }
        self.stage.covered += 1;
        let mut found = compared(&mut self.stage.ids, recorded, &answered, false);
        let (wanted, here) = (states(&recorded.body), states(&answered.body));
        if wanted != here {
            found.push(format!("{STATE} {wanted:?} never came, it is {here:?}"));
        }
        found.retain(|line| !excused(&kind, line));
        self.stage.failures.extend(found.into_iter().map(|line| format!("{kind}: {line}")));
    }

    /// What changes is asked once; what is read is read until it is as it was.
    async fn ask(&mut self, recorded: &Recording) -> Answered {
        let mut looks = 0;
        let kind = kind(&recorded.request);
        let may_come = recorded.request["method"] == "GET" && !excused(&kind, STATE);
        loop {
            let answered = self.stage.send(recorded, &self.token, &self.token).await;
            let same = answered.status == recorded.status && states(&answered.body) == states(&recorded.body);
            if same || !may_come || looks > LOOKS.1 {
                return answered;
            }
            if looks == LOOKS.0 {
                self.driver.hold(false);
            }
            looks += 1;
            self.stage.cloud.clock().advance(Duration::from_millis(50));
            // The work that the clock woke runs beside us.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn play(name: &str) {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/contract/sessions/{name}.jsonl"));
    let text =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    let mut session = Session::new().await;
    for line in text.lines() {
        session.play(&Recording::read(line)).await;
    }
    let failures = &session.stage.failures;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(session.stage.covered > 60, "{} exchanges are too few", session.stage.covered);
    eprintln!("{} exchanges of the program answered alike", session.stage.covered);
}

#[tokio::test]
async fn the_programs_session_on_linux_bridges_is_answered_alike() {
    play("linuxbridge").await;
}
