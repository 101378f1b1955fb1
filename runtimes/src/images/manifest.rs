//! What manifests and configurations say, checked: of images in registries and in archives alike. Pure.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};

use super::platform::Platform;

/// The most that a manifest may be: what registries take.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;

/// The most that a configuration may be.
pub(super) const MAX_CONFIG: u64 = 4 << 20;

/// As many as overlayfs stacks.
const MAX_LAYERS: usize = 127;

/// The layer types that hold a module: the standard one, and what older tools push.
const MODULES: [&str; 2] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
];

const CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// What to ask a registry for.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// What a manifest is.
pub(super) enum Document {
    /// Images of one name for several platforms.
    Index(Vec<Descriptor>),
    Image(Box<ImageManifest>),
}

/// What an image holds.
pub(super) enum Content {
    /// A module by itself.
    Module(Descriptor),
    /// The layers of a container, from the lowest to the uppermost.
    Container {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

/// Reads a manifest of any kind that we know.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, String> {
    let unreadable = |error: serde_json::Error| format!("its manifest cannot be read: {error}");
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    match value["schemaVersion"].as_u64() {
        Some(2) => {}
        Some(1) => {
            return Err(
                "its manifest is of Docker's schema 1, which is no longer supported: push the image again with a current tool"
                    .to_owned(),
            );
        }
        _ => return Err("its manifest cannot be read: schemaVersion is not 2".to_owned()),
    }
    // Both would be two images under one digest.
    if value.get("manifests").is_some() && value.get("layers").is_some() {
        return Err("its manifest is a list and an image at once".to_owned());
    }
    if value.get("manifests").is_some() {
        let index: ImageIndex = serde_json::from_value(value).map_err(unreadable)?;
        Ok(Document::Index(index.manifests().clone()))
    } else {
        serde_json::from_value(value)
            .map(Document::Image)
            .map_err(unreadable)
    }
}

/// What an image holds; refused if this node cannot use it.
pub(super) fn content(manifest: &ImageManifest) -> Result<Content, String> {
    let mut modules = manifest.layers().iter().filter(|layer| is_module(layer));
    match (modules.next(), modules.next()) {
        (Some(module), None) => {
            check_digest(module)?;
            return Ok(Content::Module(module.clone()));
        }
        (Some(_), Some(_)) => return Err("holds more than one WebAssembly module".to_owned()),
        (None, _) => {}
    }
    let config = manifest.config();
    let kind = config.media_type().to_string();
    if !CONFIGS.contains(&kind.as_str()) {
        return Err(format!(
            "neither a container image nor a Wasm artifact: media type {kind}"
        ));
    }
    check_digest(config)?;
    if config.size() > MAX_CONFIG {
        return Err(format!(
            "its configuration is {} bytes; this node takes at most {MAX_CONFIG}",
            config.size()
        ));
    }
    let layers = manifest.layers();
    if layers.len() > MAX_LAYERS {
        return Err(format!(
            "has {} layers; at most {MAX_LAYERS} can be stacked",
            layers.len()
        ));
    }
    for layer in layers {
        check_digest(layer)?;
        let kind = layer.media_type().to_string();
        if is_foreign(layer, &kind) {
            return Err(format!(
                "layer {} is foreign ({kind}): its content is not in the registry; build the image with all its layers",
                layer.digest()
            ));
        }
        if !LAYERS.contains(&kind.as_str()) {
            return Err(format!(
                "layer {} is of unknown media type {kind}: tar archives are known, plain, with gzip and with zstd",
                layer.digest()
            ));
        }
    }
    Ok(Content::Container {
        config: config.clone(),
        layers: layers.clone(),
    })
}

fn is_module(layer: &Descriptor) -> bool {
    matches!(layer.media_type(), MediaType::Other(kind) if MODULES.contains(&kind.as_str()))
}

fn is_foreign(layer: &Descriptor, kind: &str) -> bool {
    kind.contains(".nondistributable.")
        || kind.contains(".foreign.")
        || layer.urls().as_ref().is_some_and(|urls| !urls.is_empty())
}

/// A digest names a file: so it is exactly `sha256:` and 64 hexadecimal digits.
fn check_digest(descriptor: &Descriptor) -> Result<(), String> {
    check_sha256(descriptor.digest().as_ref())
}

/// As [`check_digest`], of a digest in words.
pub(super) fn check_sha256(digest: &str) -> Result<(), String> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() == 64 && hex.bytes().all(lower) {
        return Ok(());
    }
    Err(format!("digest {digest:?} is not a sha256"))
}

/// The `.wasm` file that a container image starts, if it does.
pub(super) fn entry_point(config: &[u8]) -> Result<Option<String>, String> {
    let config: serde_json::Value = serde_json::from_slice(config)
        .map_err(|error| format!("its configuration cannot be read: {error}"))?;
    let first = |list: &str| config["config"][list][0].as_str().map(str::to_owned);
    let start = first("Entrypoint").or_else(|| first("Cmd"));
    Ok(start.filter(|path| path.ends_with(".wasm")))
}

/// Checks that a container image's configuration fits its layers and this host.
pub(super) fn check_config(
    config: &[u8],
    layers: usize,
    host: &Platform,
) -> Result<ImageConfiguration, String> {
    let config: ImageConfiguration = serde_json::from_slice(config)
        .map_err(|error| format!("its configuration cannot be read: {error}"))?;
    let variant = config.variant().as_deref().unwrap_or_default();
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    let own = Platform::new(&os, &architecture, variant);
    if own.distance(host).is_none() {
        return Err(format!("is an image for {own}, and this node is {host}"));
    }
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != layers {
        return Err(format!(
            "has {layers} layers, but its configuration tells of {}",
            diff_ids.len()
        ));
    }
    for diff_id in diff_ids {
        check_sha256(diff_id)?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn descriptor(kind: &str) -> Value {
        json!({"mediaType": kind, "digest": format!("sha256:{:064}", 0), "size": 2})
    }

    #[track_caller]
    fn check(manifest: &Value, want: Expect) {
        let parsed = parse(manifest.to_string().as_bytes());
        let got = parsed.and_then(|document| match document {
            Document::Index(entries) => Ok(format!("a list of {}", entries.len())),
            Document::Image(image) => content(&image).map(|content| match content {
                Content::Module(_) => "a module".to_owned(),
                Content::Container { layers, .. } => format!("{} layers", layers.len()),
            }),
        });
        want.assert_eq(&got.unwrap_or_else(|error| format!("refused: {error}")));
    }

    fn image(config: &str, layers: &[&str]) -> Value {
        let layers: Vec<Value> = layers.iter().map(|kind| descriptor(kind)).collect();
        json!({"schemaVersion": 2, "config": descriptor(config), "layers": layers})
    }

    #[test]
    fn images_of_docker_and_of_oci_are_known() {
        for config in CONFIGS {
            check(&image(config, &LAYERS), expect!["6 layers"]);
        }
        let wasm = "application/vnd.wasm.config.v0+json";
        check(&image(wasm, &["application/wasm"]), expect!["a module"]);
        check(
            &json!({"schemaVersion": 2, "manifests": [descriptor(CONFIGS[0])]}),
            expect!["a list of 1"],
        );
    }

    #[test]
    fn what_is_not_known_is_refused_in_words() {
        check(
            &json!({"schemaVersion": 1, "fsLayers": []}),
            expect![
                "refused: its manifest is of Docker's schema 1, which is no longer supported: push the image again with a current tool"
            ],
        );
        check(
            &json!({"schemaVersion": 2, "manifests": [], "layers": []}),
            expect!["refused: its manifest is a list and an image at once"],
        );
        check(
            &json!({"schemaVersion": 3}),
            expect!["refused: its manifest cannot be read: schemaVersion is not 2"],
        );
        check(
            &image("application/vnd.cncf.helm.config.v1+json", &LAYERS[..1]),
            expect![
                "refused: neither a container image nor a Wasm artifact: media type application/vnd.cncf.helm.config.v1+json"
            ],
        );
        check(
            &image(CONFIGS[0], &["application/x-7z"]),
            expect![
                "refused: layer sha256:0000000000000000000000000000000000000000000000000000000000000000 is of unknown media type application/x-7z: tar archives are known, plain, with gzip and with zstd"
            ],
        );
        check(
            &image(
                CONFIGS[0],
                &["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"],
            ),
            expect![
                "refused: layer sha256:0000000000000000000000000000000000000000000000000000000000000000 is foreign (application/vnd.docker.image.rootfs.foreign.diff.tar.gzip): its content is not in the registry; build the image with all its layers"
            ],
        );
        check(
            &image(CONFIGS[0], &[LAYERS[0]; 128]),
            expect!["refused: has 128 layers; at most 127 can be stacked"],
        );
        let mut sha512 = image(CONFIGS[0], &[]);
        sha512["config"]["digest"] = format!("sha512:{:0128}", 0).into();
        check(
            &sha512,
            expect![[
                r#"refused: digest "sha512:00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000" is not a sha256"#
            ]],
        );
    }

    #[track_caller]
    fn check_configuration(config: &Value, want: Expect) {
        let host = Platform::new("linux", "amd64", "");
        let got = check_config(config.to_string().as_bytes(), 1, &host);
        want.assert_eq(&got.map_or_else(|error| error, |_| "fits".to_owned()));
    }

    #[test]
    fn a_configuration_fits_its_layers_and_the_host() {
        let config = |architecture: &str, diff_ids: &[&str]| {
            json!({"os": "linux", "architecture": architecture,
                "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        };
        let id = format!("sha256:{:064}", 0);
        check_configuration(&config("amd64", &[&id]), expect!["fits"]);
        check_configuration(
            &config("arm64", &[&id]),
            expect!["is an image for linux/arm64, and this node is linux/amd64"],
        );
        check_configuration(
            &config("amd64", &[]),
            expect!["has 1 layers, but its configuration tells of 0"],
        );
        check_configuration(
            &config("amd64", &["sha256:../../etc"]),
            expect![[r#"digest "sha256:../../etc" is not a sha256"#]],
        );
    }
}
