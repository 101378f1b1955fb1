//! Where a value is among the data, and which key may have been meant.

use std::fmt;

use bytes::Bytes;

use crate::{Map, Value};

/// How many values are looked at for a path: it is for messages.
const LOOKED_AT: usize = 100_000;

/// Keys from the top of the data: prints as templates say it, `.Values.a.b`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ValuePath(pub Vec<Bytes>);

impl ValuePath {
    /// One key further down.
    pub fn join(&self, key: impl Into<Bytes>) -> ValuePath {
        let mut keys = self.0.clone();
        keys.push(key.into());
        ValuePath(keys)
    }
}

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in &self.0 {
            write!(f, ".{}", String::from_utf8_lossy(key))?;
        }
        if self.0.is_empty() {
            f.write_str(".")?;
        }
        Ok(())
    }
}

/// Where a map is among the data. Leaves no trace of reading.
pub(super) fn locate(data: &Value, map: &Map) -> Option<ValuePath> {
    let mut left = LOOKED_AT;
    let mut queue = vec![(data.clone(), ValuePath::default())];
    let mut next = 0;
    // Breadth first: the shortest path is the one people know.
    while let Some((value, path)) = queue.get(next).cloned() {
        next += 1;
        match value {
            Value::Map(here) if here.same(map) => return Some(path),
            Value::Map(here) => {
                for (key, value, _) in here.reads() {
                    left = left.checked_sub(1)?;
                    if matches!(value, Value::Map(_) | Value::List(_)) {
                        queue.push((value, path.join(key)));
                    }
                }
            }
            Value::List(list) => {
                for (i, value) in list.items.iter().enumerate() {
                    left = left.checked_sub(1)?;
                    if matches!(value, Value::Map(_) | Value::List(_)) {
                        queue.push((value.clone(), path.join(i.to_string())));
                    }
                }
            }
            _ => {}
        }
    }
    None
}

/// The candidate that `name` may be a misspelling of.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = match name.chars().count() {
        0..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let wanted = plain(name);
    let scored = candidates
        .into_iter()
        .filter(|candidate| *candidate != name);
    let scored = scored.map(|candidate| (distance(&wanted, &plain(candidate)), candidate));
    let best = scored.min_by_key(|(distance, _)| *distance)?;
    (best.0 <= allowed && best.0 < wanted.chars().count().max(1)).then_some(best.1)
}

/// Edits from one word to another; a swap of neighbours is one.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
