//! Which of the images in a list is for this host. Pure, but for what this binary was built for.

use oci_spec::image::Descriptor;

/// An operating system and architecture as images name them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
    /// Empty if there is none.
    pub(super) variant: String,
}

impl Platform {
    pub(super) fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// This host's.
    pub(super) fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Platform::new(std::env::consts::OS, architecture, variant)
    }

    /// How well an image for this platform runs on `host`: the lower the better; `None` if it does not.
    pub(super) fn distance(&self, host: &Platform) -> Option<u8> {
        if (&self.os, &self.architecture) != (&host.os, &host.architecture) {
            return None;
        }
        match (self.architecture.as_str(), self.variant.as_str()) {
            // An unnamed variant is the base that every host of the architecture runs.
            ("arm", "") => Some(3),
            (_, "") => Some(1),
            (_, variant) if variant == host.variant => Some(0),
            ("arm", "v6") if host.variant == "v7" => Some(1),
            ("arm", "v5") if host.variant == "v7" => Some(2),
            ("amd64", "v1") => Some(0),
            _ => None,
        }
    }

    fn is_wasm(&self) -> bool {
        self.architecture == "wasm"
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// Of an image for several platforms, the one for this host; without one, that for WebAssembly.
pub(super) fn choose<'a>(
    entries: &'a [Descriptor],
    host: &Platform,
) -> Result<&'a Descriptor, String> {
    let platform = |entry: &Descriptor| {
        let platform = entry.platform().as_ref()?;
        let variant = platform.variant().as_deref().unwrap_or_default();
        Some(Platform::new(
            &platform.os().to_string(),
            &platform.architecture().to_string(),
            variant,
        ))
    };
    let known: Vec<(&Descriptor, Platform)> = entries
        .iter()
        .filter_map(|entry| Some((entry, platform(entry)?)))
        .collect();
    let own = known
        .iter()
        .filter_map(|(entry, platform)| Some((platform.distance(host)?, entry)))
        // The first of equals: the order is its maker's.
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, entry)| *entry);
    let wasm = || known.iter().find(|(_, platform)| platform.is_wasm());
    if let Some(entry) = own.or_else(|| wasm().map(|(entry, _)| *entry)) {
        return Ok(entry);
    }
    // A list of one that names no platform can mean only that one.
    if let [entry] = entries
        && known.is_empty()
    {
        return Ok(entry);
    }
    let mut offered: Vec<String> = known
        .iter()
        // What build tools attach beside the images.
        .filter(|(_, platform)| platform.os != "unknown")
        .map(|(_, platform)| platform.to_string())
        .collect();
    offered.dedup();
    let offered = match offered.is_empty() {
        true => "no platform".to_owned(),
        false => offered.join(", "),
    };
    Err(format!(
        "no match for platform {host} in its manifest list, which offers {offered}"
    ))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Entries are named by their place; the host is `os/architecture[/variant]`.
    #[track_caller]
    fn check(host: &str, entries: &str, want: Expect) {
        let parts = |text: &str| -> [String; 3] {
            let mut parts = text.split('/').map(str::to_owned);
            std::array::from_fn(|_| parts.next().unwrap_or_default())
        };
        let entries: Vec<Descriptor> = entries
            .split_whitespace()
            .enumerate()
            .map(|(place, platform)| {
                let [os, architecture, variant] = parts(platform);
                let mut json = serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{place:064}"),
                    "size": place,
                });
                if os != "-" {
                    json["platform"] = serde_json::json!({"os": os, "architecture": architecture});
                    if !variant.is_empty() {
                        json["platform"]["variant"] = variant.into();
                    }
                }
                serde_json::from_value(json).unwrap()
            })
            .collect();
        let [os, architecture, variant] = parts(host);
        let got = match choose(&entries, &Platform::new(&os, &architecture, &variant)) {
            Ok(entry) => entry.size().to_string(),
            Err(error) => error,
        };
        want.assert_eq(&got);
    }

    #[test]
    fn the_entry_for_this_host_is_chosen_then_the_one_for_wasm() {
        let amd = "linux/amd64";
        check(amd, "linux/arm64/v8 linux/amd64 wasi/wasm", expect!["1"]);
        check(amd, "linux/arm64/v8 wasi/wasm", expect!["1"]);
        check(amd, "linux/amd64/v3 linux/amd64", expect!["1"]);
        check(
            amd,
            "linux/amd64/v3 linux/arm64",
            expect![
                "no match for platform linux/amd64 in its manifest list, which offers linux/amd64/v3, linux/arm64"
            ],
        );
        check(
            "linux/arm/v7",
            "linux/arm/v5 linux/arm/v6 linux/arm64",
            expect!["1"],
        );
        check("linux/arm64/v8", "linux/arm/v7 linux/arm64", expect!["1"]);
        check(
            amd,
            "windows/amd64 unknown/unknown",
            expect![
                "no match for platform linux/amd64 in its manifest list, which offers windows/amd64"
            ],
        );
        check(
            amd,
            "",
            expect![
                "no match for platform linux/amd64 in its manifest list, which offers no platform"
            ],
        );
        check(amd, "-", expect!["0"]);
    }
}
