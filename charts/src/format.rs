//! Values as text, as Go's `fmt` writes them.
//!
//! - [`sprintf`]: `printf`, with every verb, flag, width, precision, `*` and argument index.
//! - [`sprint`], [`sprint_all`], [`sprintln`]: `print`, `println` and what `{{ . }}` writes.
//! - [`strval`]: Sprig's idea of a value as a string.
//! - [`quote`], [`unquote`]: Go's string literals.
//!
//! Never fails: a verb that doesn't fit its argument is told in the text, as in Go (`%!d(string=hi)`).

mod directive;
mod number;
mod printer;
mod quoting;

use bytes::Bytes;

use crate::{Value, value::meter};

use printer::Printer;
use quoting::quote_into;
pub(crate) use quoting::{code_point, decode, is_printable, unquote, unquote_char};

/// `fmt.Sprintf`: the text of a format and its arguments.
pub fn sprintf(format: &[u8], args: &[Value]) -> Bytes {
    let mut printer = Printer::default();
    directive::print(&mut printer, format, args);
    printer.into_bytes()
}

/// `fmt.Sprint` of one value: as `%v` prints it.
pub fn sprint(value: &Value) -> Bytes {
    match value {
        Value::String(text) => text.clone(),
        _ => {
            let mut out = Vec::new();
            sprint_into(&mut out, value);
            out.into()
        }
    }
}

/// As [`sprint`], at the end of a buffer.
pub fn sprint_into(out: &mut Vec<u8>, value: &Value) {
    if let Value::String(text) = value {
        if !meter::fits(out.len() + text.len()) {
            return;
        }
        out.extend_from_slice(text);
        return;
    }
    let mut printer = Printer::onto(std::mem::take(out));
    printer.argument(value, 'v');
    *out = printer.into_vec();
}

/// `fmt.Sprint` of several values: a space between two of which neither is a string.
pub fn sprint_all(values: &[Value]) -> Bytes {
    let mut out = Vec::new();
    let mut after_string = true;
    for (i, value) in values.iter().enumerate() {
        let string = matches!(value, Value::String(_));
        if i > 0 && !string && !after_string {
            out.push(b' ');
        }
        sprint_into(&mut out, value);
        after_string = string;
    }
    out.into()
}

/// `fmt.Sprintln`: a space between any two values, and a line end.
pub fn sprintln(values: &[Value]) -> Bytes {
    let mut out = Vec::new();
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        sprint_into(&mut out, value);
    }
    out.push(b'\n');
    out.into()
}

/// Sprig's `strval`: a string as it is, anything else as `%v`.
pub fn strval(value: &Value) -> Bytes {
    sprint(value)
}

/// A string as a Go literal in double quotes: `%q`.
pub fn quote(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    quote_into(&mut out, text, false);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
