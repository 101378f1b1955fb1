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

use crate::kinds::{Kind, Names, Registry, Subresource, VERBS};

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
        .filter(|(group, _, _)| !group.is_empty())
        .map(|(group, version, _)| api_group(group, version))
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
        .filter(|(group, _, _)| wanted(group))
        .map(|(group, version, kinds)| {
            let resources: Vec<_> = kinds.iter().map(|kind| resource(kind.as_ref())).collect();
            let metadata = if group.is_empty() {
                json!({})
            } else {
                json!({ "name": group })
            };
            json!({
                "metadata": metadata,
                "versions": [{
                    "version": version,
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
        .find(|(group, _, _)| !group.is_empty() && *group == name);
    match found {
        Some((group, version, _)) => {
            let mut body = api_group(group, version);
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            answer(StatusCode::OK, "application/json", &body, None)
        }
        None => not_found(),
    }
}

fn api_group(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

/// The legacy list of one group-version.
fn resources(registry: &Registry, group: &str, version: &str, headers: &HeaderMap) -> Response {
    let groups = registry.group_versions();
    let Some((_, _, kinds)) = groups.iter().find(|(g, v, _)| (*g, *v) == (group, version)) else {
        return not_found();
    };
    let mut list = Vec::new();
    for kind in kinds {
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
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let body = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
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
