//! The one way of every request: token, deadline, attempts, size limit, log and count.

use std::{error::Error, fmt::Write as _, sync::Arc};

use reqwest::{
    ClientBuilder, StatusCode, Url,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::OnceCell,
    time::{Duration, Instant, sleep, timeout_at},
};
use tracing::{debug, warn};

use super::{
    auth::{self, Session},
    call::{Answer, Call, Service, request_id},
    catalog,
    error::CloudError,
    retry,
    settings::CloudSettings,
    tls,
    tokens::Tokens,
    versions::Microversion,
};
use crate::core::cloud::FailureKind;

/// The largest body that is read; a full page of servers with user data is well below.
const LARGEST_BODY: usize = 16 << 20;
/// How long a connection may take to come about; at most half of the deadline, so that a request which was never sent is known as
/// such.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// One HTTP exchange that ended, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// The service's type: `compute`, …
    pub service: &'static str,
    /// What was done: `create server`, …; a fixed set.
    pub operation: &'static str,
    /// The HTTP status; `None` when no answer came.
    pub status: Option<u16>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Is told of every exchange.
pub(super) type Observer = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// The HTTP side of the cloud.
pub(super) struct Client {
    pub(super) settings: CloudSettings,
    keystone: Url,
    /// For calls that may be repeated; keeps connections.
    keeping: reqwest::Client,
    /// For calls that must not be repeated; each has a new connection. On a kept one the server may have closed its end
    /// just now, and then nobody can tell whether the request was seen.
    fresh: reqwest::Client,
    tokens: Tokens,
    pub(super) microversion: OnceCell<Microversion>,
    pub(super) observer: Option<Observer>,
}

/// An attempt that failed.
struct Miss {
    error: CloudError,
    /// Whether another attempt is allowed.
    again: bool,
    /// The pause that the service asked for.
    asked: Option<Duration>,
}

impl Client {
    pub(super) fn new(settings: CloudSettings) -> Result<Self, CloudError> {
        let wrong = |why: &str| {
            CloudError::new(FailureKind::Permanent, "use cloud settings of", settings.origin.as_str(), why)
        };
        let keystone = catalog::keystone(&settings.auth_url).map_err(|why| wrong(&why))?;
        let build = |keep: usize| -> Result<reqwest::Client, CloudError> {
            let builder = tls::with_tls(ClientBuilder::new(), &settings.tls).map_err(|why| wrong(&why))?;
            builder
                .user_agent(concat!("lbsidecar/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT.min(settings.timeout / 2))
                .pool_max_idle_per_host(keep)
                .pool_idle_timeout(IDLE)
                // A redirect could take our token elsewhere, and would turn a POST into a GET.
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .build()
                .map_err(|why| wrong(&causes(&why)))
        };
        Ok(Self {
            keystone,
            keeping: build(2)?,
            fresh: build(0)?,
            tokens: Tokens::default(),
            microversion: OnceCell::new(),
            observer: None,
            settings,
        })
    }

    /// Makes the call; a token that is refused is renewed once.
    ///
    /// # Errors
    /// [`CloudError`], also for every status that is not a success.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, CloudError> {
        let session = self.session().await?;
        match self.send_as(call, &session).await {
            Err(error) if error.kind() == FailureKind::Unauthorized => {
                let fresh =
                    self.tokens.instead_of(session.generation, async |n| self.authenticate(n).await).await?;
                let result = self.send_as(call, &fresh).await;
                if let Err(error) = &result
                    && error.kind() == FailureKind::Unauthorized
                {
                    self.tokens.refused_fresh(error).await;
                }
                result
            }
            result => result,
        }
    }

    /// Makes the call and reads the body of its answer.
    ///
    /// # Errors
    /// [`CloudError`], also for a body that is not a `T`.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, CloudError> {
        self.send(call).await?.json(call)
    }

    /// The token, renewed when it is time.
    pub(super) async fn session(&self) -> Result<Arc<Session>, CloudError> {
        self.tokens.good(async |generation| self.authenticate(generation).await).await
    }

    async fn authenticate(&self, generation: u64) -> Result<Session, CloudError> {
        let call = auth::token_call(&self.settings.credentials);
        let asked = Instant::now();
        let answer = self.exchange(&call, &self.keystone, HeaderMap::new()).await.map_err(|error| {
            let CloudSettings { auth_url, origin, .. } = &self.settings;
            match error.status() {
                Some(401) => error.advise(&format!("check user, password and project in {origin}")),
                Some(_) => error,
                None => error.advise(&format!(
                    "Keystone is at {auth_url}, says {origin}: is that right, does it run, and can this host reach it?"
                )),
            }
        })?;
        auth::read_token(&call, &answer, asked, generation)
    }

    /// Where a service answers.
    pub(super) fn endpoint(&self, session: &Session, call: &Call) -> Result<Url, CloudError> {
        let CloudSettings { interface, region, .. } = &self.settings;
        catalog::endpoint(&session.catalog, call.service, interface, region.as_deref())
            .map_err(|why| CloudError::new(FailureKind::Permanent, call.operation, call.object.as_str(), why))
    }

    async fn send_as(&self, call: &Call, session: &Session) -> Result<Answer, CloudError> {
        let endpoint = self.endpoint(session, call)?;
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", session.token.clone());
        if call.service == Service::Compute {
            let version = self.microversion(session, &endpoint).await?;
            if let Ok(value) = HeaderValue::try_from(format!("compute {version}")) {
                headers.insert("openstack-api-version", value);
            }
        }
        self.exchange(call, &endpoint, headers).await
    }

    /// Makes one call to one URL, in as many attempts as are allowed, within the deadline.
    pub(super) async fn exchange(
        &self,
        call: &Call,
        endpoint: &Url,
        headers: HeaderMap,
    ) -> Result<Answer, CloudError> {
        let mut url = endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(&call.path);
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let until = Instant::now() + self.settings.timeout;
        let mut made = 0;
        loop {
            made += 1;
            let began = Instant::now();
            let result = timeout_at(until, self.attempt(call, url.clone(), headers.clone())).await;
            let result = result.unwrap_or_else(|_| {
                let late = format!("no answer within {:?}", self.settings.timeout);
                Err(Miss { error: CloudError::no_answer(call, true, &late), again: false, asked: None })
            });
            self.note(call, &result, began.elapsed());
            let miss = match result {
                Ok(answer) => return Ok(answer),
                Err(miss) => miss,
            };
            let pause = if miss.again { retry::pause(made, miss.asked, fastrand::u32(..=100)) } else { None };
            match pause {
                Some(pause) if Instant::now() + pause < until => {
                    warn!(error = %miss.error, attempt = made, pause_ms = pause.as_millis(), "call is made again");
                    sleep(pause).await;
                }
                _ => return Err(miss.error),
            }
        }
    }

    async fn attempt(&self, call: &Call, url: Url, headers: HeaderMap) -> Result<Answer, Miss> {
        let client = if call.repeatable { &self.keeping } else { &self.fresh };
        let mut request = client.request(call.method.clone(), url).headers(headers);
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|why| {
            let sent = !(why.is_connect() || why.is_builder());
            let mut error = CloudError::no_answer(call, sent, &causes(&why));
            // It will not look better to the next attempt.
            let refused = error.message().contains("certificate");
            if refused {
                error = error.advise(&tls::advice(&self.settings.tls));
            }
            Miss { error, again: !refused && (why.is_connect() || (sent && call.repeatable)), asked: None }
        })?;
        let status = response.status();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        loop {
            let broken = |why: &str, again| Miss {
                error: CloudError::no_answer(call, true, why),
                again: again && call.repeatable,
                asked: None,
            };
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > LARGEST_BODY => {
                    return Err(broken(&format!("the answer is longer than {LARGEST_BODY} bytes"), false));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(why) => return Err(broken(&causes(&why), true)),
            }
        }
        // 300 is how Keystone and Glance answer with their versions.
        if status.is_success() || status == StatusCode::MULTIPLE_CHOICES {
            return Ok(Answer { status, headers, body });
        }
        let mut error = CloudError::answered(call, status, &body, request_id(&headers));
        if status.is_redirection() {
            let to = headers.get("location").and_then(|l| l.to_str().ok()).unwrap_or("elsewhere");
            error = error
                .advise(&format!("it redirects to {to}, which is not followed: put that into the catalog"));
        }
        let busy = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let asked = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(retry::retry_after);
        Err(Miss { error, again: busy && call.repeatable, asked })
    }

    /// Logs and counts an attempt.
    fn note(&self, call: &Call, result: &Result<Answer, Miss>, elapsed: Duration) {
        let (status, id) = match result {
            Ok(answer) => (Some(answer.status.as_u16()), answer.request_id()),
            Err(miss) => (miss.error.status(), miss.error.request_id().map(str::to_owned)),
        };
        debug!(
            %call, object = call.object, status, request_id = id, elapsed_ms = elapsed.as_millis(), "cloud call"
        );
        if let Some(observer) = &self.observer {
            let service = call.service.kind();
            observer(&Exchange { service, operation: call.operation, status, elapsed });
        }
    }
}

/// An error with all its causes, without the URL (the call is named already).
fn causes(error: &reqwest::Error) -> String {
    // reqwest's own text is "error sending request for url (…)", and below it is "client error (Connect)"; what matters lies beneath.
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let this = error.to_string();
        let says_more = error.source().is_some() && this.starts_with("client error (");
        if !says_more && !text.ends_with(&this) {
            let _ = write!(text, "{}{this}", if text.is_empty() { "" } else { ": " });
        }
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
