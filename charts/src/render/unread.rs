//! Values that the user gave and no template asked for: most often they are misspelt.

use super::Unread;
use crate::{
    Map, Value,
    chart::dependencies::Node,
    template::{ValuePath, suggest},
};

/// The paths of a user's values that were not read, as far up as nothing of them was.
pub(super) fn unread(root: &Node<'_>, given: &Map, seen: &Map) -> Vec<Unread> {
    let mut found = Vec::new();
    chart(root, given, seen, &ValuePath::default(), &mut found);
    found
}

fn chart(node: &Node<'_>, given: &Map, seen: &Map, path: &ValuePath, found: &mut Vec<Unread>) {
    let declared = |key: &[u8]| {
        let dependencies = node.chart.metadata.dependencies.iter();
        let mut names = dependencies
            .flat_map(|dependency| [dependency.name.as_str(), dependency.name_in_parent()]);
        names.any(|name| name.as_bytes() == key)
    };
    let condition = |key: &[u8]| {
        let dependencies = node.chart.metadata.dependencies.iter();
        let mut conditions = dependencies.flat_map(|dependency| dependency.condition.split(','));
        conditions.any(|path| {
            path.split('.')
                .next()
                .is_some_and(|first| first.as_bytes() == key)
        })
    };
    for (key, value, _) in given.reads() {
        let child = node
            .subcharts
            .iter()
            .find(|child| child.metadata.name.as_bytes() == &key[..]);
        let path = path.join(key.clone());
        match (child, &value, seen.peek(&key)) {
            (Some(child), Value::Map(given), Some(Value::Map(seen))) => {
                chart(child, given, &seen, &path, found);
            }
            // Globals are for subcharts too, each of which has its own copy; tags and conditions are Helm's own to read.
            _ if &key[..] == b"global" || &key[..] == b"tags" => {}
            _ if declared(&key) || condition(&key) => {}
            _ => compare(&key, &value, seen, Some(&node.values), &path, found),
        }
    }
}

/// Looks a given value up among those that were seen.
fn compare(
    key: &[u8],
    given: &Value,
    seen: &Map,
    defaults: Option<&Map>,
    path: &ValuePath,
    found: &mut Vec<Unread>,
) {
    let slots = seen.reads();
    let Some((_, value, read)) = slots.into_iter().find(|(slot, ..)| &slot[..] == key) else {
        // A null removed it; or a template did.
        return;
    };
    if !read {
        let known = defaults.map(Map::reads).unwrap_or_default();
        let known: Vec<String> = known
            .into_iter()
            .map(|(key, ..)| crate::json::text(&key).into_owned())
            .filter(|known| known.as_bytes() != key)
            .collect();
        let suggestion = suggest(&crate::json::text(key), known.iter().map(String::as_str));
        found.push(Unread {
            path: path.clone(),
            suggestion: suggestion.map(str::to_owned),
        });
        return;
    }
    if let (Value::Map(given), Value::Map(seen)) = (given, &value) {
        let defaults = defaults.and_then(|defaults| match defaults.peek(key) {
            Some(Value::Map(map)) => Some(map),
            _ => None,
        });
        for (key, value, _) in given.reads() {
            let path = path.join(key.clone());
            compare(&key, &value, seen, defaults.as_ref(), &path, found);
        }
    }
}
