//! One request: its route, its headers, its answer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    activity::Activity,
    answer::Refusal,
    body::{Outgoing, Upload},
    function::{self, Called},
    headers::{self, REQUEST_ID},
    link::{Active, Link},
    metrics,
    routes::{Found, claim::To, host, row::Function},
    service,
    underway::Underway,
    upgrade::Wanted,
};

/// A request on its way, and what is known of it.
pub(super) struct Job<'a> {
    pub(super) link: &'a Link,
    pub(super) begun: Instant,
    pub(super) request: Request<Upload>,
    /// When the last part of its body was taken.
    pub(super) sent: Activity,
    pub(super) upgrade: Option<Wanted>,
}

/// Answers a request, whatever comes of it.
pub(super) async fn answer(
    link: &Arc<Link>,
    active: Active,
    request: Request<Incoming>,
) -> Response<Outgoing> {
    let begun = Instant::now();
    let id = headers::request_id(request.headers());
    let mut underway = Underway::new(link, active, &request, &id, begun);
    let response = match route(link, request, &id, begun).await {
        Ok(mut response) => {
            let headers = response.headers_mut();
            headers.insert(REQUEST_ID.clone(), id);
            response
        }
        Err((refusal, request_headers)) => {
            warn(&refusal, &id);
            refusal.response(&request_headers, &id)
        }
    };
    metrics::answered(response.status());
    underway.answered(response.status().as_u16());
    response.map(|body| body.ending(underway))
}

/// Says why a request was not answered: at most once a second, for whoever asks a Function that fails asks often.
fn warn(refusal: &Refusal, id: &HeaderValue) {
    static SILENCE: Mutex<Option<(Instant, u64)>> = Mutex::new(None);
    let Some(cause) = &refusal.cause else {
        return;
    };
    let now = Instant::now();
    let untold = {
        let mut silence = SILENCE.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *silence {
            Some((until, untold)) if now < *until => {
                *untold += 1;
                return;
            }
            silence => silence
                .replace((now + Duration::from_secs(1), 0))
                .map_or(0, |(_, untold)| untold),
        }
    };
    tracing::warn!(
        status = refusal.status.as_u16(),
        request = id.to_str().unwrap_or_default(),
        cause,
        untold,
        "a request was not answered"
    );
}

type Refused = (Refusal, http::HeaderMap);

async fn route(
    link: &Arc<Link>,
    mut request: Request<Incoming>,
    id: &HeaderValue,
    begun: Instant,
) -> Result<Response<Outgoing>, Refused> {
    let shared = &link.shared;
    let upgrade = match Wanted::of(&mut request) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return Err((refusal, std::mem::take(request.headers_mut()))),
    };
    let found = match find(link, &request) {
        Ok(found) => found,
        Err(refusal) => return Err((refusal, std::mem::take(request.headers_mut()))),
    };
    let limit = shared.config.max_body;
    if request.body().size_hint().lower() > limit {
        let refusal = Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a request's body has at most {limit} bytes"),
        );
        return Err((refusal, std::mem::take(request.headers_mut())));
    }
    let authority = request.uri().authority().map(|it| it.as_str().to_owned());
    let accept = request.headers().get(http::header::ACCEPT).cloned();
    headers::forward(
        request.headers_mut(),
        id,
        &link.client,
        authority.as_deref(),
    );
    let sent = Activity::new();
    let request = request.map(|body| Upload::Streamed {
        body,
        left: limit,
        activity: sent.clone(),
    });
    let job = Job {
        link,
        begun,
        request,
        sent,
        upgrade,
    };
    let answered = match found {
        Target::Function(function, tag) => {
            let called = Called {
                function: &function,
                tag: tag.as_deref(),
            };
            function::call(job, called).await
        }
        Target::Service(name, port) => service::forward(job, &name, &port).await,
    };
    answered.map_err(|refusal| {
        let mut headers = http::HeaderMap::new();
        headers.extend(accept.map(|accept| (http::header::ACCEPT, accept)));
        (refusal, headers)
    })
}

/// Whose a request is.
fn find(link: &Link, request: &Request<Incoming>) -> Result<Target, Refusal> {
    let table = link.shared.table();
    if let Some(key) = &link.to {
        let gone = || {
            let message = format!("there is no function {}", spoken(key));
            Refusal::new(StatusCode::NOT_FOUND, message)
        };
        let function = table.function(key).ok_or_else(gone)?;
        return Ok(Target::Function(function.clone(), None));
    }
    let Some(host) = host::of(request.uri(), request.headers()) else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "a request names one host",
        ));
    };
    let path = request.uri().path();
    match table.find(&host, path, request.method()) {
        Found::Function(function, tag) => {
            let tag = tag.map(str::to_owned);
            Ok(Target::Function(function.clone(), tag))
        }
        Found::To(To::Function(key)) => match table.function(key) {
            Some(function) => Ok(Target::Function(function.clone(), None)),
            None => Err(Refusal::no_host(&host)),
        },
        Found::To(To::Service(name, port)) => Ok(Target::Service(name.clone(), port.clone())),
        Found::To(To::Nothing) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the Ingress' backend is not a Service",
        )),
        Found::OtherMethods(methods) => Err(Refusal::other_methods(methods)),
        Found::NoPath => Err(Refusal::no_path(&host, path)),
        Found::NoHost => Err(Refusal::no_host(&host)),
    }
}

/// Where a request goes.
enum Target {
    Function(Arc<Function>, Option<String>),
    Service(crate::directory::Name, super::routes::claim::Port),
}

/// `NAME.NAMESPACE` as `NAMESPACE/NAME`.
fn spoken(key: &str) -> String {
    key.split_once('.').map_or_else(
        || key.to_owned(),
        |(name, namespace)| format!("{namespace}/{name}"),
    )
}
