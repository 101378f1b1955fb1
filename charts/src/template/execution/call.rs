//! Calls: arguments checked as Go's reflection checks them, and the functions that execute templates.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;

use crate::{
    Failure, Param, Value,
    value::{self, UintKind},
};

use super::{
    super::{
        TPL_NAME,
        ast::{CallTarget, Callee, Term, Word},
        builtin::{self, Builtin},
        error::Link,
    },
    At, Datum, Execution, Frame, Layer, TemplateError, large_whole,
};

/// Bytes of a new text that count as one step.
const BYTES_A_STEP: usize = 8;

/// Bytes of a function's arguments that count as one step.
const BYTES_READ_A_STEP: usize = 64;

/// What an item of a new list counts as, by its size.
const STEPS_AN_ITEM: u64 = 5;

/// What a new entry of a map counts as, by its size.
const STEPS_AN_ENTRY: u64 = 10;

/// What a word of a text that `tpl` parses counts as.
const STEPS_A_WORD: u64 = 10;

/// A type that constants have only as a parameter.
const UINT32: &str = "uint32";

impl Execution<'_> {
    /// Calls a function; `at` is what its own failures are placed at.
    pub(super) fn function<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        callee: &'t Callee,
        at: At<'t>,
        args: &'t [Word],
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        let (params, rest) = match callee.target {
            CallTarget::Builtin(builtin) => builtin.signature(),
            CallTarget::Function(function) => (function.params, function.rest),
        };
        let name = &callee.name;
        let given = args.len() + usize::from(last.is_some());
        if rest.is_some() && given < params.len() {
            let (least, written) = (params.len(), args.len());
            return frame.fail(format!(
                "wrong number of args for {name}: want at least {least} got {written}"
            ));
        }
        if rest.is_none() && given != params.len() {
            let wanted = params.len();
            return frame.fail(format!(
                "wrong number of args for {name}: want {wanted} got {given}"
            ));
        }
        if let CallTarget::Builtin(builtin @ (Builtin::And | Builtin::Or)) = callee.target {
            return self.first_deciding(frame, dot, builtin == Builtin::Or, args, last);
        }
        let param = |i: usize| params.get(i).copied().or(rest).unwrap_or(Param::Any);
        let base = self.args.len();
        let mut boxed = false;
        for (i, arg) in args.iter().enumerate() {
            let value = self.argument(frame, dot, param(i), arg)?;
            boxed = value.boxed;
            self.args.push(value.value);
        }
        if let Some(last) = last {
            boxed = last.boxed;
            let value = accept(frame, last, param(given - 1))?;
            self.args.push(value.value);
        }
        let texts = self.args[base..].iter().map(|arg| match arg {
            Value::String(text) => text.len(),
            _ => 0,
        });
        let read = texts.sum::<usize>() / BYTES_READ_A_STEP;
        self.spend(frame, read as u64)?;
        let result = match callee.target {
            CallTarget::Builtin(Builtin::Len) if boxed && matches!(self.args[base], Value::Nil) => {
                Err(Failure::new("len of nil pointer"))
            }
            CallTarget::Builtin(builtin) => match self.executing(frame, builtin, base, at)? {
                Some(value) => return self.answered(frame, base, value),
                None => builtin::call(builtin, &self.args[base..], self.environment),
            },
            CallTarget::Function(function) => (function.call)(self.environment, &self.args[base..]),
        };
        match result {
            Ok(value) => {
                self.warn_of_args(frame, dot, at, args, base, &value);
                self.answered(frame, base, value)
            }
            Err(failure) => {
                frame.at = at;
                let error = TemplateError::function(name, &failure.message);
                Err(error.at(frame.place(Link::Here)))
            }
        }
    }

    /// Counts what a function made, and takes its arguments away.
    fn answered(
        &mut self,
        frame: &Frame<'_>,
        base: usize,
        value: Value,
    ) -> Result<Datum, TemplateError> {
        self.args.truncate(base);
        let inserted = value::insertions();
        let mut steps = 1 + (inserted - self.insertions) * STEPS_AN_ENTRY;
        self.insertions = inserted;
        match &value {
            Value::String(text) => {
                let limit = self.environment.limits.output;
                if text.len() > limit {
                    return frame.fail(format!(
                        "a string is larger than the limit of {limit} bytes"
                    ));
                }
                steps += (text.len() / BYTES_A_STEP) as u64;
            }
            // A list that nobody else has is a new one.
            Value::List(list) if Rc::strong_count(&list.items) == 1 => {
                steps += list.items.len() as u64 * STEPS_AN_ITEM;
            }
            _ => {}
        }
        self.spend(frame, steps)?;
        Ok(Datum::bare(value))
    }

    /// `and` and `or`: the first argument that decides, or the last.
    fn first_deciding<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        truth: bool,
        args: &'t [Word],
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        self.spend(frame, 1)?;
        let mut value = Datum::bare(Value::Nil);
        for arg in args {
            value = self.argument(frame, dot, Param::Any, arg)?;
            if builtin::truth(&value.value) == truth {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// An argument for a parameter.
    pub(super) fn argument<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        param: Param,
        word: &'t Word,
    ) -> Result<Datum, TemplateError> {
        frame.at = At::Word(word);
        let expected = match (&word.term, param) {
            (
                Term::Nil,
                Param::String | Param::Bool | Param::Int | Param::Int64 | Param::Float64,
            ) => {
                return frame.fail(format!("cannot assign nil to {}", type_of(param)));
            }
            (Term::Nil, Param::Named(name)) if !name.starts_with('*') => {
                return frame.fail(format!("cannot assign nil to {name}"));
            }
            (Term::Nil, _) => return accept(frame, Datum::bare(Value::Nil), param),
            (Term::Bool(_) | Term::Number(_) | Term::String { .. }, Param::Any) => {
                return self.operand(frame, dot, word);
            }
            (Term::Bool(truth), Param::Bool) => return Ok(Datum::bare(Value::Bool(*truth))),
            (Term::String { value, .. }, Param::String) => {
                return Ok(Datum::bare(Value::String(value.clone())));
            }
            (Term::Number(number), Param::Int | Param::Int64) if number.int.is_some() => {
                let int = number.int.unwrap_or_default();
                return Ok(Datum::bare(match param {
                    Param::Int => Value::int(int),
                    _ => Value::int64(int),
                }));
            }
            (Term::Number(number), Param::Named(UINT32)) if number.int >= Some(0) => {
                let int = number.int.unwrap_or_default() as u32;
                return Ok(Datum::bare(Value::Uint(u64::from(int), UintKind::Uint32)));
            }
            (Term::Number(number), Param::Float64) if number.float.is_some() => {
                return Ok(Datum::bare(Value::Float(number.float.unwrap_or_default())));
            }
            (Term::Bool(_) | Term::Number(_) | Term::String { .. }, param) => match param {
                Param::Bool => "bool",
                Param::String => "string",
                Param::Int | Param::Int64 => "integer",
                Param::Float64 => "float",
                Param::Named(UINT32) => "unsigned integer",
                _ => {
                    let of = type_of(param);
                    return frame.fail(format!("can't handle {word} for arg of type {of}"));
                }
            },
            _ => {
                let value = self.operand(frame, dot, word)?;
                return accept(frame, value, param);
            }
        };
        frame.fail(format!("expected {expected}; found {word}"))
    }

    /// Calls one of the functions that execute templates or end the execution; `None`: it is none of them.
    fn executing<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        builtin: Builtin,
        base: usize,
        at: At<'t>,
    ) -> Result<Option<Value>, TemplateError> {
        match builtin {
            Builtin::Include => {
                let (name, data) = self.text_and_data(base);
                self.include(frame, &name, data, at).map(Some)
            }
            Builtin::Tpl => {
                let (text, data) = self.text_and_data(base);
                self.tpl(frame, &text, data, at).map(Some)
            }
            Builtin::Required => {
                let (message, value) = self.text_and_data(base);
                let missing = match &value {
                    Value::Nil => true,
                    Value::String(text) => text.is_empty(),
                    _ => false,
                };
                match missing {
                    true => self.object(frame, &message, at).map(Some),
                    false => Ok(Some(value)),
                }
            }
            Builtin::Fail => {
                let Value::String(message) = self.args[base].clone() else {
                    return Ok(Some(Value::Nil));
                };
                self.object(frame, &message, at).map(Some)
            }
            Builtin::Call => {
                frame.at = at;
                let of = self.args[base].type_name();
                let kind = match at {
                    _ if matches!(self.args[base], Value::Nil) => "call of nil".to_owned(),
                    At::Command(command) if command.words.len() > 1 => {
                        format!("non-function {} of type {of}", command.words[1])
                    }
                    _ => match &self.args[base] {
                        Value::String(text) => {
                            format!(
                                "non-function {} of type {of}",
                                String::from_utf8_lossy(text)
                            )
                        }
                        _ => format!("non-function <{of} Value> of type {of}"),
                    },
                };
                let error = TemplateError::function("call", &kind);
                Err(error.at(frame.place(Link::Here)))
            }
            _ => Ok(None),
        }
    }

    /// `required` and `fail`: the chart gives up, unless it is only looked over.
    fn object<'t>(
        &self,
        frame: &mut Frame<'t>,
        message: &[u8],
        at: At<'t>,
    ) -> Result<Value, TemplateError> {
        if self.templates.options.lint {
            return Ok(Value::string(""));
        }
        frame.at = at;
        let message = String::from_utf8_lossy(message).into_owned();
        Err(TemplateError::chart(message).at(frame.place(Link::Here)))
    }

    fn text_and_data(&mut self, base: usize) -> (Bytes, Value) {
        let data = std::mem::take(&mut self.args[base + 1]);
        match &self.args[base] {
            Value::String(text) => (text.clone(), data),
            _ => (Bytes::new(), data),
        }
    }

    fn include<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        name: &[u8],
        data: Value,
        at: At<'t>,
    ) -> Result<Value, TemplateError> {
        let name = String::from_utf8_lossy(name);
        let Some(definition) = self.find(&name) else {
            frame.at = at;
            return Err(TemplateError::absent(&name).at(frame.place(Link::Include)));
        };
        self.enter(frame, "include", &definition.name, at)?;
        let start = self.out.len();
        let result = self.template(&definition, Datum::bare(data));
        self.leave(&definition.name);
        if let Err(error) = result {
            frame.at = at;
            return Err(error.at(frame.place(Link::Include)));
        }
        let text = Bytes::copy_from_slice(&self.out[start..]);
        self.out.truncate(start);
        Ok(Value::String(text))
    }

    /// Counts a template that is included within itself; too often is an error.
    fn enter<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        function: &str,
        name: &Arc<str>,
        at: At<'t>,
    ) -> Result<(), TemplateError> {
        let count = self.included.entry(name.clone()).or_insert(0);
        if *count <= self.environment.limits.depth {
            *count += 1;
            frame.at = at;
            return self.descend(frame);
        }
        frame.at = at;
        let message = format!(
            "rendering template has a nested reference name: {name}: unable to execute template"
        );
        let error = TemplateError::function(function, &message);
        Err(error.at(frame.place(Link::Here)))
    }

    fn leave(&mut self, name: &Arc<str>) {
        if let Some(count) = self.included.get_mut(name) {
            *count -= 1;
        }
    }

    /// Executes a text as a template that sees all others; what it defines, only it sees.
    fn tpl<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        text: &Bytes,
        data: Value,
        at: At<'t>,
    ) -> Result<Value, TemplateError> {
        if super::super::find(text, b"{{").is_none() {
            return Ok(Value::String(super::without_no_value(text.to_vec())));
        }
        let link = || Link::Tpl(text.clone());
        let parsed = match self.templates.expanded(text) {
            Some(parsed) => parsed,
            None => {
                self.spend(frame, (text.len() / BYTES_A_STEP) as u64)?;
                let parsed = self.templates.expand(text).map_err(|error| {
                    frame.at = at;
                    error.at(frame.place(link()))
                })?;
                self.spend(frame, parsed.words as u64 * STEPS_A_WORD)?;
                parsed
            }
        };
        let Some(own) = parsed.definitions.get(TPL_NAME).cloned() else {
            return Ok(Value::string(""));
        };
        self.enter(frame, "tpl", &own.name, at)?;
        let outer = self.layer.clone();
        let layer = Layer {
            parsed,
            parent: outer.clone(),
        };
        self.layer = Some(Rc::new(layer));
        let start = self.out.len();
        let result = self.template(&own, Datum::bare(data));
        self.layer = outer;
        self.leave(&own.name);
        if let Err(error) = result {
            frame.at = at;
            return Err(error.at(frame.place(link())));
        }
        let text = super::without_no_value(self.out[start..].to_vec());
        self.out.truncate(start);
        Ok(Value::String(text))
    }

    /// Notes numbers among a call's arguments that its text has in the exponent form.
    fn warn_of_args<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        at: At<'t>,
        args: &'t [Word],
        base: usize,
        result: &Value,
    ) {
        let Value::String(text) = result else {
            return;
        };
        for i in base..self.args.len() {
            if large_whole(&self.args[i]).is_none() {
                continue;
            }
            let value = self.args[i].clone();
            let printed = crate::format::sprint(&value);
            if super::super::find(text, &printed).is_some() {
                let before = frame.at;
                frame.at = args.get(i - base).map_or(at, At::Word);
                self.warn_of(frame, dot, &value);
                frame.at = before;
            }
        }
    }
}

/// A parameter's Go type.
fn type_of(param: Param) -> &'static str {
    match param {
        Param::Any => "interface {}",
        Param::String => "string",
        Param::Bool => "bool",
        Param::Int => "int",
        Param::Int64 => "int64",
        Param::Float64 => "float64",
        Param::Map => "map[string]interface {}",
        Param::List => "[]interface {}",
        Param::Strings => "[]string",
        Param::Named(name) => name,
    }
}

/// A value for a parameter, or why it can't be one.
pub(super) fn accept(
    frame: &Frame<'_>,
    datum: Datum,
    param: Param,
) -> Result<Datum, TemplateError> {
    let fits = match (param, &datum.value) {
        (Param::Any, _) => true,
        (Param::Map, Value::Map(map)) => {
            // A named map type is assignable, one of other values is not.
            let name = map.type_name();
            name == "map[string]interface {}" || !name.starts_with("map[")
        }
        // A nil map or slice: functions know what to do with it.
        (Param::Map | Param::List | Param::Strings, Value::Nil) if !datum.boxed => true,
        (Param::Named(name), Value::Nil) if name.starts_with('*') && !datum.boxed => true,
        (_, Value::Nil) if !datum.boxed => {
            return frame.fail(format!("invalid value; expected {}", type_of(param)));
        }
        (_, Value::Nil) => false,
        (param, value) => value.type_name() == type_of(param),
    };
    if fits {
        return Ok(match (param, &datum.value) {
            // Passed on, it is of the parameter's type.
            (Param::Map, Value::Map(map)) => Datum {
                value: Value::Map(map.as_type(type_of(param))),
                ..datum
            },
            _ => datum,
        });
    }
    let got = match datum.value {
        Value::Nil => "interface {}",
        value => value.type_name(),
    };
    frame.fail(format!(
        "wrong type for value; expected {}; got {got}",
        type_of(param)
    ))
}
