//! Which values no template asked for.

use crate::{Map, Value};

use super::path::ValuePath;

/// The values of a map that nothing read, as far up as nothing read them: of a map that was never looked at its own path,
/// of one that was looked at the paths within.
pub fn unread(values: &Map) -> Vec<ValuePath> {
    let mut found = Vec::new();
    collect(values, &ValuePath::default(), &mut found, 0);
    found
}

/// Values refer to each other freely: a map within itself must come to an end.
const DEEPEST: usize = 100;

fn collect(values: &Map, path: &ValuePath, found: &mut Vec<ValuePath>, depth: usize) {
    for (key, value, read) in values.reads() {
        let path = path.join(key);
        match value {
            _ if !read => found.push(path),
            Value::Map(map) if depth < DEEPEST => collect(&map, &path, found, depth + 1),
            _ => {}
        }
    }
}
