//! Slash-separated paths. The `os` functions are the same: charts are for machines with slashes.

use super::{arguments::text, fixed};
use crate::{Environment, Failure, Function, Param::String as Text, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    fixed("base", &[Text], base),
    fixed("osBase", &[Text], base),
    fixed("dir", &[Text], dir),
    fixed("osDir", &[Text], dir),
    fixed("clean", &[Text], |_, args| {
        Ok(Value::string(clean(text(args, 0))))
    }),
    fixed("osClean", &[Text], |_, args| {
        Ok(Value::string(clean(text(args, 0))))
    }),
    fixed("ext", &[Text], ext),
    fixed("osExt", &[Text], ext),
    fixed("isAbs", &[Text], |_, args| {
        Ok(Value::Bool(text(args, 0).starts_with(b"/")))
    }),
    fixed("osIsAbs", &[Text], |_, args| {
        Ok(Value::Bool(text(args, 0).starts_with(b"/")))
    }),
];

/// The last element.
fn base(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let path = text(args, 0);
    if path.is_empty() {
        return Ok(Value::string("."));
    }
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |at| at + 1);
    let start = path[..end]
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    Ok(Value::string(match &path[start..end] {
        b"" => b"/".to_vec(),
        name => name.to_vec(),
    }))
}

/// All but the last element, cleaned.
fn dir(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let path = text(args, 0);
    let end = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    Ok(Value::string(clean(&path[..end])))
}

/// The last element's suffix from its last dot on.
fn ext(_: &Environment, args: &[Value]) -> Result<Value, Failure> {
    let path = text(args, 0);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let start = name
        .iter()
        .rposition(|byte| *byte == b'.')
        .unwrap_or(name.len());
    Ok(Value::string(name[start..].to_vec()))
}

/// The shortest path that means the same, by its text alone.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut elements: Vec<&[u8]> = Vec::new();
    for element in path.split(|byte| *byte == b'/') {
        match element {
            b"" | b"." => {}
            b".." if elements.last().is_some_and(|last| *last != b"..") => {
                elements.pop();
            }
            b".." if rooted => {}
            _ => elements.push(element),
        }
    }
    let joined = elements.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}
