//! DeviceClass: a sort of devices that requests name.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, device};
use crate::{
    field::{FieldErrors, Path},
    kinds::{Column, Kind, Names, column, not_acted_on, value::part},
    name,
};

/// The kind.
pub(crate) struct DeviceClass;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.resource.v1.DeviceClass",
};

const COLUMNS: &[Column] = &[column::NAME, column::AGE];

impl Kind for DeviceClass {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn counted(&self) -> &[&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        device::validate_selectors(&path, spec, errors);
        device::validate_configurations(&path, spec, errors, |_, _, _| {});
        if let Some(resource) = part(spec, "/extendedResourceName").as_str() {
            let native = !resource.contains('/') || resource.contains("kubernetes.io/");
            let quota = format!("requests.{resource}");
            if native
                || resource.starts_with("requests.")
                || !name::qualified_problems(&quota).is_empty()
            {
                let path = path.field("extendedResourceName");
                errors.invalid(&path, resource, "must be a valid extended resource name");
            }
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![column::name(object), column::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[test]
    fn everything_wrong_is_said_at_once() {
        expect![[r#"
            spec.selectors[0].cel: Required value
            spec.config[0].opaque: Required value
            spec.config[1].opaque.driver: Required value
            spec.config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
            spec.extendedResourceName: Invalid value: "gpu": must be a valid extended resource name
        "#]]
        .assert_eq(&errors(
            &DeviceClass,
            "{spec: {selectors: [{}, {cel: {expression: 'true'}}], config: [{}, {opaque: {parameters: \
             1}}], extendedResourceName: gpu}}",
        ));
        expect!["gpu|60m"].assert_eq(&row(&DeviceClass, "{metadata: {name: gpu}}"));
    }
}
