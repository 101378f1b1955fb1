//! Names as archives have them, and paths within a layer.

use crate::layers::{
    Limits,
    failure::{Failure, shown},
};

/// A name without leading slashes, empty parts and `.`: empty for the root.
pub(super) fn clean(name: &[u8], limits: &Limits) -> Result<Vec<u8>, Failure> {
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                return Err(refused(
                    name,
                    "has `..` in its name, which leads out of the layer",
                ));
            }
            part if part.contains(&0) => return Err(refused(name, "has a NUL in its name")),
            part => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
    check_length(&path, limits)?;
    Ok(path)
}

pub(super) fn check_length(path: &[u8], limits: &Limits) -> Result<(), Failure> {
    if path.len() > limits.path_bytes {
        let limit = limits.path_bytes;
        return Err(refused(
            path,
            &format!("has a path of more than {limit} bytes"),
        ));
    }
    let depth = 1 + path.iter().filter(|byte| **byte == b'/').count();
    if depth > limits.depth {
        let limit = limits.depth;
        return Err(refused(
            path,
            &format!("is more than {limit} directories deep"),
        ));
    }
    Ok(())
}

pub(super) fn refused(name: &[u8], why: &str) -> Failure {
    Failure::Image(format!("its entry {} {why}", shown(name)))
}

/// A path's directory and the name in it; `None` for the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    let slash = path.iter().rposition(|byte| *byte == b'/');
    Some(slash.map_or((&[], path), |at| (&path[..at], &path[at + 1..])))
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}
