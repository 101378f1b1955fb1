//! Which kinds are served, where, and what may be done with them: `/api`, `/apis`, `/version`.
//!
//! Reads the registry and nothing else; an answer is small enough to be built for each request. The forms are Kubernetes'
//! legacy lists and the aggregated document (KEP-3352), chosen by `Accept`.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    response::Response,
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kinds::{GroupVersion, Kind, Names, Registry, Subresource, VERBS};

/// The Kubernetes version whose API this is, and ours as build metadata.
pub const GIT_VERSION: &str = concat!("v1.36.0+wk", env!("CARGO_PKG_VERSION"));

/// The two versions of the aggregated form, newest first.
const AGGREGATED: [(&str, &str); 2] = [
    (
        "v2",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ),
    (
        "v2beta1",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    ),
];

/// Routes of discovery and of `/version`.
pub fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/version/", get(version))
        .route("/api", get(core_root))
        .route("/api/", get(core_root))
        .route("/api/{version}", get(core_resources))
        .route("/apis", get(groups_root))
        .route("/apis/", get(groups_root))
        .route("/apis/{group}", get(group))
        .route("/apis/{group}/{version}", get(group_resources))
        .with_state(registry)
}

async fn version() -> Response {
    let body = json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    });
    answer(StatusCode::OK, "application/json", &body, None)
}

/// The processor by the name that Kubernetes gives it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn core_root(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let plain = json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    });
    root(&registry, &headers, |group| group.is_empty(), &plain)
}

async fn groups_root(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let groups: Vec<_> = registry
        .group_versions()
        .iter()
        .filter(|served| !served.group.is_empty())
        .map(api_group)
        .collect();
    let plain = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups });
    root(&registry, &headers, |group| !group.is_empty(), &plain)
}

/// Answers `/api` or `/apis` in the form that the client likes best.
fn root(
    registry: &Registry,
    headers: &HeaderMap,
    wanted: impl Fn(&str) -> bool,
    plain: &Value,
) -> Response {
    match form(headers) {
        Some((version, content_type)) => {
            let body = aggregated(registry, version, wanted);
            answer(StatusCode::OK, content_type, &body, Some(headers))
        }
        None => answer(StatusCode::OK, "application/json", plain, Some(headers)),
    }
}

/// The first aggregated form that `Accept` names before plain JSON.
fn form(headers: &HeaderMap) -> Option<(&'static str, &'static str)> {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for range in accept {
        let mut parts: Vec<_> = range.split(';').map(str::trim).collect();
        parts.retain(|part| !part.starts_with("q="));
        if parts.len() == 1 && matches!(parts[0], "application/json" | "*/*" | "application/*") {
            return None;
        }
        let has = |part: &str| parts.iter().any(|own| own.eq_ignore_ascii_case(part));
        if parts[0] == "application/json"
            && has("g=apidiscovery.k8s.io")
            && has("as=APIGroupDiscoveryList")
        {
            let found = AGGREGATED
                .iter()
                .find(|(version, _)| has(&format!("v={version}")));
            if found.is_some() {
                return found.copied();
            }
        }
    }
    None
}

fn aggregated(registry: &Registry, form: &str, wanted: impl Fn(&str) -> bool) -> Value {
    let items: Vec<_> = registry
        .group_versions()
        .iter()
        .filter(|served| wanted(served.group))
        .map(|served| {
            let resources: Vec<_> = served.kinds.iter().map(|kind| resource(*kind)).collect();
            let metadata = if served.group.is_empty() {
                json!({})
            } else {
                json!({ "name": served.group })
            };
            json!({
                "metadata": metadata,
                "versions": [{
                    "version": served.version,
                    "freshness": "Current",
                    "resources": resources,
                }],
            })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {},
        "items": items,
    })
}

fn resource(kind: &dyn Kind) -> Value {
    let names = kind.names();
    let mut resource = json!({
        "resource": names.plural,
        "responseKind": response_kind(names, None),
        "scope": if names.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": names.singular,
        "verbs": VERBS,
    });
    if !names.short.is_empty() {
        resource["shortNames"] = json!(names.short);
    }
    if !names.categories.is_empty() {
        resource["categories"] = json!(names.categories);
    }
    let subresources: Vec<_> = kind
        .subresources()
        .iter()
        .map(|subresource| {
            json!({
                "subresource": subresource.path(),
                "responseKind": response_kind(names, Some(*subresource)),
                "verbs": subresource.verbs(),
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

fn response_kind(names: &Names, subresource: Option<Subresource>) -> Value {
    let [group, version, kind] = gvk(names, subresource);
    json!({ "group": group, "version": version, "kind": kind })
}

/// Group, version and kind of what a path answers.
pub(crate) fn gvk(names: &Names, subresource: Option<Subresource>) -> [&'static str; 3] {
    match subresource.and_then(Subresource::own_kind) {
        Some([group, version, kind, _]) => [group, version, kind],
        None => [names.group, names.version, names.kind],
    }
}

async fn core_resources(
    State(registry): State<Arc<Registry>>,
    Path(version): Path<String>,
    headers: HeaderMap,
) -> Response {
    resources(&registry, "", &version, &headers)
}

async fn group_resources(
    State(registry): State<Arc<Registry>>,
    Path((group, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    resources(&registry, &group, &version, &headers)
}

async fn group(State(registry): State<Arc<Registry>>, Path(name): Path<String>) -> Response {
    let groups = registry.group_versions();
    let found = groups
        .iter()
        .find(|served| !served.group.is_empty() && served.group == name);
    match found {
        Some(served) => {
            let mut body = api_group(served);
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            answer(StatusCode::OK, "application/json", &body, None)
        }
        None => not_found(),
    }
}

fn api_group(served: &GroupVersion<'_>) -> Value {
    let version = json!({ "groupVersion": served.api_version(), "version": served.version });
    json!({ "name": served.group, "versions": [version], "preferredVersion": version })
}

/// The legacy list of one group-version.
fn resources(registry: &Registry, group: &str, version: &str, headers: &HeaderMap) -> Response {
    let groups = registry.group_versions();
    let Some(served) = groups
        .iter()
        .find(|served| (served.group, served.version) == (group, version))
    else {
        return not_found();
    };
    let mut list = Vec::new();
    for kind in &served.kinds {
        let names = kind.names();
        let mut own = json!({
            "name": names.plural,
            "singularName": names.singular,
            "namespaced": names.namespaced,
            "kind": names.kind,
            "verbs": VERBS,
        });
        if !names.short.is_empty() {
            own["shortNames"] = json!(names.short);
        }
        if !names.categories.is_empty() {
            own["categories"] = json!(names.categories);
        }
        list.push(own);
        for subresource in kind.subresources() {
            let [other_group, other_version, kind] = gvk(names, Some(*subresource));
            let mut own = json!({
                "name": format!("{}/{}", names.plural, subresource.path()),
                "singularName": "",
                "namespaced": names.namespaced,
                "kind": kind,
                "verbs": subresource.verbs(),
            });
            if (other_group, other_version) != (group, version) {
                own["group"] = other_group.into();
                own["version"] = other_version.into();
            }
            list.push(own);
        }
    }
    let body = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served.api_version(),
        "resources": list,
    });
    answer(StatusCode::OK, "application/json", &body, Some(headers))
}

fn not_found() -> Response {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the server could not find the requested resource",
        "reason": "NotFound",
        "details": {},
        "code": 404,
    });
    answer(StatusCode::NOT_FOUND, "application/json", &body, None)
}

/// A JSON answer; with the request's headers, one that the client may keep and ask about by `ETag`.
fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: &Value,
    request: Option<&HeaderMap>,
) -> Response {
    let body = body.to_string();
    let mut response = Response::builder().status(status);
    if let Some(request) = request {
        let tag = etag(body.as_bytes());
        let known = is_known(request, &tag);
        response = response
            .header(header::ETAG, tag)
            .header(header::VARY, "Accept")
            .header(header::CACHE_CONTROL, "public");
        if known {
            return response
                .status(StatusCode::NOT_MODIFIED)
                .body(axum::body::Body::empty())
                .expect("every header is a constant or a digest");
        }
    }
    response
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .expect("every header is a constant or a digest")
}

/// A digest of a body, quoted.
pub(crate) fn etag(body: &[u8]) -> String {
    format!("\"{}\"", hash(body))
}

/// A digest of a body in upper-case hexadecimal.
pub(crate) fn hash(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// True if the client already has the body of this tag.
pub(crate) fn is_known(request: &HeaderMap, tag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == tag)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use expect_test::{Expect, expect};
    use tower::util::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Value) {
        let mut request = http::Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let router = router(Arc::new(Registry::builtin()));
        let response = router.oneshot(request).await.expect("it cannot fail");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or_default();
        (head.status, head.headers, body)
    }

    #[track_caller]
    fn check(value: &Value, expect: Expect) {
        expect.assert_eq(&value.to_string());
    }

    #[tokio::test]
    async fn a_client_gets_the_first_form_that_it_names() {
        for (accept, shown, kind) in [
            ("*/*", "application/json", "APIGroupList"),
            (AGGREGATED[1].1, AGGREGATED[1].1, "APIGroupDiscoveryList"),
            (
                &format!("{},{},application/json", AGGREGATED[0].1, AGGREGATED[1].1),
                AGGREGATED[0].1,
                "APIGroupDiscoveryList",
            ),
        ] {
            let (_, headers, body) = ask("/apis", &[("accept", accept)]).await;
            assert_eq!(headers[header::CONTENT_TYPE], shown, "{accept}");
            assert_eq!(body["kind"], kind, "{accept}");
        }
    }

    #[tokio::test]
    async fn what_the_client_has_is_not_sent_again() {
        let (_, headers, _) = ask("/api/v1", &[]).await;
        let tag = headers[header::ETAG].to_str().expect("it is text");
        let (status, _, _) = ask("/api/v1", &[("if-none-match", tag)]).await;
        assert_eq!(status, StatusCode::NOT_MODIFIED);
        let (status, _, _) = ask("/api", &[("if-none-match", tag)]).await;
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_kind_is_listed_with_its_subresources() {
        let (_, _, body) = ask("/apis", &[("accept", AGGREGATED[0].1)]).await;
        check(
            &body["items"][0]["versions"][0]["resources"][0],
            expect![[
                r#"{"categories":["all"],"resource":"deployments","responseKind":{"group":"apps","kind":"Deployment","version":"v1"},"scope":"Namespaced","shortNames":["deploy"],"singularResource":"deployment","subresources":[{"responseKind":{"group":"autoscaling","kind":"Scale","version":"v1"},"subresource":"scale","verbs":["get","patch","update"]},{"responseKind":{"group":"apps","kind":"Deployment","version":"v1"},"subresource":"status","verbs":["get","patch","update"]}],"verbs":["create","delete","deletecollection","get","list","patch","update","watch"]}"#
            ]],
        );
        let (_, _, body) = ask("/apis/apps/v1", &[]).await;
        check(
            &body["resources"][1],
            expect![[
                r#"{"group":"autoscaling","kind":"Scale","name":"deployments/scale","namespaced":true,"singularName":"","verbs":["get","patch","update"],"version":"v1"}"#
            ]],
        );
    }

    #[tokio::test]
    async fn what_is_not_served_is_not_found() {
        for path in ["/api/v2", "/apis/apps/v2", "/apis/batch"] {
            let (status, _, body) = ask(path, &[]).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert_eq!(body["reason"], "NotFound", "{path}");
        }
    }
}
