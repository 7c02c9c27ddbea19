//! The story: an empty project, a pool, two cycles of load, scale-out, split, handover, and the project as empty as before.

use std::process::Stdio;

use serde_json::Value;

use crate::rig::{Pool, enter, lbsidecar, program, text};

/// The seed's flags.
const SEED: [&str; 10] =
    ["--high", "60", "--low", "20", "--min-up", "4", "--min-down", "4", "--metric", "max"];

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn story_two_cycles_lose_nothing_and_the_project_ends_as_it_was() {
    let mut pool = Pool::provision(&[]);
    pool.run(&SEED);
    pool.agrees();
    let mut base = "vm-test".to_owned();
    for cycle in 1..=2 {
        // One client that counts, from the external network, for as long as the cycle lasts; and the load that makes it happen.
        let url = format!("http://{}/", pool.address);
        let program = program();
        let steady = ["ip", "netns", "exec", "client", program.to_str().unwrap(), "load", "--url", &url]
            .into_iter()
            .chain(["--rate", "20", "--connections", "4", "--duration", "15m", "--output", "json"])
            .collect::<Vec<_>>();
        let steady = enter(&steady).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let story = [program.to_str().unwrap(), "load", "--expect-no-loss", "--split-for", "25s"]
            .into_iter()
            .chain(["--stop-after", "8m", "--output", "json"])
            .collect::<Vec<_>>();
        let story = enter(&story).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

        let view = pool.wait_for("balanced", 2);
        pool.agrees();
        let clone = view["members"][1]["name"].as_str().unwrap().to_owned();
        assert_eq!((view["members"][0]["name"].as_str().unwrap(), clone == base), (&*base, false));
        let story = story.wait_with_output().unwrap();
        assert!(story.status.success(), "cycle {cycle}: {}\n{}", text(&story), crate::rig::log());
        let view = pool.wait_for("single", 1);
        pool.agrees();
        assert_eq!(view["members"][0]["name"], clone.as_str());
        assert_eq!(pool.ask("/"), format!("{clone}\n"));

        assert!(lbsidecar(&["load", "--stop"]).status.success());
        let steady = steady.wait_with_output().unwrap();
        for (who, output) in [("load", &story), ("steady", &steady)] {
            let told: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{who}: {error}: {}", text(output)));
            let (sent, failed) = (told["sent"].as_u64().unwrap(), told["total"]["failed"].as_u64().unwrap());
            eprintln!("cycle {cycle}, {who}: sent {sent}, failed {failed}");
            let lost = told["first_losses"].as_array().unwrap();
            assert!(lost.is_empty() && failed == 0 && sent > 100, "{who}: {told:#}");
        }
        base = clone;
    }
}
