//! A WebAssembly component or module as the Wasm OCI artifact: one layer `application/wasm`, and a configuration that
//! says what a runtime must offer.
//!
//! The same bytes make the same digest: no time is written down. Pure.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use wasmparser::{Encoding, Parser, Payload};

use super::content::{Blob, Image, Manifest, digest_of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// The artifact of these bytes; text is assembled.
pub(super) fn image(bytes: &[u8]) -> Result<Image> {
    let module = wat::parse_bytes(bytes).context("assemble the module")?;
    let config = config(&module, &digest_of(&module))?;
    let config = Blob::of_bytes(config.to_string().into());
    let layer = Blob::of_bytes(Bytes::from(module.into_owned()));
    let descriptor = |kind: &str, blob: &Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    });
    Ok(Image {
        manifests: vec![Manifest::new(MANIFEST, manifest.to_string().into_bytes())],
        blobs: vec![layer, config],
    })
}

/// What a binary is.
pub(crate) enum Kind {
    /// A core module.
    Module,
    /// A component, which imports and exports interfaces by theirs.
    Component {
        imports: Vec<String>,
        exports: Vec<String>,
    },
}

impl Kind {
    /// Reads a binary.
    ///
    /// # Errors
    /// It is neither a component nor a module, or is broken.
    pub(crate) fn of(binary: &[u8]) -> Result<Kind> {
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        let mut encoding = None;
        // Within a component lie others: only the outermost counts.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(binary) {
            match payload.context("it is neither a component nor a module")? {
                Payload::Version { encoding: seen, .. } => {
                    encoding.get_or_insert(seen);
                    depth += 1;
                }
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        imports.push(import.context("read its imports")?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        exports.push(export.context("read its exports")?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        match encoding {
            Some(Encoding::Component) => Ok(Kind::Component { imports, exports }),
            Some(Encoding::Module) => Ok(Kind::Module),
            None => bail!("it is neither a component nor a module"),
        }
    }
}

/// What the module is, and for a component what it imports and exports.
fn config(module: &[u8], digest: &str) -> Result<Value> {
    Ok(match Kind::of(module)? {
        Kind::Component { imports, exports } => json!({
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [digest],
            "component": {"exports": exports, "imports": imports},
        }),
        Kind::Module => {
            json!({"architecture": "wasm", "os": "wasip1", "layerDigests": [digest]})
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, want: Expect) {
        want.assert_eq(&match wat::parse_str(text)
            .map_err(Into::into)
            .and_then(|module| config(&module, "sha256:00"))
        {
            Ok(config) => config.to_string(),
            Err(error) => format!("{error:#}"),
        });
    }

    #[test]
    fn a_component_says_what_it_needs() {
        check(
            r#"(component (import "wasi:cli/environment@0.2.0" (instance)) (component (import "inner" (func))) (instance) (export "wasi:http/incoming-handler@0.2.0" (instance 1)))"#,
            expect![[
                r#"{"architecture":"wasm","component":{"exports":["wasi:http/incoming-handler@0.2.0"],"imports":["wasi:cli/environment@0.2.0"]},"layerDigests":["sha256:00"],"os":"wasip2"}"#
            ]],
        );
        check(
            "(module)",
            expect![[r#"{"architecture":"wasm","layerDigests":["sha256:00"],"os":"wasip1"}"#]],
        );
    }

    #[test]
    fn the_same_text_is_the_same_image() {
        let digest = || image(b"(component)").unwrap().manifests[0].digest.clone();
        assert_eq!(digest(), digest());
        assert!(image(b"(component").is_err());
    }
}
