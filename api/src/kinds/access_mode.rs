//! How volumes may be mounted: the access modes that claims and volumes share.

use serde_json::Value;

use super::value::items;
use crate::field::{FieldErrors, Path};

const ONCE_POD: &str = "ReadWriteOncePod";

/// The modes and their short names, in the order in which tables show them.
const MODES: &[(&str, &str)] = &[
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    (ONCE_POD, "RWOP"),
];

/// Checks the `accessModes` of a spec that stands at `path`; `missing` is said if there are none.
pub(crate) fn validate(path: &Path, spec: &Value, missing: &str, errors: &mut FieldErrors) {
    let path = path.field("accessModes");
    let modes = items(spec, "/accessModes");
    if modes.is_empty() {
        errors.required(&path, missing);
    }
    for mode in modes.iter().filter_map(Value::as_str) {
        if !MODES.iter().any(|(known, _)| *known == mode) {
            errors.not_supported(
                &path,
                mode,
                &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", ONCE_POD],
            );
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == ONCE_POD) {
        errors.forbidden(
            &path,
            "may not use ReadWriteOncePod with other access modes",
        );
    }
}

/// The modes as tables show them: `RWO,RWX`.
pub(crate) fn shown(modes: &[Value]) -> String {
    let given = MODES
        .iter()
        .filter(|(mode, _)| modes.iter().any(|given| given == mode));
    let short: Vec<_> = given.map(|(_, short)| *short).collect();
    short.join(",")
}
