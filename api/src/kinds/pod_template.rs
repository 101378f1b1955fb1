//! PodTemplate: a pod that could be, on its own.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Column, Kind, Names, column,
    pod::template,
    value::{entries, items, part, plain, text},
};
use crate::field::{FieldErrors, Path};

/// The kind.
pub(crate) struct PodTemplate;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    short: &[],
    categories: &[],
    namespaced: true,
    definition: "io.k8s.api.core.v1.PodTemplate",
};

const COLUMNS: &[Column] = &[
    column::NAME,
    column::shown("Containers", "Names of the containers in the template"),
    column::shown("Images", "Images of the containers in the template"),
    column::shown("Pod Labels", "Labels of the pods made from it"),
];

impl Kind for PodTemplate {
    fn names(&self) -> &Names {
        &NAMES
    }

    fn counted(&self) -> &[&'static str] {
        &["template"]
    }

    fn default(&self, object: &mut Value) {
        template::default(object);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        template::validate_template(&Path::root("template"), part(object, "/template"), errors);
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let list = items(object, "/template/spec/containers");
        let join = |pointer: &str| {
            let texts: Vec<_> = list.iter().map(|one| text(one, pointer)).collect();
            texts.join(",")
        };
        let labels: Vec<_> = entries(object, "/template/metadata/labels")
            .map(|(key, value)| format!("{key}={}", plain(value)))
            .collect();
        vec![
            column::name(object),
            join("/name").into(),
            join("/image").into(),
            column::or_none(&labels.join(",")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kinds::tests::{errors, row};

    #[test]
    fn its_template_is_checked() {
        expect![[r#"
            template.spec.containers: Required value
        "#]]
        .assert_eq(&errors(&PodTemplate, "{template: {spec: {}}}"));
    }

    #[test]
    fn a_row_shows_the_template() {
        expect!["web|a,b|i,j|app=web"].assert_eq(&row(
            &PodTemplate,
            "{metadata: {name: web}, template: {metadata: {labels: {app: web}}, spec: {containers: \
             [{name: a, image: i}, {name: b, image: j}]}}}",
        ));
    }
}
