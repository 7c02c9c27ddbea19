//! Nothing is lost: whole cycles under every kind of client, each request counted.

use std::time::Duration;

use lbsidecar::load::{ClientGroup, Load, LoadPlan, Verdict};
use tokio::time::sleep;

use crate::support::{Member, Rig, model, server};

#[tokio::test(flavor = "multi_thread")]
async fn whole_cycles_lose_nothing() {
    let mut rig = Rig::new();
    let mut base = Member::start("vm-0").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    rig.until_up(&base).await;
    let think = Duration::from_millis(5);
    let load = Load::start(LoadPlan::new(
        rig.service().into(),
        vec![
            ClientGroup::keep_alive(4, think),
            ClientGroup::idle(8, Duration::from_millis(50)..=Duration::from_millis(900)),
            ClientGroup::new_connection(2, think),
            ClientGroup::post(2, think, b"payload".to_vec()),
            ClientGroup {
                name: "slow".into(),
                path: Some("/slow/200".into()),
                ..ClientGroup::keep_alive(2, think)
            },
        ],
    ))
    .unwrap();
    for cycle in 1..=3 {
        let clone = Member::start(&format!("vm-{cycle}")).await;
        rig.haproxy.apply(&model([base.ready(100), clone.ready(0)]), false).await.unwrap();
        rig.until_up(&clone).await;
        for weight in [1, 10, 50, 100] {
            rig.haproxy.apply(&model([base.ready(100), clone.ready(weight)]), false).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        rig.until("without old workers", |seen| seen.old_workers.is_empty()).await;
        rig.haproxy.apply(&model([base.drain(), clone.ready(100)]), false).await.unwrap();
        let empty = |seen: &lbsidecar::core::lb::LbSeen| {
            server(seen, &base).is_none_or(|s| s.sessions + s.queued == 0 && !s.usable_by_old_worker)
        };
        rig.until("empty", empty).await;
        rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap();
        rig.until("empty everywhere", empty).await;
        // The member is gone from one moment to the next, with every connection that it still had.
        base = clone;
    }
    let report = load.stop().await;
    assert_eq!(report.verdict, Verdict::NothingLost, "{report:#?}");
    assert_eq!(report.total.members.len(), 4, "{:?}", report.total.members);
    assert!(report.total.ok > 1000, "{}", report.total.ok);
}
