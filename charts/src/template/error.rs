//! What is wrong with a template, where, and by which templates one got there.
//!
//! Prints what Helm prints, then what Helm's users miss: the line of the template, the value, a key that may have been meant.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::format::quote;

use super::ast::{Source, Span};

/// A template that could not be parsed or executed.
#[derive(Clone, Debug)]
pub struct TemplateError {
    report: Box<Report>,
}

#[derive(Clone, Debug)]
struct Report {
    cause: Cause,
    message: String,
    /// Innermost first.
    places: Vec<Place>,
    notes: Vec<String>,
}

/// What kind of message it is: this decides how Helm prints it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    Parse,
    /// Of the executor.
    Execution,
    /// No template of that name to execute.
    Absent,
    /// What a function answered.
    Function,
    /// `required` and `fail`: the chart's own words.
    Chart,
}

/// Where execution was.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    pub(super) span: Span,
    pub(super) executing: Arc<str>,
    pub(super) node: String,
    pub(super) link: Link,
}

/// How a place led to the next one inwards.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// The innermost place.
    Here,
    Include,
    /// `tpl`, with the text it was given.
    Tpl(Bytes),
    /// `{{template}}`, which Go's errors leave out.
    Template,
}

/// A place as a caller may show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position<'a> {
    /// The template's file; `gotpl` for what `tpl` was given.
    pub template: &'a str,
    /// From 1.
    pub line: usize,
    /// Bytes before it in its line, as Go counts.
    pub column: usize,
}

impl TemplateError {
    fn new(cause: Cause, message: String) -> TemplateError {
        TemplateError {
            report: Box::new(Report {
                cause,
                message,
                places: Vec::new(),
                notes: Vec::new(),
            }),
        }
    }

    pub(super) fn parse(source: &Arc<Source>, span: Span, message: String) -> TemplateError {
        TemplateError::new(Cause::Parse, message).at(Place {
            source: source.clone(),
            span,
            executing: source.name.clone(),
            node: String::new(),
            link: Link::Here,
        })
    }

    pub(super) fn execution(message: String) -> TemplateError {
        TemplateError::new(Cause::Execution, message)
    }

    pub(super) fn absent(name: &str) -> TemplateError {
        let name = quote(name.as_bytes());
        let message = format!("template: no template {name} associated with template \"gotpl\"");
        TemplateError::new(Cause::Absent, message)
    }

    pub(super) fn function(name: &str, message: &str) -> TemplateError {
        TemplateError::new(Cause::Function, format!("error calling {name}: {message}"))
    }

    pub(super) fn chart(message: String) -> TemplateError {
        TemplateError::new(Cause::Chart, message)
    }

    /// Adds where execution was, outwards.
    pub(super) fn at(mut self, place: Place) -> TemplateError {
        self.report.places.push(place);
        self
    }

    /// Says more about the values at the place of the failure.
    pub(super) fn noted(mut self, note: String) -> TemplateError {
        self.report.notes.push(note);
        self
    }

    /// What went wrong, without places.
    pub fn message(&self) -> &str {
        &self.report.message
    }

    /// What is known of the values, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.report.notes
    }

    /// Where it went wrong, then what included that, outwards.
    pub fn positions(&self) -> impl Iterator<Item = Position<'_>> {
        self.report.places.iter().map(Place::position)
    }

    /// Go's own text, in one line.
    pub fn go(&self) -> String {
        let report = &self.report;
        if report.cause == Cause::Parse {
            return self.parse_chain();
        }
        let mut text = String::new();
        for place in report.places.iter().rev() {
            if !matches!(place.link, Link::Template) {
                text.push_str(&place.go());
            }
        }
        text + &report.message
    }

    /// A parse error, and the `tpl`s around it.
    fn parse_chain(&self) -> String {
        let Some((inner, outer)) = self.report.places.split_first() else {
            return self.report.message.clone();
        };
        let mut text = String::new();
        for (i, place) in outer.iter().rev().enumerate() {
            match &place.link {
                Link::Template => {}
                Link::Tpl(template) if i + 1 == outer.len() => {
                    let template = quote(template);
                    text.push_str(&place.head());
                    text.push_str(&format!(
                        "error calling tpl: cannot parse template {template}: "
                    ));
                }
                _ => text.push_str(&place.go()),
            }
        }
        let position = inner.position();
        let message = &self.report.message;
        text + &format!(
            "template: {}:{}: {message}",
            position.template, position.line
        )
    }

    /// What Helm 4 prints, but for its prefix.
    pub fn helm(&self) -> String {
        let report = &self.report;
        let outermost = report.places.last().map(Place::position);
        match (report.cause, outermost) {
            (Cause::Parse, Some(position)) if report.places.len() == 1 => {
                let message = report.message.rsplit(": ").next().unwrap_or_default();
                format!(
                    "parse error at ({}:{}): {message}",
                    position.template, position.line
                )
            }
            (Cause::Chart, Some(position)) => {
                format!("execution error at ({position}): {}", report.message)
            }
            (Cause::Execution | Cause::Absent, _) if self.is_included_only() => self.steps(),
            _ => self.go(),
        }
    }

    /// Without what is in the middle, where very many templates led to it.
    fn shortened(&self) -> TemplateError {
        const SHOWN: usize = 4;
        let mut short = self.clone();
        let places = &mut short.report.places;
        if places.len() > SHOWN * 3 {
            places.drain(SHOWN..places.len() - SHOWN);
        }
        short
    }

    fn is_included_only(&self) -> bool {
        let places = &self.report.places;
        !places
            .iter()
            .any(|place| matches!(place.link, Link::Tpl(_)))
    }

    /// Helm's form over several lines, for what includes alone led to.
    fn steps(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for place in self.report.places.iter().rev() {
            let what = match place.link {
                Link::Template => continue,
                Link::Here if self.report.cause == Cause::Execution => &self.report.message,
                _ => "error calling include:",
            };
            let executing = quote(place.executing.as_bytes());
            lines.push(place.position().to_string());
            lines.push(format!("  executing {executing} at <{}>:", place.node));
            lines.push(format!("    {what}"));
        }
        if self.report.cause == Cause::Absent {
            lines.push(self.report.message.clone());
        }
        lines.join("\n")
    }
}

impl Place {
    fn position(&self) -> Position<'_> {
        let text = &self.source.text;
        let at = (self.span.start as usize).min(text.len());
        let before = &text[..at];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        Position {
            template: &self.source.name,
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: at - line_start,
        }
    }

    fn head(&self) -> String {
        let executing = quote(self.executing.as_bytes());
        format!(
            "template: {}: executing {executing} at <{}>: ",
            self.position(),
            self.node
        )
    }

    fn go(&self) -> String {
        let link = match &self.link {
            Link::Here | Link::Template => String::new(),
            Link::Include => "error calling include: ".to_owned(),
            Link::Tpl(text) => {
                let text = quote(text);
                format!("error calling tpl: error during tpl function execution for {text}: ")
            }
        };
        self.head() + &link
    }

    /// The line it is on, and what of it is meant.
    fn excerpt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.source.text;
        let position = self.position();
        let mut start = (self.span.start as usize).min(text.len());
        let line_start = start - position.column;
        let rest = &text[line_start..];
        // Go places `.a.b` at its second field; what is meant begins before.
        if text[start..].starts_with(b".") {
            let named = |byte: &u8| byte.is_ascii_alphanumeric() || b"._$".contains(byte);
            let before = text[line_start..start]
                .iter()
                .rposition(|byte| !named(byte));
            start = before.map_or(line_start, |last| line_start + last + 1);
        }
        let length = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len());
        let line = String::from_utf8_lossy(&rest[..length]);
        let line = line.trim_end();
        let end = (self.span.end as usize).clamp(start, line_start + length);
        let before = String::from_utf8_lossy(&text[line_start..start]);
        let marked = String::from_utf8_lossy(&text[start..end]);
        let number = position.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the marks stand where the text stands.
        let indent: String = before
            .chars()
            .map(|char| if char == '\t' { '\t' } else { ' ' })
            .collect();
        let marks = "^".repeat(marked.trim_end().chars().count().max(1));
        write!(f, "\n  {number} | {line}\n  {margin} | {indent}{marks}")
    }
}

impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.template, self.line, self.column)
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shortened().helm().trim_end())?;
        let Some((inner, outer)) = self.report.places.split_first() else {
            return Ok(());
        };
        f.write_str("\n")?;
        inner.excerpt(f)?;
        for note in &self.report.notes {
            write!(f, "\n  {note}")?;
        }
        const SHOWN: usize = 8;
        for place in outer.iter().take(SHOWN) {
            write!(f, "\n  from {} <{}>", place.position(), place.node)?;
        }
        if outer.len() > SHOWN {
            write!(f, "\n  and {} more", outer.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for TemplateError {}
