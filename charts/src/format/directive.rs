//! Reads a format: text, and directives `%[flags][width][.precision][argument index]verb`.

use crate::Value;

use super::{
    printer::{Flags, Printer},
    quoting::decode,
};

/// The largest width and precision that Go takes from a format.
const LARGEST: i64 = 1_000_000;

/// Where the reading of one format is.
struct Reader<'a> {
    format: &'a [u8],
    at: usize,
    args: &'a [Value],
    argument: usize,
    /// Whether an explicit index was used anywhere: then nobody counts what is left over.
    reordered: bool,
    /// Whether this directive's indexes are sound.
    sound: bool,
}

/// Writes `format`, its directives replaced by `args`.
pub(super) fn print(out: &mut Printer, format: &[u8], args: &[Value]) {
    let mut reader = Reader {
        format,
        at: 0,
        args,
        argument: 0,
        reordered: false,
        sound: true,
    };
    while reader.at < format.len() {
        let rest = &format[reader.at..];
        let text = rest
            .iter()
            .position(|byte| *byte == b'%')
            .unwrap_or(rest.len());
        out.bytes(&rest[..text]);
        reader.at += text;
        if reader.at < format.len() {
            reader.at += 1;
            reader.directive(out);
        }
    }
    if !reader.reordered && reader.argument < args.len() {
        extra(out, &args[reader.argument..]);
    }
}

/// Arguments that no directive asked for.
fn extra(out: &mut Printer, args: &[Value]) {
    out.flags = Flags::default();
    out.bytes(b"%!(EXTRA ");
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.bytes(b", ");
        }
        out.typed(arg);
    }
    out.bytes(b")");
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn directive(&mut self, out: &mut Printer) {
        self.sound = true;
        out.flags = Flags::default();
        self.flags(out);
        let mut after_index = self.index();
        after_index = self.width(out, after_index);
        after_index = self.precision(out, after_index);
        if !after_index {
            self.index();
        }
        if self.at >= self.format.len() {
            out.bytes(b"%!(NOVERB)");
            return;
        }
        let (verb, size) = decode(&self.format[self.at..]);
        self.at += size;
        if verb == '%' {
            out.bytes(b"%");
        } else if !self.sound {
            out.complaint(verb, b"(BADINDEX)");
        } else if self.argument >= self.args.len() {
            out.complaint(verb, b"(MISSING)");
        } else {
            if verb == 'v' {
                out.flags.go_syntax();
            }
            out.argument(&self.args[self.argument], verb);
            self.argument += 1;
        }
    }

    fn flags(&mut self, out: &mut Printer) {
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => out.flags.sharp = true,
                b'0' => out.flags.zero = true,
                b'+' => out.flags.plus = true,
                b'-' => out.flags.minus = true,
                b' ' => out.flags.space = true,
                _ => return,
            }
            self.at += 1;
        }
    }

    /// Whether an index was read; the width then may not be a number.
    fn width(&mut self, out: &mut Printer, after_index: bool) -> bool {
        if self.peek() == Some(b'*') {
            self.at += 1;
            match self.starred() {
                Some(width) => {
                    out.flags.width = Some(usize::try_from(width.unsigned_abs()).unwrap_or(0));
                    if width < 0 {
                        out.flags.minus = true;
                        out.flags.zero = false;
                    }
                }
                None => out.bytes(b"%!(BADWIDTH)"),
            }
            return false;
        }
        out.flags.width = self.number();
        if after_index && out.flags.width.is_some() {
            self.sound = false;
        }
        after_index
    }

    fn precision(&mut self, out: &mut Printer, after_index: bool) -> bool {
        if self.peek() != Some(b'.') {
            return after_index;
        }
        self.at += 1;
        if after_index {
            self.sound = false;
        }
        let after_index = self.index();
        if self.peek() == Some(b'*') {
            self.at += 1;
            let precision = self.starred();
            out.flags.precision = precision.and_then(|number| usize::try_from(number).ok());
            if out.flags.precision.is_none() {
                out.bytes(b"%!(BADPREC)");
            }
            return false;
        }
        out.flags.precision = Some(self.number().unwrap_or(0));
        after_index
    }

    /// Digits, if there are any; a number beyond Go's bound ends the format.
    fn number(&mut self) -> Option<usize> {
        let (number, end) = digits(self.format, self.at, self.format.len());
        self.at = end;
        number
    }

    /// Reads `[n]`: whether it was there and readable.
    fn index(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.format[self.at..];
        let close = rest.iter().position(|byte| *byte == b']');
        let (Some(close), true) = (close, rest.len() >= 3) else {
            self.sound = false;
            self.at += 1;
            return false;
        };
        self.at += close + 1;
        let (number, end) = digits(rest, 1, close);
        let Some(number) = number.filter(|_| end == close) else {
            self.sound = false;
            return false;
        };
        if (1..=self.args.len()).contains(&number) {
            self.argument = number - 1;
        } else {
            self.sound = false;
        }
        true
    }

    /// The next argument, for `*`.
    fn starred(&mut self) -> Option<i64> {
        let value = self.args.get(self.argument)?;
        self.argument += 1;
        let number = match value {
            Value::Int(number, _) => *number,
            Value::Uint(number, _) => i64::try_from(*number).ok()?,
            _ => return None,
        };
        (-LARGEST..=LARGEST).contains(&number).then_some(number)
    }
}

/// The number at `from`, and where it ends.
fn digits(text: &[u8], from: usize, end: usize) -> (Option<usize>, usize) {
    let mut number = None;
    let mut at = from;
    while at < end && text[at].is_ascii_digit() {
        let next = number.unwrap_or(0) * 10 + usize::from(text[at] - b'0');
        if next > LARGEST as usize * 10 {
            return (None, end);
        }
        number = Some(next);
        at += 1;
    }
    if number.is_some_and(|number| number > LARGEST as usize) {
        return (None, end);
    }
    (number, at)
}
