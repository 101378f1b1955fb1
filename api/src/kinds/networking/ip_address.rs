//! IPAddress: an address that is taken, and by what.

use jiff::Timestamp;
use serde_json::Value;

use super::GROUP;
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, address, check, column, not_acted_on,
        value::{part, text},
    },
    name,
};

/// The kind.
pub(crate) struct IpAddress;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short: &["ip"],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.networking.v1.IPAddress",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("ParentRef", "What has the address"),
];

impl Kind for IpAddress {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn name_problems(&self, name: &str) -> Vec<String> {
        address::name_problems(name)
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("parentRef");
        let parent = part(object, "/spec/parentRef");
        if parent.is_null() {
            errors.required(&path, "");
            return;
        }
        let group = text(parent, "/group");
        if !group.is_empty() {
            let problems = name::subdomain_problems(group);
            check::problems(&path.field("group"), group, problems, errors);
        }
        for field in ["resource", "name", "namespace"] {
            let path = path.field(field);
            match text(parent, &format!("/{field}")) {
                "" if field == "namespace" => {}
                "" => errors.required(&path, ""),
                given => check::problems(&path, given, name::segment_problems(given), errors),
            }
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec").field("parentRef");
        check::immutable(&path, object, old, "/spec/parentRef", errors);
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let parent = part(object, "/spec/parentRef");
        let mut shown = text(parent, "/resource").to_lowercase();
        let group = text(parent, "/group");
        if !group.is_empty() {
            shown = format!("{shown}.{}", group.to_lowercase());
        }
        for pointer in ["/namespace", "/name"] {
            let part = text(parent, pointer);
            if !part.is_empty() {
                shown = format!("{shown}/{part}");
            }
        }
        vec![column::name(object), column::or_none(&shown)]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[test]
    fn it_belongs_to_something_for_good() {
        expect![[r#"
            spec.parentRef.resource: Required value
            spec.parentRef.name: Invalid value: "a/b": may not contain '/'
        "#]]
        .assert_eq(&errors(&IpAddress, "{spec: {parentRef: {name: a/b}}}"));
        expect![[r#"
            spec.parentRef: Invalid value: {"name":"b","resource":"services"}: field is immutable
        "#]]
        .assert_eq(&update_errors(
            &IpAddress,
            "{spec: {parentRef: {name: a, resource: services}}}",
            "{spec: {parentRef: {name: b, resource: services}}}",
        ));
    }

    #[test]
    fn a_row_shows_what_it_belongs_to() {
        expect!["10.43.0.1|services/default/kubernetes"].assert_eq(&row(
            &IpAddress,
            "{metadata: {name: 10.43.0.1}, spec: {parentRef: {group: '', resource: services, \
             namespace: default, name: kubernetes}}}",
        ));
    }
}
