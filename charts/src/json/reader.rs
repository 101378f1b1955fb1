//! Reads JSON with the messages of Go's scanner.

use super::Error;
use crate::{Map, Value, yaml::MAX_DEPTH};

pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8]) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    pub(super) fn document(mut self) -> Result<Value, Error> {
        let value = self.value(0)?;
        self.space();
        match self.peek() {
            Some(byte) => Err(unexpected(byte, "after top-level value")),
            None => Ok(value),
        }
    }

    pub(super) fn prefix(mut self) -> Result<(Value, usize), Error> {
        let value = self.value(0).map_err(|error| match error {
            // Go's reader of streams has a word of its own for it.
            error if error == end() => Error::Syntax("unexpected EOF".to_owned()),
            error => error,
        })?;
        Ok((value, self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Error> {
        let byte = self.peek().ok_or_else(end)?;
        self.at += 1;
        Ok(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Syntax("exceeded max depth".to_owned()));
        }
        self.space();
        match self.next()? {
            b'{' => self.map(depth),
            b'[' => self.list(depth),
            b'"' => Ok(Value::string(self.string()?)),
            b't' => self.literal("true", Value::Bool(true)),
            b'f' => self.literal("false", Value::Bool(false)),
            b'n' => self.literal("null", Value::Nil),
            byte @ (b'-' | b'0'..=b'9') => self.number(byte),
            byte => Err(unexpected(byte, "looking for beginning of value")),
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, Error> {
        for expected in word.bytes().skip(1) {
            let byte = self.next()?;
            if byte != expected {
                let expected = char::from(expected);
                let place = format!("in literal {word} (expecting '{expected}')");
                return Err(unexpected(byte, &place));
            }
        }
        Ok(value)
    }

    fn map(&mut self, depth: usize) -> Result<Value, Error> {
        let map = Map::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(map));
        }
        loop {
            self.space();
            match self.next()? {
                b'"' => {}
                byte => {
                    let place = "looking for beginning of object key string";
                    return Err(unexpected(byte, place));
                }
            }
            let key = self.string()?;
            self.space();
            match self.next()? {
                b':' => {}
                byte => return Err(unexpected(byte, "after object key")),
            }
            map.insert(key, self.value(depth + 1)?);
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => return Ok(Value::Map(map)),
                byte => return Err(unexpected(byte, "after object key:value pair")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::list(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.next()? {
                b',' => {}
                b']' => return Ok(Value::list(items)),
                byte => return Err(unexpected(byte, "after array element")),
            }
        }
    }

    fn number(&mut self, first: u8) -> Result<Value, Error> {
        let from = self.at - 1;
        let first = match first {
            b'-' => match self.next()? {
                digit @ b'0'..=b'9' => digit,
                byte => return Err(unexpected(byte, "in numeric literal")),
            },
            digit => digit,
        };
        if first != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        let text = String::from_utf8_lossy(&self.text[from..self.at]);
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Value::Float).ok_or_else(|| {
            Error::Syntax(format!(
                "json: cannot unmarshal number {text} into Go value of type float64"
            ))
        })
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, place: &str) -> Result<(), Error> {
        match self.next()? {
            b'0'..=b'9' => {
                self.digits();
                Ok(())
            }
            byte => Err(unexpected(byte, place)),
        }
    }

    /// The rest of a string, after its opening quote.
    fn string(&mut self) -> Result<String, Error> {
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Ok(super::text(&bytes).into_owned()),
                b'\\' => self.escape(&mut bytes)?,
                byte @ 0..0x20 => return Err(unexpected(byte, "in string literal")),
                byte => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let plain = match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let letter = self.unicode()?;
                bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            byte => return Err(unexpected(byte, "in string escape code")),
        };
        bytes.push(plain);
        Ok(())
    }

    /// The character of one escape, or of two that are a pair; half a pair is U+FFFD.
    fn unicode(&mut self) -> Result<char, Error> {
        let first = self.hexadecimal()?;
        if let Some(letter) = char::from_u32(first) {
            return Ok(letter);
        }
        let before = self.at;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hexadecimal()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self) -> Result<u32, Error> {
        let mut code = 0;
        for _ in 0..4 {
            let byte = self.next()?;
            let digit = char::from(byte).to_digit(16);
            let place = r"in \u hexadecimal character escape";
            code = code * 16 + digit.ok_or_else(|| unexpected(byte, place))?;
        }
        Ok(code)
    }
}

fn end() -> Error {
    Error::Syntax("unexpected end of JSON input".to_owned())
}

fn unexpected(byte: u8, place: &str) -> Error {
    let shown = match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b' '..=b'~' => format!("'{}'", char::from(byte)),
        byte if byte < 0x20 || byte == 0x7f => format!("'\\x{byte:02x}'"),
        byte => format!("'{}'", char::from(byte)),
    };
    Error::Syntax(format!("invalid character {shown} {place}"))
}
