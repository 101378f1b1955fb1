//! Fields of the pod as files. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

use super::payload::{Payload, mode};
use crate::pod::environment;

/// Adds the files that a downwardAPI volume or source lists.
///
/// # Errors
/// A field or a container that is not there.
pub(crate) fn put(
    payload: &mut Payload,
    pod: &Pod,
    files: &[DownwardAPIVolumeFile],
    default_mode: u32,
    allocatable: &BTreeMap<String, String>,
) -> Result<(), String> {
    for file in files {
        let text = if let Some(from) = &file.field_ref {
            field(pod, &from.field_path)?
        } else if let Some(from) = &file.resource_field_ref {
            let name = from.container_name.as_deref().unwrap_or_default();
            let container = environment::container(pod, name)?;
            environment::resource(container, from, allocatable)?
        } else {
            return Err(format!(
                "file {:?} names no source: use fieldRef or resourceFieldRef",
                file.path
            ));
        };
        payload.put(&file.path, text.into_bytes(), mode(file.mode, default_mode))?;
    }
    Ok(())
}

/// A field of the pod; labels and annotations as a whole are one `name="value"` a line.
fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let metadata = &pod.metadata;
    match path {
        "metadata.labels" => Ok(lines(metadata.labels.as_ref())),
        "metadata.annotations" => Ok(lines(metadata.annotations.as_ref())),
        _ => {
            environment::metadata(pod, path).ok_or_else(|| format!("unsupported fieldPath: {path}"))
        }
    }
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", quoted(value)))
        .collect();
    lines.join("\n")
}

/// Text in quotes, escaped as Go does it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(files: serde_json::Value, expect: Expect) {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "u",
                "labels": {"app": "web", "tier": "a\"b\n"}, "annotations": {"note": "x\u{1}é"}},
            "spec": {"containers": [{"name": "c", "image": "i",
                "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}}]},
        });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let files: Vec<DownwardAPIVolumeFile> = serde_json::from_value(files).expect("files");
        let allocatable = BTreeMap::from([("ephemeral-storage".to_owned(), "8Ki".to_owned())]);
        let mut payload = Payload::default();
        let outcome = put(&mut payload, &pod, &files, 0o644, &allocatable);
        let mut text: String = payload
            .iter()
            .map(|(path, file)| {
                format!(
                    "{path} {:o}\n{}\n",
                    file.mode,
                    String::from_utf8_lossy(&file.data)
                )
            })
            .collect();
        if let Err(message) = outcome {
            text += &message;
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn fields_and_resources_are_files() {
        check(
            json!([
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}, "mode": 256},
                {"path": "app", "fieldRef": {"fieldPath": "metadata.labels['app']"}},
                {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
                {"path": "cores", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
                {"path": "disk", "resourceFieldRef": {"containerName": "c", "resource": "limits.ephemeral-storage", "divisor": "1Ki"}},
            ]),
            expect![[r#"
                app 644
                web
                cores 644
                2
                cpu 644
                1500
                disk 644
                8
                labels 644
                app="web"
                tier="a\"b\n"
                notes 400
                note="x\x01é"
            "#]],
        );
    }

    #[test]
    fn what_a_pod_does_not_have_is_named() {
        check(
            json!([{"path": "a", "fieldRef": {"fieldPath": "spec.nodeName"}}]),
            expect!["unsupported fieldPath: spec.nodeName"],
        );
        check(
            json!([{"path": "a", "resourceFieldRef": {"containerName": "d", "resource": "limits.cpu"}}]),
            expect!["container d not found"],
        );
    }
}
