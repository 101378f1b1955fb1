//! Fields: of maps, of objects, and what is said where there are none.

use crate::{Map, Param, Value, format::quote, yaml};

use super::{
    super::{
        ast::{Slot, Term, Word},
        builtin,
        path::{ValuePath, locate, suggest},
    },
    At, Datum, Execution, Frame, TemplateError,
    call::accept,
};

/// Helm's type for values, and its methods: charts use the one that takes the type away.
const VALUES: &str = "common.Values";
const METHODS: [&str; 3] = ["AsMap", "YAML", "Table"];

/// Whether a map's values are of type `interface{}`: all but `map[string]string` and the like.
pub(super) fn has_boxed_values(map: &Map) -> bool {
    map.type_name() == "map[string]interface {}"
        || matches!(builtin::zero(map.type_name()), Value::Nil)
}

impl Execution<'_> {
    /// `.a.b.c` of a value; arguments and `last` go to the last of them.
    #[expect(clippy::too_many_arguments, reason = "what a command is made of")]
    pub(super) fn fields<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        receiver: &Datum,
        word: &'t Word,
        fields: &'t [Box<str>],
        args: &'t [Word],
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        let (final_name, path) = fields.split_last().expect("a field has a name");
        let mut current: Option<Datum> = None;
        for (i, name) in path.iter().enumerate() {
            let from = current.as_ref().unwrap_or(receiver);
            current = Some(match plain_field(from, name) {
                Some(found) => found,
                None => {
                    let from = from.clone();
                    let result = self.field(frame, dot, &from, word, name, &[], None);
                    result.map_err(|error| self.explain(error, receiver, fields, i))?
                }
            });
        }
        let from = current.as_ref().unwrap_or(receiver);
        if args.is_empty()
            && last.is_none()
            && let Some(found) = plain_field(from, final_name)
        {
            return Ok(found);
        }
        let from = from.clone();
        let result = self.field(frame, dot, &from, word, final_name, args, last);
        result.map_err(|error| self.explain(error, receiver, fields, path.len()))
    }

    #[expect(clippy::too_many_arguments, reason = "what a command is made of")]
    fn field<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        receiver: &Datum,
        word: &'t Word,
        name: &str,
        args: &'t [Word],
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        let strict = self.templates.options.strict;
        let called = !args.is_empty() || last.is_some();
        match &receiver.value {
            Value::Nil if receiver.boxed => {
                frame.fail(format!("nil pointer evaluating interface {{}}.{name}"))
            }
            Value::Nil if strict => {
                let name = quote(name.as_bytes());
                frame.fail(format!("nil data; no entry for key {name}"))
            }
            Value::Nil => Ok(Datum::bare(Value::Nil)),
            Value::Map(map) if map.type_name() == VALUES && METHODS.contains(&name) => {
                self.method(frame, dot, map, word, name, args, last)
            }
            Value::Map(_) if called => {
                frame.fail(format!("{name} is not a method but has arguments"))
            }
            Value::Map(map) => match map.get(name.as_bytes()) {
                None if strict => {
                    let name = quote(name.as_bytes());
                    frame.fail(format!("map has no entry for key {name}"))
                }
                found => Ok(Datum {
                    value: found.unwrap_or_else(|| builtin::zero(map.type_name())),
                    boxed: has_boxed_values(map),
                }),
            },
            Value::Object(object) => {
                if !called && let Some(value) = object.field(name) {
                    return Ok(Datum::bare(value));
                }
                if !args.is_empty()
                    && object.kind() != "map"
                    && object.field(name).is_none()
                    && object.method(name, &[]).is_none()
                {
                    let of = receiver.type_name();
                    return frame.fail(format!("can't evaluate field {name} in type {of}"));
                }
                let base = self.args.len();
                for arg in args {
                    let value = self.operand(frame, dot, arg)?.value;
                    self.args.push(value);
                }
                self.args.extend(last.map(|last| last.value));
                let answer = object.method(name, &self.args[base..]);
                self.args.truncate(base);
                match answer {
                    Some(Ok(value)) => Ok(Datum::bare(value)),
                    Some(Err(failure)) => {
                        frame.at = At::Word(word);
                        let error = TemplateError::function(name, &failure.message);
                        Err(error.at(frame.place(super::Link::Here)))
                    }
                    None if called && object.field(name).is_some() => {
                        frame.fail(format!("{name} is not a method but has arguments"))
                    }
                    None if object.kind() == "map" => Ok(Datum::bare(Value::Nil)),
                    None => {
                        let of = receiver.type_name();
                        frame.fail(format!("can't evaluate field {name} in type {of}"))
                    }
                }
            }
            _ => {
                let of = receiver.type_name();
                frame.fail(format!("can't evaluate field {name} in type {of}"))
            }
        }
    }

    /// A method of Helm's type for values.
    #[expect(clippy::too_many_arguments, reason = "what a command is made of")]
    fn method<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        values: &Map,
        word: &'t Word,
        name: &str,
        args: &'t [Word],
        last: Option<Datum>,
    ) -> Result<Datum, TemplateError> {
        let wanted = usize::from(name == "Table");
        let got = args.len() + usize::from(last.is_some());
        if got != wanted {
            return frame.fail(format!(
                "wrong number of args for {name}: want {wanted} got {got}"
            ));
        }
        let argument = match last {
            Some(last) => Some(accept(frame, last, Param::String)?),
            None => match args.first() {
                Some(arg) => Some(self.argument(frame, dot, Param::String, arg)?),
                None => None,
            },
        };
        frame.at = At::Word(word);
        let answer = match argument.map(|argument| argument.value) {
            Some(Value::String(path)) => table(values, &path).map_err(|message| {
                let error = TemplateError::function(name, &message);
                error.at(frame.place(super::Link::Here))
            })?,
            _ if name == "YAML" => Value::string(yaml::emit(&Value::Map(values.clone())) + "\n"),
            _ => Value::Map(values.as_type("map[string]interface {}")),
        };
        Ok(Datum::bare(answer))
    }

    /// Says which value it is that has no such field, and what may have been meant.
    fn explain(
        &self,
        error: TemplateError,
        receiver: &Datum,
        fields: &[Box<str>],
        failed: usize,
    ) -> TemplateError {
        // The last map on the way, and the key of it that led to the failure.
        let mut map = None;
        let mut value = receiver.value.clone();
        for (i, name) in fields.iter().enumerate().take(failed + 1) {
            let Value::Map(here) = &value else {
                break;
            };
            let next = here.peek(name.as_bytes());
            map = Some((here.clone(), i));
            value = next.unwrap_or_default();
        }
        let Some((map, i)) = map else {
            return error;
        };
        let base = locate(&self.data, &map);
        let name = &fields[i];
        let path = match base {
            Some(base) => base.join(name.as_bytes().to_vec()).to_string(),
            None => format!(".{name}"),
        };
        match map.peek(name.as_bytes()) {
            Some(Value::Nil) => error.noted(format!("{path} is null")),
            Some(value) => error.noted(format!("{path} is {}", described(&value))),
            None => {
                let keys: Vec<String> = map
                    .reads()
                    .iter()
                    .map(|(key, ..)| String::from_utf8_lossy(key).into_owned())
                    .collect();
                let meant = suggest(name, keys.iter().map(String::as_str));
                let meant = meant.map_or(String::new(), |key| format!("; did you mean {key:?}?"));
                error.noted(format!("{path} is not set{meant}"))
            }
        }
    }

    /// Where the value at hand is among the data, where that can be known.
    pub(super) fn path_of(&self, frame: &Frame<'_>, dot: &Datum) -> Option<ValuePath> {
        let word = match frame.at {
            At::Word(word) => word,
            At::Command(command) => command.words.last()?,
            _ => return None,
        };
        self.path_of_word(frame, dot, word)
    }

    /// Where the value of an operand is among the data.
    pub(super) fn path_of_word(
        &self,
        frame: &Frame<'_>,
        dot: &Datum,
        word: &Word,
    ) -> Option<ValuePath> {
        let (mut value, fields) = match &word.term {
            Term::Field(fields) => (dot.value.clone(), fields),
            Term::Variable { slot, fields, .. } => match (*slot)? {
                Slot::Local(slot) => (self.variables[frame.base + slot].value.clone(), fields),
                Slot::Root => (frame.root.value.clone(), fields),
            },
            _ => return None,
        };
        let (last, path) = fields.split_last()?;
        for name in path {
            let Value::Map(map) = &value else {
                return None;
            };
            value = map.peek(name.as_bytes())?;
        }
        let Value::Map(map) = &value else {
            return None;
        };
        Some(locate(&self.data, map)?.join(last.as_bytes().to_vec()))
    }
}

/// The way nearly every field goes: a key that a map has.
fn plain_field(receiver: &Datum, name: &str) -> Option<Datum> {
    let Value::Map(map) = &receiver.value else {
        return None;
    };
    let value = map.get(name.as_bytes())?;
    let boxed = has_boxed_values(map);
    Some(Datum { value, boxed })
}

/// The map at a path of names with dots between them.
fn table(values: &Map, path: &[u8]) -> Result<Value, String> {
    let mut table = values.clone();
    for name in path.split(|byte| *byte == b'.') {
        table = match table.get(name) {
            Some(Value::Map(map)) => map.as_type(VALUES),
            _ => return Err(format!("{} is not a table", quote(name))),
        };
    }
    Ok(Value::Map(table))
}

/// A value in a sentence.
fn described(value: &Value) -> String {
    let text = || builtin::shortened(&crate::format::sprint(value), 40);
    match value {
        Value::Nil => "null".to_owned(),
        Value::String(text) => format!("a string, {:?}", builtin::shortened(text, 40)),
        Value::Bool(truth) => format!("a boolean, {truth}"),
        Value::Int(..) | Value::Uint(..) | Value::Float(_) => format!("a number, {}", text()),
        Value::List(list) => format!("a list of {}", list.items.len()),
        Value::Map(map) => format!("a map of {}", map.len()),
        Value::Object(object) => object.type_name().to_owned(),
    }
}
