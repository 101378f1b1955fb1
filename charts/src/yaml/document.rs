//! The nodes of a YAML text, with their lines, and the value they have.
//!
//! Keeps go-yaml's rules for what a parser leaves open: the last of equal keys wins, `<<` merges where it stands, aliases
//! are values of their own, and a document that grows by aliases beyond reason is refused.

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

use super::{
    Error, MAX_DEPTH,
    scalar::{self, Scalar, Tagged},
};
use crate::{Map, Value, float};

/// The first document of a text.
#[derive(Debug)]
pub struct Document {
    nodes: Vec<Node>,
    root: Option<usize>,
    /// Lines before the text.
    offset: usize,
}

#[derive(Debug)]
struct Node {
    line: usize,
    tag: Option<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar { text: String, plain: bool },
    List(Vec<usize>),
    Map(Vec<(usize, usize)>),
    Alias { target: usize, name: String },
}

impl Document {
    /// Reads the first document of a text.
    pub fn parse(text: &[u8]) -> Result<Document, Error> {
        Document::parse_at(text, 1)
    }

    /// As [`parse`](Self::parse), of a text that starts on this line of a file.
    pub fn parse_at(text: &[u8], first_line: usize) -> Result<Document, Error> {
        let offset = first_line.saturating_sub(1);
        let refused = |(line, message)| Error::Syntax {
            line: Some(line + offset),
            message,
        };
        let mut text =
            readable(text).map_err(|(line, message)| refused((line, message.to_owned())))?;
        let mut indented = Vec::new();
        loop {
            let mut builder = Builder {
                text: &text,
                nodes: Vec::new(),
                open: Vec::new(),
                anchors: HashMap::new(),
                root: None,
            };
            match builder.read() {
                Ok(()) => {
                    return Ok(Document {
                        nodes: builder.nodes,
                        root: builder.root,
                        offset,
                    });
                }
                // YAML 1.1 lets the lines of quoted text begin where they like.
                Err((line, message))
                    if message == NOT_INDENTED
                        && indented.len() < INDENTED
                        && !indented.contains(&line) =>
                {
                    indented.push(line);
                    text = Cow::Owned(with_line_indented(&text, line));
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }

    /// The document's value; nil if there is no document.
    pub fn value(&self) -> Result<Value, Error> {
        let Some(root) = self.root else {
            return Ok(Value::Nil);
        };
        let mut decoder = Decoder {
            nodes: &self.nodes,
            within: Vec::new(),
            decoded: 0,
            by_alias: 0,
        };
        decoder.value(root, 0).map_err(|fault| match fault {
            Fault::At(node, message) => Error::Syntax {
                line: Some(self.nodes[node].line + self.offset),
                message,
            },
            Fault::Whole(message) => Error::Syntax {
                line: None,
                message,
            },
        })
    }

    /// The line of the key that a path of keys leads to, from 1; merged and aliased keys have none.
    pub fn line(&self, path: &[&str]) -> Option<usize> {
        let mut at = self.root?;
        let mut line = None;
        for wanted in path {
            (line, at) = match &self.nodes[at].kind {
                Kind::Map(entries) => entries.iter().rev().find_map(|(key, value)| {
                    let node = &self.nodes[*key];
                    let Kind::Scalar { text, .. } = &node.kind else {
                        return None;
                    };
                    (text == wanted).then_some((Some(node.line), *value))
                })?,
                Kind::List(items) => {
                    let item = *items.get(wanted.parse::<usize>().ok()?)?;
                    (Some(self.nodes[item].line), item)
                }
                Kind::Scalar { .. } | Kind::Alias { .. } => return None,
            };
        }
        line.map(|line| line + self.offset)
    }
}

/// The text without a byte-order mark, if it has only characters that YAML allows.
fn readable(text: &[u8]) -> Result<Cow<'_, str>, (usize, &'static str)> {
    let line = |until: usize| text[..until].split(|byte| *byte == b'\n').count();
    let text_at = |bytes| {
        std::str::from_utf8(bytes)
            .map_err(|error| (line(error.valid_up_to()), "invalid leading UTF-8 octet"))
    };
    let readable = text_at(text)?;
    let control = readable.find(|letter| {
        matches!(letter, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}'
            | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}')
    });
    match control {
        Some(at) => Err((line(at), "control characters are not allowed")),
        None => Ok(as_of_1_1(
            readable.strip_prefix('\u{feff}').unwrap_or(readable),
        )),
    }
}

/// What the parser says of a line of quoted text that begins further left than the text may.
const NOT_INDENTED: &str = "invalid indentation in multiline quoted scalar";

/// Lines that are indented for the parser before a text is given up: each makes it begin again.
const INDENTED: usize = 50;

/// A text with one line begun further right than any other: within quotes, blanks at a line's start mean nothing.
fn with_line_indented(text: &str, line: usize) -> String {
    let lines = text.split_inclusive('\n');
    let blanks = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let width = lines.clone().map(blanks).max().unwrap_or_default() + 2;
    let mut indented = String::with_capacity(text.len() + width);
    for (at, content) in lines.enumerate() {
        if at + 1 == line {
            indented.push_str(&" ".repeat(width));
        }
        indented.push_str(content);
    }
    indented
}

/// Stands for a byte-order mark within a text, which the parser does not take.
const MARK: char = '\u{fdd0}';

/// A text as YAML 1.1 has it, for a parser of YAML 1.2: next-line characters end lines, byte-order marks may be
/// anywhere.
fn as_of_1_1(text: &str) -> Cow<'_, str> {
    if !text.contains(['\u{85}', '\u{feff}']) {
        return Cow::Borrowed(text);
    }
    let mut read = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{85}' => read.push('\n'),
            '\u{feff}' => read.push(MARK),
            other => read.push(other),
        }
    }
    Cow::Owned(read)
}

/// What YAML 1.1 makes of line and paragraph separators in a scalar that is no block: they stay, the blanks around them go.
fn separated(text: &str) -> String {
    let separators = ['\u{2028}', '\u{2029}'];
    let blanks = [' ', '\t'];
    let mut folded = String::with_capacity(text.len());
    for (at, part) in text.split_inclusive(separators).enumerate() {
        let part = match at {
            0 => part,
            _ => part.trim_start_matches(blanks),
        };
        let kept = part.trim_end_matches(separators);
        match kept.len() == part.len() {
            true => folded.push_str(part),
            false => {
                folded.push_str(kept.trim_end_matches(blanks));
                folded.push_str(&part[kept.len()..]);
            }
        }
    }
    folded
}

/// Makes nodes of events.
struct Builder<'a> {
    text: &'a str,
    nodes: Vec<Node>,
    /// Collections that have not ended, and a map's key that waits for its value.
    open: Vec<(usize, Option<usize>)>,
    anchors: HashMap<usize, usize>,
    root: Option<usize>,
}

type Refused = (usize, String);

impl<'a> Builder<'a> {
    fn read(&mut self) -> Result<(), Refused> {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.emit_unresolved_aliases = true;
        options.flow_nesting_limit = MAX_DEPTH;
        options.block_nesting_limit = MAX_DEPTH;
        let mut parser = Parser::new_from_str_with_options(self.text, options);
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| (error.marker().line(), error.info()))?;
            if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
                break;
            }
            self.event(event, span)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'a>, span: Span) -> Result<(), Refused> {
        let line = span.start.line();
        let (kind, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let text = self.scalar(text.into_owned(), style, span);
                (Kind::Scalar { text, plain }, anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => (Kind::List(Vec::new()), anchor, tag),
            Event::MappingStart(_, anchor, tag) => (Kind::Map(Vec::new()), anchor, tag),
            Event::Alias(anchor) => {
                let name = span.slice(self.text).unwrap_or_default();
                let name = name.trim_start_matches('*').to_owned();
                let target = *self
                    .anchors
                    .get(&anchor)
                    .ok_or_else(|| unknown(line, &name))?;
                (Kind::Alias { target, name }, 0, None)
            }
            Event::UnresolvedAlias(name) => return Err(unknown(line, &name)),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                return Ok(());
            }
            _ => return Ok(()),
        };
        let node = self.nodes.len();
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        let collection = matches!(kind, Kind::List(_) | Kind::Map(_));
        self.nodes.push(Node {
            line,
            tag: tag.as_deref().map(full_tag),
            kind,
        });
        self.place(node);
        if collection {
            if self.open.len() >= MAX_DEPTH {
                return Err((line, format!("exceeded max depth of {MAX_DEPTH}")));
            }
            self.open.push((node, None));
        }
        Ok(())
    }

    /// A scalar as YAML 1.1 reads it.
    fn scalar(&self, mut text: String, style: ScalarStyle, span: Span) -> String {
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let source = span.slice(self.text);
        // A last line that has no end gives its text none.
        if block
            && text.ends_with('\n')
            && !self.text.ends_with(['\n', '\r'])
            && span.end.byte_offset() == Some(self.text.len())
        {
            text.pop();
        }
        if !block
            && source.is_some_and(|source| source.contains(['\u{2028}', '\u{2029}']))
            && text.contains(['\u{2028}', '\u{2029}'])
        {
            text = separated(&text);
            if style == ScalarStyle::Plain {
                text = text
                    .trim_matches([' ', '\t', '\u{2028}', '\u{2029}'])
                    .to_owned();
            }
        }
        match text.contains(MARK) {
            true => text.replace(MARK, "\u{feff}"),
            false => text,
        }
    }

    /// Puts a node into the collection it belongs to.
    fn place(&mut self, node: usize) {
        let Some((parent, key)) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        match &mut self.nodes[*parent].kind {
            Kind::List(items) => items.push(node),
            Kind::Map(entries) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(node),
            },
            Kind::Scalar { .. } | Kind::Alias { .. } => {}
        }
    }
}

fn unknown(line: usize, name: &str) -> Refused {
    (line, format!("unknown anchor '{name}' referenced"))
}

fn full_tag(tag: &Tag) -> String {
    let (handle, suffix) = tag.parts();
    format!("{handle}{suffix}")
}

/// Why a document has no value.
enum Fault {
    At(usize, String),
    Whole(String),
}

struct Decoder<'a> {
    nodes: &'a [Node],
    /// Aliases that are being followed.
    within: Vec<usize>,
    decoded: u64,
    by_alias: u64,
}

impl Decoder<'_> {
    fn value(&mut self, node: usize, depth: usize) -> Result<Value, Fault> {
        self.count(node, depth)?;
        match &self.nodes[node].kind {
            Kind::Scalar { .. } => self.scalar(node),
            Kind::List(items) => {
                let items = items.iter().map(|item| self.value(*item, depth + 1));
                Ok(Value::list(items.collect::<Result<_, _>>()?))
            }
            Kind::Map(_) => {
                let map = Map::new();
                self.fill(node, &map, depth)?;
                Ok(Value::Map(map))
            }
            Kind::Alias { target, name } => self.follow(node, *target, name, |decoder, target| {
                decoder.value(target, depth + 1)
            }),
        }
    }

    /// Refuses what is too deep, and what is mostly the same few nodes again and again.
    fn count(&mut self, node: usize, depth: usize) -> Result<(), Fault> {
        const FREE: u64 = 400_000;
        const LIMITED: u64 = 4_000_000;
        if depth > MAX_DEPTH {
            let message = format!("exceeded max depth of {MAX_DEPTH}");
            return Err(Fault::At(node, message));
        }
        self.decoded += 1;
        self.by_alias += u64::from(!self.within.is_empty());
        if self.by_alias <= 100 || self.decoded <= 1000 {
            return Ok(());
        }
        // In percent: 99 up to the first figure, falling to 10 at the second.
        let over = self.decoded.clamp(FREE, LIMITED) - FREE;
        let allowed = 99 - 89 * over / (LIMITED - FREE);
        match self.by_alias * 100 > self.decoded * allowed {
            true => Err(Fault::Whole(
                "yaml: document contains excessive aliasing".to_owned(),
            )),
            false => Ok(()),
        }
    }

    fn follow<T>(
        &mut self,
        alias: usize,
        target: usize,
        name: &str,
        read: impl FnOnce(&mut Self, usize) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.within.contains(&target) {
            let message = format!("anchor '{name}' value contains itself");
            return Err(Fault::At(alias, message));
        }
        self.within.push(target);
        let read = read(self, target);
        self.within.pop();
        read
    }

    /// Puts a map node's entries into a map, in their order.
    fn fill(&mut self, node: usize, map: &Map, depth: usize) -> Result<(), Fault> {
        let Kind::Map(entries) = &self.nodes[node].kind else {
            return Ok(());
        };
        for (key, value) in entries {
            if self.is_merge(*key) {
                self.merge(*value, map, depth + 1)?;
                continue;
            }
            let key = self.key(*key, depth + 1)?;
            map.insert(key, self.value(*value, depth + 1)?);
        }
        Ok(())
    }

    fn is_merge(&self, key: usize) -> bool {
        let node = &self.nodes[key];
        let merge_tag = node.tag.as_deref() == Some("tag:yaml.org,2002:merge");
        matches!(&node.kind, Kind::Scalar { text, plain }
            if text == "<<" && (merge_tag || (*plain && node.tag.is_none())))
    }

    fn merge(&mut self, node: usize, map: &Map, depth: usize) -> Result<(), Fault> {
        self.count(node, depth)?;
        match &self.nodes[node].kind {
            Kind::Map(_) => self.fill(node, map, depth),
            Kind::Alias { target, name } if matches!(self.nodes[*target].kind, Kind::Map(_)) => {
                self.follow(node, *target, name, |decoder, target| {
                    decoder.fill(target, map, depth)
                })
            }
            Kind::List(items) => items.iter().rev().try_for_each(|item| {
                let is_list = matches!(self.nodes[*item].kind, Kind::List(_));
                match is_list {
                    true => Err(not_mergeable(*item)),
                    false => self.merge(*item, map, depth + 1),
                }
            }),
            Kind::Scalar { .. } | Kind::Alias { .. } => Err(not_mergeable(node)),
        }
    }

    /// A key as JSON has it.
    fn key(&mut self, node: usize, depth: usize) -> Result<Vec<u8>, Fault> {
        let node = match &self.nodes[node].kind {
            Kind::Alias { target, .. } => *target,
            _ => node,
        };
        let scalar = match &self.nodes[node].kind {
            Kind::Scalar { .. } => self.resolve(node)?,
            _ => {
                let value = self.value(node, depth)?;
                let message = format!("invalid map key: {value:?}");
                return Err(Fault::At(node, message));
            }
        };
        Ok(match scalar {
            (_, Tagged::Bytes(bytes)) => crate::json::text(&bytes).into_owned().into_bytes(),
            (text, Tagged::Scalar(scalar)) => match scalar {
                Scalar::String | Scalar::Timestamp => text.as_bytes().to_vec(),
                Scalar::Bool(truth) => truth.to_string().into_bytes(),
                Scalar::Int(number) => number.to_string().into_bytes(),
                Scalar::Float(number) => float::yaml_key(number).into_bytes(),
                Scalar::Null | Scalar::Uint(_) => {
                    let kind = match scalar {
                        Scalar::Null => "%!s(<nil>)",
                        _ => "uint64",
                    };
                    let shown = if text.is_empty() { "<nil>" } else { text };
                    return Err(Fault::Whole(format!(
                        "unsupported map key of type: {kind}, key: {shown}"
                    )));
                }
            },
        })
    }

    fn scalar(&self, node: usize) -> Result<Value, Fault> {
        let (text, tagged) = self.resolve(node)?;
        let scalar = match tagged {
            Tagged::Bytes(bytes) => {
                return Ok(Value::string(crate::json::text(&bytes).into_owned()));
            }
            Tagged::Scalar(scalar) => scalar,
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "every number becomes a float64, as in JSON"
        )]
        Ok(match scalar {
            Scalar::Null => Value::Nil,
            Scalar::Bool(truth) => Value::Bool(truth),
            Scalar::Int(number) => Value::Float(number as f64),
            Scalar::Uint(number) => Value::Float(number as f64),
            Scalar::Float(number) if number.is_finite() => Value::Float(number),
            Scalar::Float(number) => {
                let number = float::shortest(number);
                return Err(Fault::Whole(format!("json: unsupported value: {number}")));
            }
            Scalar::String | Scalar::Timestamp => Value::string(text.to_owned()),
        })
    }

    fn resolve(&self, node: usize) -> Result<(&str, Tagged), Fault> {
        let Kind::Scalar { text, plain } = &self.nodes[node].kind else {
            return Ok(("", Tagged::Scalar(Scalar::Null)));
        };
        let tagged = match self.nodes[node].tag.as_deref() {
            Some(tag) => {
                scalar::resolve_tagged(tag, text).map_err(|message| Fault::At(node, message))?
            }
            None if *plain => Tagged::Scalar(scalar::resolve(text)),
            None => Tagged::Scalar(Scalar::String),
        };
        Ok((text, tagged))
    }
}

fn not_mergeable(node: usize) -> Fault {
    let message = "map merge requires map or sequence of maps as the value";
    Fault::At(node, message.to_owned())
}
