//! GET `functionrevisions/<name>/log`: what a function's components wrote, on every node that serves it, or on one that
//! `nodeName` names.
//!
//! Each nodelet serves it at `/functionLogs/<namespace>/<name>` with the options of a container's log. Of several nodes,
//! lines come as they come; to put them in order they have their times (`timestamps=true`).

use axum::{body::Body, response::IntoResponse as _};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::timeout;

use super::{DEADLINE, node, options, refusal};
use crate::{
    error::{Error, Source},
    verbs::{call::Call, get, view},
};

/// A line longer than this is passed on in parts.
const LONGEST_LINE: usize = 1 << 20;

/// Serves it.
pub(crate) async fn serve(call: &Call, method: &Method) -> Result<axum::response::Response, Error> {
    if *method != Method::GET {
        return Err(Error::MethodNotAllowed);
    }
    get::reach(call).await?;
    let item = call.server.cache.get(&call.key(&call.name));
    let item = item.ok_or_else(|| call.not_found(&call.name))?;
    let revision = view::parse(&item.decoded.value)?;
    let entries = revision["status"]["nodes"].as_array().into_iter().flatten();
    let wanted = call.query.text("nodeName");
    let entries = entries.filter(|entry| wanted.is_none_or(|name| entry["name"] == name));
    let mut names = Vec::new();
    for entry in entries {
        if entry["runtime"] == "oci" {
            return Err(Error::BadRequest(format!(
                "functionrevision {:?} runs as pods, which have logs of their own: kubectl logs -l \
                 functions.wk.dev/revision={}",
                call.name, call.name
            )));
        }
        if entry["ready"] == true {
            names.extend(entry["name"].as_str());
        }
    }
    if names.is_empty() {
        let on = wanted.map(|name| format!(" on node {name:?}"));
        let on = on.unwrap_or_default();
        return Err(Error::BadRequest(format!(
            "functionrevision {:?} is not ready{on}: it has no log yet",
            call.name
        )));
    }
    let options = options(call)?;
    let (mut bodies, mut refused) = (Vec::new(), None);
    for name in names {
        match ask(call, name, &options).await {
            Ok(body) => bodies.push(body),
            Err(error) => refused = Some(error),
        }
    }
    let body = match (bodies.len(), refused) {
        (0, Some(error)) => return Err(error),
        (1, _) => bodies.remove(0),
        _ => {
            let lines = bodies.into_iter().map(|body| Box::pin(lines(body)));
            Body::from_stream(stream::select_all(lines))
        }
    };
    let mut answer = body.into_response();
    let text = HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(header::CONTENT_TYPE, text);
    Ok(answer)
}

/// One node's part of it.
async fn ask(call: &Call, name: &str, options: &str) -> Result<Body, Error> {
    let node = node(call, name)?;
    let path = format!("/functionLogs/{}/{}{options}", call.namespace, call.name);
    let request = Request::get(path).body(Body::empty());
    let request = request.map_err(Error::internal)?;
    let unavailable = |source: Option<Source>| Error::Unavailable {
        message: format!(
            "node {name:?} of functionrevision {:?} does not answer",
            call.name
        ),
        source,
    };
    let response: Response<Body> =
        timeout(DEADLINE, call.server.node_proxy.request(&node, request))
            .await
            .map_err(|_| unavailable(None))?
            .map_err(|error| unavailable(Some(error.into())))?;
    match response.status() {
        status if status.is_success() => Ok(response.into_body()),
        // It has not seen it yet.
        StatusCode::NOT_FOUND => Ok(Body::empty()),
        _ => Err(refusal(response).await),
    }
}

/// A body in pieces that end where lines do: pieces of several can be mixed.
fn lines(body: Body) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send {
    let state = Some((body.into_data_stream(), BytesMut::new()));
    stream::try_unfold(state, |state| async move {
        let Some((mut data, mut rest)) = state else {
            return Ok(None);
        };
        loop {
            let Some(chunk) = data.next().await else {
                let last = rest.freeze();
                return Ok((!last.is_empty()).then_some((last, None)));
            };
            rest.extend_from_slice(&chunk?);
            let end = rest.iter().rposition(|byte| *byte == b'\n');
            let end = end.map(|end| end + 1);
            let end = end.or((rest.len() > LONGEST_LINE).then_some(rest.len()));
            if let Some(end) = end {
                let whole = rest.split_to(end).freeze();
                return Ok(Some((whole, Some((data, rest)))));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_end_where_lines_do() {
        let parts = ["a\nb", "c", "\nd\n", "e"].map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(stream::iter(parts));
        let pieces: Vec<_> = lines(body).map(Result::unwrap).collect().await;
        assert_eq!(pieces, ["a\n", "bc\nd\n", "e"]);
    }
}
