//! The tokens of a label selector.

/// A token; `In` and `NotIn` are identifiers where a key or a value is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    Identifier(&'a str),
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Not,
    Open,
    Close,
    Comma,
    End,
}

impl Token<'_> {
    /// As it stands in the text.
    pub(super) fn literal(&self) -> &str {
        match self {
            Self::Identifier(text) => text,
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::Not => "!",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
            Self::End => "",
        }
    }
}

/// A text with the place that was read up to.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next token; `End` again and again at the end.
    pub(super) fn next(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches(is_space);
        let Some(first) = self.rest.chars().next() else {
            return Token::End;
        };
        let (token, length) = match first {
            '=' if self.rest.starts_with("==") => (Token::DoubleEquals, 2),
            '!' if self.rest.starts_with("!=") => (Token::NotEquals, 2),
            '=' => (Token::Equals, 1),
            '!' => (Token::Not, 1),
            '>' => (Token::Greater, 1),
            '<' => (Token::Less, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            _ => self.word(),
        };
        self.rest = &self.rest[length..];
        token
    }

    /// The next token, left in place.
    pub(super) fn peek(&self) -> Token<'a> {
        self.clone().next()
    }

    fn word(&self) -> (Token<'a>, usize) {
        let end = self
            .rest
            .find(|c| is_space(c) || "=!()<>,".contains(c))
            .unwrap_or(self.rest.len());
        let token = match &self.rest[..end] {
            "in" => Token::In,
            "notin" => Token::NotIn,
            word => Token::Identifier(word),
        };
        (token, end)
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
