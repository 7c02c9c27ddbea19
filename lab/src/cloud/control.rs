//! The control port: faults, the request log and the clock over HTTP, for tests and people outside this process.
//!
//! `POST /faults` takes a rule or a list of them and answers their ids, `GET /faults` lists them, `DELETE /faults` takes all
//! back; `GET /log` is the last requests; `POST /clock {"advance_seconds": N}` pushes the clock forward.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    Cloud,
    faults::{Rule, Standing},
    journal::Entry,
};

type Refusal = (StatusCode, String);

/// Serves the control port for ever.
pub(super) async fn serve(listener: TcpListener, cloud: Arc<Cloud>) {
    let router = Router::new()
        .route("/faults", get(faults).post(add_faults).delete(clear_faults))
        .route("/log", get(log))
        .route("/clock", post(advance))
        .with_state(cloud);
    // axum retries what can be retried and never gives up.
    let _ = axum::serve(listener, router).await;
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    One(Rule),
    Many(Vec<Rule>),
}

async fn add_faults(
    State(cloud): State<Arc<Cloud>>,
    Json(rules): Json<Rules>,
) -> Result<Json<Value>, Refusal> {
    let rules = match rules {
        Rules::One(rule) => vec![rule],
        Rules::Many(rules) => rules,
    };
    let mut ids = Vec::new();
    for rule in rules {
        ids.push(cloud.faults.add(rule).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?);
    }
    Ok(Json(json!({"ids": ids})))
}

async fn faults(State(cloud): State<Arc<Cloud>>) -> Json<Vec<Standing>> {
    Json(cloud.faults.list())
}

async fn clear_faults(State(cloud): State<Arc<Cloud>>) -> StatusCode {
    cloud.faults.clear();
    StatusCode::NO_CONTENT
}

async fn log(State(cloud): State<Arc<Cloud>>) -> Json<Vec<Entry>> {
    Json(cloud.journal.entries())
}

#[derive(Deserialize)]
struct Advance {
    advance_seconds: u64,
}

async fn advance(State(cloud): State<Arc<Cloud>>, Json(step): Json<Advance>) -> Json<Value> {
    cloud.clock().advance(Duration::from_secs(step.advance_seconds));
    Json(json!({"now": cloud.now()}))
}
