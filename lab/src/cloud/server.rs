//! The listeners: HTTP/1.1 connections, the faults that are played on them, and the headers that every answer has.
//!
//! This is below axum because axum always answers, and a cloud that misbehaves sometimes does not.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_LENGTH},
    response::IntoResponse,
};
use http_body_util::BodyExt;
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};
use tower::ServiceExt;
use uuid::Uuid;

use super::{
    Cloud,
    errors::{ApiError, Service},
    faults::What,
    journal::Entry,
};

/// A service at its listener.
pub(super) struct Site {
    pub(super) cloud: Arc<Cloud>,
    pub(super) service: Service,
    pub(super) router: Router,
}

/// The id of a request, for handlers that keep it.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// The fault that is to be played by the handler.
#[derive(Debug, Clone)]
pub(super) struct Played(pub(super) What);

/// Serves connections until the task is dropped, and they with it.
pub(super) async fn accept(listener: TcpListener, site: Site) {
    let site = Arc::new(site);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let site = site.clone();
                    connections.spawn(async move {
                        let service = service_fn(|request| exchange(&site, request));
                        // A client that went away or a connection cut on purpose is no news.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
                // Out of file descriptors: connections have to end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

async fn exchange(site: &Site, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let cloud = &site.cloud;
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let struck = cloud.faults.strike(site.service, &method, &path);
    let request_id = format!("req-{}", Uuid::new_v4());
    let sequence = cloud.journal.arrived(Entry {
        sequence: 0,
        at: cloud.now(),
        service: site.service,
        method,
        path,
        status: None,
        request_id: request_id.clone(),
        fault: struck.as_ref().map(|(id, _)| *id),
    });
    let mut response = played(site, request, struck.map(|(_, what)| what), &request_id).await?;
    stamp(site.service, response.headers_mut(), &request_id);
    cloud.journal.answered(sequence, response.status().as_u16());
    Ok(response)
}

/// Carries a request out, or does to it what the fault says.
async fn played(
    site: &Site,
    request: Request<Incoming>,
    what: Option<What>,
    id: &str,
) -> Result<Response<Body>, Cut> {
    let refuse = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        ApiError::of(site.service, status, "The lab was told to answer so.").into_response()
    };
    match what {
        None => Ok(carry_out(site, request, id, None).await),
        Some(What::Answer { status, body, retry_after }) => {
            let mut response = refuse(status);
            if let Some(body) = body {
                *response.body_mut() = Body::from(match body {
                    Value::String(text) => text,
                    other => other.to_string(),
                });
                response.headers_mut().remove(CONTENT_LENGTH);
            }
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
            }
            Ok(response)
        }
        Some(What::Delay { ms }) => {
            site.cloud.clock().sleep(Duration::from_millis(ms)).await;
            Ok(carry_out(site, request, id, None).await)
        }
        Some(What::Hang) => std::future::pending().await,
        Some(What::Close) => Err(Cut),
        Some(What::LostReply { status }) => {
            carry_out(site, request, id, None).await;
            status.map(refuse).ok_or(Cut)
        }
        Some(What::Truncate) => Ok(torn(carry_out(site, request, id, None).await).await),
        Some(behaviour) => Ok(carry_out(site, request, id, Some(behaviour)).await),
    }
}

/// Carries a request out in a task of its own: a client that goes away does not stop half-way what it asked for.
async fn carry_out(
    site: &Site,
    request: Request<Incoming>,
    id: &str,
    behaviour: Option<What>,
) -> Response<Body> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(RequestId(id.to_owned()));
    if let Some(what) = behaviour {
        request.extensions_mut().insert(Played(what));
    }
    let answer = tokio::spawn(site.router.clone().oneshot(request)).await;
    answer.map_or_else(
        |_| {
            ApiError::of(site.service, StatusCode::INTERNAL_SERVER_ERROR, "The lab stumbled.").into_response()
        },
        |Ok::<_, Infallible>(response)| response,
    )
}

/// The headers that every answer of a service has.
fn stamp(service: Service, headers: &mut HeaderMap, id: &str) {
    let Ok(id) = HeaderValue::from_str(id) else { return };
    match service {
        Service::Keystone => {
            headers.insert("vary", HeaderValue::from_static("X-Auth-Token"));
        }
        Service::Nova => {
            headers.insert("x-compute-request-id", id.clone());
        }
        Service::Neutron | Service::Glance => {}
    }
    headers.insert("x-openstack-request-id", id);
}

/// The same response with half of its body, and its whole length announced.
async fn torn(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(head, Body::new(Torn { half: Some(body.slice(..body.len() / 2)), paused: false }))
}

/// A body that ends before its announced length: hyper then closes the connection.
struct Torn {
    half: Option<Bytes>,
    /// A pause after the half makes hyper send it before it finds out.
    paused: bool,
}

impl hyper::body::Body for Torn {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !std::mem::replace(&mut self.paused, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(None)
    }
}
