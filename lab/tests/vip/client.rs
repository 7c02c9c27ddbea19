//! The counting client as a process of its own in the lab's namespace `client`, steered by lines on its standard input: a namespace
//! can be entered by a process only.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use lbsidecar::load::{ClientGroup, Load, LoadPlan, LoadReport, Method, PhaseCounts, Reuse};

/// Tells a process of this program that it is to be the client, and where its requests go.
const TARGET: &str = "LBSIDECAR_TEST_LOAD";
/// What its answers begin with; the rest of what the test harness prints is no answer.
const ANSWER: &str = "load: ";
/// Size of what is posted.
const ECHO: usize = 64;

/// Clients whose every request has a connection of its own, and clients that keep theirs: a connection cannot follow the service
/// address to another machine, a request that comes after the move can.
const LOADS: [&str; 2] = ["new", "kept"];

/// How many clients keep their connection.
pub(crate) const KEPT: u64 = 7;

/// A load that runs.
pub(crate) struct Clients {
    child: Child,
    orders: ChildStdin,
    answers: Box<dyn Iterator<Item = String>>,
}

/// What came of the requests: by load, the phases in their order.
pub(crate) struct Counted(BTreeMap<String, LoadReport>);

impl Clients {
    /// Starts about 100 requests a second, all of which `server` and its clones answer. `command` leads into the namespace.
    pub(crate) fn start(mut command: Command, target: SocketAddr) -> Self {
        let mut child = command
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "client::the_client_itself", "--ignored", "--nocapture"])
            .env(TARGET, target.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let orders = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let answers = output.lines().map_while(Result::ok).filter_map(|line| {
            // The harness prints the test's name before it without ending the line.
            line.split_once(ANSWER).map(|(_, answer)| answer.to_owned())
        });
        let mut clients = Self { child, orders, answers: Box::new(answers) };
        assert_eq!(clients.answers.next().as_deref(), Some("ready"));
        clients
    }

    /// From now on this phase is counted.
    pub(crate) fn mark(&mut self, phase: &str) {
        assert_eq!(self.ask(phase), "marked");
    }

    /// Ends the load and gives its counts.
    pub(crate) fn finish(mut self) -> Counted {
        Counted(serde_json::from_str(&self.ask("")).expect("reports"))
    }

    fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").expect("the client reads");
        self.answers.next().expect("the client answers")
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // It ends with its input, too; a test that failed does not wait for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Counted {
    fn phase(&self, load: &str, phase: &str) -> &PhaseCounts {
        self.0[load].phases.iter().find(|counts| counts.name == phase).expect("a phase that was marked")
    }

    /// Requests that were answered in a phase.
    pub(crate) fn answered(&self, load: &str, phase: &str) -> u64 {
        self.phase(load, phase).counts.ok
    }

    /// Requests that were lost in a phase.
    pub(crate) fn lost(&self, load: &str, phase: &str) -> u64 {
        self.phase(load, phase).counts.failed
    }

    /// All numbers and the first losses, for people.
    pub(crate) fn print(&self, title: &str) {
        for (load, report) in &self.0 {
            eprintln!("{title}, clients with {load} connections: {} sent", report.sent);
            for PhaseCounts { name, counts } in &report.phases {
                eprintln!(
                    "  {name:<10} {:5.1} s  {:5} ok  {:3} lost {:?}  longest gap {:.0} ms  max {:.0} ms  {:?}",
                    counts.seconds,
                    counts.ok,
                    counts.failed,
                    counts.failed_by_kind,
                    counts.longest_gap_ms,
                    counts.latency.max_ms,
                    counts.members
                );
            }
            for loss in &report.first_losses {
                eprintln!("    {loss:?}");
            }
        }
    }
}

fn clients(load: &str) -> Vec<ClientGroup> {
    let ms = Duration::from_millis;
    let body = vec![b'x'; ECHO];
    let mut groups = match load {
        "new" => {
            let post = ClientGroup::post(1, ms(60), body);
            vec![
                ClientGroup::new_connection(2, ms(45)),
                ClientGroup { reuse: Reuse::AskToClose, name: "new-connection post".to_owned(), ..post },
            ]
        }
        _ => vec![
            ClientGroup::keep_alive(2, ms(50)),
            ClientGroup::post(1, ms(80), body),
            ClientGroup::idle(4, ms(500)..=ms(2000)),
        ],
    };
    for group in &mut groups {
        group.expect = Some("vm-test".to_owned());
        if let Method::Post(_) = group.method {
            group.path = Some("/echo".to_owned());
            group.expect = Some(ECHO.to_string());
        }
    }
    groups
}

#[test]
#[ignore = "the other tests start it inside a lab"]
fn the_client_itself() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let target: SocketAddr = target.parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let inside = runtime.enter();
    let loads = LOADS.map(|load| {
        let plan = LoadPlan::new(target.into(), clients(load));
        (load.to_owned(), Load::start(plan).expect("a load"))
    });
    println!("{ANSWER}ready");
    for order in io::stdin().lines().map_while(Result::ok).take_while(|order| !order.is_empty()) {
        loads.iter().for_each(|(_, load)| load.mark(&order));
        println!("{ANSWER}marked");
    }
    drop(inside);
    let mut reports = BTreeMap::new();
    for (name, load) in loads {
        reports.insert(name, runtime.block_on(load.stop()));
    }
    println!("{ANSWER}{}", serde_json::to_string(&reports).expect("JSON"));
}
