//! PEM: labelled base 64 between two lines.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Characters of a line.
const WIDTH: usize = 64;

/// What a PEM block holds.
pub(super) struct Block {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
}

pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(WIDTH));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The first block of a text, with headers or without; `None`: there is none.
pub(super) fn decode(text: &str) -> Option<Block> {
    let mut lines = text.lines().map(str::trim_end);
    let label = lines.find_map(|line| {
        line.strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
    })?;
    let end = format!("-----END {label}-----");
    let mut body = String::new();
    let mut closed = false;
    for line in lines {
        if line == end {
            closed = true;
            break;
        }
        // Headers come before the body: a name, a colon, a value.
        if !line.contains(':') {
            body.extend(line.chars().filter(|c| !c.is_ascii_whitespace()));
        }
    }
    let der = BASE64_STANDARD.decode(body).ok().filter(|_| closed)?;
    Some(Block {
        label: label.to_owned(),
        der,
    })
}
