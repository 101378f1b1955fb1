//! Pipelines, commands and constants.

use crate::{Value, format::quote};

use super::{
    super::ast::{Command, Ideal, Number, Pipe, Slot, Term, Word},
    At, Datum, Execution, Frame, TemplateError,
};

impl Execution<'_> {
    /// The value of a pipeline; sets its variables.
    pub(super) fn pipe<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        pipe: &'t Pipe,
    ) -> Result<Datum, TemplateError> {
        frame.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.commands {
            let mut result = self.command(frame, dot, command, value)?;
            // What was in an interface is out of it once a pipeline has it.
            result.boxed = false;
            value = Some(result);
        }
        let value = value.unwrap_or_else(|| Datum::bare(Value::Nil));
        for target in &pipe.targets {
            if target.slot.is_none() {
                return frame.fail(format!("undefined variable: {}", target.name));
            }
            self.set(frame, target.slot, value.clone());
        }
        Ok(value)
    }

    /// A command; `last` is what the one before it in the pipeline gave.
    fn command<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        command: &'t Command,
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        let word = &command.words[0];
        let args = &command.words[1..];
        match &word.term {
            Term::Field(fields) => {
                frame.at = At::Word(word);
                self.fields(frame, dot, dot, word, fields, args, last)
            }
            Term::Chain(base, fields) => {
                frame.at = At::Word(word);
                self.chain(frame, dot, word, base, fields, args, last)
            }
            Term::Function(callee) => {
                frame.at = At::Word(word);
                self.function(frame, dot, callee, At::Command(command), args, last)
            }
            Term::Pipe(pipe) => {
                only_value(frame, word, args, last.is_some())?;
                stacker::maybe_grow(128 << 10, 2 << 20, || self.pipe(frame, dot, pipe))
            }
            Term::Variable { name, slot, fields } => {
                frame.at = At::Word(word);
                self.variable(frame, dot, word, (name, *slot, fields), args, last)
            }
            _ => {
                frame.at = At::Word(word);
                only_value(frame, word, args, last.is_some())?;
                match &word.term {
                    Term::Dot => Ok(dot.clone()),
                    Term::Nil => frame.fail("nil is not a command"),
                    _ => self.constant(frame, word).map(Datum::bare),
                }
            }
        }
    }

    /// `(pipeline).field`.
    #[expect(clippy::too_many_arguments, reason = "what a command is made of")]
    pub(super) fn chain<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        word: &'t Word,
        base: &'t Word,
        fields: &'t [Box<str>],
        args: &'t [Word],
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        let base = self.operand(frame, dot, base)?;
        self.fields(frame, dot, &base, word, fields, args, last)
    }

    pub(super) fn variable<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        word: &'t Word,
        (name, slot, fields): (&str, Option<Slot>, &'t [Box<str>]),
        args: &'t [Word],
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        let value = match slot {
            Some(Slot::Local(slot)) => self.variables[frame.base + slot].clone(),
            Some(Slot::Root) => frame.root.clone(),
            None => return frame.fail(format!("undefined variable: {name}")),
        };
        if fields.is_empty() {
            only_value(frame, word, args, last.is_some())?;
            return Ok(value);
        }
        self.fields(frame, dot, &value, word, fields, args, last)
    }

    /// The value of an operand that is an argument, whatever its type.
    pub(super) fn operand<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        word: &'t Word,
    ) -> Result<Datum, TemplateError> {
        frame.at = At::Word(word);
        match &word.term {
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Datum::bare(Value::Nil)),
            Term::Field(fields) => self.fields(frame, dot, dot, word, fields, &[], None),
            Term::Variable { name, slot, fields } => {
                self.variable(frame, dot, word, (name, *slot, fields), &[], None)
            }
            Term::Pipe(pipe) => {
                stacker::maybe_grow(128 << 10, 2 << 20, || self.pipe(frame, dot, pipe))
            }
            Term::Function(callee) => self.function(frame, dot, callee, At::Word(word), &[], None),
            Term::Chain(base, fields) => self.chain(frame, dot, word, base, fields, &[], None),
            Term::Bool(_) | Term::Number(_) | Term::String { .. } => {
                self.constant(frame, word).map(Datum::bare)
            }
        }
    }

    fn constant(&self, frame: &Frame<'_>, word: &Word) -> Result<Value, TemplateError> {
        match &word.term {
            Term::Bool(truth) => Ok(Value::Bool(*truth)),
            Term::String { value, .. } => Ok(Value::String(value.clone())),
            Term::Number(number) => ideal(frame, number),
            _ => {
                let word = quote(word.to_string().as_bytes());
                frame.fail(format!("can't evaluate command {word}"))
            }
        }
    }
}

/// A number where nothing says which type it should be.
fn ideal(frame: &Frame<'_>, number: &Number) -> Result<Value, TemplateError> {
    match number.ideal {
        Ideal::Int(int) => Ok(Value::int(int)),
        Ideal::Float(float) => Ok(Value::Float(float)),
        Ideal::Overflow => frame.fail(format!("{} overflows int", number.text)),
    }
}

/// A value takes no arguments.
fn only_value(
    frame: &Frame<'_>,
    word: &Word,
    args: &[Word],
    piped: bool,
) -> Result<(), TemplateError> {
    match args.is_empty() && !piped {
        true => Ok(()),
        false => frame.fail(format!("can't give argument to non-function {word}")),
    }
}
