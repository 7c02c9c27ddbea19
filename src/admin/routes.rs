//! The routes, and what each answers. Whatever comes in, the answer is a status and a sentence, never a panic.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{AdminRequest, Answer, Published, SCHEMA, explain::ExplainView, view::StatusView};
use crate::core::event::Command;

/// How long one request may take, its body included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest body of a command.
const BODY: usize = 8 * 1024;
/// A loop that has not turned for so long hangs: it turns four times a second.
const SILENCE: Duration = Duration::from_secs(10);
/// An order must not lie there until whoever gave it has gone.
const STARTING: &str = "the daemon is starting, and takes no order yet: it looks at what is there";
/// The page for a browser: one file, nothing from elsewhere.
const PAGE: &str = include_str!("page.html");
/// What the page may do: its own style and script, and questions to where it came from.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the server shows and whom it hands commands to.
#[derive(Clone)]
pub struct Ports {
    /// What the daemon published last; `None` until it has recovered.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// The way to the loop.
    pub commands: mpsc::Sender<AdminRequest>,
    /// All metrics in OpenMetrics text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Everything: for the Unix socket.
pub(super) fn all(ports: Ports) -> Router {
    finish(reading().route("/v1/command", post(command)), ports)
}

/// What only reads, and the page: for a loopback address that any local user can reach.
pub(super) fn read_only(ports: Ports) -> Router {
    finish(reading().route("/", get(page)).layer(middleware::from_fn(only_by_address)), ports)
}

fn reading() -> Router<Ports> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/explain", get(explain))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
}

fn finish(router: Router<Ports>, ports: Ports) -> Router {
    router
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(in_time))
        .with_state(ports)
}

async fn status(State(ports): State<Ports>) -> Response {
    match ports.published.borrow().clone() {
        Some(published) => {
            let age_ms = u64::try_from(published.turned.elapsed().as_millis()).unwrap_or(u64::MAX);
            Json(StatusView { age_ms, ..published.status.clone() }).into_response()
        }
        None => recovering(),
    }
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn explain(State(ports): State<Ports>, limit: Result<Query<Limit>, QueryRejection>) -> Response {
    let limit = match limit {
        Ok(Query(Limit { limit })) => limit.unwrap_or(20),
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let Some(published) = ports.published.borrow().clone() else { return recovering() };
    let (status, decisions) = (&published.status, &published.decisions);
    let rules = &status.decision;
    Json(ExplainView {
        schema: SCHEMA,
        at: status.at,
        pool: status.pool.clone(),
        high: rules.high,
        low: rules.low,
        min_up: rules.min_up,
        min_down: rules.min_down,
        decisions: decisions.iter().skip(decisions.len().saturating_sub(limit)).cloned().collect(),
    })
    .into_response()
}

async fn command(State(ports): State<Ports>, body: Bytes) -> Response {
    let command: Command = match serde_json::from_slice(&body) {
        Ok(command) => command,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("this is not a command: {error}")),
    };
    if ports.published.borrow().is_none() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, STARTING);
    }
    let (reply, answer) = oneshot::channel();
    if ports.commands.send(AdminRequest { command, reply }).await.is_err() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending");
    }
    match answer.await {
        Ok(Ok(message)) => Json(Answer { ok: true, message }).into_response(),
        Ok(Err(message)) => refuse(StatusCode::CONFLICT, message),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending"),
    }
}

async fn metrics(State(ports): State<Ports>) -> Response {
    (
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        (ports.metrics)(),
    )
        .into_response()
}

/// Alive: the loop turned lately, or has not begun to.
async fn healthz(State(ports): State<Ports>) -> Response {
    let turned = ports.published.borrow().as_ref().map(|published| published.turned);
    match turned {
        Some(turned) if turned.elapsed() > SILENCE => {
            let silent = turned.elapsed().as_secs();
            refuse(StatusCode::SERVICE_UNAVAILABLE, format!("the loop has not turned for {silent} s"))
        }
        Some(_) | None => Json(Answer { ok: true, message: "alive".to_owned() }).into_response(),
    }
}

/// Ready: what was stored and what is there have been joined, and the loop runs.
async fn readyz(State(ports): State<Ports>) -> Response {
    if ports.published.borrow().is_none() {
        return recovering();
    }
    Json(Answer { ok: true, message: "ready".to_owned() }).into_response()
}

async fn page() -> impl IntoResponse {
    ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY), (header::CACHE_CONTROL, "no-cache")], Html(PAGE))
}

fn recovering() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the daemon is starting: it looks at what is there")
}

fn refuse(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(Answer { ok: false, message: message.into() })).into_response()
}

/// A body that trickles in, or a loop that does not answer, must not hold a connection for ever.
async fn in_time(request: Request, next: Next) -> Response {
    let mut response = timeout(DEADLINE, next.run(request)).await.unwrap_or_else(|_| {
        refuse(StatusCode::GATEWAY_TIMEOUT, format!("no answer within {} s", DEADLINE.as_secs()))
    });
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A web page elsewhere can make a name of its own lead to this loopback address and then read what we say (DNS
/// rebinding), so only addresses and `localhost` are accepted as the host.
async fn only_by_address(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name == "localhost" || name.parse::<IpAddr>().is_ok() {
        next.run(request).await
    } else {
        refuse(StatusCode::FORBIDDEN, "ask by address or as localhost")
    }
}
