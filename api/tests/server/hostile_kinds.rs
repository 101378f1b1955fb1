//! Every kind that discovery tells of, with every verb, against objects near to what OpenAPI says of them.
//!
//! The properties are those of [`crate::hostile`]: never a 5xx, a panic or a hang. Kinds that change how other
//! requests are answered (webhooks, policies, definitions) are only tried, with `dryRun=All`.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{
    custom_resources::{definition, schema},
    harness::{Cluster, DEADLINE, TOKEN},
};

/// Rounds over all kinds.
const ROUNDS: usize = 12;
/// Texts that some field takes, and some that none does.
const TEXTS: &[&str] = &[
    "",
    "a",
    "p",
    "default",
    "v1",
    "apps/v1",
    "Pod",
    "*",
    "100m",
    "1Gi",
    "-1",
    "50%",
    "10.43.0.9",
    "fd00::1",
    "10.0.0.0/8",
    "2026-01-01T00:00:00Z",
    "In",
    "Exists",
    "Always",
    "TCP",
    "AA==",
    "self == 1",
    "{.a}",
    "^(a+)+$",
    "*/5 * * * *",
    "example.com/a",
    "ReadWriteOnce",
    "Delete",
    "kubernetes.io/x",
    "A_",
    "\u{0}",
    "ä€",
];
/// What would change the answers to other requests.
const TRIED: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "apiextensions.k8s.io",
];
/// Subresources whose answers come from elsewhere, or have no end.
const ELSEWHERE: &[&str] = &["proxy", "exec", "attach", "portforward", "log"];
const PATCHES: &[&str] = &[
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/json-patch+json",
];

/// Numbers that look random and are the same each run (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let sides = u64::try_from(sides.max(1)).expect("a small number");
        usize::try_from((mixed ^ (mixed >> 31)) % sides).expect("a small number")
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    /// Some bytes, a few of them changed, cut or repeated.
    pub(crate) fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.roll(4) {
            let (one, other) = (self.roll(bytes.len() + 1), self.roll(bytes.len() + 1));
            let (from, to) = (one.min(other), one.max(other));
            match self.roll(4) {
                0 => drop(bytes.drain(from..to)),
                1 => {
                    let part = bytes[from..to].repeat(1 + self.roll(4));
                    bytes.splice(from..to, part);
                }
                _ if from < bytes.len() => {
                    bytes[from] ^= u8::try_from(self.roll(256)).expect("a byte");
                }
                _ => {}
            }
        }
        bytes
    }
}

/// A resource as discovery tells of it.
struct Resource {
    /// `/api/v1`, `/apis/apps/v1`.
    root: String,
    /// `pods`, or `pods/status`.
    name: String,
    namespaced: bool,
    verbs: Vec<String>,
    group: String,
    version: String,
    kind: String,
}

impl Resource {
    fn path(&self, name: &str) -> String {
        let place = if self.namespaced {
            "/namespaces/default"
        } else {
            ""
        };
        let root = &self.root;
        match self.name.split_once('/') {
            Some((plural, part)) => format!("{root}{place}/{plural}/{name}/{part}"),
            None if name.is_empty() => format!("{root}{place}/{}", self.name),
            None => format!("{root}{place}/{}/{name}", self.name),
        }
    }
}

async fn resources(cluster: &Cluster) -> Vec<Resource> {
    let groups = cluster.ok("GET /apis", "").await;
    let versions = groups["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| {
            let versions = group["versions"].as_array().expect("versions").iter();
            versions.map(|version| {
                format!(
                    "/apis/{}",
                    version["groupVersion"].as_str().expect("a text")
                )
            })
        });
    let roots: Vec<String> = std::iter::once("/api/v1".to_owned())
        .chain(versions)
        .collect();
    let mut found = Vec::new();
    for root in roots {
        let list = cluster.ok(&format!("GET {root}"), "").await;
        let of = list["groupVersion"].as_str().expect("a text").to_owned();
        for resource in list["resources"].as_array().expect("resources") {
            let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
            let (group, version) = of.split_once('/').unwrap_or(("", &of));
            let own = |given: String, usual: &str| {
                if given.is_empty() {
                    usual.to_owned()
                } else {
                    given
                }
            };
            found.push(Resource {
                root: root.clone(),
                name: text("name"),
                namespaced: resource["namespaced"] == true,
                verbs: serde_json::from_value(resource["verbs"].clone()).expect("texts"),
                version: own(text("version"), version),
                group: if text("version").is_empty() {
                    group.to_owned()
                } else {
                    text("group")
                },
                kind: text("kind"),
            });
        }
    }
    found
}

/// The schemas of every document, by name, and the names by group, version and kind.
struct Schemas {
    all: Map<String, Value>,
    kinds: std::collections::HashMap<[String; 3], String>,
}

impl Schemas {
    async fn of(cluster: &Cluster) -> Self {
        let mut all = Map::new();
        let index = cluster.ok("GET /openapi/v3", "").await;
        for path in index["paths"].as_object().expect("paths").values() {
            let url = path["serverRelativeURL"].as_str().expect("a text");
            let mut document = cluster.ok(&format!("GET {url}"), "").await;
            if let Value::Object(schemas) = document["components"]["schemas"].take() {
                all.extend(schemas);
            }
        }
        let mut kinds = std::collections::HashMap::new();
        for (name, schema) in &all {
            let stated = schema["x-kubernetes-group-version-kind"].as_array();
            for gvk in stated.into_iter().flatten() {
                let own = ["group", "version", "kind"]
                    .map(|f| gvk[f].as_str().unwrap_or_default().to_owned());
                kinds.insert(own, name.clone());
            }
        }
        Self { all, kinds }
    }

    fn object(&self, dice: &mut Dice, resource: &Resource, name: &str) -> Value {
        let gvk = [&resource.group, &resource.version, &resource.kind].map(Clone::clone);
        let schema = self.kinds.get(&gvk).and_then(|name| self.all.get(name));
        let mut object = schema.map_or_else(|| json!({}), |schema| self.value(dice, schema, 7));
        if !object.is_object() {
            object = json!({});
        }
        let api_version = match resource.group.as_str() {
            "" => resource.version.clone(),
            group => format!("{group}/{}", resource.version),
        };
        object["apiVersion"] = api_version.into();
        object["kind"] = resource.kind.as_str().into();
        // Most get past the metadata, or nothing else would be looked at.
        if dice.roll(5) > 0 || !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        object["metadata"]["name"] = name.into();
        object
    }

    fn value(&self, dice: &mut Dice, schema: &Value, levels: usize) -> Value {
        if dice.roll(40) == 0 {
            return dice
                .pick(&[
                    json!(null),
                    json!(-1),
                    json!("x"),
                    json!([{}]),
                    json!({"a": 1}),
                ])
                .clone();
        }
        let referred = schema["$ref"]
            .as_str()
            .or_else(|| schema["allOf"][0]["$ref"].as_str());
        if let Some(name) = referred.and_then(|name| name.rsplit('/').next()) {
            return match self.all.get(name) {
                Some(schema) if levels > 0 => self.value(dice, schema, levels),
                _ => json!({}),
            };
        }
        if let Some(options) = schema["enum"].as_array().filter(|_| dice.roll(8) > 0) {
            return dice.pick(options).clone();
        }
        match schema["type"].as_str() {
            Some("integer" | "number") => {
                json!(*dice.pick(&[0, 1, 2, 80, 30_000, 100_000, -1, i64::MAX]))
            }
            Some("boolean") => json!(dice.roll(2) == 0),
            Some("array") if levels > 0 => {
                let count = *dice.pick(&[0, 1, 1, 1, 2, 3]);
                (0..count)
                    .map(|_| self.value(dice, &schema["items"], levels - 1))
                    .collect()
            }
            Some("object") | None if levels > 0 => self.fields(dice, schema, levels - 1),
            Some("string") => json!(*dice.pick(TEXTS)),
            Some("array") => json!([]),
            _ => json!({}),
        }
    }

    fn fields(&self, dice: &mut Dice, schema: &Value, levels: usize) -> Value {
        let required = schema["required"].as_array();
        let mut fields = Map::new();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let needed = required.is_some_and(|required| required.iter().any(|own| own == name));
            let likely = needed || ["spec", "template", "rules"].contains(&name.as_str());
            let taken = match likely {
                true => dice.roll(12) > 0,
                false => dice.roll(5) == 0,
            };
            if taken {
                fields.insert(name.clone(), self.value(dice, field, levels));
            }
        }
        if schema["additionalProperties"].is_object() && dice.roll(2) == 0 {
            let key = (*dice.pick(TEXTS)).to_owned();
            fields.insert(
                key,
                self.value(dice, &schema["additionalProperties"], levels),
            );
        }
        fields.into()
    }
}

/// Sends a request and reads its answer, unless it is a stream.
pub(crate) async fn send(
    cluster: &Cluster,
    line: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, String) {
    let (method, uri) = line.split_once(' ').expect("a method and a path");
    let mut request = Request::builder().method(method).uri(uri);
    if !headers.iter().any(|(name, _)| *name == "authorization") {
        request = request.header("authorization", format!("Bearer {TOKEN}"));
    }
    for (name, value) in headers {
        request = request.header(*name, value.as_bytes());
    }
    let request = request.body(Body::from(body)).expect("a request");
    let response = timeout(DEADLINE, cluster.pass(request)).await;
    let response = response.unwrap_or_else(|_| panic!("{line}: no answer"));
    let code = response.status().as_u16();
    if line.contains("watch=") {
        return (code, String::new());
    }
    let body = timeout(DEADLINE, response.into_body().collect()).await;
    let body = body
        .unwrap_or_else(|_| panic!("{line}: the body has no end"))
        .expect("a body");
    (code, String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

fn shot(
    dice: &mut Dice,
    schemas: &Schemas,
    resource: &Resource,
    verb: &str,
) -> Option<(String, &'static str, Vec<u8>)> {
    let name = *dice.pick(&["a", "a", "p", "x"]);
    let object = || {
        schemas
            .object(&mut Dice(dice.0), resource, name)
            .to_string()
            .into_bytes()
    };
    let (line, kind, body) = match verb {
        "create" if resource.name.contains('/') => (
            format!("POST {}", resource.path(name)),
            "application/json",
            object(),
        ),
        "create" => (
            format!("POST {}", resource.path("")),
            "application/json",
            object(),
        ),
        "update" => (
            format!("PUT {}", resource.path(name)),
            "application/json",
            object(),
        ),
        "patch" => {
            let body = object();
            let kind = *dice.pick(PATCHES);
            let body = match kind {
                "application/json-patch+json" => {
                    let value: Value = serde_json::from_slice(&body).expect("JSON");
                    json!([{"op": "add", "path": "/spec", "value": value["spec"]}])
                        .to_string()
                        .into_bytes()
                }
                _ => body,
            };
            (
                format!("PATCH {}?fieldManager=m", resource.path(name)),
                kind,
                body,
            )
        }
        "get" => (format!("GET {}", resource.path(name)), "", Vec::new()),
        "list" => (format!("GET {}?limit=2", resource.path("")), "", Vec::new()),
        "watch" => (
            format!("GET {}?watch=1&timeoutSeconds=1", resource.path("")),
            "",
            Vec::new(),
        ),
        "delete" => (format!("DELETE {}", resource.path(name)), "", Vec::new()),
        // Now and then, or nothing would ever be there.
        "deletecollection" if dice.roll(6) == 0 => {
            (format!("DELETE {}", resource.path("")), "", Vec::new())
        }
        _ => return None,
    };
    dice.roll(2);
    let line = match (
        TRIED.contains(&resource.group.as_str())
            && verb != "get"
            && verb != "list"
            && verb != "watch",
        line.contains('?'),
    ) {
        (true, false) => format!("{line}?dryRun=All"),
        (true, true) => format!("{line}&dryRun=All"),
        (false, _) => line,
    };
    Some((line, kind, body))
}

#[tokio::test]
async fn no_served_kind_makes_the_server_fail() {
    let cluster = Cluster::start().await;
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "maximum": 5},
        "items": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 9}, "x-kubernetes-list-type": "set"},
    }, "x-kubernetes-validations": [{"rule": "!has(self.size) || self.size > 0"}]});
    cluster
        .define(&definition(
            json!({"schema": schema(spec), "subresources": {"status": {}}}),
        ))
        .await;
    let resources = resources(&cluster).await;
    let schemas = Schemas::of(&cluster).await;
    assert!(
        resources.len() > 100 && schemas.kinds.len() > 100,
        "{}",
        resources.len()
    );
    let mut dice = Dice(1);
    let (mut made, mut created) = (0, std::collections::BTreeSet::new());
    for round in 0..ROUNDS {
        for resource in &resources {
            if ELSEWHERE
                .iter()
                .any(|part| resource.name.ends_with(&format!("/{part}")))
            {
                continue;
            }
            for verb in &resource.verbs {
                // The usual write more often than the rest.
                if verb != "create" && round % 3 != 0 {
                    continue;
                }
                let Some((line, kind, body)) = shot(&mut dice, &schemas, resource, verb) else {
                    continue;
                };
                let headers = [("content-type", kind)];
                let headers = if kind.is_empty() {
                    &[][..]
                } else {
                    &headers[..]
                };
                let (code, text) = send(&cluster, &line, headers, body.clone()).await;
                assert!(
                    code < 500,
                    "{code} for {line} ({kind}): {}\n{text}",
                    String::from_utf8_lossy(&body)
                );
                made += 1;
                if code == 201 {
                    created.insert(format!("{}/{}", resource.root, resource.name));
                }
            }
        }
    }
    eprintln!("{made} requests; made some of {} kinds", created.len());
    assert!(created.len() > 20, "most objects are refused: {created:?}");
}
