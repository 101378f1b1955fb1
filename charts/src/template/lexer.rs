//! Splits a template into tokens, with Go's rules for delimiters, trim markers and comments.
//!
//! Tokens are made when the parser asks. After an error the lexer only ever answers [`Kind::End`].

use crate::format::{code_point, decode, quote};

use super::find;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Kind {
    /// Not lexable; the lexer has the message.
    Error,
    Bool,
    /// A printable character of no other meaning: a comma.
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    #[default]
    End,
    Field,
    Identifier,
    LeftDelimiter,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelimiter,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Keyword(Keyword),
}

/// A word with a meaning of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keyword {
    Dot,
    Block,
    Break,
    Continue,
    Define,
    Else,
    Fin,
    If,
    Range,
    Nil,
    Template,
    With,
}

/// A piece of the template, by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

const LEFT: &[u8] = b"{{";
const RIGHT: &[u8] = b"}}";
const SPACES: &[u8] = b" \t\r\n";

/// The lexer of one template.
pub(super) struct Lexer<'a> {
    input: &'a [u8],
    at: usize,
    start: usize,
    inside: bool,
    parens: usize,
    ended: bool,
    error: Option<String>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(input: &'a [u8]) -> Lexer<'a> {
        Lexer {
            input,
            at: 0,
            start: 0,
            inside: false,
            parens: 0,
            ended: false,
            error: None,
        }
    }

    /// The bytes of a token.
    pub(super) fn text(&self, token: Token) -> &'a [u8] {
        &self.input[token.start..token.end]
    }

    /// Why there was a token of kind [`Kind::Error`].
    pub(super) fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }

    pub(super) fn next(&mut self) -> Token {
        if self.ended {
            return Token {
                kind: Kind::End,
                start: self.start,
                end: self.start,
            };
        }
        loop {
            let token = match self.inside {
                true => self.action(),
                false => self.outside(),
            };
            match token {
                Ok(Some(token)) => {
                    self.ended = token.kind == Kind::End;
                    return token;
                }
                Ok(None) => {}
                Err(message) => {
                    self.error = Some(message);
                    self.ended = true;
                    return Token {
                        kind: Kind::Error,
                        start: self.start,
                        end: self.at.min(self.input.len()),
                    };
                }
            }
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    fn emit(&mut self, kind: Kind) -> Token {
        let token = Token {
            kind,
            start: self.start,
            end: self.at,
        };
        self.start = self.at;
        token
    }

    /// The next character, and its length: 0 at the end.
    fn peek(&self) -> (char, usize) {
        decode(self.rest())
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        let accepted = self.rest().first().is_some_and(|byte| set.contains(byte));
        self.at += usize::from(accepted);
        accepted
    }

    fn accept_run(&mut self, set: &[u8]) {
        while self.accept(set) {}
    }

    /// Text up to the next action, and what opens it.
    fn outside(&mut self) -> Result<Option<Token>, String> {
        let rest = self.rest();
        let Some(offset) = find(rest, LEFT) else {
            self.at = self.input.len();
            let kind = match self.at > self.start {
                true => Kind::Text,
                false => Kind::End,
            };
            return Ok(Some(self.emit(kind)));
        };
        if offset > 0 {
            let delimiter = self.at + offset;
            let mut end = delimiter;
            if trims_left(&self.input[delimiter + LEFT.len()..]) {
                end = self.at + trimmed(&rest[..offset]);
            }
            self.at = end;
            let token = self.emit(Kind::Text);
            self.at = delimiter;
            self.start = delimiter;
            if token.end > token.start {
                return Ok(Some(token));
            }
        }
        self.open()
    }

    fn open(&mut self) -> Result<Option<Token>, String> {
        self.at += LEFT.len();
        let marker = if trims_left(self.rest()) { 2 } else { 0 };
        if self.input[self.at + marker..].starts_with(b"/*") {
            self.at += marker;
            self.start = self.at;
            return self.comment().map(|()| None);
        }
        let token = self.emit(Kind::LeftDelimiter);
        self.inside = true;
        self.at += marker;
        self.start = self.at;
        self.parens = 0;
        Ok(Some(token))
    }

    fn comment(&mut self) -> Result<(), String> {
        self.at += 2;
        let end = find(self.rest(), b"*/").ok_or("unclosed comment")?;
        self.at += end + 2;
        let (closes, trims) = self.closes();
        if !closes {
            return Err("comment ends before closing delimiter".to_owned());
        }
        self.at += RIGHT.len() + if trims { 2 } else { 0 };
        if trims {
            self.accept_run(SPACES);
        }
        self.start = self.at;
        Ok(())
    }

    /// Whether the action ends here, and whether it trims what follows.
    fn closes(&self) -> (bool, bool) {
        let rest = self.rest();
        if trims_right(rest) && rest[2..].starts_with(RIGHT) {
            return (true, true);
        }
        (rest.starts_with(RIGHT), false)
    }

    fn close(&mut self, trims: bool) -> Token {
        if trims {
            self.at += 2;
            self.start = self.at;
        }
        self.at += RIGHT.len();
        let token = self.emit(Kind::RightDelimiter);
        if trims {
            self.accept_run(SPACES);
            self.start = self.at;
        }
        self.inside = false;
        token
    }

    fn action(&mut self) -> Result<Option<Token>, String> {
        let (closes, trims) = self.closes();
        if closes {
            if self.parens > 0 {
                return Err("unclosed left paren".to_owned());
            }
            return Ok(Some(self.close(trims)));
        }
        let (char, size) = self.peek();
        if size == 0 {
            return Err("unclosed action".to_owned());
        }
        let single = |lexer: &mut Self, kind| {
            lexer.at += size;
            lexer.emit(kind)
        };
        let token = match char {
            ' ' | '\t' | '\r' | '\n' => return Ok(self.space()),
            '=' => single(self, Kind::Assign),
            ':' => {
                self.at += 1;
                if !self.accept(b"=") {
                    self.at += self.peek().1;
                    return Err("expected :=".to_owned());
                }
                self.emit(Kind::Declare)
            }
            '|' => single(self, Kind::Pipe),
            '"' => self.quoted(b'"', Kind::String, "unterminated quoted string")?,
            '\'' => self.quoted(b'\'', Kind::CharConstant, "unterminated character constant")?,
            '`' => self.raw()?,
            '$' => {
                self.at += 1;
                self.name(Kind::Variable, Kind::Variable)?
            }
            '.' => match self.rest().get(1) {
                Some(byte) if !byte.is_ascii_digit() => {
                    self.at += 1;
                    self.name(Kind::Keyword(Keyword::Dot), Kind::Field)?
                }
                _ => self.number()?,
            },
            '+' | '-' | '0'..='9' => self.number()?,
            char if alphanumeric(char) => self.identifier()?,
            '(' => {
                self.parens += 1;
                single(self, Kind::LeftParen)
            }
            ')' => {
                self.at += 1;
                let parens = self.parens.checked_sub(1);
                self.parens = parens.ok_or("unexpected right paren")?;
                self.emit(Kind::RightParen)
            }
            '!'..='~' => single(self, Kind::Char),
            _ => {
                self.at += size;
                let name = code_point(char);
                return Err(format!("unrecognized character in action: {name}"));
            }
        };
        Ok(Some(token))
    }

    /// A run of spaces; nothing where it belongs to the marker that closes the action.
    fn space(&mut self) -> Option<Token> {
        self.accept_run(SPACES);
        let last = &self.input[self.at - 1..];
        if trims_right(last) && last[2..].starts_with(RIGHT) {
            self.at -= 1;
            if self.at == self.start {
                return Some(self.close(true));
            }
        }
        Some(self.emit(Kind::Space))
    }

    fn identifier(&mut self) -> Result<Token, String> {
        self.alphanumerics()?;
        let kind = match &self.input[self.start..self.at] {
            b"block" => Kind::Keyword(Keyword::Block),
            b"break" => Kind::Keyword(Keyword::Break),
            b"continue" => Kind::Keyword(Keyword::Continue),
            b"define" => Kind::Keyword(Keyword::Define),
            b"else" => Kind::Keyword(Keyword::Else),
            b"end" => Kind::Keyword(Keyword::Fin),
            b"if" => Kind::Keyword(Keyword::If),
            b"range" => Kind::Keyword(Keyword::Range),
            b"nil" => Kind::Keyword(Keyword::Nil),
            b"template" => Kind::Keyword(Keyword::Template),
            b"with" => Kind::Keyword(Keyword::With),
            b"true" | b"false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        Ok(self.emit(kind))
    }

    /// What follows `.` or `$`: `bare` where nothing does.
    fn name(&mut self, bare: Kind, named: Kind) -> Result<Token, String> {
        if self.terminated() {
            return Ok(self.emit(bare));
        }
        self.alphanumerics()?;
        Ok(self.emit(named))
    }

    fn alphanumerics(&mut self) -> Result<(), String> {
        loop {
            let (char, size) = self.peek();
            if size > 0 && alphanumeric(char) {
                self.at += size;
            } else if self.terminated() {
                return Ok(());
            } else {
                return Err(format!("bad character {}", code_point(char)));
            }
        }
    }

    /// Whether a name may end here.
    fn terminated(&self) -> bool {
        match self.rest().first() {
            None => true,
            Some(b' ' | b'\t' | b'\r' | b'\n' | b'.' | b',' | b'|' | b':' | b')' | b'(') => true,
            Some(_) => self.rest().starts_with(RIGHT),
        }
    }

    fn quoted(&mut self, quote: u8, kind: Kind, message: &str) -> Result<Token, String> {
        self.at += 1;
        loop {
            match self.rest() {
                [] | [b'\n', ..] => return Err(message.to_owned()),
                [b'\\', b'\n', ..] | [b'\\'] => return Err(message.to_owned()),
                [b'\\', ..] => self.at += 1 + decode(&self.rest()[1..]).1,
                [byte, ..] => {
                    self.at += 1;
                    if *byte == quote {
                        return Ok(self.emit(kind));
                    }
                }
            }
        }
    }

    fn raw(&mut self) -> Result<Token, String> {
        let end = find(&self.rest()[1..], b"`").ok_or("unterminated raw quoted string")?;
        self.at += end + 2;
        Ok(self.emit(Kind::RawString))
    }

    fn number(&mut self) -> Result<Token, String> {
        let scanned = self.scan_number();
        let bad = |lexer: &Self| {
            let text = &lexer.input[lexer.start..lexer.at];
            Err(format!("bad number syntax: {}", quote(text)))
        };
        if !scanned {
            return bad(self);
        }
        if matches!(self.rest().first(), Some(b'+' | b'-')) {
            if !self.scan_number() || self.input[self.at - 1] != b'i' {
                return bad(self);
            }
            return Ok(self.emit(Kind::Complex));
        }
        Ok(self.emit(Kind::Number))
    }

    fn scan_number(&mut self) -> bool {
        self.accept(b"+-");
        let mut digits: &[u8] = b"0123456789_";
        let mut exponent: &[u8] = b"eE";
        if self.accept(b"0") {
            if self.accept(b"xX") {
                (digits, exponent) = (b"0123456789abcdefABCDEF_", b"pP");
            } else if self.accept(b"oO") {
                (digits, exponent) = (b"01234567_", b"");
            } else if self.accept(b"bB") {
                (digits, exponent) = (b"01_", b"");
            }
        }
        self.accept_run(digits);
        if self.accept(b".") {
            self.accept_run(digits);
        }
        if self.accept(exponent) {
            self.accept(b"+-");
            self.accept_run(b"0123456789_");
        }
        self.accept(b"i");
        let (char, size) = self.peek();
        if size > 0 && alphanumeric(char) {
            self.at += size;
            return false;
        }
        true
    }
}

/// Whether a left delimiter is followed by a trim marker and a space.
fn trims_left(after: &[u8]) -> bool {
    matches!(after, [b'-', b' ' | b'\t' | b'\r' | b'\n', ..])
}

/// Whether a space and a trim marker are here.
fn trims_right(text: &[u8]) -> bool {
    matches!(text, [b' ' | b'\t' | b'\r' | b'\n', b'-', ..])
}

fn alphanumeric(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

/// How long a text is without the spaces at its end.
fn trimmed(text: &[u8]) -> usize {
    let last = text.iter().rposition(|byte| !SPACES.contains(byte));
    last.map_or(0, |last| last + 1)
}
