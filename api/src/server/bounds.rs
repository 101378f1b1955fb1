//! How much is answered at once, and for how long: 429 and 504.
//!
//! As in Kubernetes, requests that read, requests that write, and requests that last (watches, logs,
//! connections to pods) have a bound each, so that none of them keeps the others out. Who comes when all places are
//! taken waits for a quarter of the time that the answer may take ([`Room`]). A request that is
//! given up, by its client or by time, is dropped where it stands. Never looks at objects.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::Method;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{Limits, joined, room::Room, state::Server};
use crate::{auth::User, error::Error, time, verbs::query::Query};

/// What a request takes up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Class {
    Reading,
    Mutating,
    /// It lasts as long as its client wants.
    Lasting,
}

/// Subresources whose requests last.
const LASTING: &[&str] = &["attach", "exec", "log", "portforward", "proxy"];

/// Free places.
#[derive(Debug)]
pub(crate) struct Bounds {
    reading: Room,
    mutating: Room,
    lasting: Arc<Semaphore>,
}

impl Bounds {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            reading: Room::new(limits.reading),
            mutating: Room::new(limits.mutating),
            lasting: Arc::new(Semaphore::new(limits.streams)),
        }
    }

    /// A place for what lasts as long as its client wants; `None` if there is none.
    fn place_to_last(&self) -> Option<OwnedSemaphorePermit> {
        self.lasting.clone().try_acquire_owned().ok()
    }

    /// Requests that are being answered: reading, mutating.
    pub(crate) fn in_flight(&self) -> [usize; 2] {
        [self.reading.taken(), self.mutating.taken()]
    }
}

/// Answers a request as soon as there is room for it.
pub(crate) async fn run(server: &Server, request: Request, next: Next) -> Response {
    let room = match class(&request) {
        Class::Lasting => return last(server, request, next).await,
        Class::Reading => &server.bounds.reading,
        Class::Mutating => &server.bounds.mutating,
    };
    let deadline = match deadline(&request, server.config.limits.request) {
        Ok(deadline) => deadline,
        Err(error) => return error.into_response(),
    };
    let end = Instant::now() + deadline;
    let user = request.extensions().get::<User>();
    let Some(_place) = room.place(user, deadline / 4).await else {
        return Error::TooManyRequests.into_response();
    };
    match timeout_at(end, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Timeout.into_response(),
    }
}

async fn last(server: &Server, request: Request, next: Next) -> Response {
    let Some(permit) = server.bounds.place_to_last() else {
        return Error::TooManyRequests.into_response();
    };
    // The permit is given back when the stream ends or the client goes away.
    joined::hold(next.run(request).await, permit)
}

/// A watch is read as the verbs read it, so that no spelling of it lasts for them and does not here.
pub(crate) fn class(request: &Request) -> Class {
    let uri = request.uri();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let watches = || {
        uri.query().is_some()
            && Query::read(uri)
                .and_then(|query| query.flag("watch"))
                .is_ok_and(|watch| watch == Some(true))
    };
    if connects(uri.path()) || (reads && (is_watch_path(uri.path()) || watches())) {
        Class::Lasting
    } else if reads {
        Class::Reading
    } else {
        Class::Mutating
    }
}

/// True for `/api/<version>/watch/…` and `/apis/<group>/<version>/watch/…`.
fn is_watch_path(path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    match segments.next() {
        Some("api") => segments.nth(1) == Some("watch"),
        Some("apis") => segments.nth(2) == Some("watch"),
        _ => false,
    }
}

/// True for a path whose object's subresource lasts: `…/pods/p/log`, `…/services/s/proxy/index.html`.
fn connects(path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').split('/');
    if segments.next() != Some("api") {
        return false;
    }
    let subresource = match segments.nth(1) {
        Some("namespaces") => segments.nth(3),
        _ => segments.nth(1),
    };
    subresource.is_some_and(|subresource| LASTING.contains(&subresource))
}

/// How long an answer may take: what the client says, but no longer than the server's own bound.
fn deadline(request: &Request, longest: Duration) -> Result<Duration, Error> {
    let query = request.uri().query().unwrap_or_default();
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeout="))
        .filter(|text| !text.is_empty());
    let Some(asked) = asked else {
        return Ok(longest);
    };
    match time::parse_duration(asked) {
        Some(asked) if asked.is_zero() => Ok(longest),
        Some(asked) => Ok(asked.min(longest)),
        None => Err(Error::BadRequest(format!(
            "invalid timeout specified in the request URL: {asked:?}: must be a duration such as 30s"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Class) {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).expect("a request");
        assert_eq!(class(&request), expected, "{line}");
    }

    #[test]
    fn what_lasts_is_told_from_what_is_answered() {
        check("GET /api/v1/pods", Class::Reading);
        check("HEAD /api/v1/pods", Class::Reading);
        check("POST /api/v1/namespaces/a/pods", Class::Mutating);
        check(
            "DELETE /api/v1/namespaces/a/pods/p?watch=1",
            Class::Mutating,
        );
        check("GET /api/v1/pods?watch", Class::Lasting);
        check("GET /api/v1/pods?watch=false", Class::Reading);
        check("GET /api/v1/pods?w%61tch=true", Class::Lasting);
        check("GET /api/v1/watch/namespaces/a/pods/p", Class::Lasting);
        check("GET /apis/apps/v1/watch/deployments", Class::Lasting);
        check("GET /api/v1/namespaces/a/pods/log", Class::Reading);
        check("GET /api/v1/namespaces/a/pods/p/log", Class::Lasting);
        check("POST /api/v1/namespaces/a/pods/p/exec", Class::Lasting);
        check("GET /api/v1/nodes/n/proxy/metrics", Class::Lasting);
    }

    #[test]
    fn a_client_may_ask_for_less_time_but_not_for_more() {
        let longest = Duration::from_secs(60);
        let of = |query: &str| {
            let request = Request::builder().uri(format!("/api?{query}"));
            deadline(&request.body(Body::empty()).expect("a request"), longest)
        };
        for (query, seconds) in [
            ("", 60.0),
            ("timeout=32s", 32.0),
            ("timeout=0s", 60.0),
            ("limit=1&timeout=500ms", 0.5),
            ("timeout=2h", 60.0),
        ] {
            let found = of(query).expect("a duration").as_secs_f64();
            assert!((found - seconds).abs() < 1e-9, "{query}: {found}");
        }
        assert!(of("timeout=soon").is_err());
    }
}
