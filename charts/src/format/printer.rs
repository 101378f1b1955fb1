//! Writes one value for one verb.

use bytes::Bytes;

use crate::{
    List, Map, Object, Value,
    value::meter::{self, Refusal},
};

/// Values within values; deeper is only a map that holds itself, or harm.
const DEPTH: usize = 1000;

/// What a value costs to print, in steps.
const COST: u64 = 4;

use super::{
    number,
    quoting::{backquotable, decode, quote_char_into, quote_into},
};

/// What stands between `%` and the verb.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Flags {
    pub(super) sharp: bool,
    pub(super) zero: bool,
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) space: bool,
    /// `%#v`.
    pub(super) sharp_v: bool,
    /// `%+v`.
    pub(super) plus_v: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

impl Flags {
    /// `#` and `+` mean something of their own before `v`.
    pub(super) fn go_syntax(&mut self) {
        self.sharp_v = std::mem::take(&mut self.sharp);
        self.plus_v = std::mem::take(&mut self.plus);
    }
}

/// The text so far, and the flags of the directive at hand.
#[derive(Default)]
pub(super) struct Printer {
    out: Vec<u8>,
    pub(super) flags: Flags,
}

impl Printer {
    pub(super) fn onto(out: Vec<u8>) -> Printer {
        Printer {
            out,
            flags: Flags::default(),
        }
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if meter::fits(self.out.len() + bytes.len()) {
            self.out.extend_from_slice(bytes);
        }
    }

    pub(super) fn char(&mut self, char: char) {
        let mut buffer = [0; 4];
        self.bytes(char.encode_utf8(&mut buffer).as_bytes());
    }

    /// `%!verb` and what is wrong with it.
    pub(super) fn complaint(&mut self, verb: char, what: &[u8]) {
        self.bytes(b"%!");
        self.char(verb);
        self.bytes(what);
    }

    /// A value with its type before it: `string=hi`.
    pub(super) fn typed(&mut self, value: &Value) {
        if matches!(value, Value::Nil) {
            return self.bytes(b"<nil>");
        }
        self.bytes(value.type_name().as_bytes());
        self.bytes(b"=");
        self.argument(value, 'v');
    }

    fn bad_verb(&mut self, value: &Value, verb: char) {
        self.complaint(verb, b"(");
        self.typed(value);
        self.bytes(b")");
    }

    /// An argument of the format itself.
    pub(super) fn argument(&mut self, value: &Value, verb: char) {
        match (verb, value) {
            ('T', Value::Nil) | ('v', Value::Nil) => self.pad(b"<nil>"),
            ('T', value) => self.string(value.type_name().as_bytes()),
            (_, Value::Nil) | ('w' | 'p', _) => self.bad_verb(value, verb),
            (_, value) => self.value(value, verb, 0),
        }
    }

    fn value(&mut self, value: &Value, verb: char, depth: usize) {
        if depth > DEPTH {
            return meter::refuse(Refusal::Depth);
        }
        if meter::charge(COST) {
            stacker::maybe_grow(64 << 10, 1 << 20, || self.write(value, verb, depth));
        }
    }

    fn write(&mut self, value: &Value, verb: char, depth: usize) {
        match value {
            Value::Nil if self.flags.sharp_v => self.bytes(b"interface {}(nil)"),
            Value::Nil => self.bytes(b"<nil>"),
            Value::Bool(truth) => match verb {
                't' | 'v' => self.pad(if *truth { b"true" } else { b"false" }),
                _ => self.bad_verb(value, verb),
            },
            Value::Int(number, _) => {
                self.integer(value, number.unsigned_abs(), *number < 0, true, verb);
            }
            Value::Uint(number, _) => self.integer(value, *number, false, false, verb),
            Value::Float(number) => match verb {
                'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E' => {
                    number::float(self, *number, verb);
                }
                _ => self.bad_verb(value, verb),
            },
            Value::String(text) => match verb {
                'v' if self.flags.sharp_v => self.quoted(text),
                'v' | 's' => self.string(text),
                'x' => self.hex(text, b"0123456789abcdef", b"0x"),
                'X' => self.hex(text, b"0123456789ABCDEF", b"0X"),
                'q' => self.quoted(text),
                _ => self.bad_verb(value, verb),
            },
            Value::List(list) => self.list(list, verb, depth),
            Value::Map(map) => self.map(map, verb, depth),
            Value::Object(object) => self.object(&**object, verb, depth),
        }
    }

    fn list(&mut self, list: &List, verb: char, depth: usize) {
        let (open, separator, close): (&[u8], &[u8], &[u8]) = match self.flags.sharp_v {
            true => (b"{", b", ", b"}"),
            false => (b"[", b" ", b"]"),
        };
        if self.flags.sharp_v {
            self.bytes(list.type_name().as_bytes());
        }
        self.bytes(open);
        for (i, item) in list.items.iter().enumerate() {
            if i > 0 {
                self.bytes(separator);
            }
            self.value(item, verb, depth + 1);
        }
        self.bytes(close);
    }

    fn map(&mut self, map: &Map, verb: char, depth: usize) {
        let sharp = self.flags.sharp_v;
        if sharp {
            self.bytes(map.type_name().as_bytes());
        }
        self.bytes(if sharp { b"{" } else { b"map[" });
        for (i, (key, value)) in map.entries().into_iter().enumerate() {
            if i > 0 {
                self.bytes(if sharp { b", " } else { b" " });
            }
            self.value(&Value::String(key), verb, depth + 1);
            self.bytes(b":");
            self.value(&value, verb, depth + 1);
        }
        self.bytes(if sharp { b"}" } else { b"]" });
    }

    /// Its own text where a string would do, its plain value elsewhere.
    fn object(&mut self, object: &dyn Object, verb: char, depth: usize) {
        match verb {
            'v' | 's' => self.string(object.print().as_bytes()),
            'x' | 'X' | 'q' => {
                self.value(&Value::string(object.print().into_bytes()), verb, depth);
            }
            _ => match object.plain() {
                Value::Object(_) => self.complaint(verb, b"()"),
                plain => self.value(&plain, verb, depth),
            },
        }
    }

    fn integer(&mut self, value: &Value, number: u64, negative: bool, signed: bool, verb: char) {
        match verb {
            'v' if self.flags.sharp_v && !signed => {
                let sharp = std::mem::replace(&mut self.flags.sharp, true);
                number::integer(self, number, negative, 16, 'v');
                self.flags.sharp = sharp;
            }
            'v' | 'd' => number::integer(self, number, negative, 10, verb),
            'b' => number::integer(self, number, negative, 2, verb),
            'o' | 'O' => number::integer(self, number, negative, 8, verb),
            'x' | 'X' => number::integer(self, number, negative, 16, verb),
            'c' | 'q' | 'U' => {
                let char = u32::try_from(number).ok().filter(|_| !negative);
                let char = char.and_then(char::from_u32);
                match verb {
                    'c' => {
                        let mut buffer = [0; 4];
                        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
                        self.pad(char.encode_utf8(&mut buffer).as_bytes());
                    }
                    'q' => {
                        let mut out = Vec::new();
                        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
                        quote_char_into(&mut out, char, self.flags.plus);
                        self.pad(&out);
                    }
                    _ => number::code_point(self, number, negative),
                }
            }
            _ => self.bad_verb(value, verb),
        }
    }

    /// A string, cut at the precision.
    fn string(&mut self, text: &[u8]) {
        let text = self.cut(text);
        self.pad(text);
    }

    fn cut<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let Some(precision) = self.flags.precision else {
            return text;
        };
        let mut at = 0;
        for _ in 0..precision {
            if at >= text.len() {
                break;
            }
            at += decode(&text[at..]).1;
        }
        &text[..at]
    }

    fn quoted(&mut self, text: &[u8]) {
        let text = self.cut(text);
        let mut out = Vec::with_capacity(text.len() + 2);
        if self.flags.sharp && backquotable(text) {
            out.push(b'`');
            out.extend_from_slice(text);
            out.push(b'`');
        } else {
            quote_into(&mut out, text, self.flags.plus);
        }
        self.pad(&out);
    }

    /// Each byte as two digits; a precision counts bytes.
    fn hex(&mut self, text: &[u8], digits: &[u8; 16], prefix: &[u8]) {
        let length = self
            .flags
            .precision
            .map_or(text.len(), |precision| precision.min(text.len()));
        let mut out = Vec::with_capacity(length * 2 + 2);
        for (i, byte) in text[..length].iter().enumerate() {
            if self.flags.space && i > 0 {
                out.push(b' ');
            }
            if self.flags.sharp && (self.flags.space || i == 0) {
                out.extend_from_slice(prefix);
            }
            out.push(digits[usize::from(byte >> 4)]);
            out.push(digits[usize::from(byte & 15)]);
        }
        self.pad(&out);
    }

    /// Text in its width: counted in characters.
    pub(super) fn pad(&mut self, text: &[u8]) {
        let Some(width) = self.flags.width else {
            return self.bytes(text);
        };
        let mut length = 0;
        let mut at = 0;
        while at < text.len() {
            at += decode(&text[at..]).1;
            length += 1;
        }
        let padding = width.saturating_sub(length);
        if self.flags.minus {
            self.bytes(text);
            self.padding(padding);
        } else {
            self.padding(padding);
            self.bytes(text);
        }
    }

    pub(super) fn padding(&mut self, count: usize) {
        let byte = match self.flags.zero && !self.flags.minus {
            true => b'0',
            false => b' ',
        };
        if !meter::fits(self.out.len().saturating_add(count)) {
            return;
        }
        self.out.resize(self.out.len() + count, byte);
    }
}
