//! ResourceSlice: devices of a driver, and where they are.

use jiff::Timestamp;
use serde_json::Value;

use super::{GROUP, device};
use crate::{
    field::{FieldErrors, Path},
    kinds::{
        Column, Kind, Names, check, column, not_acted_on,
        value::{entries, items, number, part, present, text, truth},
    },
    name,
};

/// The kind.
pub(crate) struct ResourceSlice;

static NAMES: Names = Names {
    group: GROUP,
    version: "v1",
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    short: &[],
    categories: &[],
    namespaced: false,
    definition: "io.k8s.api.resource.v1.ResourceSlice",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Node", "The node that has the devices"),
    column::shown("Driver", "Their driver"),
    column::shown("Pool", "The pool that they are of"),
    column::AGE,
];

/// Devices of one slice, and of one whose devices have taints or share counters.
const DEVICES: usize = 128;
const COMPLEX_DEVICES: usize = 64;
/// Sets of counters of one slice.
const COUNTER_SETS: usize = 8;
/// Attributes and capacities of one device.
const PROPERTIES: usize = 32;
/// Bytes of an attribute's value.
const VALUE: usize = 64;
const TAINTS: usize = 16;
const COUNTER_USES: usize = 2;

const WHERE: &[&str] = &[
    "nodeName",
    "nodeSelector",
    "allNodes",
    "perDeviceNodeSelection",
];

impl Kind for ResourceSlice {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn counted(&self) -> &[&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        let spec = part(object, "/spec");
        device::validate_driver(&path.field("driver"), text(spec, "/driver"), errors);
        validate_pool(&path.field("pool"), part(spec, "/pool"), errors);
        validate_place(&path, spec, errors);
        if present(spec, "/sharedCounters") && present(spec, "/devices") {
            let detail = "only one of `sharedCounters` or `devices` is allowed";
            errors.invalid(&path, "", detail);
        }
        let devices = items(spec, "/devices");
        let complex = devices
            .iter()
            .any(|device| present(device, "/taints") || present(device, "/consumesCounters"));
        let most = if complex { COMPLEX_DEVICES } else { DEVICES };
        let apart = truth(spec, "/perDeviceNodeSelection");
        let at = path.field("devices");
        device::each(&at, devices, most, errors, |path, device, errors| {
            validate_device(path, device, apart, errors);
        });
        device::unique(&at, devices, "/name", errors);
        let counters = items(spec, "/sharedCounters");
        let at = path.field("sharedCounters");
        device::each(&at, counters, COUNTER_SETS, errors, |path, set, errors| {
            device::validate_label(&path.field("name"), text(set, "/name"), errors);
            device::validate_counters(path, set, errors);
        });
        device::unique(&at, counters, "/name", errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut FieldErrors) {
        let path = Path::root("spec");
        for (path, pointer) in [
            (path.field("pool").field("name"), "/spec/pool/name"),
            (path.field("driver"), "/spec/driver"),
            (path.field("nodeName"), "/spec/nodeName"),
        ] {
            check::immutable(&path, object, old, pointer, errors);
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        not_acted_on::whole(&NAMES)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.driver", text(object, "/spec/driver").to_owned()),
            ("spec.nodeName", text(object, "/spec/nodeName").to_owned()),
        ]
    }

    fn field_names(&self) -> &[&'static str] {
        &["spec.driver", "spec.nodeName"]
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            column::name(object),
            text(object, "/spec/nodeName").into(),
            text(object, "/spec/driver").into(),
            text(object, "/spec/pool/name").into(),
            column::age(object, now),
        ]
    }
}

fn validate_pool(path: &Path, pool: &Value, errors: &mut FieldErrors) {
    device::validate_pool(&path.field("name"), text(pool, "/name"), errors);
    let slices = number(pool, "/resourceSliceCount").unwrap_or_default();
    if slices <= 0 {
        let path = path.field("resourceSliceCount");
        errors.invalid(&path, slices, "must be greater than zero");
    }
    let generation = number(pool, "/generation").unwrap_or_default();
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.invalid(&path.field("generation"), generation, detail);
    }
}

/// A node's name, and switches that are on or not there.
fn validate_node(path: &Path, owner: &Value, empty: &str, errors: &mut FieldErrors) {
    match part(owner, "/nodeName").as_str() {
        Some("") => errors.invalid(&path.field("nodeName"), "", empty),
        Some(node) => {
            let problems = name::subdomain_problems(node);
            check::problems(&path.field("nodeName"), node, problems, errors);
        }
        None => {}
    }
    for field in ["allNodes", "perDeviceNodeSelection"] {
        if part(owner, &format!("/{field}")) == false {
            let detail = "must be either unset or set to true";
            errors.invalid(&path.field(field), false, detail);
        }
    }
}

fn validate_place(path: &Path, spec: &Value, errors: &mut FieldErrors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let empty = "must be either unset or set to a non-empty string";
    validate_node(path, spec, empty, errors);
    let terms = part(spec, "/nodeSelector/nodeSelectorTerms");
    if present(spec, "/nodeSelector") && terms.as_array().map(Vec::len) != Some(1) {
        errors.invalid(
            &path.field("nodeSelector").field("nodeSelectorTerms"),
            terms.clone(),
            "must have exactly one node selector term",
        );
    }
    let given = device::given(spec, WHERE);
    match given.len() {
        0 => errors.required(path, ONE),
        1 => {}
        _ => {
            let detail = format!("{ONE}, but multiple fields are set");
            device::refuse_several(path, &given, &detail, errors);
        }
    }
}

fn validate_device(path: &Path, device: &Value, apart: bool, errors: &mut FieldErrors) {
    device::validate_label(&path.field("name"), text(device, "/name"), errors);
    let properties = entries(device, "/attributes").count() + entries(device, "/capacity").count();
    if properties > PROPERTIES {
        let detail =
            format!("the total number of attributes and capacities must not exceed {PROPERTIES}");
        errors.invalid(path, properties, detail);
    }
    for (name, attribute) in entries(device, "/attributes") {
        let path = path.field("attributes").key(name);
        device::validate_attribute_name(&path, name, errors);
        validate_attribute(&path, attribute, errors);
    }
    for (name, capacity) in entries(device, "/capacity") {
        let path = path.field("capacity").key(name);
        device::validate_attribute_name(&path, name, errors);
        check::quantity(&path.field("value"), part(capacity, "/value"), errors);
        let shared = truth(device, "/allowMultipleAllocations");
        if present(capacity, "/requestPolicy") && !shared {
            let detail = "allowMultipleAllocations must be true";
            errors.forbidden(&path.field("requestPolicy"), detail);
        }
    }
    let taints = items(device, "/taints");
    let at = path.field("taints");
    device::each(&at, taints, TAINTS, errors, device::validate_taint);
    let uses = items(device, "/consumesCounters");
    let at = path.field("consumesCounters");
    device::each(&at, uses, COUNTER_USES, errors, |path, counters, errors| {
        let set = text(counters, "/counterSet");
        device::validate_label(&path.field("counterSet"), set, errors);
        device::validate_counters(path, counters, errors);
    });
    device::unique(&at, uses, "/counterSet", errors);
    validate_device_place(path, device, apart, errors);
}

fn validate_attribute(path: &Path, attribute: &Value, errors: &mut FieldErrors) {
    let given: Vec<_> = entries(attribute, "")
        .filter(|(_, value)| !value.is_null())
        .collect();
    for field in ["string", "version"] {
        if text(attribute, &format!("/{field}")).len() > VALUE {
            check::too_long(&path.field(field), VALUE, errors);
        }
    }
    if given.len() != 1 {
        let shown = if given.is_empty() {
            "".into()
        } else {
            attribute.clone()
        };
        errors.invalid(path, shown, "exactly one value must be specified");
    }
}

fn validate_device_place(path: &Path, device: &Value, apart: bool, errors: &mut FieldErrors) {
    let fields = &WHERE[..3];
    if apart {
        const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                           `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        validate_node(path, device, "must not be empty", errors);
        let given = device::given(device, fields);
        match given.len() {
            0 => errors.required(path, ONE),
            1 => {}
            _ => device::refuse_several(path, &given, ONE, errors),
        }
    } else if fields
        .iter()
        .any(|field| present(device, &format!("/{field}")))
    {
        errors.invalid(
            path,
            Value::Null,
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        );
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::kinds::tests::{errors, row, update_errors};

    #[track_caller]
    fn check(spec: &str, expect: Expect) {
        let yaml =
            format!("{{spec: {{driver: d, pool: {{name: p, resourceSliceCount: 1}}, {spec}}}}}");
        expect.assert_eq(&errors(&ResourceSlice, &yaml));
    }

    #[test]
    fn its_devices_are_somewhere() {
        check("nodeName: n1", expect![""]);
        check(
            "nodeSelector: {}",
            expect![[r#"
                spec.nodeSelector.nodeSelectorTerms: Invalid value: null: must have exactly one node selector term
            "#]],
        );
        check(
            "nodeName: n1, allNodes: true",
            expect![[r#"
                spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
            "#]],
        );
        check(
            "allNodes: false",
            expect![[r#"
                spec.allNodes: Invalid value: false: must be either unset or set to true
                spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required
            "#]],
        );
    }

    #[test]
    fn everything_wrong_with_a_device_is_said_at_once() {
        check(
            "nodeName: n1, devices: [{name: a, attributes: {model: {}, x-1: {int: 1}}, capacity: {memory: \
             {value: big}}, taints: [{key: a}], consumesCounters: [{counterSet: s}], allNodes: true}, {name: a}]",
            expect![[r#"
                spec.devices[0].attributes[model]: Invalid value: "": exactly one value must be specified
                spec.devices[0].attributes[x-1]: Invalid value: "x-1": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
                spec.devices[0].capacity[memory].value: Invalid value: "big": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
                spec.devices[0].taints[0].effect: Required value
                spec.devices[0].consumesCounters[0].counters: Required value
                spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec
                spec.devices[1]: Duplicate value: "a"
            "#]],
        );
    }

    #[test]
    fn whose_devices_they_are_never_changes() {
        expect![[r#"
            spec.pool.name: Invalid value: "b": field is immutable
            spec.driver: Invalid value: "e": field is immutable
        "#]]
        .assert_eq(&update_errors(
            &ResourceSlice,
            "{spec: {driver: d, pool: {name: a}}}",
            "{spec: {driver: e, pool: {name: b}}}",
        ));
    }

    #[test]
    fn a_row_says_where_they_are() {
        expect!["s|n1|d|p|60m"].assert_eq(&row(
            &ResourceSlice,
            "{metadata: {name: s}, spec: {nodeName: n1, driver: d, pool: {name: p}}}",
        ));
    }
}
