//! A Deployment of images.

use clap::Args;
use serde_json::{Value, json};

/// What the Deployment runs.
#[derive(Args)]
#[group(skip)]
pub(super) struct Deployment {
    /// Name of the object
    name: String,
    /// Image to run; may be given several times
    #[arg(long, required = true)]
    image: Vec<String>,
    /// How many pods
    #[arg(short, long, default_value_t = 1)]
    replicas: u32,
    /// Port that the container listens on
    #[arg(long)]
    port: Option<u16>,
    /// Command and arguments of the container
    #[arg(last = true)]
    command: Vec<String>,
}

impl Deployment {
    /// The object.
    pub(super) fn object(&self) -> Value {
        let labels = json!({"app": self.name});
        let container = |image: &String| {
            let mut container = json!({"name": container_name(image), "image": image});
            if let Some(port) = self.port {
                container["ports"] = json!([{"containerPort": port}]);
            }
            if !self.command.is_empty() {
                container["command"] = json!(self.command);
            }
            container
        };
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": self.image.iter().map(container).collect::<Vec<_>>()},
                },
            },
        })
    }
}

/// A container's name from its image: the last part of the path, without tag, digest and ending.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let bare = last.split(['@', ':']).next().unwrap_or_default();
    let bare = bare
        .strip_suffix(".wasm")
        .or(bare.strip_suffix(".wat"))
        .unwrap_or(bare);
    let name: String = bare
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_for_their_images() {
        for (image, name) in [
            ("nginx", "nginx"),
            ("reg:5000/a/My_App:1.2", "my-app"),
            ("a/b@sha256:00", "b"),
            ("file:///tmp/hello.wasm", "hello"),
        ] {
            assert_eq!(container_name(image), name);
        }
    }
}
