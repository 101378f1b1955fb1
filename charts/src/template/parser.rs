//! Parses templates: Go's grammar and Go's words for what is wrong.
//!
//! Variables are resolved to slots and names to functions here, so that execution looks nothing up. Nested too deep is an
//! error, not a full stack.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::{
    Value,
    format::{quote, sprintf, unquote},
};

use super::{
    ast::{
        Branches, Call, Callee, Command, Definition, Node, Number, Pipe, Source, Span, Target,
        Term, Word,
    },
    builtin,
    error::TemplateError,
    lexer::{Keyword, Kind, Lexer, Token},
    number,
    scope::Scope,
};

/// How deep actions and parentheses may nest.
const DEEPEST: usize = 1000;

/// Parses the templates of one text: those it defines, then the text's own, by the name of its source. `words` is how many
/// pieces there may still be: a tree takes many times its text's memory.
pub(super) fn parse(
    source: &Arc<Source>,
    words: &mut usize,
) -> Result<Vec<Definition>, TemplateError> {
    let mut parser = Parser {
        source,
        lexer: Lexer::new(&source.text),
        tokens: [Token::default(); 3],
        peeked: 0,
        scope: Scope::default(),
        action: None,
        depth: 0,
        definitions: Vec::new(),
        names: HashMap::new(),
        words,
    };
    let body = parser.top()?;
    parser.define(source.name.clone(), body)?;
    Ok(parser.definitions)
}

struct Parser<'a> {
    source: &'a Arc<Source>,
    lexer: Lexer<'a>,
    /// Looked at already; the first is the newest.
    tokens: [Token; 3],
    peeked: usize,
    scope: Scope,
    /// Where the action that is being parsed begins.
    action: Option<usize>,
    depth: usize,
    definitions: Vec<Definition>,
    /// Where each definition is among them.
    names: HashMap<Arc<str>, usize>,
    words: &'a mut usize,
}

/// What ended a list of nodes.
#[derive(PartialEq)]
enum Ending {
    End,
    Else,
}

/// A piece of a list, or its end.
enum Item {
    Node(Node),
    Ending(Ending),
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Token {
        if self.peeked > 0 {
            self.peeked -= 1;
        } else {
            self.tokens[0] = self.lexer.next();
        }
        self.tokens[self.peeked]
    }

    fn backup(&mut self) {
        self.peeked += 1;
    }

    fn peek(&mut self) -> Token {
        if self.peeked == 0 {
            self.peeked = 1;
            self.tokens[0] = self.lexer.next();
        }
        self.tokens[self.peeked - 1]
    }

    fn next_word(&mut self) -> Token {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_word(&mut self) -> Token {
        let token = self.next_word();
        self.backup();
        token
    }

    fn text(&self, token: Token) -> &'a [u8] {
        self.lexer.text(token)
    }

    /// A token's text where it can only be UTF-8.
    fn name(&self, token: Token) -> &'a str {
        std::str::from_utf8(self.text(token)).unwrap_or_default()
    }

    fn slice(&self, token: Token) -> Bytes {
        self.source.text.slice(token.start..token.end)
    }

    fn line(&self, at: usize) -> usize {
        1 + self.source.text[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    }

    /// An error at the newest token, as Go places it.
    fn error<T>(&self, message: impl Into<String>) -> Result<T, TemplateError> {
        let newest = self.tokens[0];
        Err(TemplateError::parse(
            self.source,
            span(newest),
            message.into(),
        ))
    }

    fn unexpected<T>(&self, token: Token, context: &str) -> Result<T, TemplateError> {
        if token.kind != Kind::Error {
            let token = self.describe(token);
            return self.error(format!("unexpected {token} in {context}"));
        }
        let message = self.lexer.error().to_owned();
        let line = self.action.map(|at| self.line(at));
        let Some(line) = line.filter(|line| *line != self.line(token.start)) else {
            return self.error(message);
        };
        let word = if message.ends_with(" action") {
            ""
        } else {
            " in action"
        };
        let name = &self.source.name;
        self.error(format!("{message}{word} started at {name}:{line}"))
    }

    /// A token as Go's errors print it.
    fn describe(&self, token: Token) -> String {
        let text = self.text(token);
        match token.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => self.lexer.error().to_owned(),
            Kind::Keyword(_) => format!("<{}>", String::from_utf8_lossy(text)),
            _ if text.len() > 10 => {
                let cut = sprintf(b"%.10q...", &[Value::String(self.slice(token))]);
                String::from_utf8_lossy(&cut).into_owned()
            }
            _ => quote(text),
        }
    }

    /// Counts a piece of the tree.
    fn count(&mut self) -> Result<(), TemplateError> {
        match self.words.checked_sub(1) {
            Some(left) => *self.words = left,
            None => return self.error("the templates have more parts than a chart's may"),
        }
        Ok(())
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token, TemplateError> {
        let token = self.next_word();
        match token.kind == kind {
            true => Ok(token),
            false => self.unexpected(token, context),
        }
    }

    /// One level deeper; an error where that is too deep.
    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        if self.depth == DEEPEST {
            return self.error("max expression depth exceeded");
        }
        self.depth += 1;
        let result = stacker::maybe_grow(128 << 10, 2 << 20, || parse(self));
        self.depth -= 1;
        result
    }

    fn top(&mut self) -> Result<Vec<Node>, TemplateError> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::End {
            if self.peek().kind == Kind::LeftDelimiter {
                let delimiter = self.next();
                if self.next_word().kind == Kind::Keyword(Keyword::Define) {
                    self.definition()?;
                    continue;
                }
                self.tokens[1] = delimiter;
                self.peeked = 2;
            }
            match self.item()? {
                Item::Node(node) => nodes.push(node),
                Item::Ending(ending) => {
                    return self.error(format!("unexpected {}", ending.text()));
                }
            }
        }
        Ok(nodes)
    }

    fn definition(&mut self) -> Result<(), TemplateError> {
        self.count()?;
        let context = "define clause";
        let token = self.next_word();
        let name = self.template_name(token, context)?;
        self.expect(Kind::RightDelimiter, context)?;
        self.named(name.into(), context)
    }

    /// The body of `define` or `block`: a template of its own.
    fn named(&mut self, name: Arc<str>, context: &str) -> Result<(), TemplateError> {
        let scope = std::mem::take(&mut self.scope);
        let action = self.action.take();
        let (body, ending) = self.list()?;
        if ending != Ending::End {
            return self.error(format!("unexpected {} in {context}", ending.text()));
        }
        self.define(name, body)?;
        self.scope = scope;
        self.action = action;
        Ok(())
    }

    fn define(&mut self, name: Arc<str>, body: Vec<Node>) -> Result<(), TemplateError> {
        let definition = Definition {
            source: self.source.clone(),
            body,
            slots: self.scope.slots(),
            name,
        };
        let known = self.names.get(&definition.name);
        match known.map(|at| &mut self.definitions[*at]) {
            None => {
                let at = self.definitions.len();
                self.names.insert(definition.name.clone(), at);
                self.definitions.push(definition);
            }
            Some(known) if known.is_empty() => *known = definition,
            Some(_) if definition.is_empty() => {}
            Some(_) => {
                let name = quote(definition.name.as_bytes());
                return self.error(format!("template: multiple definition of template {name}"));
            }
        }
        Ok(())
    }

    /// Nodes up to `end` or `else`.
    fn list(&mut self) -> Result<(Vec<Node>, Ending), TemplateError> {
        self.nested(|parser| {
            let mut nodes = Vec::new();
            while parser.peek_word().kind != Kind::End {
                match parser.item()? {
                    Item::Node(node) => nodes.push(node),
                    Item::Ending(ending) => return Ok((nodes, ending)),
                }
            }
            parser.error("unexpected EOF")
        })
    }

    fn item(&mut self) -> Result<Item, TemplateError> {
        self.count()?;
        let token = self.next_word();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(self.slice(token)))),
            Kind::LeftDelimiter => {
                self.action = Some(token.start);
                let item = self.action()?;
                self.action = None;
                Ok(item)
            }
            _ => self.unexpected(token, "input"),
        }
    }

    fn action(&mut self) -> Result<Item, TemplateError> {
        let token = self.next_word();
        let Kind::Keyword(keyword) = token.kind else {
            self.backup();
            let pipe = self.pipeline("command", Kind::RightDelimiter)?;
            return Ok(Item::Node(Node::Action(pipe)));
        };
        let node = match keyword {
            Keyword::If => Node::If(self.branches("if")?),
            Keyword::With => Node::With(self.branches("with")?),
            Keyword::Range => Node::Range(self.branches("range")?),
            Keyword::Template => Node::Template(self.call()?),
            Keyword::Block => Node::Template(self.block()?),
            Keyword::Break => self.leave(Node::Break, "break")?,
            Keyword::Continue => self.leave(Node::Continue, "continue")?,
            Keyword::Fin => {
                self.expect(Kind::RightDelimiter, "end")?;
                return Ok(Item::Ending(Ending::End));
            }
            Keyword::Else => {
                let next = self.peek_word();
                let more = [Keyword::If, Keyword::With].map(Kind::Keyword);
                if !more.contains(&next.kind) {
                    self.expect(Kind::RightDelimiter, "else")?;
                }
                return Ok(Item::Ending(Ending::Else));
            }
            Keyword::Dot | Keyword::Nil | Keyword::Define => {
                self.backup();
                Node::Action(self.pipeline("command", Kind::RightDelimiter)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn leave(&mut self, node: Node, word: &str) -> Result<Node, TemplateError> {
        let token = self.next_word();
        if token.kind != Kind::RightDelimiter {
            return self.unexpected(token, &format!("{{{{{word}}}}}"));
        }
        if self.scope.ranges == 0 {
            return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    /// `if`, `with` or `range`, its keyword past.
    fn branches(&mut self, context: &str) -> Result<Box<Branches>, TemplateError> {
        let mark = self.scope.enter();
        let pipe = self.pipeline(context, Kind::RightDelimiter)?;
        let body = self.scope.enter();
        let range = usize::from(context == "range");
        self.scope.ranges += range;
        let (then, ending) = self.list()?;
        self.scope.ranges -= range;
        self.scope.end_branch(body);
        let mut otherwise = None;
        if ending == Ending::Else {
            let next = self.peek();
            otherwise = Some(match (context, next.kind) {
                ("if", Kind::Keyword(Keyword::If)) => {
                    self.next();
                    vec![Node::If(self.nested(|parser| parser.branches("if"))?)]
                }
                ("with", Kind::Keyword(Keyword::With)) => {
                    self.next();
                    vec![Node::With(self.nested(|parser| parser.branches("with"))?)]
                }
                _ => {
                    let (nodes, ending) = self.list()?;
                    if ending != Ending::End {
                        let found = ending.text();
                        return self.error(format!("expected end; found {found}"));
                    }
                    nodes
                }
            });
        }
        self.scope.leave(mark);
        Ok(Box::new(Branches {
            pipe,
            then,
            otherwise,
        }))
    }

    fn template_name(&mut self, token: Token, context: &str) -> Result<String, TemplateError> {
        if !matches!(token.kind, Kind::String | Kind::RawString) {
            return self.unexpected(token, context);
        }
        match unquote(self.text(token)) {
            Ok(name) => Ok(String::from_utf8_lossy(&name).into_owned()),
            Err(error) => self.error(error.to_string()),
        }
    }

    fn call(&mut self) -> Result<Box<Call>, TemplateError> {
        let context = "template clause";
        let token = self.next_word();
        let name = self.template_name(token, context)?;
        let mut pipe = None;
        if self.next_word().kind != Kind::RightDelimiter {
            self.backup();
            pipe = Some(self.pipeline(context, Kind::RightDelimiter)?);
        }
        let name = name.into();
        let span = span(token);
        Ok(Box::new(Call { span, name, pipe }))
    }

    fn block(&mut self) -> Result<Box<Call>, TemplateError> {
        let context = "block clause";
        let token = self.next_word();
        let name = self.template_name(token, context)?;
        let pipe = self.pipeline(context, Kind::RightDelimiter)?;
        self.named(name.as_str().into(), context)?;
        Ok(Box::new(Call {
            span: span(token),
            name: name.into(),
            pipe: Some(pipe),
        }))
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe, TemplateError> {
        let start = self.peek_word().start;
        let (names, assigns) = self.targets(context)?;
        let mut commands = Vec::new();
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => {
                    self.check_stages(context, &commands)?;
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen
                | Kind::Keyword(Keyword::Dot | Keyword::Nil) => {
                    self.backup();
                    commands.push(self.command()?);
                }
                _ => return self.unexpected(token, context),
            }
        }
        // What the pipeline declares is there only once it is evaluated: `$x := $x` reads the outer one.
        let target = |name: Box<str>| {
            let slot = self.scope.target(&name, assigns);
            Target { name, slot }
        };
        let targets = names.into_iter().map(target).collect();
        let end = commands
            .last()
            .map_or(start, |last: &Command| last.span.end as usize);
        Ok(Pipe {
            span: span_of(start, end),
            targets,
            assigns,
            commands,
        })
    }

    fn check_stages(&self, context: &str, commands: &[Command]) -> Result<(), TemplateError> {
        if commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, command) in commands.iter().enumerate().skip(1) {
            let constant = matches!(
                command.words[0].term,
                Term::Bool(_) | Term::Dot | Term::Nil | Term::Number(_) | Term::String { .. }
            );
            if constant {
                let stage = i + 1;
                return self.error(format!("non executable command in pipeline stage {stage}"));
            }
        }
        Ok(())
    }

    /// `$x :=`, `$x =`, `$i, $x :=` before a pipeline.
    fn targets(&mut self, context: &str) -> Result<(Vec<Box<str>>, bool), TemplateError> {
        let mut names: Vec<Box<str>> = Vec::new();
        let mut assigns = false;
        loop {
            let variable = self.peek_word();
            if variable.kind != Kind::Variable {
                break;
            }
            self.next();
            // Whether this is a declaration shows only after the spaces behind the name.
            let after = self.peek();
            let next = self.peek_word();
            let comma = next.kind == Kind::Char && self.text(next) == b",";
            if matches!(next.kind, Kind::Assign | Kind::Declare) {
                assigns = next.kind == Kind::Assign;
                self.next_word();
                names.push(self.name(variable).into());
                break;
            } else if comma {
                self.next_word();
                names.push(self.name(variable).into());
                if context != "range" || names.len() >= 2 {
                    return self.error(format!("too many declarations in {context}"));
                }
                let more = self.peek_word().kind;
                if !matches!(
                    more,
                    Kind::Variable | Kind::RightDelimiter | Kind::RightParen
                ) {
                    return self.error("range can only initialize variables");
                }
            } else if after.kind == Kind::Space {
                self.tokens[1] = after;
                self.tokens[2] = variable;
                self.peeked = 3;
                break;
            } else {
                self.tokens[1] = variable;
                self.peeked = 2;
                break;
            }
        }
        for name in &names {
            self.scope.announce(name);
        }
        Ok((names, assigns))
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let start = self.peek_word().start;
        let mut words: Vec<Word> = Vec::with_capacity(1);
        loop {
            self.peek_word();
            if let Some(word) = self.operand()? {
                words.push(word);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelimiter | Kind::RightParen => self.backup(),
                Kind::Pipe => {}
                _ => return self.unexpected(token, "operand"),
            }
            break;
        }
        let Some(last) = words.last() else {
            return self.error("empty command");
        };
        let span = span_of(start, last.span.end as usize);
        Ok(Command { span, words })
    }

    /// A term, and the fields behind it.
    fn operand(&mut self) -> Result<Option<Word>, TemplateError> {
        let Some(mut word) = self.term()? else {
            return Ok(None);
        };
        let first = self.peek();
        if first.kind != Kind::Field {
            return Ok(Some(word));
        }
        let mut more: Vec<Box<str>> = Vec::new();
        let mut end = first.end;
        while self.peek().kind == Kind::Field {
            let field = self.next();
            more.push(self.name(field)[1..].into());
            end = field.end;
        }
        let chain = span_of(first.start, end);
        match &mut word.term {
            Term::Field(fields) | Term::Variable { fields, .. } => {
                fields.extend(more);
                word.span = chain;
                Ok(Some(word))
            }
            Term::Bool(_) | Term::String { .. } | Term::Number(_) | Term::Nil | Term::Dot => {
                let word = quote(word.to_string().as_bytes());
                self.error(format!("unexpected . after term {word}"))
            }
            _ => Ok(Some(Word {
                span: chain,
                term: Term::Chain(Box::new(word), more),
            })),
        }
    }

    fn term(&mut self) -> Result<Option<Word>, TemplateError> {
        self.count()?;
        let token = self.next_word();
        let term = match token.kind {
            Kind::Identifier => Term::Function(self.callee(token)?),
            Kind::Keyword(Keyword::Dot) => Term::Dot,
            Kind::Keyword(Keyword::Nil) => Term::Nil,
            Kind::Variable => {
                let name = self.name(token);
                let Some(slot) = self.scope.find(name) else {
                    let name = quote(name.as_bytes());
                    return self.error(format!("undefined variable {name}"));
                };
                Term::Variable {
                    name: name.into(),
                    slot,
                    fields: Vec::new(),
                }
            }
            Kind::Field => Term::Field(vec![self.name(token)[1..].into()]),
            Kind::Bool => Term::Bool(self.text(token) == b"true"),
            Kind::CharConstant => self.constant(number::parse_char(self.text(token)))?,
            Kind::Number => self.constant(number::parse(self.text(token)))?,
            Kind::Complex => self.constant(Err(number::complex(self.name(token))))?,
            Kind::LeftParen => {
                let pipe = self
                    .nested(|parser| parser.pipeline("parenthesized pipeline", Kind::RightParen))?;
                // A pipeline's place is its first word, not the parenthesis.
                let span = pipe.span;
                let term = Term::Pipe(Box::new(pipe));
                return Ok(Some(Word { span, term }));
            }
            Kind::String | Kind::RawString => match unquote(self.text(token)) {
                Ok(value) => Term::String {
                    literal: self.slice(token),
                    value: value.into(),
                },
                Err(error) => return self.error(error.to_string()),
            },
            _ => {
                self.backup();
                return Ok(None);
            }
        };
        let span = span(token);
        Ok(Some(Word { span, term }))
    }

    fn constant(&self, number: Result<Number, String>) -> Result<Term, TemplateError> {
        match number {
            Ok(number) => Ok(Term::Number(number)),
            Err(message) => self.error(message),
        }
    }

    fn callee(&self, token: Token) -> Result<Callee, TemplateError> {
        let name = self.name(token);
        match builtin::resolve(name) {
            Some(target) => Ok(Callee {
                name: name.into(),
                target,
            }),
            None => {
                let name = quote(name.as_bytes());
                self.error(format!("function {name} not defined"))
            }
        }
    }
}

impl Ending {
    fn text(&self) -> &'static str {
        match self {
            Ending::End => "{{end}}",
            Ending::Else => "{{else}}",
        }
    }
}

fn span(token: Token) -> Span {
    span_of(token.start, token.end)
}

/// Templates longer than 4 GiB are refused before they are parsed.
fn span_of(start: usize, end: usize) -> Span {
    let short = |at| u32::try_from(at).unwrap_or(u32::MAX);
    Span {
        start: short(start),
        end: short(end),
    }
}
