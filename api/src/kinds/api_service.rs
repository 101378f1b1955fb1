//! APIService: a group-version that a server of its own answers for.
//!
//! Requests are not passed on: an APIService that names a service is stored and never available.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Column, Kind, Names, Subresource, check, column, not_acted_on,
    value::{fill, find, items, number, part, present, text, truth},
    write,
};
use crate::{
    field::{FieldErrors, Path},
    name, object as metadata,
};

/// The kind.
pub(crate) struct ApiService;

static NAMES: Names = Names {
    group: "apiregistration.k8s.io",
    version: "v1",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    short: &[],
    categories: &["api-extensions"],
    namespaced: false,
    definition: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Service", "What answers for it"),
    column::shown("Available", "Whether it is answered for"),
    column::AGE,
];

impl Kind for ApiService {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn subresources(&self) -> &[Subresource] {
        &[Subresource::Status]
    }

    fn counted(&self) -> &[&'static str] {
        &[]
    }

    /// One without a service is this server's own.
    fn new_status(&self, object: &Value) -> Value {
        let since = part(object, "/metadata/creationTimestamp");
        let condition = if present(object, "/spec/service") {
            json!({
                "type": "Available",
                "status": "False",
                "reason": "AggregationNotServed",
                "message": "requests are not passed on to services of other groups yet",
                "lastTransitionTime": since,
            })
        } else {
            json!({
                "type": "Available",
                "status": "True",
                "reason": "Local",
                "message": "Local APIServices are always available",
                "lastTransitionTime": since,
            })
        };
        json!({ "conditions": [condition] })
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        name::segment_problems(name)
    }

    fn default(&self, object: &mut Value) {
        fill(object, "status", write::empty());
        if let Some(service) = find(object, "spec").and_then(|spec| find(spec, "service")) {
            fill(service, "port", 443);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        let (group, version) = (text(spec, "/group"), text(spec, "/version"));
        let own = metadata::name(object);
        let wanted = format!("{version}.{group}");
        if own != wanted {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
            errors.invalid(&Path::root("metadata").field("name"), own, detail);
        }
        if group.is_empty() && version != "v1" {
            errors.required(
                &path.field("group"),
                "only v1 may have an empty group and it better be legacy kube",
            );
        }
        if !group.is_empty() {
            let problems = name::subdomain_problems(group);
            check::problems(&path.field("group"), group, problems, errors);
        }
        let problems = name::letter_label_problems(version);
        check::problems(&path.field("version"), version, problems, errors);
        for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let given = number(spec, &format!("/{field}")).unwrap_or_default();
            if !(1..=most).contains(&given) {
                let detail = format!("must be positive and less than {most}");
                errors.invalid(&path.field(field), given, detail);
            }
        }
        validate_service(&path, spec, errors);
    }

    fn validate_status(&self, object: &Value, _old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("status").field("conditions");
        for (index, condition) in items(object, "/status/conditions").iter().enumerate() {
            check::one_of(
                &path.index(index).field("status"),
                part(condition, "/status"),
                &["True", "False", "Unknown"],
                errors,
            );
        }
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        if present(object, "/spec/service") {
            not_acted_on::whole(&NAMES)
        } else {
            Vec::new()
        }
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let service = part(object, "/spec/service");
        let service = if service.is_null() {
            "Local".to_owned()
        } else {
            format!("{}/{}", text(service, "/namespace"), text(service, "/name"))
        };
        let available = items(object, "/status/conditions")
            .iter()
            .find(|condition| text(condition, "/type") == "Available")
            .map(|condition| match text(condition, "/status") {
                "True" => "True".to_owned(),
                status => format!("{status} ({})", text(condition, "/reason")),
            });
        vec![
            column::name(object),
            service.into(),
            available.unwrap_or_else(|| "Unknown".to_owned()).into(),
            column::age(object, now),
        ]
    }
}

fn validate_service(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    let bundle = text(spec, "/caBundle");
    let trusting = truth(spec, "/insecureSkipTLSVerify");
    if !present(spec, "/service") {
        if !bundle.is_empty() {
            errors.invalid(
                &path.field("caBundle"),
                format!("{} bytes", bundle.len()),
                "local APIServices may not have a caBundle",
            );
        }
        if trusting {
            errors.invalid(
                &path.field("insecureSkipTLSVerify"),
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    let at = path.field("service");
    for field in ["namespace", "name"] {
        if text(spec, &format!("/service/{field}")).is_empty() {
            errors.required(&at.field(field), "");
        }
    }
    let port = number(spec, "/service/port").unwrap_or_default();
    if !(1..=65_535).contains(&port) {
        errors.invalid(
            &at.field("port"),
            port,
            "port is not valid: must be between 1 and 65535, inclusive",
        );
    }
    if trusting && !bundle.is_empty() {
        errors.invalid(
            &path.field("insecureSkipTLSVerify"),
            true,
            "may not be true if caBundle is present",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, read, row};

    #[test]
    fn it_is_named_by_its_version_and_group() {
        expect![[r#"
            metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.a.b"
            spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000
            spec.versionPriority: Invalid value: 1001: must be positive and less than 1000
            spec.service.namespace: Required value
            spec.service.name: Required value
            spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present
        "#]]
        .assert_eq(&errors(
            &ApiService,
            "{metadata: {name: x}, spec: {group: a.b, version: v1, versionPriority: 1001, service: {}, \
             caBundle: eA==, insecureSkipTLSVerify: true}}",
        ));
    }

    #[test]
    fn only_one_of_this_server_is_available() {
        let shown = |spec: &str| {
            let mut object = read(&format!("{{metadata: {{name: v1.a.b}}, spec: {{{spec}}}}}"));
            ApiService.prepare_create(&mut object);
            row(&ApiService, &object.to_string())
        };
        expect!["v1.a.b|Local|True|60m"].assert_eq(&shown("group: a.b"));
        expect!["v1.a.b|d/s|False (AggregationNotServed)|60m"]
            .assert_eq(&shown("service: {namespace: d, name: s}"));
    }
}
