//! What a manifest says: which content it names. Pure.

use serde_json::{Map, Value, json};

use crate::{
    digest::Digest,
    error::{Code, Error},
};

/// The most that a manifest may be, as the specification demands of registries at least.
pub(crate) const MAX_BYTES: usize = 4 << 20;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What is known of a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Parsed {
    pub(crate) media_type: String,
    /// Configuration and layers; without those that lie elsewhere.
    pub(crate) blobs: Vec<Digest>,
    /// Those that a list names.
    pub(crate) manifests: Vec<Digest>,
    pub(crate) subject: Option<Digest>,
    /// Its own, or what its configuration is.
    artifact_type: Option<String>,
    annotations: Option<Value>,
}

impl Parsed {
    /// As the list of a subject's referrers has it.
    pub(crate) fn descriptor(&self, digest: &Digest, size: usize) -> Value {
        let mut descriptor = json!({
            "mediaType": self.media_type, "digest": digest.to_string(), "size": size,
        });
        if let Some(kind) = &self.artifact_type {
            descriptor["artifactType"] = kind.as_str().into();
        }
        if let Some(annotations) = &self.annotations {
            descriptor["annotations"] = annotations.clone();
        }
        descriptor
    }
}

/// Reads a manifest that was sent as that media type.
pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Parsed, Error> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("the manifest is no JSON: {error}")))?;
    let Value::Object(fields) = &value else {
        return Err(invalid("the manifest is no JSON object".to_owned()));
    };
    let own = match fields.get("mediaType") {
        None => None,
        Some(Value::String(own)) => Some(own.as_str()),
        Some(_) => return Err(invalid("mediaType is no text".to_owned())),
    };
    // Parameters say nothing of the type.
    let sent = content_type.map(|sent| sent.split(';').next().unwrap_or(sent).trim());
    let media_type = match (own, sent) {
        (Some(own), Some(sent)) if own != sent => {
            return Err(invalid(format!(
                "the manifest's mediaType is {own:?}, and it was sent with the Content-Type {sent:?}"
            )));
        }
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => {
            return Err(invalid(
                "neither the manifest's mediaType nor a Content-Type says what it is".to_owned(),
            ));
        }
    };
    let is_list = match media_type {
        OCI_INDEX | DOCKER_LIST => true,
        OCI_MANIFEST | DOCKER_MANIFEST | OCI_ARTIFACT => false,
        other => {
            return Err(invalid(format!(
                "the media type {other:?} is not supported: push an OCI image manifest or index, or one of Docker's schema 2"
            )));
        }
    };
    if media_type != OCI_ARTIFACT && fields.get("schemaVersion") != Some(&json!(2)) {
        return Err(invalid("schemaVersion must be 2".to_owned()));
    }
    read(fields, media_type, is_list)
}

fn read(fields: &Map<String, Value>, media_type: &str, is_list: bool) -> Result<Parsed, Error> {
    let mut parsed = Parsed {
        media_type: media_type.to_owned(),
        blobs: Vec::new(),
        manifests: Vec::new(),
        subject: None,
        artifact_type: text(fields, "artifactType"),
        annotations: fields
            .get("annotations")
            .filter(|own| own.is_object())
            .cloned(),
    };
    if is_list {
        // Both would be two things under one digest.
        if fields.contains_key("layers") || fields.contains_key("config") {
            return Err(invalid(
                "the manifest is a list and an image at once".to_owned(),
            ));
        }
        for (at, child) in list(fields, "manifests")?.iter().enumerate() {
            parsed
                .manifests
                .push(digest(child, &format!("manifests[{at}]"))?);
        }
    } else {
        if fields.contains_key("manifests") {
            return Err(invalid(
                "the manifest is a list and an image at once".to_owned(),
            ));
        }
        if media_type != OCI_ARTIFACT {
            let config = fields
                .get("config")
                .ok_or_else(|| invalid("config is missing".to_owned()))?;
            parsed.blobs.push(digest(config, "config")?);
            let kind = || config["mediaType"].as_str().map(str::to_owned);
            parsed.artifact_type = parsed.artifact_type.or_else(kind);
        }
        for field in ["layers", "blobs"] {
            for (at, layer) in list(fields, field)?.iter().enumerate() {
                let digest = digest(layer, &format!("{field}[{at}]"))?;
                // Such a layer is had from elsewhere.
                let is_elsewhere = layer["urls"]
                    .as_array()
                    .is_some_and(|urls| !urls.is_empty());
                if !is_elsewhere {
                    parsed.blobs.push(digest);
                }
            }
        }
    }
    if let Some(subject) = fields.get("subject").filter(|subject| !subject.is_null()) {
        parsed.subject = Some(digest(subject, "subject")?);
    }
    Ok(parsed)
}

fn list<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], Error> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(invalid(format!("{name} is no list"))),
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    let text = fields.get(name)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

fn digest(descriptor: &Value, at: &str) -> Result<Digest, Error> {
    let text = descriptor["digest"].as_str();
    let text = text.ok_or_else(|| invalid(format!("{at}.digest is missing")))?;
    text.parse()
        .map_err(|error| invalid(format!("{at}.digest: {error}")))
}

fn invalid(message: String) -> Error {
    Error::new(Code::ManifestInvalid, message, json!(null))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(manifest: &Value, content_type: Option<&str>, want: Expect) {
        let short = |digest: &Digest| digest.hex()[62..].to_owned();
        let shorts = |digests: &[Digest]| digests.iter().map(short).collect::<Vec<_>>().join(" ");
        let parsed = parse(manifest.to_string().as_bytes(), content_type);
        want.assert_eq(&match parsed {
            Ok(parsed) => format!(
                "{} blobs [{}] manifests [{}] subject {:?} {:?}",
                parsed.media_type,
                shorts(&parsed.blobs),
                shorts(&parsed.manifests),
                parsed.subject.as_ref().map(short),
                parsed.artifact_type,
            ),
            Err(error) => error.to_string(),
        });
    }

    fn at(digit: u8) -> Value {
        json!({"mediaType": "a/b", "digest": format!("sha256:{digit:064}"), "size": 1})
    }

    #[test]
    fn an_image_names_its_blobs() {
        let mut image = json!({"schemaVersion": 2, "config": at(1), "layers": [at(2), at(3)]});
        check(
            &image,
            Some(OCI_MANIFEST),
            expect![[
                r#"application/vnd.oci.image.manifest.v1+json blobs [01 02 03] manifests [] subject None Some("a/b")"#
            ]],
        );
        image["layers"][0]["urls"] = json!(["https://example.org/layer"]);
        image["subject"] = at(9);
        image["artifactType"] = "x/y".into();
        check(
            &image,
            Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
            expect![[
                r#"application/vnd.docker.distribution.manifest.v2+json blobs [01 03] manifests [] subject Some("09") Some("x/y")"#
            ]],
        );
    }

    #[test]
    fn a_list_names_its_manifests() {
        let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [at(4)]});
        check(
            &list,
            None,
            expect![
                "application/vnd.oci.image.index.v1+json blobs [] manifests [04] subject None None"
            ],
        );
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let image = |extra: Value| {
            let mut image = json!({"schemaVersion": 2, "config": at(1)});
            for (name, value) in extra.as_object().unwrap() {
                image[name] = value.clone();
            }
            image
        };
        check(&json!([]), None, expect!["the manifest is no JSON object"]);
        check(
            &image(json!({"mediaType": OCI_INDEX})),
            Some(OCI_MANIFEST),
            expect![[
                r#"the manifest's mediaType is "application/vnd.oci.image.index.v1+json", and it was sent with the Content-Type "application/vnd.oci.image.manifest.v1+json""#
            ]],
        );
        check(
            &image(json!({})),
            None,
            expect!["neither the manifest's mediaType nor a Content-Type says what it is"],
        );
        check(
            &image(json!({"schemaVersion": 1})),
            Some(OCI_MANIFEST),
            expect!["schemaVersion must be 2"],
        );
        check(
            &image(json!({})),
            Some("application/vnd.docker.distribution.manifest.v1+json"),
            expect![[
                r#"the media type "application/vnd.docker.distribution.manifest.v1+json" is not supported: push an OCI image manifest or index, or one of Docker's schema 2"#
            ]],
        );
        check(
            &image(json!({"manifests": []})),
            Some(OCI_MANIFEST),
            expect!["the manifest is a list and an image at once"],
        );
        check(
            &image(json!({"layers": [{"digest": "sha256:1"}]})),
            Some(OCI_MANIFEST),
            expect![[
                r#"layers[0].digest: "sha256:1" is no digest: sha256: and 64, or sha512: and 128 lower-case hexadecimal digits"#
            ]],
        );
        check(
            &json!({"schemaVersion": 2}),
            Some(OCI_MANIFEST),
            expect!["config is missing"],
        );
    }
}
