//! Which volume suits a claim best.
//!
//! Pure: the same claim and volumes, in whatever order, give the same answer. A volume that names the
//! claim goes before all others; then those with just the access modes asked for, then those with
//! the fewest more; among equals the smallest, and of one size the first by name.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::terms;

/// Finds it. `delayed`: the scheduler chooses among volumes that name nobody.
pub(super) fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    delayed: bool,
) -> Option<Arc<PersistentVolume>> {
    let wanted = terms::requested(claim);
    let usable = |volume: &&Arc<PersistentVolume>| {
        terms::capacity(volume) >= wanted
            && !terms::modes_differ(claim, volume)
            && terms::mounts_as(claim, volume)
            && !terms::deleting(&***volume)
    };
    let order = |volume: &&Arc<PersistentVolume>| {
        let modes = terms::modes_of_volume(volume);
        let size = terms::capacity(volume);
        (modes.len(), modes.to_vec(), size, volume.name_any())
    };
    let own = volumes.iter().filter(|volume| terms::is_for(volume, claim));
    let begun = |volume: &&Arc<PersistentVolume>| terms::claim_uid(volume).is_none();
    let own = own.filter(usable);
    if let Some(own) = own.min_by_key(|volume| (begun(volume), order(volume))) {
        return Some(own.clone());
    }
    if delayed {
        return None;
    }
    let selector = selector(claim)?;
    let free = volumes.iter().filter(usable).filter(|volume| {
        terms::claim_ref(volume).is_none()
            && terms::phase_of_volume(volume) == "Available"
            && terms::class_of_volume(volume) == terms::class_of_claim(claim)
            && selector.matches(volume.labels())
    });
    free.min_by_key(order).cloned()
}

/// What a claim asks of labels; `None` if it cannot be read, and then nothing matches.
fn selector(claim: &PersistentVolumeClaim) -> Option<Selector> {
    let spec = claim.spec.as_ref()?;
    match &spec.selector {
        None => Some(Selector::default()),
        Some(selector) => Selector::try_from(selector.clone()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// Words: `10Gi` its size, `RWO,RWX` its modes, `of:fast` its class, `for:ns/name` the claim it
    /// names, `uid:x` that claim's uid, `zone:a` a label, `block`, `deleting`, `pending`.
    fn volume(line: &str) -> Arc<PersistentVolume> {
        let mut words = line.split_whitespace();
        let mut object = json!({
            "metadata": {"name": words.next()},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"},
            "status": {"phase": "Available"},
        });
        for word in words {
            match word.split_once(':') {
                Some(("of", class)) => object["spec"]["storageClassName"] = class.into(),
                Some(("for", claim)) => {
                    let (namespace, name) = claim.split_once('/').unwrap();
                    object["spec"]["claimRef"]["namespace"] = namespace.into();
                    object["spec"]["claimRef"]["name"] = name.into();
                }
                Some(("uid", uid)) => object["spec"]["claimRef"]["uid"] = uid.into(),
                Some((key, value)) => object["metadata"]["labels"][key] = value.into(),
                None => plain(&mut object, word),
            }
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn plain(object: &mut Value, word: &str) {
        match word {
            "block" => object["spec"]["volumeMode"] = "Block".into(),
            "deleting" => {
                object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            "pending" => object["status"]["phase"] = "Pending".into(),
            modes if modes.starts_with('R') => object["spec"]["accessModes"] = long(modes),
            size => {
                object["spec"]["capacity"] = json!({"storage": size});
                object["spec"]["resources"] = json!({"requests": {"storage": size}});
            }
        }
    }

    fn long(modes: &str) -> Value {
        let long = modes.split(',').map(|mode| match mode {
            "RWO" => "ReadWriteOnce",
            "ROX" => "ReadOnlyMany",
            "RWX" => "ReadWriteMany",
            _ => "ReadWriteOncePod",
        });
        long.collect()
    }

    /// The claim `ns/c` of uid `u`; words as of a volume, and `zone=a` what it selects.
    fn claim(words: &str) -> PersistentVolumeClaim {
        let mut object = json!({
            "metadata": {"name": "c", "namespace": "ns", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"]},
        });
        for word in words.split_whitespace() {
            match (word.split_once(':'), word.split_once('=')) {
                (Some(("of", class)), _) => object["spec"]["storageClassName"] = class.into(),
                (_, Some((key, value))) => {
                    object["spec"]["selector"]["matchLabels"][key] = value.into();
                }
                _ => plain(&mut object, word),
            }
        }
        serde_json::from_value(object).unwrap()
    }

    #[track_caller]
    fn check(words: &str, volumes: &str, expect: Expect) {
        let mut volumes: Vec<_> = volumes.split('\n').map(volume).collect();
        let first = best(&claim(words), &volumes, false);
        volumes.reverse();
        let second = best(&claim(words), &volumes, false);
        assert_eq!(first, second, "the order of volumes mattered");
        expect.assert_eq(&first.map_or("none".to_owned(), |volume| volume.name_any()));
    }

    #[test]
    fn the_smallest_that_is_large_enough_is_best() {
        check("5Gi", "a 10Gi\nb 6Gi\nc 1Gi", expect!["b"]);
        check("5Gi", "a 5120Mi\nb 6Gi", expect!["a"]);
        check("5Gi", "b 5Gi\na 5Gi", expect!["a"]);
        check("5Gi", "a 5G", expect!["none"]);
    }

    #[test]
    fn every_mode_asked_for_must_be_there_and_few_more_are_better() {
        check("1Gi RWO", "a 1Gi RWO,RWX\nb 9Gi RWO", expect!["b"]);
        check("1Gi RWO,ROX", "a 1Gi RWO", expect!["none"]);
        check("1Gi RWX", "a 1Gi RWO,ROX,RWX\nb 2Gi RWO,RWX", expect!["b"]);
        check("1Gi RWOP", "a 1Gi RWO,RWX\nb 1Gi RWOP", expect!["b"]);
    }

    #[test]
    fn class_mode_and_labels_must_agree() {
        check("1Gi of:fast", "a 1Gi\nb 2Gi of:fast", expect!["b"]);
        check("1Gi", "a 1Gi of:fast", expect!["none"]);
        check("1Gi of:", "a 1Gi", expect!["a"]);
        check("1Gi block", "a 1Gi\nb 2Gi block", expect!["b"]);
        check("1Gi zone=b", "a 1Gi zone:a\nb 2Gi zone:b", expect!["b"]);
    }

    #[test]
    fn only_what_is_available_and_stays_is_taken() {
        check("1Gi", "a 1Gi pending\nb 2Gi", expect!["b"]);
        check("1Gi", "a 1Gi deleting", expect!["none"]);
        check("1Gi", "a 1Gi for:ns/other\nb 2Gi", expect!["b"]);
    }

    #[test]
    fn a_volume_that_names_the_claim_goes_first() {
        check("1Gi", "a 1Gi\nb 9Gi for:ns/c of:fast", expect!["b"]);
        check("1Gi", "a 1Gi\nb 9Gi for:ns/c uid:u pending", expect!["b"]);
        check("1Gi", "a 1Gi\nb 9Gi for:ns/c uid:old", expect!["a"]);
        check("5Gi", "b 1Gi for:ns/c", expect!["none"]);
    }

    #[test]
    fn a_delayed_claim_gets_only_what_names_it() {
        let volumes = [volume("a 1Gi")];
        assert_eq!(best(&claim("1Gi"), &volumes, true), None);
        let volumes = [volume("a 1Gi for:ns/c")];
        assert!(best(&claim("1Gi"), &volumes, true).is_some());
    }
}
