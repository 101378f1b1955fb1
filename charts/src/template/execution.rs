//! Executes templates, as Go does.
//!
//! `execution` walks a template's nodes; [`eval`] evaluates pipelines, [`field`] looks fields up, [`call`] calls functions. Every
//! step is counted, and the texts made are: whatever a template does, it ends within the limits of its [`Environment`].

mod call;
mod eval;
mod field;

use std::{collections::HashMap, rc::Rc, sync::Arc};

use bytes::Bytes;

use crate::{
    Environment, Value,
    format::{sprint, sprint_into},
    value::{
        self,
        meter::{self, Metering, Refusal},
    },
};

use super::{
    NO_VALUE, Parsed, Templates,
    ast::{Branches, Call, Command, Definition, Node, Pipe, Slot, Span, Word},
    builtin,
    error::{Link, Place, TemplateError},
    warning::Warning,
    without_no_value,
};

/// How many warnings a rendering keeps.
const WARNINGS: usize = 100;

/// What a rendering has used of its limits, and the warnings of it.
#[derive(Default)]
pub(super) struct Spent {
    steps: u64,
    output: usize,
    pub(super) warnings: Vec<Warning>,
}

/// Executes one template of a set.
pub(super) fn run(
    templates: &Templates,
    environment: &Environment,
    spent: Spent,
    definition: &Arc<Definition>,
    data: Value,
) -> (Result<Bytes, TemplateError>, Spent) {
    let metering = Metering::start(environment.limits, spent.steps);
    let mut execution = Execution {
        templates,
        environment,
        data: data.clone(),
        out: Vec::new(),
        variables: Vec::new(),
        args: Vec::new(),
        included: HashMap::new(),
        layer: None,
        depth: 0,
        insertions: value::insertions(),
        spent,
    };
    let result = execution.template(definition, Datum::bare(data));
    let result = result.map(|()| without_no_value(std::mem::take(&mut execution.out)));
    execution.spent.steps = metering.spent();
    (result, execution.spent)
}

/// A value as Go's reflection has it.
#[derive(Clone, Debug)]
struct Datum {
    value: Value,
    /// Whether it is an element of an `interface{}` container: a nil is then a typed one, whose fields are an error, and a
    /// value's static type is `interface {}`.
    boxed: bool,
}

impl Datum {
    /// A value as a pipeline gives it.
    fn bare(value: Value) -> Datum {
        Datum {
            value,
            boxed: false,
        }
    }

    fn type_name(&self) -> &'static str {
        match self.boxed {
            true => "interface {}",
            false => self.value.type_name(),
        }
    }
}

/// Templates that exist only within a `tpl`.
struct Layer {
    parsed: Arc<Parsed>,
    parent: Option<Rc<Layer>>,
}

/// One execution of one template and all it calls.
struct Execution<'a> {
    templates: &'a Templates,
    environment: &'a Environment,
    /// What the outermost template was given: for paths in messages.
    data: Value,
    out: Vec<u8>,
    /// The variables of all frames, one after another.
    variables: Vec<Datum>,
    /// The arguments of the calls at hand, one after another.
    args: Vec<Value>,
    /// How often each template is being included.
    included: HashMap<Arc<str>, usize>,
    layer: Option<Rc<Layer>>,
    depth: usize,
    /// Of [`value::insertions`], counted so far.
    insertions: u64,
    spent: Spent,
}

/// One template being executed.
struct Frame<'t> {
    definition: &'t Definition,
    /// Where its variables begin.
    base: usize,
    root: Datum,
    /// What is being evaluated, for errors.
    at: At<'t>,
}

#[derive(Clone, Copy)]
enum At<'t> {
    Word(&'t Word),
    Command(&'t Command),
    Pipe(&'t Pipe),
    Action(&'t Pipe),
    Call(&'t Call),
    Nothing,
}

/// How the execution of nodes ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Frame<'_> {
    /// An error at what is being evaluated.
    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::execution(message.into()).at(self.place(Link::Here))
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(self.error(message))
    }

    fn place(&self, link: Link) -> Place {
        let nothing = Span { start: 0, end: 0 };
        let (span, node) = match self.at {
            At::Word(word) => (word.span, word.to_string()),
            At::Command(command) => (command.span, command.to_string()),
            At::Pipe(pipe) => (pipe.span, pipe.to_string()),
            At::Action(pipe) => (pipe.span, format!("{{{{{pipe}}}}}")),
            At::Call(call) => (call.span, call.to_string()),
            At::Nothing => (nothing, String::new()),
        };
        Place {
            source: self.definition.source.clone(),
            span,
            executing: self.definition.name.clone(),
            node,
            link,
        }
    }
}

impl Execution<'_> {
    /// Executes a template; its text goes to the end of the output.
    fn template(&mut self, definition: &Definition, dot: Datum) -> Result<(), TemplateError> {
        let base = self.variables.len();
        let nil = Datum::bare(Value::Nil);
        meter::charge(definition.slots as u64);
        self.variables.resize(base + definition.slots, nil);
        self.depth += 1;
        let mut frame = Frame {
            definition,
            base,
            root: dot.clone(),
            at: At::Nothing,
        };
        let result = stacker::maybe_grow(256 << 10, 4 << 20, || {
            self.walk(&mut frame, &dot, &definition.body)
        });
        self.depth -= 1;
        self.variables.truncate(base);
        result.map(|_| ())
    }

    /// Counts work; an error once it is too much.
    fn spend(&mut self, frame: &Frame<'_>, steps: u64) -> Result<(), TemplateError> {
        if meter::charge(steps) {
            return Ok(());
        }
        match meter::refusal() {
            Some(Refusal::Output) => {
                let limit = self.environment.limits.output;
                frame.fail(format!(
                    "the output is larger than the limit of {limit} bytes"
                ))
            }
            Some(Refusal::Depth) => frame.fail("a value is nested too deeply to be printed"),
            Some(Refusal::Deadline) => {
                frame.fail("the templates take too long: their deadline is past")
            }
            Some(Refusal::Steps) | None => {
                frame.fail("the templates take too long: more steps than the limit")
            }
        }
    }

    fn write(&mut self, frame: &Frame<'_>, text: &[u8]) -> Result<(), TemplateError> {
        self.out.extend_from_slice(text);
        self.written(frame, text.len())
    }

    /// Counts output; an error once it is too much.
    fn written(&mut self, frame: &Frame<'_>, length: usize) -> Result<(), TemplateError> {
        self.spent.output += length;
        let limit = self.environment.limits.output;
        match self.out.len() > limit || self.spent.output / 16 > limit {
            true => frame.fail(format!(
                "the output is larger than the limit of {limit} bytes"
            )),
            false => Ok(()),
        }
    }

    fn walk<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        nodes: &'t [Node],
    ) -> Result<Flow, TemplateError> {
        for node in nodes {
            self.spend(frame, 1)?;
            let flow = match node {
                Node::Text(text) => {
                    self.write(frame, text)?;
                    Flow::Next
                }
                Node::Action(pipe) => {
                    let value = self.pipe(frame, dot, pipe)?;
                    if pipe.targets.is_empty() {
                        self.print(frame, dot, pipe, &value.value)?;
                    }
                    Flow::Next
                }
                Node::If(branches) => self.choose(frame, dot, branches, false)?,
                Node::With(branches) => self.choose(frame, dot, branches, true)?,
                Node::Range(branches) => self.range(frame, dot, branches)?,
                Node::Template(call) => {
                    self.invoke(frame, dot, call)?;
                    Flow::Next
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn print<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        pipe: &'t Pipe,
        value: &Value,
    ) -> Result<(), TemplateError> {
        let before = self.out.len();
        match value {
            Value::String(text) => return self.write(frame, text),
            Value::Nil => self.out.extend_from_slice(NO_VALUE.as_bytes()),
            Value::Object(object) if object.kind() == "func" => {
                frame.at = At::Action(pipe);
                let node = frame.place(Link::Here).node;
                return frame.fail(format!("can't print {node} of type {}", object.type_name()));
            }
            value => {
                self.warn_of(frame, dot, value);
                sprint_into(&mut self.out, value);
            }
        }
        let length = self.out.len() - before;
        self.spend(frame, 0)?;
        self.written(frame, length)
    }

    /// Notes a number that prints in the exponent form.
    fn warn_of(&mut self, frame: &Frame<'_>, dot: &Datum, value: &Value) {
        let Some(number) = large_whole(value) else {
            return;
        };
        if self.spent.warnings.len() >= WARNINGS {
            return;
        }
        let path = self.path_of(frame, dot);
        let place = frame.place(Link::Here);
        let error = TemplateError::execution(String::new()).at(place.clone());
        let Some(position) = error.positions().next() else {
            return;
        };
        let warning = Warning {
            template: position.template.to_owned(),
            line: position.line,
            column: position.column,
            expression: place.node,
            path: path.map(|path| path.to_string()),
            number,
        };
        if !self.spent.warnings.contains(&warning) {
            self.spent.warnings.push(warning);
        }
    }

    fn choose<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        branches: &'t Branches,
        with: bool,
    ) -> Result<Flow, TemplateError> {
        let value = self.pipe(frame, dot, &branches.pipe)?;
        match &branches.otherwise {
            _ if builtin::truth(&value.value) => {
                let dot = if with { &value } else { dot };
                self.nested(frame, dot, &branches.then)
            }
            Some(otherwise) => self.nested(frame, dot, otherwise),
            None => Ok(Flow::Next),
        }
    }

    /// Nodes within nodes: on a larger stack where it runs short.
    fn nested<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        nodes: &'t [Node],
    ) -> Result<Flow, TemplateError> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.walk(frame, dot, nodes))
    }

    fn range<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        branches: &'t Branches,
    ) -> Result<Flow, TemplateError> {
        let value = self.pipe(frame, dot, &branches.pipe)?.value;
        let value = builtin::container(&value);
        let mut any = false;
        match &value {
            Value::List(list) => {
                let boxed = builtin::is_boxed(list.element);
                for (i, item) in list.items.iter().enumerate() {
                    any = true;
                    let index = Datum::bare(Value::int(i64::try_from(i).unwrap_or(i64::MAX)));
                    let value = item.clone();
                    if !self.iterate(frame, branches, index, Datum { value, boxed })? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                let boxed = field::has_boxed_values(map);
                for (key, value) in map.entries() {
                    any = true;
                    let key = Datum::bare(Value::String(key));
                    if !self.iterate(frame, branches, key, Datum { value, boxed })? {
                        break;
                    }
                }
            }
            Value::Int(..) | Value::Uint(..) => {
                if branches.pipe.targets.len() > 1 {
                    let text = sprint(&value);
                    let text = String::from_utf8_lossy(&text);
                    return frame.fail(format!(
                        "can't use {text} to iterate over more than one variable"
                    ));
                }
                let mut at = 0;
                while let Some(element) = counted(&value, at) {
                    any = true;
                    at += 1;
                    let index = Datum::bare(Value::Nil);
                    if !self.iterate(frame, branches, index, Datum::bare(element))? {
                        break;
                    }
                }
            }
            Value::Nil => {}
            value => {
                let text = builtin::shortened(&sprint(value), 10_000);
                return frame.fail(format!("range can't iterate over {text}"));
            }
        }
        match &branches.otherwise {
            Some(otherwise) if !any => self.nested(frame, dot, otherwise),
            _ => Ok(Flow::Next),
        }
    }

    /// One turn of a `range`: whether there is to be another.
    fn iterate<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        branches: &'t Branches,
        index: Datum,
        element: Datum,
    ) -> Result<bool, TemplateError> {
        self.spend(frame, 1)?;
        match &branches.pipe.targets[..] {
            [] => {}
            [only] => self.set(frame, only.slot, element.clone()),
            [first, second, ..] => {
                self.set(frame, first.slot, index);
                self.set(frame, second.slot, element.clone());
            }
        }
        let flow = self.nested(frame, &element, &branches.then)?;
        Ok(flow != Flow::Break)
    }

    fn set(&mut self, frame: &mut Frame<'_>, slot: Option<Slot>, value: Datum) {
        match slot {
            Some(Slot::Local(slot)) => self.variables[frame.base + slot] = value,
            Some(Slot::Root) => frame.root = value,
            None => {}
        }
    }

    /// `{{template "name" pipeline}}`.
    fn invoke<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Datum,
        call: &'t Call,
    ) -> Result<(), TemplateError> {
        frame.at = At::Call(call);
        let Some(definition) = self.find(&call.name) else {
            let name = crate::format::quote(call.name.as_bytes());
            return frame.fail(format!("template {name} not defined"));
        };
        let value = match &call.pipe {
            Some(pipe) => self.pipe(frame, dot, pipe)?,
            None => Datum::bare(Value::Nil),
        };
        frame.at = At::Call(call);
        self.descend(frame)?;
        let result = self.template(&definition, value);
        frame.at = At::Call(call);
        result.map_err(|error| error.at(frame.place(Link::Template)))
    }

    /// Whether one more template may be entered.
    fn descend(&self, frame: &Frame<'_>) -> Result<(), TemplateError> {
        let deepest = self.environment.limits.depth.saturating_mul(10);
        match self.depth < deepest {
            true => Ok(()),
            false => frame.fail(format!("exceeded maximum template depth ({deepest})")),
        }
    }

    /// The template of a name, as the innermost `tpl` sees it.
    fn find(&self, name: &str) -> Option<Arc<Definition>> {
        let mut layer = self.layer.as_ref();
        // What is empty counts only where there is nothing else of that name.
        let mut empty = None;
        while let Some(here) = layer {
            match here.parsed.definitions.get(name) {
                Some(found) if !found.is_empty() => return Some(found.clone()),
                Some(found) => empty = Some(found),
                None => {}
            }
            layer = here.parent.as_ref();
        }
        self.templates.definitions.get(name).or(empty).cloned()
    }
}

/// The number of this turn, of the type of the bound; `None` when the turns are over.
fn counted(bound: &Value, at: u64) -> Option<Value> {
    match bound {
        Value::Int(bound, kind) => {
            let at = i64::try_from(at).ok().filter(|at| at < bound)?;
            Some(Value::Int(at, *kind))
        }
        Value::Uint(bound, kind) => (at < *bound).then_some(Value::Uint(at, *kind)),
        _ => None,
    }
}

/// A whole number that `%v` prints in the exponent form.
fn large_whole(value: &Value) -> Option<f64> {
    let Value::Float(number) = value else {
        return None;
    };
    (number.abs() >= 1e6 && number.fract() == 0.0).then_some(*number)
}
