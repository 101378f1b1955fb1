//! Images made by umoci and copied by skopeo, as users make and copy theirs.

use std::{path::Path, process::Command};

/// Makes the image `LAYOUT:v1` of two layers in an OCI layout below `dir`; its name for skopeo.
pub(crate) fn image(dir: &Path) -> String {
    let layout = dir.join("layout");
    let image = format!("{}:v1", layout.display());
    let motd = dir.join("motd");
    run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    for text in ["hello", "hello again"] {
        std::fs::write(&motd, text).unwrap();
        let motd = motd.to_str().unwrap();
        run("umoci", &["insert", "--image", &image, motd, "/etc/motd"]);
    }
    format!("oci:{image}")
}

/// Copies an image, of which no signature is asked.
pub(crate) fn copy(options: &[&str], from: &str, to: &str) {
    let common = ["copy", "--quiet", "--insecure-policy"];
    run("skopeo", &[&common, options, &[from, to]].concat());
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
