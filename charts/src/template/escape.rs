//! `html`, `js` and `urlquery`.

use bytes::Bytes;

use crate::{
    Value,
    format::{decode, is_printable, sprint_all},
};

/// The arguments as one text: nil as templates print it.
pub(super) fn text(args: &[Value]) -> Bytes {
    if let [Value::String(text)] = args {
        return text.clone();
    }
    let shown = |value: &Value| match value {
        Value::Nil => Value::string(super::NO_VALUE),
        value => value.clone(),
    };
    sprint_all(&args.iter().map(shown).collect::<Vec<_>>())
}

pub(super) fn html(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            0 => out.extend_from_slice("\u{fffd}".as_bytes()),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            byte => out.push(*byte),
        }
    }
    out.into()
}

pub(super) fn js(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (char, size) = decode(&text[at..]);
        let escaped = match char {
            '\\' => "\\\\".to_owned(),
            '\'' => "\\'".to_owned(),
            '"' => "\\\"".to_owned(),
            '<' => "\\u003C".to_owned(),
            '>' => "\\u003E".to_owned(),
            '&' => "\\u0026".to_owned(),
            '=' => "\\u003D".to_owned(),
            char if char < ' ' => format!("\\u{:04X}", u32::from(char)),
            char if !char.is_ascii() && !is_printable(char) => {
                format!("\\u{:04X}", u32::from(char))
            }
            _ => String::new(),
        };
        match escaped.is_empty() {
            true => out.extend_from_slice(&text[at..at + size]),
            false => out.extend_from_slice(escaped.as_bytes()),
        }
        at += size;
    }
    out.into()
}

pub(super) fn urlquery(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b' ' => out.push(b'+'),
            b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            byte if byte.is_ascii_alphanumeric() => out.push(*byte),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out.into()
}
