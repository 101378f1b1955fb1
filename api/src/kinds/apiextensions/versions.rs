//! What the versions of a CustomResourceDefinition may say, and how objects change between them.

use serde_json::Value;

use super::structural;
use crate::{
    custom::path::{self, JsonPath},
    field::{Cause, FieldErrors, Path},
    kinds::{
        check,
        value::{items, part, text},
    },
    name,
    webhook_client::Webhook,
};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// Fields that a version's objects can be selected by.
const MOST_SELECTABLE: usize = 8;

pub(super) fn validate(object: &Value, errors: &mut FieldErrors) {
    let spec = Path::root("spec");
    let versions = items(object, "/spec/versions");
    let path = spec.field("versions");
    if versions.is_empty() {
        errors.required(&path, "must have at least one version");
    }
    let mut seen = check::Seen::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        let own = text(version, "/name");
        check::problems(
            &path.field("name"),
            own,
            name::letter_label_problems(own),
            errors,
        );
        check::unique(&path.field("name"), own, &mut seen, errors);
        validate_version(version, &path, errors);
    }
    let stored = versions.iter().filter(|version| version["storage"] == true);
    if !versions.is_empty() && stored.count() != 1 {
        let names: Vec<_> = versions
            .iter()
            .map(|version| version["name"].clone())
            .collect();
        let detail = "must have exactly one version marked as storage version";
        errors.invalid(&path, names, detail);
    }
    validate_conversion(object, &spec.field("conversion"), errors);
}

fn validate_version(version: &Value, path: &Path, errors: &mut FieldErrors) {
    if version["deprecated"] != true && !text(version, "/deprecationWarning").is_empty() {
        let detail = "can only be set for deprecated versions";
        errors.invalid(
            &path.field("deprecationWarning"),
            version["deprecationWarning"].clone(),
            detail,
        );
    }
    let schema = &version["schema"]["openAPIV3Schema"];
    let schema_path = path.field("schema").field("openAPIV3Schema");
    if schema.is_object() {
        structural::validate(schema, &schema_path, errors);
    } else {
        errors.required(&schema_path, "schemas are required");
    }
    validate_scale(
        &version["subresources"]["scale"],
        &path.field("subresources").field("scale"),
        errors,
    );
    for (index, column) in items(version, "/additionalPrinterColumns")
        .iter()
        .enumerate()
    {
        let path = path.field("additionalPrinterColumns").index(index);
        validate_column(column, &path, errors);
    }
    validate_selectable(version, schema, path, errors);
}

fn validate_scale(scale: &Value, path: &Path, errors: &mut FieldErrors) {
    if scale.is_null() {
        return;
    }
    for (field, below, needed) in [
        ("specReplicasPath", &[".spec."][..], true),
        ("statusReplicasPath", &[".status."], true),
        ("labelSelectorPath", &[".spec.", ".status."], false),
    ] {
        let own = scale[field].as_str().unwrap_or_default();
        let path = path.field(field);
        if own.is_empty() {
            if needed {
                errors.required(&path, "");
            }
            continue;
        }
        if path::fields(own).is_none() {
            let detail = "should be a json path under dot notation without array";
            errors.invalid(
                &path,
                own,
                format!("{detail}: array notation is not supported"),
            );
        } else if !below.iter().any(|prefix| own.starts_with(prefix)) {
            let places: Vec<_> = below
                .iter()
                .map(|prefix| prefix.trim_end_matches('.'))
                .collect();
            let detail = format!("should be a json path under {}", places.join(" or "));
            errors.invalid(&path, own, detail);
        }
    }
}

fn validate_column(column: &Value, path: &Path, errors: &mut FieldErrors) {
    if text(column, "/name").is_empty() {
        errors.required(&path.field("name"), "");
    }
    match text(column, "/type") {
        "" => errors.required(
            &path.field("type"),
            format!("must be one of {}", COLUMN_TYPES.join(",")),
        ),
        other if !COLUMN_TYPES.contains(&other) => errors.invalid(
            &path.field("type"),
            other,
            format!("must be one of {}", COLUMN_TYPES.join(",")),
        ),
        _ => {}
    }
    let format = text(column, "/format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.invalid(&path.field("format"), format, detail);
    }
    let own = text(column, "/jsonPath");
    if own.is_empty() {
        errors.required(&path.field("jsonPath"), "");
    } else if let Err(problem) = JsonPath::parse(own) {
        errors.invalid(&path.field("jsonPath"), own, problem);
    }
}

fn validate_selectable(version: &Value, schema: &Value, path: &Path, errors: &mut FieldErrors) {
    let fields = items(version, "/selectableFields");
    let path = path.field("selectableFields");
    if fields.len() > MOST_SELECTABLE {
        let detail = format!("must have at most {MOST_SELECTABLE} items");
        errors.push(&path, Cause::TooMany, fields.len().into(), detail);
    }
    let mut seen = check::Seen::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index).field("jsonPath");
        let own = text(field, "/jsonPath");
        let Some(steps) = path::fields(own) else {
            let detail =
                "is an invalid path: must be a simple path of field names, such as .spec.color";
            errors.invalid(&path, own, detail);
            continue;
        };
        check::unique(&path, own, &mut seen, errors);
        if steps.first().is_some_and(|first| first == "metadata") {
            let detail = "must not point to fields in metadata";
            errors.invalid(&path, own, detail);
            continue;
        }
        let found = steps
            .iter()
            .fold(schema, |schema, step| &schema["properties"][step]);
        match found["type"].as_str() {
            Some("string" | "boolean" | "integer") => {}
            Some(_) => errors.invalid(
                &path,
                own,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            ),
            None => errors.invalid(&path, own, "is an invalid path: does not refer to a valid field"),
        }
    }
}

fn validate_conversion(object: &Value, path: &Path, errors: &mut FieldErrors) {
    let conversion = part(object, "/spec/conversion");
    let webhook = &conversion["webhook"];
    match text(conversion, "/strategy") {
        "None" => {
            if webhook.is_object() {
                errors.forbidden(
                    &path.field("webhook"),
                    "should not be set when strategy is not set to Webhook",
                );
            }
        }
        "Webhook" => validate_webhook(webhook, path, errors),
        "" => errors.required(&path.field("strategy"), ""),
        other => errors.not_supported(&path.field("strategy"), other, &["None", "Webhook"]),
    }
}

fn validate_webhook(webhook: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.field("webhook");
    if !webhook.is_object() {
        errors.required(&path, "required when strategy is set to Webhook");
        return;
    }
    let versions = items(webhook, "/conversionReviewVersions");
    let path_versions = path.field("conversionReviewVersions");
    if versions.is_empty() {
        errors.required(&path_versions, "");
    } else if !versions.iter().any(|version| version == "v1") {
        let detail = "must include at least one of v1";
        errors.invalid(&path_versions, versions.to_vec(), detail);
    }
    let config = &webhook["clientConfig"];
    let path = path.field("clientConfig");
    let service = &config["service"];
    if !config.is_object() {
        errors.required(&path, "required when strategy is set to Webhook");
        return;
    }
    if config["url"].is_string() == service.is_object() {
        errors.required(&path, "exactly one of url or service is required");
        return;
    }
    if service.is_object() {
        for field in ["name", "namespace"] {
            if service[field].as_str().unwrap_or_default().is_empty() {
                errors.required(&path.field("service").field(field), "");
            }
        }
        if !service["port"].is_null() {
            check::port(
                &path.field("service").field("port"),
                &service["port"],
                errors,
            );
        }
    }
    if let Err(problem) = Webhook::read(config) {
        let (field, detail) = problem.split_once(": ").unwrap_or(("url", &problem));
        let shown = match field {
            "caBundle" => Value::from("<...>"),
            field => config[field].clone(),
        };
        errors.invalid(&path.field(field), shown, detail);
    }
}
