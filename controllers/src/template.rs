//! Pod templates as values: comparing and naming them without knowing their fields.

use serde_json::Value;

/// The label that tells the ReplicaSets of a Deployment apart.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;
/// Letters and digits that spell no words.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A template without nulls and without the hash label, for comparison.
pub(crate) fn bare(template: &Value) -> Value {
    let mut template = without_nulls(template);
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(HASH_LABEL);
    }
    template
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// A short name for a template; `collisions` makes another one of the same template.
pub(crate) fn hash(template: &Value, collisions: i32) -> String {
    let mut hash = FNV_OFFSET;
    feed(&mut hash, &bare(template));
    if collisions > 0 {
        write(&mut hash, &collisions.to_le_bytes());
    }
    hash.to_string()
        .bytes()
        .map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()]))
        .collect()
}

fn feed(hash: &mut u32, value: &Value) {
    match value {
        Value::Object(fields) => {
            // Sorted here, so that the hash does not hang on how the map keeps its order.
            let mut names: Vec<_> = fields.iter().collect();
            names.sort_by_key(|(name, _)| name.as_str());
            write(hash, b"{");
            for (name, value) in names {
                write(hash, name.as_bytes());
                write(hash, b":");
                feed(hash, value);
            }
            write(hash, b"}");
        }
        Value::Array(items) => {
            write(hash, b"[");
            for item in items {
                feed(hash, item);
                write(hash, b",");
            }
            write(hash, b"]");
        }
        other => write(hash, other.to_string().as_bytes()),
    }
}

fn write(hash: &mut u32, bytes: &[u8]) {
    for byte in bytes {
        *hash = (*hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_and_the_hash_label_do_not_tell_templates_apart() {
        let plain = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}});
        let same = json!({
            "metadata": {"creationTimestamp": null, "labels": {"a": "b", HASH_LABEL: "h"}},
            "spec": {"x": 1},
        });
        assert_eq!(bare(&plain), bare(&same));
        assert_eq!(hash(&plain, 0), hash(&same, 0));
        assert_ne!(hash(&plain, 0), hash(&plain, 1));
        assert!(hash(&plain, 0).bytes().all(|byte| SAFE.contains(&byte)));
    }
}
