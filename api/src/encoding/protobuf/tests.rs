use std::sync::Arc;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    kinds::{Kind, Registry},
    schema,
};

/// A number as the wire has it.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

/// A field that is a number.
fn int(number: u32, value: i64) -> Vec<u8> {
    [
        varint(u64::from(number) << 3),
        varint(value.cast_unsigned()),
    ]
    .concat()
}

/// A field of bytes: a string, or the fields of a message one after the other.
fn part(number: u32, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = varint(u64::try_from(content.len()).unwrap());
    [varint(u64::from(number) << 3 | 2), length, content.to_vec()].concat()
}

/// A whole body.
fn body(version: &str, kind: &str, raw: &[Vec<u8>]) -> Vec<u8> {
    let identity = [part(1, version), part(2, kind)].concat();
    [
        MAGIC.to_vec(),
        part(1, identity),
        part(2, raw.concat()),
        part(3, ""),
        part(4, ""),
    ]
    .concat()
}

fn told(bytes: &[u8]) -> String {
    match protobuf(bytes, "v1", "Pod") {
        Ok(body) => body.value.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn check(version: &str, kind: &str, raw: &[Vec<u8>], expected: &Expect) {
    expected.assert_eq(&told(&body(version, kind, raw)));
}

/// The fields of a Pod with this spec.
fn pod_spec(fields: &[Vec<u8>]) -> Vec<Vec<u8>> {
    vec![part(2, fields.concat())]
}

#[test]
fn an_object_is_what_it_is_in_json() {
    let labels = [part(1, "app"), part(2, "web")].concat();
    let metadata = [
        part(1, "a"),
        part(3, "default"),
        part(8, ""),
        part(11, labels),
    ]
    .concat();
    let entry = [part(1, "k"), part(2, "v")].concat();
    let binary = [part(1, "b"), part(2, [0xff, 0])].concat();
    check(
        "v1",
        "ConfigMap",
        &[part(1, metadata), part(2, entry), part(3, binary)],
        &expect![[
            r#"{"apiVersion":"v1","binaryData":{"b":"/wA="},"data":{"k":"v"},"kind":"ConfigMap","metadata":{"labels":{"app":"web"},"name":"a","namespace":"default"}}"#
        ]],
    );
}

#[test]
fn a_zero_is_left_away_where_go_does() {
    let zeros = |numbers: &[u32]| -> Vec<u8> {
        numbers.iter().flat_map(|number| int(*number, 0)).collect()
    };
    // Of these, `replicas`, `revisionHistoryLimit` and `progressDeadlineSeconds` are pointers.
    let surge = [
        part(1, zeros(&[1, 2])),
        part(2, [int(1, 1), part(3, "25%")].concat()),
    ]
    .concat();
    let strategy = [part(1, ""), part(2, surge)].concat();
    let spec = [zeros(&[1, 5, 6, 7, 9]), part(4, strategy)].concat();
    check(
        "apps/v1",
        "Deployment",
        &[part(1, ""), part(2, spec), part(3, zeros(&[1, 2, 3]))],
        &expect![[
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{},"spec":{"progressDeadlineSeconds":0,"replicas":0,"revisionHistoryLimit":0,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":0}}},"status":{}}"#
        ]],
    );
    // `containerPort` is required: Go always writes it.
    let port = [part(1, ""), zeros(&[2, 3]), part(4, "")].concat();
    let container = [part(1, "c"), part(2, ""), part(6, port), zeros(&[16])].concat();
    check(
        "v1",
        "Pod",
        &pod_spec(&[part(2, container)]),
        &expect![[
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"c","ports":[{"containerPort":0}]}]}}"#
        ]],
    );
}

#[test]
fn special_messages_are_written_as_json_has_them() {
    let moment = [int(1, 1_700_000_000), int(2, 123_456_789)].concat();
    let fields = part(1, r#"{"f:data":{}}"#);
    let entry = [part(1, "m"), part(4, &moment), part(7, fields)].concat();
    let metadata = [part(8, &moment), part(9, ""), part(17, entry)].concat();
    check(
        "coordination.k8s.io/v1",
        "Lease",
        &[part(1, metadata), part(2, part(4, &moment))],
        &expect![[
            r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"creationTimestamp":"2023-11-14T22:13:20Z","managedFields":[{"fieldsV1":{"f:data":{}},"manager":"m","time":"2023-11-14T22:13:20Z"}]},"spec":{"renewTime":"2023-11-14T22:13:20.123456Z"}}"#
        ]],
    );
    let limit = [part(1, "cpu"), part(2, part(1, "500m"))].concat();
    let none = part(1, "memory");
    let resources = [part(1, limit), part(1, none)].concat();
    let probe = [
        part(1, part(2, [part(1, "/up"), part(2, int(2, 80))].concat())),
        int(2, -3),
    ]
    .concat();
    check(
        "v1",
        "Pod",
        &pod_spec(&[part(2, [part(8, resources), part(10, probe)].concat())]),
        &expect![[
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"livenessProbe":{"httpGet":{"path":"/up","port":80},"initialDelaySeconds":-3},"resources":{"limits":{"cpu":"500m","memory":"0"}}}]}}"#
        ]],
    );
}

#[test]
fn what_comes_twice_is_merged_and_lists_may_be_packed() {
    let packed = [varint(1), varint(300)].concat();
    let groups = [int(4, 7), part(4, packed)].concat();
    check(
        "v1",
        "Pod",
        &pod_spec(&[
            part(10, "before"),
            part(14, int(2, 1)),
            part(10, "node"),
            part(14, groups),
            part(16, "gone"),
            part(16, ""),
        ]),
        &expect![[
            r#"{"apiVersion":"v1","kind":"Pod","spec":{"nodeName":"node","securityContext":{"runAsUser":1,"supplementalGroups":[7,1,300]}}}"#
        ]],
    );
}

#[test]
fn unknown_fields_are_skipped_and_an_object_may_not_say_what_it_is() {
    let fixed = [
        varint(900 << 3 | 5),
        vec![0; 4],
        varint(901 << 3 | 1),
        vec![0; 8],
    ]
    .concat();
    let raw = [fixed, int(902, 1), part(903, "x"), part(2, part(10, "n"))].concat();
    expect![[r#"{"apiVersion":"v1","kind":"Pod","spec":{"nodeName":"n"}}"#]]
        .assert_eq(&told(&[MAGIC, &part(2, raw)].concat()));
    expect![[r#"{"apiVersion":"apps/v1","gracePeriodSeconds":0,"kind":"DeleteOptions"}"#]]
        .assert_eq(&told(&body("apps/v1", "DeleteOptions", &[int(1, 0)])));
}

#[test]
fn errors_name_message_and_field() {
    let error = |bytes: &[u8], expected: &Expect| expected.assert_eq(&told(bytes));
    error(
        b"{}",
        &expect![[r#"error: runtime.Unknown: the body does not begin with k8s\0"#]],
    );
    error(
        b"k8s\0\x0a",
        &expect!["error: runtime.Unknown: the bytes end inside a field"],
    );
    error(
        &[MAGIC, &part(3, "gzip")].concat(),
        &expect!["error: runtime.Unknown.contentEncoding: must be empty"],
    );
    error(
        &[MAGIC, &part(4, "application/json")].concat(),
        &expect![
            "error: runtime.Unknown.contentType: must be empty or application/vnd.kubernetes.protobuf"
        ],
    );
    error(
        &body("batch/v1", "Job", &[]),
        &expect![[r#"{"apiVersion":"batch/v1","kind":"Job"}"#]],
    );
    check(
        "v1",
        "Pod",
        &[int(1, 1)],
        &expect!["error: core.v1.Pod.metadata: is not written as bytes"],
    );
    check(
        "v1",
        "Pod",
        &pod_spec(&[part(2, part(6, int(3, 1 << 40)))]),
        &expect!["error: core.v1.ContainerPort.containerPort: does not fit 32 bits"],
    );
    check(
        "v1",
        "Pod",
        &pod_spec(&[part(10, [0xff])]),
        &expect!["error: core.v1.PodSpec.nodeName: is not valid UTF-8"],
    );
    check(
        "v1",
        "Pod",
        &[part(1, part(8, int(1, i64::MAX)))],
        &expect!["error: meta.v1.ObjectMeta.creationTimestamp: is a time out of range"],
    );
    check(
        "v1",
        "Service",
        &[part(2, part(1, part(4, int(1, 2))))],
        &expect!["error: core.v1.ServicePort.targetPort: is neither an integer nor a string"],
    );
    check(
        "v1",
        "Secret",
        &[vec![0x0b]],
        &expect!["error: core.v1.Secret: a field has a wire type that is not supported"],
    );
    check(
        "v1",
        "Secret",
        &[[vec![8], vec![0xff; 10]].concat()],
        &expect!["error: core.v1.Secret: a number exceeds 64 bits"],
    );
    check(
        "v1",
        "Secret",
        &[part(1, part(17, part(7, part(1, "{"))))],
        &expect![
            "error: meta.v1.ManagedFieldsEntry.fieldsV1: EOF while parsing an object at line 1 column 1"
        ],
    );
}

#[test]
fn json_inside_counts_for_the_depth() {
    let nested = format!("{}1{}", "[".repeat(119), "]".repeat(119));
    let entry = part(7, part(1, nested));
    let raw = [part(1, part(17, entry))];
    let read = protobuf(&body("v1", "Secret", &raw), "v1", "Secret");
    assert_eq!(read, Err(DecodeError::TooDeep));
}

/// The structural definition that a message is in JSON; none for those that are only inlined.
fn definition(message: &str) -> Option<Value> {
    let (package, name) = message.split_once('.')?;
    let name = match package {
        "meta" => format!("io.k8s.apimachinery.pkg.apis.meta.{name}"),
        "apiextensions" => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{name}"),
        package => format!("io.k8s.api.{package}.{name}"),
    };
    schema::definition(&name).map(|json| serde_json::from_str(json).unwrap())
}

/// How the facts call what a property of a definition holds.
fn shape_of(property: &Value) -> String {
    let text = |key: &str| property[key].as_str().unwrap_or_default();
    if let Some(name) = property["$ref"].as_str() {
        let short = name
            .trim_start_matches("io.k8s.apimachinery.pkg.")
            .trim_start_matches("io.k8s.kube-aggregator.pkg.")
            .trim_start_matches("io.k8s.apiextensions-apiserver.pkg.")
            .trim_start_matches("io.k8s.api.")
            .trim_start_matches("apis.");
        return match short {
            "api.resource.Quantity" => "Quantity".to_owned(),
            "util.intstr.IntOrString" => "IntOrString".to_owned(),
            "meta.v1.Time" => "Time".to_owned(),
            "meta.v1.MicroTime" => "MicroTime".to_owned(),
            "meta.v1.FieldsV1" | "runtime.RawExtension" | "apiextensions.v1.JSON" => {
                "Json".to_owned()
            }
            "apiextensions.v1.JSONSchemaPropsOrArray" => "SchemaOrArray".to_owned(),
            "apiextensions.v1.JSONSchemaPropsOrBool" => "SchemaOrBool".to_owned(),
            "apiextensions.v1.JSONSchemaPropsOrStringArray" => "SchemaOrStrings".to_owned(),
            short => format!("Message({short:?})"),
        };
    }
    match (text("type"), text("format")) {
        ("string", "byte") => "Bytes".to_owned(),
        ("string", _) => "String".to_owned(),
        ("boolean", _) => "Bool".to_owned(),
        ("integer", "int32") => "Int32".to_owned(),
        ("integer", "int64") => "Int64".to_owned(),
        ("number", "double") => "Double".to_owned(),
        ("array", _) => format!("List({})", shape_of(&property["items"])),
        ("object", _) => match shape_of(&property["additionalProperties"]).as_str() {
            "List(String)" => "Map(Strings)".to_owned(),
            value => format!("Map({value})"),
        },
        other => format!("{other:?}"),
    }
}

/// Checks the fields of a message against the properties of the definition they appear in.
fn compare(message: &Message, owner: &Value) {
    for field in &message.fields {
        let shape = match field.shape {
            Shape::Inline(name) => {
                let inlined = facts::find(name).expect(name);
                compare(inlined, &definition(name).unwrap_or_else(|| owner.clone()));
                continue;
            }
            Shape::One(item) | Shape::Kept(item) => format!("{item:?}"),
            shape => format!("{shape:?}"),
        };
        let property = &owner["properties"][field.name];
        assert_eq!(shape, shape_of(property), "{}.{}", message.name, field.name);
    }
}

#[test]
fn every_field_of_the_facts_is_a_property_of_its_type() {
    let mut compared = 0;
    for message in facts::messages() {
        if let Some(definition) = definition(message.name) {
            compare(message, &definition);
            compared += 1;
        }
        let mut numbers: Vec<u32> = message.fields.iter().map(|field| field.number).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), message.fields.len(), "{}", message.name);
    }
    assert!(compared > 190, "{compared}");
}

/// How deep messages nest; fails on one that is missing or holds itself. Schemas do: how deep those
/// are is bounded as they are read.
fn nesting(message: &Message, above: &[&str]) -> usize {
    if message.name == SCHEMA {
        return 1;
    }
    assert!(!above.contains(&message.name), "{} in itself", message.name);
    let above = [above, &[message.name]].concat();
    let below = message.fields.iter().map(|field| match field.shape {
        Shape::Inline(name)
        | Shape::One(Item::Message(name))
        | Shape::Kept(Item::Message(name))
        | Shape::List(Item::Message(name))
        | Shape::Map(Item::Message(name)) => nesting(facts::find(name).expect(name), &above),
        _ => 0,
    });
    1 + below.max().unwrap_or_default()
}

#[test]
fn every_message_that_is_named_is_there_and_none_holds_itself() {
    let deepest = facts::messages().map(|message| nesting(message, &[])).max();
    assert!(deepest < Some(MAX_DEPTH / 4), "{deepest:?}");
}

#[test]
fn every_kind_that_can_be_written_can_be_read() {
    let registry = Registry::builtin();
    // Kinds of our own have no messages, as kinds that users define have none.
    let written = |kind: &&Arc<dyn Kind>| {
        let ours = kind.names().group.ends_with(".wk.dev");
        kind.verbs().contains(&"create") && !ours
    };
    for kind in registry.all().iter().filter(written) {
        let names = kind.names();
        let version = match names.group {
            "" => names.version.to_owned(),
            group => format!("{group}/{}", names.version),
        };
        assert!(
            facts::object(&version, names.kind).is_some(),
            "{version} {}",
            names.kind
        );
    }
    for (version, kind) in [
        ("v1", "Binding"),
        ("autoscaling/v1", "Scale"),
        ("v1", "DeleteOptions"),
    ] {
        assert!(facts::object(version, kind).is_some(), "{kind}");
    }
}

/// Writes JSON as Go writes it to protobuf, but for the zeros.
fn encode(message: &Message, value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in &message.fields {
        let value = match field.shape {
            Shape::Inline(_) => value,
            _ => &value[field.name],
        };
        if value.is_null() {
            continue;
        }
        let number = field.number;
        match field.shape {
            Shape::Inline(name) => bytes.extend(part(number, encode(facts::message(name), value))),
            Shape::One(item) | Shape::Kept(item) => bytes.extend(encode_item(number, item, value)),
            Shape::List(item) => {
                for value in value.as_array().unwrap() {
                    bytes.extend(encode_item(number, item, value));
                }
            }
            Shape::Map(item) => {
                for (key, value) in value.as_object().unwrap() {
                    let entry = [part(1, key), encode_item(2, item, value)].concat();
                    bytes.extend(part(number, entry));
                }
            }
        }
    }
    bytes
}

fn encode_item(number: u32, item: Item, value: &Value) -> Vec<u8> {
    let text = || value.as_str().unwrap();
    match item {
        Item::String => part(number, text()),
        Item::Bytes => part(number, BASE64_STANDARD.decode(text()).unwrap()),
        Item::Bool => int(number, value.as_bool().unwrap().into()),
        Item::Int32 | Item::Int64 => int(number, value.as_i64().unwrap()),
        Item::Quantity => part(number, part(1, text())),
        Item::IntOrString => match value.as_i64() {
            Some(value) => part(number, [int(1, 0), int(2, value), part(3, "")].concat()),
            None => part(number, [int(1, 1), int(2, 0), part(3, text())].concat()),
        },
        Item::Time | Item::MicroTime => {
            let time: Timestamp = text().parse().unwrap();
            let nanos = int(2, time.subsec_nanosecond().into());
            part(number, [int(1, time.as_second()), nanos].concat())
        }
        Item::Double => double(number, value.as_f64().unwrap()),
        Item::Json => part(number, part(1, value.to_string())),
        Item::SchemaOrArray | Item::SchemaOrStrings => match value.as_array() {
            Some(list) => {
                let item = match item {
                    Item::SchemaOrArray => Item::Message(SCHEMA),
                    _ => Item::String,
                };
                let items = list.iter().flat_map(|one| encode_item(2, item, one));
                part(number, items.collect::<Vec<u8>>())
            }
            None => part(number, encode_item(1, Item::Message(SCHEMA), value)),
        },
        Item::SchemaOrBool => match value.as_bool() {
            Some(allows) => part(number, int(1, allows.into())),
            None => {
                let schema = encode_item(2, Item::Message(SCHEMA), value);
                part(number, [int(1, 1), schema].concat())
            }
        },
        Item::Strings => {
            let strings = value.as_array().unwrap().iter();
            part(
                number,
                strings
                    .flat_map(|one| part(1, one.as_str().unwrap()))
                    .collect::<Vec<u8>>(),
            )
        }
        Item::Message(name) => part(number, encode(facts::message(name), value)),
    }
}

fn double(number: u32, value: f64) -> Vec<u8> {
    [
        varint(u64::from(number) << 3 | 1),
        value.to_le_bytes().to_vec(),
    ]
    .concat()
}

/// A definition whose schema has something of every type.
fn custom_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
            "scope": "Namespaced",
            "conversion": {
                "strategy": "Webhook",
                "webhook": {
                    "clientConfig": {"url": "https://127.0.0.1/", "caBundle": "AQI="},
                    "conversionReviewVersions": ["v1"],
                },
            },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": false,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"},
                },
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
                ],
                "selectableFields": [{"jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "": {},
                        "size": {
                            "type": "number", "minimum": 0, "maximum": 1.5, "multipleOf": -0.25,
                            "default": 1, "nullable": true,
                            "enum": [1, 0.5, null, {"a": ["b"]}],
                        },
                        "names": {
                            "type": "array", "maxItems": 0,
                            "items": {"type": "string", "minLength": 0},
                            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                        },
                        "tuple": {"items": [{"type": "string"}, {}], "additionalItems": false},
                        "open": {"additionalProperties": true},
                        "any": {
                            "additionalProperties": {"type": "string"},
                            "not": {"anyOf": [{"required": ["a"]}]},
                            "dependencies": {"a": ["b"], "c": {"type": "string"}},
                            "x-kubernetes-preserve-unknown-fields": false,
                            "x-kubernetes-int-or-string": true,
                            "x-kubernetes-validations": [{"rule": "self > 0", "optionalOldSelf": false}],
                        },
                    },
                    "$ref": "",
                    "externalDocs": {"url": "u"},
                }},
            }],
        },
        "status": {"storedVersions": ["v1"], "observedGeneration": 2},
    })
}

#[test]
fn schemas_are_read_as_json_has_them() {
    let definition = custom_definition();
    let message = facts::object("apiextensions.k8s.io/v1", "CustomResourceDefinition").unwrap();
    let raw = [encode(message, &definition)];
    let bytes = body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw);
    assert_eq!(protobuf(&bytes, "", "").unwrap().value, definition);
}

#[test]
fn a_schema_in_schemas_counts_for_the_depth() {
    let nested = |levels: usize| {
        let not = |schema: Vec<u8>, _: usize| part(28, schema);
        let schema = (0..levels).fold(Vec::new(), not);
        let version = part(4, part(1, schema));
        let raw = [part(2, part(7, version))];
        let kind = "CustomResourceDefinition";
        let bytes = body("apiextensions.k8s.io/v1", kind, &raw);
        protobuf(&bytes, "", "").map(|body| crate::encoding::depth(&body.value))
    };
    // The object, spec, versions, a version, schema and openAPIV3Schema.
    assert_eq!(nested(MAX_DEPTH - 6), Ok(MAX_DEPTH));
    assert_eq!(nested(MAX_DEPTH - 5), Err(DecodeError::TooDeep));
}

/// A Deployment that has something of every type.
fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "labels": {"app": "web", "empty": ""},
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u", "controller": false}],
            "managedFields": [{"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {".": {}}}}],
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", ""]}]},
            "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "30%"}},
            "template": {
                "metadata": {},
                "spec": {
                    "containers": [{
                        "name": "c",
                        "image": "i",
                        "env": [
                            {"name": "A", "value": "ä"},
                            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k", "optional": false}}},
                        ],
                        "envFrom": [{"secretRef": {"name": "s"}}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
                    }],
                    "ephemeralContainers": [{"name": "e", "image": "x", "targetContainerName": "c"}],
                    "securityContext": {"supplementalGroups": [0, -1]},
                    "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "w", "secret": {"secretName": "s", "defaultMode": 0}}],
                },
            },
        },
        "status": {},
    })
}

fn encoded() -> Vec<u8> {
    let message = facts::object("apps/v1", "Deployment").unwrap();
    body("apps/v1", "Deployment", &[encode(message, &deployment())])
}

#[test]
fn an_object_of_every_type_comes_through() {
    let read = protobuf(&encoded(), "v1", "Pod").unwrap();
    assert_eq!(read.value, deployment());
}

#[test]
fn lists_of_strings_in_a_map_come_through() {
    let request = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "spec": {
            "request": "eA==",
            "signerName": "example.com/s",
            "extra": {"scopes": ["a", "b"], "none": []},
        },
    });
    let (version, kind) = ("certificates.k8s.io/v1", "CertificateSigningRequest");
    let message = facts::object(version, kind).unwrap();
    let bytes = body(version, kind, &[encode(message, &request)]);
    assert_eq!(protobuf(&bytes, "v1", "Pod").unwrap().value, request);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..80), kind in 0..4_usize) {
        let kind = ["Pod", "Service", "Node", "Event"][kind];
        let definition = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        let _ = protobuf(&body(definition.0, definition.1, std::slice::from_ref(&raw)), "", "");
        let _ = protobuf(&raw, "v1", kind);
        let _ = protobuf(&body("v1", kind, &[raw]), "v1", kind);
    }

    #[test]
    fn changed_bytes_make_an_object_or_an_error(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = encoded();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(body) = protobuf(&bytes, "v1", "Pod") {
            prop_assert!(crate::encoding::depth(&body.value) <= MAX_DEPTH);
        }
    }
}
