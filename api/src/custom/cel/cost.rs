//! What an expression costs at most, whatever object it is held against.
//!
//! Pure. It walks an expression with what the schema says of every value in it: how many items a list
//! has, how long a text is. What the schema does not bound is bounded by the size of a request. The
//! unit and the budgets are Kubernetes'; the estimate is coarser, and never below what a run costs.

use std::collections::BTreeMap;

use kube_cel::cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};

use crate::{
    field::Path,
    schema::{Schema, Shape},
};

/// What one rule may cost for one object.
pub(super) const BUDGET: u64 = 10_000_000;
/// What all rules of a version may cost for one object.
pub(super) const TOTAL: u64 = 100_000_000;
/// Bytes of the largest object that a request can bring.
const REQUEST: u64 = 3 * 1024 * 1024;

/// A cost, and the first bound that is missing and would lower it.
#[derive(Clone, Debug)]
pub(super) struct Estimate {
    pub(super) cost: u64,
    pub(super) unbounded: Option<String>,
}

/// How often a rule runs for one object: for every item of the lists and maps around it.
pub(super) struct Repeated {
    times: u64,
    unbounded: Option<String>,
}

impl Repeated {
    pub(super) fn once() -> Self {
        Self {
            times: 1,
            unbounded: None,
        }
    }

    /// Within a list or map at a path.
    pub(super) fn within(&self, schema: &Schema, path: &Path) -> Self {
        let (count, missing) = count(schema);
        Self {
            times: self.times.saturating_mul(count),
            unbounded: self
                .unbounded
                .clone()
                .or_else(|| missing.map(|bound| format!("{path} has no {bound}"))),
        }
    }

    /// The cost of one run, for all of them.
    pub(super) fn times(&self, estimate: Estimate) -> Estimate {
        Estimate {
            cost: estimate.cost.saturating_mul(self.times),
            unbounded: self.unbounded.clone().or(estimate.unbounded),
        }
    }
}

/// By what a cost exceeds a budget, as Kubernetes says it.
pub(super) fn factor(cost: u64, budget: u64) -> String {
    let tenths = cost / (budget / 10);
    if tenths > 1000 {
        "more than 100x".to_owned()
    } else {
        format!("{}.{}x", tenths / 10, tenths % 10)
    }
}

/// How many items a list or map has at most; the bound that the schema lacks.
fn count(schema: &Schema) -> (u64, Option<&'static str>) {
    let limits = schema.custom().map(|custom| &custom.limits);
    match schema.shape() {
        Shape::List(items) => match limits.and_then(|limits| limits.max_items) {
            Some(most) => (most, None),
            None => (REQUEST / (least(items, 0) + 1), Some("maxItems")),
        },
        Shape::Map(values) => match limits.and_then(|limits| limits.max_properties) {
            Some(most) => (most, None),
            // A key of one letter, its quotes, a colon and a comma.
            None => (REQUEST / (least(values, 0) + 5), Some("maxProperties")),
        },
        _ => (1, None),
    }
}

/// Bytes of the shortest value of a schema.
fn least(schema: &Schema, depth: usize) -> u64 {
    match schema.shape() {
        Shape::Object(properties) if depth < 16 => {
            let required = schema.custom().map(|custom| custom.limits.required.iter());
            required.into_iter().flatten().fold(2, |size, name| {
                let inner = properties
                    .get(name)
                    .map_or(1, |inner| least(inner, depth + 1));
                size + name.len() as u64 + 4 + inner
            })
        }
        Shape::Object(_) | Shape::Map(_) | Shape::List(_) | Shape::String => 2,
        Shape::Boolean => 4,
        _ => 1,
    }
}

/// What is known of a value.
#[derive(Clone)]
enum Known {
    /// Of this schema.
    Of(Schema),
    /// A list of such items.
    List(Box<Bounded>),
    /// A text.
    Text,
    /// A number or boolean.
    Scalar,
    /// Anything.
    Any,
}

/// A value that has at most `size` items or characters.
#[derive(Clone)]
struct Bounded {
    known: Known,
    size: u64,
}

impl Bounded {
    const SCALAR: Self = Self {
        known: Known::Scalar,
        size: 1,
    };

    fn of(schema: &Schema) -> (Self, Option<&'static str>) {
        let limits = schema.custom().map(|custom| &custom.limits);
        let (size, missing) = match schema.shape() {
            Shape::List(_) | Shape::Map(_) => count(schema),
            Shape::String | Shape::IntOrString => {
                let most = limits.and_then(|limits| limits.max_length.or(limits.longest_allowed()));
                match most {
                    Some(most) => (most, None),
                    None => (REQUEST, Some("maxLength")),
                }
            }
            Shape::Any => (REQUEST, None),
            _ => (1, None),
        };
        let known = Known::Of(schema.clone());
        (Self { known, size }, missing)
    }

    fn any(size: u64) -> Self {
        Self {
            known: Known::Any,
            size,
        }
    }

    fn text(size: u64) -> Self {
        Self {
            known: Known::Text,
            size,
        }
    }
}

/// What a run of the expression costs at most; an error if that cannot be told.
pub(super) fn estimate(expression: &IdedExpr, schema: &Schema) -> Result<Estimate, String> {
    let mut walk = Walk {
        cost: 0,
        unbounded: None,
        names: BTreeMap::new(),
        factor: 1,
    };
    let (own, missing) = Bounded::of(schema);
    for name in ["self", "oldSelf"] {
        walk.names.insert(name.to_owned(), own.clone());
    }
    walk.miss("self", missing);
    walk.value(expression)?;
    Ok(Estimate {
        cost: walk.cost,
        unbounded: walk.unbounded,
    })
}

struct Walk {
    cost: u64,
    unbounded: Option<String>,
    names: BTreeMap<String, Bounded>,
    /// How often what is walked now is run.
    factor: u64,
}

impl Walk {
    fn pay(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost.saturating_mul(self.factor));
    }

    /// What reading every character, or item, of a value costs.
    fn traverse(&mut self, size: u64) {
        self.pay(size / 10 + 1);
    }

    fn miss(&mut self, name: &str, missing: Option<&'static str>) {
        if let (None, Some(bound)) = (&self.unbounded, missing) {
            self.unbounded = Some(format!("{name} has no {bound}"));
        }
    }

    fn value(&mut self, expression: &IdedExpr) -> Result<Bounded, String> {
        Ok(match &expression.expr {
            Expr::Literal(LiteralValue::String(text)) => Bounded::text(text.inner().len() as u64),
            Expr::Literal(LiteralValue::Bytes(bytes)) => Bounded::any(bytes.inner().len() as u64),
            Expr::Literal(_) => Bounded::SCALAR,
            Expr::Ident(name) => {
                self.pay(1);
                self.names.get(name).cloned().unwrap_or(Bounded::SCALAR)
            }
            Expr::Select(select) => {
                let owner = self.value(&select.operand)?;
                self.pay(1);
                if select.test {
                    return Ok(Bounded::SCALAR);
                }
                self.field(&owner, &select.field)
            }
            Expr::List(list) => {
                let mut items = Vec::new();
                for item in &list.elements {
                    items.push(self.value(item)?);
                }
                self.pay(10);
                let size = items.len() as u64;
                let most = items.into_iter().max_by_key(|item| item.size);
                Bounded {
                    known: Known::List(Box::new(most.unwrap_or(Bounded::SCALAR))),
                    size,
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.value(&entry.key)?;
                        self.value(&entry.value)?;
                    }
                }
                self.pay(30);
                Bounded::any(map.entries.len() as u64)
            }
            Expr::Call(call) => {
                // A target that is no value is the name of a library: `lists.range`.
                let target = call.target.as_deref();
                let library = target.and_then(|target| match &target.expr {
                    Expr::Ident(name) if !self.names.contains_key(name) => Some(name),
                    _ => None,
                });
                let mut values = Vec::new();
                let target = target.filter(|_| library.is_none());
                for argument in target.into_iter().chain(&call.args) {
                    values.push(self.value(argument)?);
                }
                match library {
                    Some(library) => {
                        self.call(&format!("{library}.{}", call.func_name), &values)?
                    }
                    None => self.call(&call.func_name, &values)?,
                }
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension)?,
            Expr::Struct(_) | Expr::Unspecified => {
                return Err("messages cannot be constructed".to_owned());
            }
        })
    }

    fn field(&mut self, owner: &Bounded, name: &str) -> Bounded {
        let Known::Of(schema) = &owner.known else {
            return Bounded::any(owner.size.max(REQUEST.min(owner.size.saturating_mul(64))));
        };
        let unescaped = super::value::unescape(name);
        let Some(inner) = schema.property(&unescaped).or_else(|| schema.values()) else {
            return Bounded::any(REQUEST);
        };
        let (bounded, missing) = Bounded::of(&inner);
        self.miss(&unescaped, missing);
        bounded
    }

    fn item(&mut self, owner: &Bounded) -> Bounded {
        match &owner.known {
            Known::List(item) => (**item).clone(),
            Known::Of(schema) => match schema.items().or_else(|| schema.values()) {
                Some(inner) => {
                    let (bounded, missing) = Bounded::of(&inner);
                    self.miss("an item", missing);
                    bounded
                }
                None => Bounded::any(REQUEST),
            },
            Known::Text | Known::Scalar => Bounded::SCALAR,
            Known::Any => Bounded::any(owner.size),
        }
    }

    /// What iterating gives: items of a list, keys of a map.
    fn element(&mut self, owner: &Bounded) -> Bounded {
        match &owner.known {
            Known::Of(schema) if schema.values().is_some() => {
                // Keys share the bytes of a request among them.
                Bounded::text(REQUEST / owner.size.max(1))
            }
            _ => self.item(owner),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Result<Bounded, String> {
        if comprehension.iter_var2.is_some() {
            return Err("comprehensions over two variables are not supported".to_owned());
        }
        let range = self.value(&comprehension.iter_range)?;
        let item = self.element(&range);
        self.value(&comprehension.accu_init)?;
        let gathers = matches!(comprehension.accu_init.expr, Expr::List(_));
        let kept = [&comprehension.iter_var, &comprehension.accu_var]
            .map(|name| (name.clone(), self.names.get(name).cloned()));
        self.names.insert(comprehension.iter_var.clone(), item);
        self.names
            .insert(comprehension.accu_var.clone(), Bounded::SCALAR);
        let outer = self.factor;
        self.factor = outer.saturating_mul(range.size.max(1));
        // A step binds two names.
        self.pay(2);
        if gathers {
            // Each step copies what was gathered before.
            self.pay(range.size / 20);
        }
        self.value(&comprehension.loop_cond)?;
        let step = self.gathered(comprehension)?;
        self.factor = outer;
        let result = Bounded {
            known: Known::List(Box::new(step)),
            size: range.size,
        };
        if gathers {
            self.names
                .insert(comprehension.accu_var.clone(), result.clone());
        }
        self.value(&comprehension.result)?;
        for (name, before) in kept {
            match before {
                Some(before) => self.names.insert(name, before),
                None => self.names.remove(&name),
            };
        }
        Ok(if gathers { result } else { Bounded::SCALAR })
    }

    /// The step of a comprehension; what `map` and `filter` gather are the items of the list that
    /// they add.
    fn gathered(&mut self, comprehension: &ComprehensionExpr) -> Result<Bounded, String> {
        self.value(&comprehension.loop_step)?;
        let mut step = &comprehension.loop_step.expr;
        loop {
            match step {
                Expr::Call(call) if call.func_name == operators::CONDITIONAL => {
                    step = &call.args[1].expr;
                }
                Expr::Call(call) if call.func_name == operators::ADD && call.args.len() == 2 => {
                    step = &call.args[1].expr;
                }
                Expr::List(list) if list.elements.len() == 1 => {
                    // Paid for already: only its size is wanted.
                    let (cost, factor) = (self.cost, self.factor);
                    let item = self.value(&list.elements[0]);
                    (self.cost, self.factor) = (cost, factor);
                    return item;
                }
                _ => return Ok(Bounded::SCALAR),
            }
        }
    }

    fn call(&mut self, name: &str, values: &[Bounded]) -> Result<Bounded, String> {
        let size = |index: usize| values.get(index).map_or(1, |value| value.size);
        let all = values
            .iter()
            .fold(0_u64, |sum, value| sum.saturating_add(value.size));
        Ok(match name {
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
                self.pay(1);
                Bounded::SCALAR
            }
            operators::NOT_STRICTLY_FALSE => Bounded::SCALAR,
            operators::CONDITIONAL => {
                self.pay(1);
                let largest = values.iter().skip(1).max_by_key(|value| value.size);
                largest.cloned().unwrap_or(Bounded::SCALAR)
            }
            operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT => {
                self.pay(1);
                let owner = values.first().cloned().unwrap_or(Bounded::SCALAR);
                match &owner.known {
                    Known::Of(schema) if schema.items().is_none() && schema.values().is_none() => {
                        Bounded::any(REQUEST)
                    }
                    _ => self.item(&owner),
                }
            }
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => {
                let least = values
                    .iter()
                    .map(|value| depth_size(value, 0))
                    .min()
                    .unwrap_or(1);
                self.traverse(least);
                Bounded::SCALAR
            }
            operators::IN => {
                // Each item is compared with what is looked for.
                let range = values.get(1).cloned().unwrap_or(Bounded::SCALAR);
                let is_map = matches!(&range.known, Known::Of(schema) if schema.values().is_some());
                if is_map {
                    self.traverse(size(0));
                } else {
                    let item = self.item(&range);
                    let each = depth_size(&item, 0).min(depth_size(&values[0], 0)) / 10 + 1;
                    self.pay(range.size.saturating_mul(each));
                }
                Bounded::SCALAR
            }
            operators::ADD => {
                self.traverse(all);
                let known = match values.first().map(|value| &value.known) {
                    Some(known @ (Known::List(_) | Known::Text)) => known.clone(),
                    Some(Known::Of(schema)) if matches!(schema.shape(), Shape::String) => {
                        Known::Text
                    }
                    Some(Known::Of(schema)) if schema.items().is_some() => {
                        Known::Of(schema.clone())
                    }
                    _ => Known::Any,
                };
                Bounded { known, size: all }
            }
            operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | "size"
            | "hasValue"
            | "optional.none" => {
                self.pay(1);
                Bounded::SCALAR
            }
            "or" | "orValue" | "value" | "optional.of" | "first" | "last" => {
                self.pay(1);
                let largest = values.iter().max_by_key(|value| value.size);
                largest.cloned().unwrap_or(Bounded::SCALAR)
            }
            "matches" | "find" | "findAll" => {
                // Linear in the text, times what the pattern is long.
                let cost = (size(0) / 10 + 1).saturating_mul(size(1) / 4 + 1);
                self.pay(cost);
                self.texts(name == "findAll", size(0))
            }
            "contains" | "indexOf" | "lastIndexOf" | "sets.contains" | "sets.intersects"
            | "sets.equivalent" => {
                self.pay((size(0) / 10 + 1).saturating_mul(size(1) / 10 + 1));
                Bounded::SCALAR
            }
            "sort" | "distinct" | "isSorted" | "min" | "max" | "sum" => {
                let list = values.first().cloned().unwrap_or(Bounded::SCALAR);
                let item = self.item(&list);
                let each = depth_size(&item, 0) / 10 + 1;
                let times = if name == "distinct" { list.size } else { 64 };
                self.pay(list.size.saturating_mul(times).saturating_mul(each));
                if ["sort", "distinct"].contains(&name) {
                    list
                } else {
                    item
                }
            }
            "replace" => {
                let longest = size(0).saturating_add(1).saturating_mul(size(2).max(1));
                self.traverse(longest);
                Bounded::text(longest)
            }
            "join" => {
                let list = values.first().cloned().unwrap_or(Bounded::SCALAR);
                let item = self.item(&list);
                let longest = list.size.saturating_mul(item.size.saturating_add(size(1)));
                self.traverse(longest);
                Bounded::text(longest)
            }
            "split" | "flatten" | "lists.range" | "slice" => {
                if name == "lists.range" {
                    return Err("lists.range makes lists of any length".to_owned());
                }
                self.traverse(size(0));
                self.texts(true, size(0))
            }
            "startsWith" | "endsWith" => {
                self.traverse(size(1));
                Bounded::SCALAR
            }
            // Whatever else there is reads its arguments once, and makes no more of them.
            _ => {
                let all = values
                    .iter()
                    .fold(0_u64, |sum, value| sum.saturating_add(depth_size(value, 0)));
                self.traverse(all);
                Bounded::text(all.saturating_mul(2).saturating_add(64))
            }
        })
    }

    fn texts(&self, many: bool, size: u64) -> Bounded {
        if many {
            Bounded {
                known: Known::List(Box::new(Bounded::text(size))),
                size,
            }
        } else {
            Bounded::text(size)
        }
    }
}

/// All characters and items within a value, at most; no object is larger than a request.
fn depth_size(value: &Bounded, depth: usize) -> u64 {
    let most = match &value.known {
        Known::List(item) if depth < 8 => value
            .size
            .saturating_mul(depth_size(item, depth + 1).max(1)),
        Known::Of(schema) if depth < 8 => match schema.shape() {
            Shape::List(inner) | Shape::Map(inner) => {
                let (item, _) = Bounded::of(inner);
                value
                    .size
                    .saturating_mul(depth_size(&item, depth + 1).max(1))
            }
            Shape::Object(properties) => properties.values().fold(1_u64, |sum, inner| {
                sum.saturating_add(depth_size(&Bounded::of(inner).0, depth + 1))
            }),
            _ => value.size,
        },
        Known::List(_) | Known::Of(_) => REQUEST,
        _ => value.size,
    };
    most.min(REQUEST)
}
