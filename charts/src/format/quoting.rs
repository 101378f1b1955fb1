//! Go's string and character literals, written and read.

/// The character that some bytes begin with, and its length; what is no UTF-8 counts as one byte that is U+FFFD.
pub(crate) fn decode(bytes: &[u8]) -> (char, usize) {
    let Some(first) = bytes.first() else {
        return (char::REPLACEMENT_CHARACTER, 0);
    };
    if first.is_ascii() {
        return (char::from(*first), 1);
    }
    let part = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(part) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&part[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(char) => (char, char.len_utf8()),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// Go's `%#U`.
pub(crate) fn code_point(char: char) -> String {
    match is_printable(char) {
        true => format!("U+{:04X} '{char}'", u32::from(char)),
        false => format!("U+{:04X}", u32::from(char)),
    }
}

/// Go's `unicode.IsPrint`.
pub(crate) fn is_printable(char: char) -> bool {
    match char {
        ' '..='~' => true,
        '\0'..='\u{a0}' => false,
        _ => {
            // The second character of a text is escaped only where it has no picture.
            let text = String::from_iter(['a', char]);
            text.escape_debug().nth(1) == Some(char)
        }
    }
}

/// Whether a raw literal can say it.
pub(super) fn backquotable(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    !text.chars().any(|char| match char {
        '\t' => false,
        '`' | '\u{7f}' | '\u{feff}' => true,
        char => char < ' ',
    })
}

/// `strconv.Quote`, or with `ascii` `strconv.QuoteToASCII`.
pub(crate) fn quote_into(out: &mut Vec<u8>, text: &[u8], ascii: bool) {
    out.push(b'"');
    let mut at = 0;
    while at < text.len() {
        let (char, size) = decode(&text[at..]);
        if size == 1 && char == char::REPLACEMENT_CHARACTER {
            out.extend_from_slice(format!("\\x{:02x}", text[at]).as_bytes());
        } else {
            escape(out, char, '"', ascii);
        }
        at += size;
    }
    out.push(b'"');
}

/// `strconv.QuoteRune`.
pub(super) fn quote_char_into(out: &mut Vec<u8>, char: char, ascii: bool) {
    out.push(b'\'');
    escape(out, char, '\'', ascii);
    out.push(b'\'');
}

fn escape(out: &mut Vec<u8>, char: char, quote: char, ascii: bool) {
    let code = u32::from(char);
    let escaped = match char {
        '\\' => "\\\\".to_owned(),
        char if char == quote => format!("\\{char}"),
        char if (!ascii || char.is_ascii()) && is_printable(char) => char.to_string(),
        '\u{7}' => "\\a".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        char if char < ' ' || char == '\u{7f}' => format!("\\x{code:02x}"),
        _ if code < 0x10000 => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    };
    out.extend_from_slice(escaped.as_bytes());
}

/// A literal that Go would not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid syntax")]
pub(crate) struct UnquoteError;

/// `strconv.Unquote` of a literal in double quotes or backquotes.
pub(crate) fn unquote(literal: &[u8]) -> Result<Vec<u8>, UnquoteError> {
    let (Some(quote), Some(last)) = (literal.first(), literal.last()) else {
        return Err(UnquoteError);
    };
    if literal.len() < 2 || quote != last {
        return Err(UnquoteError);
    }
    let mut rest = &literal[1..literal.len() - 1];
    match quote {
        b'`' => Ok(rest.iter().copied().filter(|byte| *byte != b'\r').collect()),
        b'"' => {
            let mut out = Vec::with_capacity(rest.len());
            while !rest.is_empty() {
                if rest[0] == b'\n' {
                    return Err(UnquoteError);
                }
                let (piece, size) = unquote_char(rest, b'"')?;
                piece.push_to(&mut out);
                rest = &rest[size..];
            }
            Ok(out)
        }
        _ => Err(UnquoteError),
    }
}

/// What one character or escape of a literal means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    Char(char),
    Byte(u8),
}

impl Piece {
    pub(crate) fn code(self) -> i64 {
        match self {
            Piece::Char(char) => i64::from(u32::from(char)),
            Piece::Byte(byte) => i64::from(byte),
        }
    }

    fn push_to(self, out: &mut Vec<u8>) {
        match self {
            Piece::Char(char) => {
                let mut buffer = [0; 4];
                out.extend_from_slice(char.encode_utf8(&mut buffer).as_bytes());
            }
            Piece::Byte(byte) => out.push(byte),
        }
    }
}

/// `strconv.UnquoteChar`: the first character of a literal's inside, and how long it is.
pub(crate) fn unquote_char(text: &[u8], quote: u8) -> Result<(Piece, usize), UnquoteError> {
    let first = *text.first().ok_or(UnquoteError)?;
    if first == quote {
        return Err(UnquoteError);
    }
    if first != b'\\' {
        let (char, size) = decode(text);
        if size == 1 && !first.is_ascii() {
            return Ok((Piece::Byte(first), 1));
        }
        return Ok((Piece::Char(char), size));
    }
    let escape = *text.get(1).ok_or(UnquoteError)?;
    let simple = |char| Ok((Piece::Char(char), 2));
    let digits = |count: usize, radix: u32| {
        let from = if radix == 8 { 1 } else { 2 };
        let digits = text.get(from..from + count).ok_or(UnquoteError)?;
        let digits = std::str::from_utf8(digits).map_err(|_| UnquoteError)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(UnquoteError);
        }
        let code = u32::from_str_radix(digits, radix).map_err(|_| UnquoteError)?;
        Ok((code, from + count))
    };
    match escape {
        b'a' => simple('\u{7}'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'v' => simple('\u{b}'),
        b'\\' => simple('\\'),
        b'\'' | b'"' if escape == quote => simple(char::from(quote)),
        b'x' => {
            let (code, size) = digits(2, 16)?;
            Ok((Piece::Byte(code as u8), size))
        }
        b'0'..=b'7' => {
            let (code, size) = digits(3, 8)?;
            let byte = u8::try_from(code).map_err(|_| UnquoteError)?;
            Ok((Piece::Byte(byte), size))
        }
        b'u' | b'U' => {
            let (code, size) = digits(if escape == b'u' { 4 } else { 8 }, 16)?;
            let char = char::from_u32(code).ok_or(UnquoteError)?;
            Ok((Piece::Char(char), size))
        }
        _ => Err(UnquoteError),
    }
}
