//! The paths of one kind, and what each method takes and answers.
//!
//! Everything follows from the kind's verbs and subresources. Only statuses and media types that this
//! server answers are named: objects are JSON.

use serde_json::{Map, Value, json};

use super::{parameters, schemas::reference};
use crate::{
    discovery::gvk,
    kinds::{Kind, Names, Subresource},
    schema,
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Definitions that the methods of every kind refer to.
pub(super) const SHARED: [&str; 5] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
    "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent",
];

const JSON_PATCHES: [&str; 3] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
];

/// Only for kinds whose Go types say how lists merge: clients ask for that by this type.
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// The list of what a group-version serves.
pub(super) fn discovery(root: &str, group: &str, version: &str) -> Map<String, Value> {
    let answer = format!("{META}.APIResourceList");
    get_only(
        &format!("/{root}/"),
        "APIResources",
        group,
        version,
        &answer,
    )
}

/// A path with a GET and nothing else.
pub(super) fn get_only(
    path: &str,
    what: &str,
    group: &str,
    version: &str,
    answer: &str,
) -> Map<String, Value> {
    let operation = json!({
        "get": {
            "operationId": format!("get{}{}{what}", operation_group(group), capital(version)),
            "tags": [tag(group, version)],
            "description": format!("get {what}"),
            "responses": answers(answer, &["200"]),
        },
    });
    Map::from_iter([(path.to_owned(), operation)])
}

/// Every path of a kind below `root`.
pub(super) fn of(root: &str, kind: &dyn Kind) -> Map<String, Value> {
    let names = kind.names();
    let plural = names.plural;
    let (scope, outer): (_, &[&str]) = if names.namespaced {
        let scope = format!("/{root}/namespaces/{{namespace}}/{plural}");
        (scope, &["namespace"])
    } else {
        (format!("/{root}/{plural}"), &[])
    };
    let inner = [outer, &["name"]].concat();
    let operations = Operations { names };
    let verbs = kind.verbs();
    let mut paths = Map::new();
    if names.namespaced && verbs.contains(&"list") {
        let everywhere = json!({
            "get": operations.list_everywhere(),
            "parameters": parameters::path(&[]),
        });
        paths.insert(format!("/{root}/{plural}"), everywhere);
    }
    let collection = verbs.iter().filter_map(|verb| match *verb {
        "list" => Some(("get", operations.list())),
        "create" => Some(("post", operations.create(names.definition, None))),
        "deletecollection" => Some(("delete", operations.delete_collection())),
        _ => None,
    });
    add(&mut paths, scope.clone(), collection, outer);
    let one = verbs.iter().filter_map(|verb| match *verb {
        "get" => Some(("get", operations.read(None))),
        "update" => Some(("put", operations.replace(None))),
        "patch" => Some(("patch", operations.patch(None))),
        "delete" => Some(("delete", operations.delete())),
        _ => None,
    });
    add(&mut paths, format!("{scope}/{{name}}"), one, &inner);
    for part in kind.subresources() {
        let path = format!("{scope}/{{name}}/{}", part.path());
        if is_connection(*part) {
            let methods = part.verbs().iter().filter_map(|verb| {
                let method = match *verb {
                    "get" => "get",
                    "create" => "post",
                    "update" => "put",
                    "patch" => "patch",
                    "delete" => "delete",
                    _ => return None,
                };
                Some((method, operations.connect(method, *part)))
            });
            add(&mut paths, path, methods, &inner);
            continue;
        }
        let methods = part.verbs().iter().filter_map(|verb| match *verb {
            "get" => Some(("get", operations.read(Some(*part)))),
            "create" => {
                let definition = operations.definition(Some(*part));
                Some(("post", operations.create(definition, Some(*part))))
            }
            "update" => Some(("put", operations.replace(Some(*part)))),
            "patch" => Some(("patch", operations.patch(Some(*part)))),
            _ => None,
        });
        add(&mut paths, path, methods, &inner);
    }
    paths
}

/// Adds a path with its methods, unless it has none.
fn add<'a>(
    paths: &mut Map<String, Value>,
    path: String,
    methods: impl Iterator<Item = (&'a str, Value)>,
    open: &[&str],
) {
    let mut item: Map<_, _> = methods
        .map(|(method, operation)| (method.to_owned(), operation))
        .collect();
    if !item.is_empty() {
        item.insert("parameters".to_owned(), parameters::path(open));
        paths.insert(path, item.into());
    }
}

/// True for what is no object but a way to a pod, node or service.
fn is_connection(part: Subresource) -> bool {
    matches!(part.path(), "attach" | "exec" | "portforward" | "proxy")
}

struct Operations<'a> {
    names: &'a Names,
}

impl Operations<'_> {
    fn definition(&self, part: Option<Subresource>) -> &str {
        match part.and_then(Subresource::own_kind) {
            Some([_, _, _, definition]) => definition,
            None => self.names.definition,
        }
    }

    fn list_everywhere(&self) -> Value {
        let names = self.names;
        let mut operation = self.list();
        operation["operationId"] = format!(
            "list{}{}{}ForAllNamespaces",
            operation_group(names.group),
            capital(names.version),
            names.kind
        )
        .into();
        operation
    }

    fn list(&self) -> Value {
        let meaning = format!("list or watch objects of kind {}", self.names.kind);
        let mut operation = self.operation("list", "list", None, parameters::LIST, &meaning);
        let list = reference(&format!("{}List", self.names.definition));
        let event = reference(&format!("{META}.WatchEvent"));
        operation["responses"] = json!({
            "200": {
                "description": "OK",
                "content": {
                    "application/json": { "schema": list },
                    "application/json;stream=watch": { "schema": event },
                },
            },
            "401": { "description": "Unauthorized" },
        });
        operation
    }

    fn read(&self, part: Option<Subresource>) -> Value {
        let query = part.map_or(&[] as &[_], |part| parameters::of_subresource(part.path()));
        let mut operation = self.operation("read", "get", part, query, &self.about("read", part));
        operation["responses"] = if part.is_some_and(|part| part.path() == "log") {
            text_answer()
        } else {
            answers(self.definition(part), &["200"])
        };
        operation
    }

    fn create(&self, definition: &str, part: Option<Subresource>) -> Value {
        let about = self.about("create", part);
        let operation = self.operation("create", "post", part, parameters::WRITE, &about);
        with_body(operation, definition, &["200", "201", "202"])
    }

    fn replace(&self, part: Option<Subresource>) -> Value {
        let about = self.about("replace", part);
        let operation = self.operation("replace", "put", part, parameters::WRITE, &about);
        with_body(operation, self.definition(part), &["200", "201"])
    }

    fn patch(&self, part: Option<Subresource>) -> Value {
        let about = self.about("partially update", part);
        let mut operation = self.operation("patch", "patch", part, parameters::PATCH, &about);
        let body = json!({ "schema": reference(&format!("{META}.Patch")) });
        let is_builtin = schema::definition(self.names.definition).is_some();
        let strategic = is_builtin.then_some(STRATEGIC);
        let content: Map<_, _> = JSON_PATCHES
            .into_iter()
            .chain(strategic)
            .map(|patch| (patch.to_owned(), body.clone()))
            .collect();
        operation["requestBody"] = json!({ "required": true, "content": content });
        operation["responses"] = answers(self.definition(part), &["200", "201"]);
        operation
    }

    fn delete(&self) -> Value {
        let about = self.about("delete", None);
        let operation = self.operation("delete", "delete", None, parameters::DELETE, &about);
        with_options(operation, &["200", "202"])
    }

    fn delete_collection(&self) -> Value {
        let names = self.names;
        let meaning = format!("delete collection of {}", names.kind);
        let query = parameters::DELETE_COLLECTION;
        let mut operation = self.operation("delete", "deletecollection", None, query, &meaning);
        operation["operationId"] = self.id("delete", "Collection", None).into();
        with_options(operation, &["200"])
    }

    fn connect(&self, method: &str, part: Subresource) -> Value {
        let query = parameters::of_subresource(part.path());
        let meaning = format!(
            "connect {} requests to {} of {}",
            method.to_uppercase(),
            part.path(),
            self.names.kind
        );
        let mut operation = self.operation("connect", "connect", Some(part), query, &meaning);
        operation["operationId"] = self.id("connect", &capital(method), Some(part)).into();
        operation["responses"] = json!({
            "200": {
                "description": "OK",
                "content": { "*/*": { "schema": { "type": "string" } } },
            },
            "401": { "description": "Unauthorized" },
        });
        operation
    }

    fn about(&self, verb: &str, part: Option<Subresource>) -> String {
        match part {
            Some(part) => format!(
                "{verb} {} of the specified {}",
                part.path(),
                self.names.kind
            ),
            None if verb == "create" => format!("create a {}", self.names.kind),
            None => format!("{verb} the specified {}", self.names.kind),
        }
    }

    fn id(&self, verb: &str, infix: &str, part: Option<Subresource>) -> String {
        let names = self.names;
        format!(
            "{verb}{}{}{infix}{}{}{}",
            operation_group(names.group),
            capital(names.version),
            if names.namespaced { "Namespaced" } else { "" },
            names.kind,
            part.map(|part| capital(part.path())).unwrap_or_default(),
        )
    }

    fn operation(
        &self,
        verb: &str,
        action: &str,
        part: Option<Subresource>,
        query: &[&str],
        description: &str,
    ) -> Value {
        let names = self.names;
        let [group, version, kind] = gvk(names, part);
        json!({
            "operationId": self.id(verb, "", part),
            "description": description,
            "tags": [tag(names.group, names.version)],
            "parameters": parameters::query(query),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": group,
                "version": version,
                "kind": kind,
            },
        })
    }
}

fn with_body(mut operation: Value, definition: &str, statuses: &[&str]) -> Value {
    let schema = json!({ "schema": reference(definition) });
    operation["requestBody"] = json!({ "required": true, "content": { "*/*": schema } });
    operation["responses"] = answers(definition, statuses);
    operation
}

fn with_options(mut operation: Value, statuses: &[&str]) -> Value {
    let schema = json!({ "schema": reference(&format!("{META}.DeleteOptions")) });
    operation["requestBody"] = json!({ "content": { "*/*": schema } });
    operation["responses"] = answers(&format!("{META}.Status"), statuses);
    operation
}

fn answers(definition: &str, statuses: &[&str]) -> Value {
    let content = json!({ "application/json": { "schema": reference(definition) } });
    let mut answers: Map<_, _> = statuses
        .iter()
        .map(|status| {
            let meaning = match *status {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let answer = json!({ "description": meaning, "content": content });
            ((*status).to_owned(), answer)
        })
        .collect();
    answers.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    answers.into()
}

fn text_answer() -> Value {
    json!({
        "200": {
            "description": "OK",
            "content": { "text/plain": { "schema": { "type": "string" } } },
        },
        "401": { "description": "Unauthorized" },
    })
}

/// A group in an operation's id: `Apps`, `RbacAuthorization`, `StableExampleCom`.
fn operation_group(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    if group.is_empty() {
        return "Core".to_owned();
    }
    group.split(['.', '-']).map(capital).collect()
}

/// A group-version as a tag: `core_v1`, `rbacAuthorization_v1`.
fn tag(group: &str, version: &str) -> String {
    let mut name = operation_group(group);
    name[..1].make_ascii_lowercase();
    if version.is_empty() {
        name
    } else {
        format!("{name}_{version}")
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::Registry;

    #[test]
    fn operations_are_named_as_generated_clients_expect() {
        let registry = Registry::builtin();
        let pods = registry.find("", "v1", "pods").expect("it is built in");
        let mut ids = Vec::new();
        for item in of("api/v1", pods.as_ref()).values() {
            let methods = item.as_object().into_iter().flatten();
            ids.extend(
                methods.filter_map(|(_, operation)| {
                    operation["operationId"].as_str().map(str::to_owned)
                }),
            );
        }
        for expected in [
            "createCoreV1NamespacedPod",
            "deleteCoreV1CollectionNamespacedPod",
            "listCoreV1PodForAllNamespaces",
            "patchCoreV1NamespacedPodStatus",
            "readCoreV1NamespacedPodLog",
        ] {
            assert!(ids.iter().any(|id| id == expected), "{expected} in {ids:?}");
        }
    }

    #[test]
    fn groups_are_named_without_their_domain() {
        let named = [
            "",
            "apps",
            "rbac.authorization.k8s.io",
            "stable.example.com",
        ]
        .map(|group| format!("{} {}", operation_group(group), tag(group, "v1")));
        expect![[r#"
            Core core_v1
            Apps apps_v1
            RbacAuthorization rbacAuthorization_v1
            StableExampleCom stableExampleCom_v1"#]]
        .assert_eq(&named.join("\n"));
    }
}
