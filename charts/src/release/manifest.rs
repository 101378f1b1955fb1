//! The objects of a rendered text, and the order in which their kinds are made and removed. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Error,
    cluster::{ObjectId, Scope},
};

/// The order in which kinds are made; others come after, by name.
const ORDER: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// Marks what a release keeps when it goes.
pub const POLICY: &str = "helm.sh/resource-policy";
/// Says that a release manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Which release manages an object.
pub const RELEASE_NAME: &str = "meta.helm.sh/release-name";
/// In which namespace that release is.
pub const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// An object of a manifest.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    /// The template that it came from, if the text says so.
    pub source: Option<String>,
    pub value: Value,
}

impl Object {
    pub fn api_version(&self) -> &str {
        self.value["apiVersion"].as_str().unwrap_or_default()
    }

    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Whether it stays when its release goes or no longer has it.
    pub fn kept(&self) -> bool {
        kept(&self.value)
    }

    /// Which object it is: in the namespace that it names, else in the release's.
    pub fn id(&self, scope: Scope, release_namespace: &str) -> ObjectId {
        let own = self.value["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default();
        let namespace = match scope {
            Scope::Cluster => "",
            Scope::Namespaced if own.is_empty() => release_namespace,
            Scope::Namespaced => own,
        };
        ObjectId::new(self.api_version(), self.kind(), namespace, self.name())
    }
}

/// Whether an object says that it is to be kept.
pub fn kept(object: &Value) -> bool {
    let policy = object["metadata"]["annotations"][POLICY].as_str();
    policy.is_some_and(|policy| policy.trim().eq_ignore_ascii_case("keep"))
}

/// Where a kind comes when objects are made: a number, then its name.
pub fn place(kind: &str) -> (usize, &str) {
    let known = ORDER.iter().position(|known| *known == kind);
    match known {
        Some(place) => (place, ""),
        None => (ORDER.len(), kind),
    }
}

/// Reads the objects of a text in their order; a `List` is taken apart.
///
/// # Errors
/// When a document is no object with `apiVersion`, `kind` and a name; says which.
pub fn objects(text: &str) -> Result<Vec<Object>, Error> {
    let mut objects = Vec::new();
    for (index, document) in documents(text).into_iter().enumerate() {
        let source = source(&document);
        let place = || match &source {
            Some(source) => source.clone(),
            None => format!("document {}", index + 1),
        };
        let value = read(&document)
            .map_err(|why| Error::Refused(format!("{}: it is not valid YAML: {why}", place())))?;
        let items = match value {
            Value::Null => continue,
            Value::Object(mut fields)
                if is_list(&fields) && fields.get("items").is_some_and(Value::is_array) =>
            {
                match fields.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                }
            }
            value => vec![value],
        };
        for value in items {
            if let Some(missing) = missing(&value) {
                return Err(Error::Refused(format!("{}: {missing}", place())));
            }
            let source = source.clone();
            objects.push(Object { source, value });
        }
    }
    Ok(objects)
}

fn is_list(fields: &Map<String, Value>) -> bool {
    let kind = fields.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List"))
}

/// What an object lacks to be one.
fn missing(value: &Value) -> Option<String> {
    if !value.is_object() {
        return Some("it is not an object: expected apiVersion, kind and metadata".to_owned());
    }
    let absent = |text: &Value| text.as_str().is_none_or(str::is_empty);
    if absent(&value["apiVersion"]) {
        return Some("apiVersion is not set".to_owned());
    }
    if absent(&value["kind"]) {
        return Some("kind is not set".to_owned());
    }
    let kind = value["kind"].as_str().unwrap_or_default();
    absent(&value["metadata"]["name"]).then(|| format!("{kind}: metadata.name is not set"))
}

/// Cuts a text where a line begins with `---`.
pub fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("---") {
            Some(rest) => documents.push(rest.trim_start().to_owned()),
            None => {
                if let Some(last) = documents.last_mut() {
                    last.push_str(line);
                }
            }
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// The template that a document says it came from.
fn source(document: &str) -> Option<String> {
    let line = document
        .lines()
        .find_map(|line| line.strip_prefix("# Source: "))?;
    Some(line.trim().to_owned())
}

/// One YAML document, as `kubectl` reads it.
fn read(document: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(document, options)
        .map(integral)
        .map_err(|error| error.to_string())
}

/// `1.0` and `1e3` are integers to Kubernetes.
fn integral(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "checked to be integral and below 2^53"
            )]
            let whole = whole.map(|float| json!(float as i64));
            whole.unwrap_or(Value::Number(number))
        }
        Value::Array(items) => items.into_iter().map(integral).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(k, v)| (k, integral(v)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

/// An object as a release applies it: in its namespace, and marked as the release's.
pub fn owned(object: &Object, id: &ObjectId, release: &str, namespace: &str) -> Value {
    let mut value = object.value.clone();
    let metadata = &mut value["metadata"];
    if !id.namespace.is_empty() {
        metadata["namespace"] = json!(id.namespace);
    }
    entry(metadata, "labels").insert(MANAGED_BY.to_owned(), json!("Helm"));
    let annotations = entry(metadata, "annotations");
    annotations.insert(RELEASE_NAME.to_owned(), json!(release));
    annotations.insert(RELEASE_NAMESPACE.to_owned(), json!(namespace));
    // What an apply may not carry.
    if let Some(metadata) = metadata.as_object_mut() {
        for field in [
            "managedFields",
            "resourceVersion",
            "uid",
            "creationTimestamp",
        ] {
            metadata.remove(field);
        }
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    value
}

/// A map among an object's metadata; made if it is not one.
fn entry<'a>(metadata: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !metadata[field].is_object() {
        metadata[field] = json!({});
    }
    match &mut metadata[field] {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object"),
    }
}

/// Metadata that the server keeps.
const KEPT_BY_SERVER: [&str; 6] = [
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "selfLink",
];

/// An object without what is the server's own: what users write and compare.
pub fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !KEPT_BY_SERVER.contains(&field.as_str()));
    }
    object
}

/// Replaces what Secrets of a text hold, for whoever may read over a shoulder.
pub fn hide_secrets(text: &str) -> String {
    let mut shown = String::new();
    for document in documents(text) {
        let secret = read(&document).is_ok_and(|value| value["kind"] == "Secret");
        shown.push_str("---\n");
        if secret {
            if let Some(source) = source(&document) {
                shown.push_str(&format!("# Source: {source}\n"));
            }
            shown.push_str("# HIDDEN: The Secret output has been suppressed\n");
        } else {
            shown.push_str(&document);
        }
    }
    shown
}

/// The objects by kind, each kind's in their order, kinds in the order in which they are made.
pub fn by_kind<T>(objects: Vec<T>, kind: impl Fn(&T) -> &str) -> Vec<Vec<T>> {
    let mut groups: BTreeMap<(usize, String), Vec<T>> = BTreeMap::new();
    for object in objects {
        let (place, name) = place(kind(&object));
        let key = (place, name.to_owned());
        groups.entry(key).or_default().push(object);
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Expect) {
        let shown = match objects(text) {
            Ok(objects) => objects
                .iter()
                .map(|o| {
                    let source = o.source.as_deref().unwrap_or("-");
                    format!("{} {} {} {source}\n", o.api_version(), o.kind(), o.name())
                })
                .collect(),
            Err(error) => format!("{error}\n"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn objects_are_between_lines_of_dashes() {
        check(
            "---\n# Source: a/b.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n--- \n\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: z}}\n",
            expect![[r#"
                v1 ConfigMap x a/b.yaml
                v1 Pod z -
            "#]],
        );
        check("", expect![""]);
    }

    #[test]
    fn what_is_no_object_is_named() {
        check(
            "# Source: a/b.yaml\nkind: A",
            expect![[r#"
            a/b.yaml: apiVersion is not set
        "#]],
        );
        check(
            "- 1",
            expect![[r#"
            document 1: it is not an object: expected apiVersion, kind and metadata
        "#]],
        );
        check(
            "apiVersion: v1\nkind: A\nmetadata: {}",
            expect![[r#"
            document 1: A: metadata.name is not set
        "#]],
        );
    }

    #[test]
    fn a_document_without_a_kind_is_refused_by_its_template() {
        check(
            "# Source: a/templates/x.yaml\nfoo: bar",
            expect![[r#"
                a/templates/x.yaml: apiVersion is not set
            "#]],
        );
        check(
            "# Source: a/templates/x.yaml\napiVersion: v1\nitems: []",
            expect![[r#"
                a/templates/x.yaml: kind is not set
            "#]],
        );
        check(
            "kind: 3",
            expect![[r#"
                document 1: apiVersion is not set
            "#]],
        );
    }

    #[test]
    fn an_applied_object_says_whose_it_is() {
        let object = Object {
            source: None,
            value: json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "x", "labels": null, "annotations": {"k": "v"}}}),
        };
        let id = object.id(Scope::Namespaced, "shop");
        expect![[
            r#"{"apiVersion":"v1","kind":"A","metadata":{"annotations":{"k":"v","meta.helm.sh/release-name":"web","meta.helm.sh/release-namespace":"shop"},"labels":{"app.kubernetes.io/managed-by":"Helm"},"name":"x","namespace":"shop"}}"#
        ]]
        .assert_eq(&owned(&object, &id, "web", "shop").to_string());
    }

    #[test]
    fn kinds_are_made_in_order() {
        let kinds = vec![
            "Zebra",
            "Deployment",
            "Apple",
            "Secret",
            "Namespace",
            "Secret",
        ];
        let groups = by_kind(kinds, |kind| kind);
        let shown: Vec<_> = groups.concat();
        assert_eq!(
            shown,
            [
                "Namespace",
                "Secret",
                "Secret",
                "Deployment",
                "Apple",
                "Zebra"
            ]
        );
    }

    #[test]
    fn secrets_are_hidden() {
        expect![[r#"
            ---
            # Source: a/s.yaml
            # HIDDEN: The Secret output has been suppressed
            ---
            kind: A
        "#]]
        .assert_eq(&hide_secrets(
            "---\n# Source: a/s.yaml\nkind: Secret\ndata: {a: b}\n---\nkind: A\n",
        ));
    }
}
