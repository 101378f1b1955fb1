//! Templates as trees: parsed once, shared by any number of renderings.
//!
//! Printing a piece of a tree gives Go's text of it, which errors name.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::Function;

use super::builtin::Builtin;

/// The text that trees were parsed from.
#[derive(Debug)]
pub(super) struct Source {
    /// The file, or `gotpl` for what `tpl` is given.
    pub(super) name: Arc<str>,
    pub(super) text: Bytes,
}

/// Which bytes of its source a piece is: `start` is the position that Go's errors name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

/// One named template.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: Arc<str>,
    pub(super) source: Arc<Source>,
    pub(super) body: Vec<Node>,
    /// How many variables it has at once, `$` not among them.
    pub(super) slots: usize,
}

impl Definition {
    /// Whether it is nothing but space: then it replaces no other.
    pub(super) fn is_empty(&self) -> bool {
        self.body.iter().all(|node| match node {
            Node::Text(text) => text.trim_ascii().is_empty(),
            _ => false,
        })
    }
}

#[derive(Debug)]
pub(super) enum Node {
    Text(Bytes),
    Action(Pipe),
    If(Box<Branches>),
    With(Box<Branches>),
    Range(Box<Branches>),
    Template(Box<Call>),
    Break,
    Continue,
}

/// `if`, `with` and `range`.
#[derive(Debug)]
pub(super) struct Branches {
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Option<Vec<Node>>,
}

/// `{{template "name" pipeline}}`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) span: Span,
    pub(super) name: Box<str>,
    pub(super) pipe: Option<Pipe>,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) span: Span,
    pub(super) targets: Vec<Target>,
    /// `=` rather than `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A variable that a pipeline sets.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: Box<str>,
    /// `None`: no such variable.
    pub(super) slot: Option<Slot>,
}

/// Where a variable is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// `$`: what the template was called with.
    Root,
    Local(usize),
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) span: Span,
    pub(super) words: Vec<Word>,
}

/// An operand, at its place.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) span: Span,
    pub(super) term: Term,
}

#[derive(Debug)]
pub(super) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    String {
        literal: Bytes,
        value: Bytes,
    },
    Field(Vec<Box<str>>),
    Variable {
        name: Box<str>,
        /// `None`: was declared in another branch.
        slot: Option<Slot>,
        fields: Vec<Box<str>>,
    },
    Chain(Box<Word>, Vec<Box<str>>),
    Function(Callee),
    Pipe(Box<Pipe>),
}

/// A function's name, resolved.
#[derive(Clone, Debug)]
pub(super) struct Callee {
    pub(super) name: Box<str>,
    pub(super) target: CallTarget,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum CallTarget {
    Builtin(Builtin),
    Function(&'static Function),
}

/// A constant, and what it may be taken for.
#[derive(Debug)]
pub(super) struct Number {
    pub(super) text: Box<str>,
    pub(super) int: Option<i64>,
    pub(super) float: Option<f64>,
    pub(super) ideal: Ideal,
}

/// The type that a constant has of itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Ideal {
    Int(i64),
    Float(f64),
    /// Too large for an `int`.
    Overflow,
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, target) in self.targets.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{}", target.name)?;
        }
        if !self.targets.is_empty() {
            f.write_str(if self.assigns { " = " } else { " := " })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            let bar = if i > 0 { " | " } else { "" };
            write!(f, "{bar}{command}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.words.iter().enumerate() {
            let space = if i > 0 { " " } else { "" };
            match &word.term {
                Term::Pipe(pipe) => write!(f, "{space}({pipe})")?,
                _ => write!(f, "{space}{word}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = match &self.term {
            Term::Dot => return f.write_str("."),
            Term::Nil => return f.write_str("nil"),
            Term::Bool(truth) => return write!(f, "{truth}"),
            Term::Number(number) => return f.write_str(&number.text),
            Term::String { literal, .. } => {
                return f.write_str(&String::from_utf8_lossy(literal));
            }
            Term::Function(callee) => return f.write_str(&callee.name),
            Term::Pipe(pipe) => return write!(f, "{pipe}"),
            Term::Field(fields) => fields,
            Term::Variable { name, fields, .. } => {
                f.write_str(name)?;
                fields
            }
            Term::Chain(base, fields) => {
                match &base.term {
                    Term::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => write!(f, "{base}")?,
                }
                fields
            }
        };
        for field in fields {
            write!(f, ".{field}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = crate::format::quote(self.name.as_bytes());
        match &self.pipe {
            Some(pipe) => write!(f, "{{{{template {name} {pipe}}}}}"),
            None => write!(f, "{{{{template {name}}}}}"),
        }
    }
}
