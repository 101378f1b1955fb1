//! One group-version's document: its paths, and the definitions that they reach.

use serde_json::{Map, Value, json};

use super::{custom, descriptions::Descriptions, paths, schemas};
use crate::kinds::GroupVersion;

/// Builds the document of the kinds of a group-version.
pub(super) fn build(served: &GroupVersion<'_>, descriptions: &Descriptions) -> Value {
    let root = served.path();
    let mut all = paths::discovery(&root, served.group, served.version);
    let mut definitions = paths::SHARED.map(str::to_owned).to_vec();
    for kind in &served.kinds {
        all.extend(paths::of(&root, *kind));
        let own = kind.names().definition;
        definitions.push(own.to_owned());
        if kind.verbs().contains(&"list") {
            definitions.push(format!("{own}List"));
        }
        for subresource in kind.subresources() {
            definitions.extend(
                subresource
                    .own_kind()
                    .map(|[_, _, _, definition]| definition.to_owned()),
            );
        }
    }
    let customs = || served.kinds.iter().filter_map(|kind| kind.custom());
    if customs().next().is_some() {
        definitions.extend(custom::ROOTS.map(str::to_owned));
    }
    let mut document = whole(all, &definitions, descriptions);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.extend(customs().flat_map(custom::definitions));
    }
    document
}

/// Builds the document of a path that is no group-version: a GET of one definition.
pub(super) fn of_path(path: &str, descriptions: &Descriptions) -> Value {
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1";
    let (what, group, definition) = match path {
        "version" => (
            "Code",
            "version",
            "io.k8s.apimachinery.pkg.version.Info".to_owned(),
        ),
        "api" => ("APIVersions", "", format!("{meta}.APIVersions")),
        "apis" => ("APIVersions", "apis", format!("{meta}.APIGroupList")),
        group => {
            let group = group.strip_prefix("apis/").unwrap_or(group);
            ("APIGroup", group, format!("{meta}.APIGroup"))
        }
    };
    let path = format!("/{path}/");
    let all = paths::get_only(&path, what, group, "", &definition);
    whole(all, &[definition], descriptions)
}

fn whole(paths: Map<String, Value>, roots: &[String], descriptions: &Descriptions) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": crate::discovery::GIT_VERSION },
        "paths": paths,
        "components": {
            "schemas": schemas::reachable(roots, descriptions),
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "description": "Bearer Token authentication",
                    "in": "header",
                    "name": "authorization",
                },
            },
        },
        "security": [{ "BearerToken": [] }],
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::Registry;

    fn document(group: &str) -> Value {
        let registry = Registry::builtin();
        let groups = registry.group_versions();
        let served = groups.iter().find(|served| served.group == group);
        build(served.expect("it is served"), &Descriptions::read())
    }

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    found.push(target);
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for served in Registry::builtin().group_versions() {
            let group = served.group;
            let document = document(group);
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(found.len() > 20, "{group}");
            for target in found {
                let name = target
                    .strip_prefix("#/components/schemas/")
                    .expect("a reference is to a schema");
                let schema = &document["components"]["schemas"][name];
                assert!(schema.is_object(), "{group}: {name}");
            }
        }
    }

    #[test]
    fn a_patch_says_how_lists_merge_and_what_it_takes() {
        let document = document("apps");
        let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
            ["containers"];
        expect![[r##"{"description":"List of containers belonging to the pod. Containers cannot currently be added or removed. There must be at least one container in a Pod. Cannot be updated.","items":{"allOf":[{"$ref":"#/components/schemas/io.k8s.api.core.v1.Container"}],"default":{}},"type":"array","x-kubernetes-list-map-keys":["name"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"name","x-kubernetes-patch-strategy":"merge"}"##]]
        .assert_eq(&containers.to_string());
        let patch =
            &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        let parameters: Vec<_> = patch["parameters"]
            .as_array()
            .expect("it has parameters")
            .iter()
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        expect!["dryRun fieldManager fieldValidation force"].assert_eq(&parameters.join(" "));
        let content: Vec<_> = patch["requestBody"]["content"]
            .as_object()
            .expect("it has content")
            .keys()
            .map(String::as_str)
            .collect();
        expect!["application/apply-patch+yaml application/json-patch+json application/merge-patch+json application/strategic-merge-patch+json"]
            .assert_eq(&content.join(" "));
        expect![[r#"{"group":"apps","kind":"Deployment","version":"v1"}"#]]
            .assert_eq(&patch["x-kubernetes-group-version-kind"].to_string());
    }

    #[test]
    fn every_patch_of_a_service_checks_fields() {
        let document = document("");
        let paths = document["paths"].as_object().expect("it has paths");
        let patches = paths.iter().filter(|(_, item)| {
            item["patch"]["x-kubernetes-group-version-kind"]["kind"] == "Service"
        });
        let mut found = Vec::new();
        for (path, item) in patches {
            let parameters = item["patch"]["parameters"].to_string();
            assert!(parameters.contains("fieldValidation"), "{path}");
            found.push(path.rsplit('/').next().unwrap_or_default());
        }
        expect!["{name} status"].assert_eq(&found.join(" "));
    }
}
