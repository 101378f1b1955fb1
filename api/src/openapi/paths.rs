//! The paths of one kind and what each method takes and answers.

use serde_json::{Map, Value, json};

use crate::{
    discovery::gvk,
    kinds::{Kind, Names, Subresource},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Definitions that the methods of every kind refer to.
pub(super) const SHARED: [&str; 4] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

const WRITE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];

const PATCH: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];

const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

const LOG: &[(&str, &str)] = &[
    ("container", "string"),
    ("follow", "boolean"),
    ("limitBytes", "integer"),
    ("previous", "boolean"),
    ("sinceSeconds", "integer"),
    ("tailLines", "integer"),
    ("timestamps", "boolean"),
];

/// Every path of a kind below `root`.
pub(super) fn of(root: &str, kind: &dyn Kind) -> Map<String, Value> {
    let names = kind.names();
    let plural = names.plural;
    let scope = if names.namespaced {
        format!("/{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("/{root}/{plural}")
    };
    let operations = Operations { names };
    let mut paths = Map::new();
    if names.namespaced {
        let mut everywhere = json!({ "get": operations.list("ForAllNamespaces") });
        everywhere["parameters"] = path_parameters(&[]);
        paths.insert(format!("/{root}/{plural}"), everywhere);
    }
    let outer: &[&str] = if names.namespaced {
        &["namespace"]
    } else {
        &[]
    };
    paths.insert(
        scope.clone(),
        json!({
            "get": operations.list(""),
            "post": operations.write("post", "create", names.definition, None, WRITE),
            "delete": operations.delete("deletecollection", DELETE),
            "parameters": path_parameters(outer),
        }),
    );
    let inner: &[&str] = if names.namespaced {
        &["namespace", "name"]
    } else {
        &["name"]
    };
    paths.insert(
        format!("{scope}/{{name}}"),
        json!({
            "get": operations.read(None, &[]),
            "put": operations.write("put", "replace", names.definition, None, WRITE),
            "patch": operations.patch(None),
            "delete": operations.delete("delete", DELETE),
            "parameters": path_parameters(inner),
        }),
    );
    for subresource in kind.subresources() {
        let mut path = operations.subresource(*subresource);
        path["parameters"] = path_parameters(inner);
        paths.insert(format!("{scope}/{{name}}/{}", subresource.path()), path);
    }
    paths
}

struct Operations<'a> {
    names: &'a Names,
}

impl Operations<'_> {
    fn subresource(&self, subresource: Subresource) -> Value {
        let definition = match subresource.own_kind() {
            Some([_, _, _, definition]) => definition,
            None => self.names.definition,
        };
        let part = Some(subresource);
        match subresource {
            Subresource::Log => json!({ "get": self.read(part, LOG) }),
            Subresource::Binding | Subresource::Eviction => json!({
                "post": self.write("post", "create", definition, part, WRITE),
            }),
            Subresource::Finalize => json!({
                "put": self.write("put", "replace", definition, part, WRITE),
            }),
            Subresource::Status | Subresource::Approval | Subresource::Scale => json!({
                "get": self.read(part, &[]),
                "put": self.write("put", "replace", definition, part, WRITE),
                "patch": self.patch(part),
            }),
        }
    }

    fn list(&self, suffix: &str) -> Value {
        let mut operation = self.operation("list", "list", None, LIST);
        if let Some(id) = operation["operationId"]
            .as_str()
            .map(|id| format!("{id}{suffix}"))
        {
            operation["operationId"] = id.into();
        }
        operation["responses"] = answers(&format!("{}List", self.names.definition));
        operation
    }

    fn read(&self, part: Option<Subresource>, query: &[(&str, &str)]) -> Value {
        let mut operation = self.operation("read", "get", part, query);
        operation["responses"] = match part.map(|part| (part, part.own_kind())) {
            Some((Subresource::Log, _)) => json!({
                "200": {
                    "description": "OK",
                    "content": { "text/plain": { "schema": { "type": "string" } } },
                },
            }),
            Some((_, Some([_, _, _, definition]))) => answers(definition),
            _ => answers(self.names.definition),
        };
        operation
    }

    fn write(
        &self,
        action: &str,
        verb: &str,
        definition: &str,
        part: Option<Subresource>,
        query: &[(&str, &str)],
    ) -> Value {
        let mut operation = self.operation(verb, action, part, query);
        let schema = json!({ "schema": reference(definition) });
        operation["requestBody"] = json!({ "required": true, "content": { "*/*": schema } });
        operation["responses"] = answers(definition);
        operation
    }

    fn patch(&self, part: Option<Subresource>) -> Value {
        let mut operation = self.operation("patch", "patch", part, PATCH);
        let schema = json!({ "schema": reference(&format!("{META}.Patch")) });
        let content: Map<_, _> = PATCHES
            .iter()
            .map(|patch| ((*patch).to_owned(), schema.clone()))
            .collect();
        operation["requestBody"] = json!({ "required": true, "content": content });
        let definition = match part.and_then(Subresource::own_kind) {
            Some([_, _, _, definition]) => definition,
            None => self.names.definition,
        };
        operation["responses"] = answers(definition);
        operation
    }

    fn delete(&self, action: &str, query: &[(&str, &str)]) -> Value {
        let mut operation = self.operation(action, action, None, query);
        let schema = json!({ "schema": reference(&format!("{META}.DeleteOptions")) });
        operation["requestBody"] = json!({ "content": { "*/*": schema } });
        operation["responses"] = answers(&format!("{META}.Status"));
        operation
    }

    fn operation(
        &self,
        verb: &str,
        action: &str,
        part: Option<Subresource>,
        query: &[(&str, &str)],
    ) -> Value {
        let names = self.names;
        let [group, version, kind] = gvk(names, part);
        let group_name = if names.group.is_empty() {
            "core"
        } else {
            names.group.split('.').next().unwrap_or_default()
        };
        let own = match part {
            Some(part) => format!("{}{}", names.kind, capital(part.path())),
            None => names.kind.to_owned(),
        };
        let scope = if names.namespaced { "Namespaced" } else { "" };
        let parameters: Vec<_> = query
            .iter()
            .map(|(name, kind)| {
                json!({
                    "name": name,
                    "in": "query",
                    "schema": { "type": kind, "uniqueItems": true },
                })
            })
            .collect();
        json!({
            "operationId": format!(
                "{verb}{}{}{scope}{own}",
                capital(group_name),
                capital(names.version)
            ),
            "tags": [format!("{group_name}_{}", names.version)],
            "parameters": parameters,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": group,
                "version": version,
                "kind": kind,
            },
        })
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{definition}") })
}

fn answers(definition: &str) -> Value {
    let content = json!({ "application/json": { "schema": reference(definition) } });
    json!({
        "200": { "description": "OK", "content": content },
        "401": { "description": "Unauthorized" },
    })
}

fn path_parameters(names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": { "type": "string", "uniqueItems": true },
            })
        })
        .collect()
}
