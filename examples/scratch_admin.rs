//! scratch
#![allow(clippy::all, missing_docs)]
use lbsidecar::admin::{explain::*, server::*, view::*, *};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let names = ["starting", "balanced", "scaling-out", "handing-over", "degraded"];
    let which = std::env::args().nth(2);
    let load = |n: &str| -> StatusView {
        serde_json::from_str(&std::fs::read_to_string(format!("tests/fixtures/status/{n}.json")).unwrap())
            .unwrap()
    };
    std::fs::create_dir_all(format!("{dir}/default")).unwrap();
    let server = Server::bind(&AdminSettings {
        socket: format!("{dir}/default/lbsidecar.sock").into(),
        listen: Some("127.0.0.1:9464".parse().unwrap()),
    })
    .await
    .unwrap();
    let (tx, rx) = watch::channel(None);
    let (ctx, mut crx) = mpsc::channel::<AdminRequest>(1);
    tokio::spawn(async move {
        while let Some(r) = crx.recv().await {
            let _ = r.reply.send(Ok(format!("ok {:?}", r.command)));
        }
    });
    tokio::spawn(server.serve(Ports {
        published: rx,
        commands: ctx,
        metrics: Arc::new(|| "# EOF\n".into()),
    }));
    let mut i = 0u64;
    loop {
        let name = which.as_deref().unwrap_or(names[(i / 40) as usize % names.len()]);
        let mut status = load(name);
        status.at = jiff::Timestamp::now();
        let wobble = ((i as f64) / 7.0).sin() * 12.0 + ((i as f64) / 2.3).cos() * 4.0;
        for m in &mut status.members {
            for v in [&mut m.cpu_percent, &mut m.demand_percent].into_iter().flatten() {
                *v = (*v + wobble).clamp(0.0, 100.0);
            }
        }
        if let Some(v) = &mut status.decision.value {
            *v = (*v + wobble).clamp(0.0, 100.0);
        }
        if let Some(t) = &mut status.transition {
            t.age_ms += i % 40 * 250;
            t.stage_age_ms += i % 40 * 250;
        }
        if let Some(r) = &mut status.haproxy.request_rate {
            *r = (*r as f64 + wobble) as u64;
        }
        let _ = tx.send(Some(Arc::new(Published {
            status,
            decisions: Arc::new(
                (0..118)
                    .map(|k| {
                        let t = jiff::Timestamp::now().as_millisecond() - (118 - k) * 5000;
                        let v = 55.0 + 40.0 * ((k as f64) / 17.0).sin();
                        DecisionView {
                            at: jiff::Timestamp::from_millisecond(t).unwrap(),
                            readings: vec![
                                ReadingView {
                                    member: "vm-test".into(),
                                    value: if (30..40).contains(&k) { None } else { Some(v) },
                                    used_percent: v,
                                    steal_percent: 0.0,
                                    samples: 5,
                                    problem: None,
                                },
                                ReadingView {
                                    member: "vm-test-clone".into(),
                                    value: (k > 60).then_some(100.0 - v),
                                    used_percent: v,
                                    steal_percent: 0.0,
                                    samples: 5,
                                    problem: None,
                                },
                            ],
                            value: Some(v),
                            vote: "high".into(),
                            up_run: 1,
                            down_run: 0,
                            action: "none".into(),
                            reason: "x".into(),
                        }
                    })
                    .collect(),
            ),
            turned: Instant::now(),
        })));
        i += 1;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
