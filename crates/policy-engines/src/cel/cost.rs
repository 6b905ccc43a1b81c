//! What an expression can cost at most: cel-go's `checker/cost.go` with the sizes that a schema allows.

use std::collections::BTreeMap;

use super::ast::{Expr, Fold, Id, Kind, Literal};
use super::checker::{Checked, Reference};
use super::declared::Shape;
use super::types::Type;

mod calls;
mod range;

pub(crate) use range::Range;

/// Costs of steps (cel-go `common/cost.go`).
const MAKE_LIST: u64 = 10;
const MAKE_MAP: u64 = 30;
const MAKE_OBJECT: u64 = 40;
/// Reading a character, or a pattern's character.
const TRAVERSE: f64 = 0.1;
const PATTERN: f64 = 0.25;

/// The most an expression can cost. `root` is the shape of `self`.
pub(crate) fn estimate(checked: &Checked, root: &Shape) -> Range {
    let mut estimator = Estimator {
        checked,
        root,
        paths: BTreeMap::new(),
        sizes: BTreeMap::new(),
        entries: BTreeMap::new(),
        locals: Vec::new(),
    };
    estimator.cost(&checked.root)
}

/// A way from a variable into its data: `self`, a field, `@items` …
type Path = Vec<String>;

/// Sizes of what a list or map holds.
#[derive(Clone, Copy, Debug)]
struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(self, other: Self) -> Self {
        Self { is_list: self.is_list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

struct Local {
    name: String,
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'c> {
    checked: &'c Checked,
    root: &'c Shape,
    paths: BTreeMap<Id, Path>,
    sizes: BTreeMap<Id, Range>,
    entries: BTreeMap<Id, Entries>,
    locals: Vec<Local>,
}

/// What a call costs and how large its result is.
struct CallCost {
    cost: Range,
    size: Option<Range>,
}

impl CallCost {
    fn of(cost: Range) -> Self {
        Self { cost, size: None }
    }
}

impl Estimator<'_> {
    fn cost(&mut self, expr: &Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) | Kind::Broken => Range::fixed(0),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                Range::fixed(1)
            }
            Kind::Select { operand, field, test_only } => self.select(expr, operand, field, *test_only),
            Kind::Call { .. } => self.call(expr),
            Kind::List { elements, .. } => self.list(expr, elements),
            Kind::Map(entries) => {
                let pairs: Vec<(&Expr, &Expr)> =
                    entries.iter().map(|entry| (&entry.key, &entry.value)).collect();
                self.map(expr, &pairs)
            }
            Kind::Struct { fields, .. } => {
                let mut sum = Range::fixed(MAKE_OBJECT);
                for field in fields {
                    sum = sum.plus(self.cost(&field.value));
                }
                sum
            }
            Kind::Fold(fold) if is_bind(fold) => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test_only: bool) -> Range {
        if let Some(reference) = self.checked.reference(expr) {
            let name = match reference {
                Reference::Variable(name) => name.clone(),
                _ => expr.qualified_name().unwrap_or_default(),
            };
            self.paths.insert(expr.id, vec![name]);
            return Range::fixed(1);
        }
        let mut sum = self.cost(operand);
        if test_only {
            return sum;
        }
        if matches!(self.checked.type_of(operand), Type::Map(_) | Type::Struct(_) | Type::Object(_)) {
            sum = sum.plus(Range::fixed(1));
        }
        let mut path = self.path(operand);
        path.push(field.to_owned());
        self.paths.insert(expr.id, path);
        sum
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn call(&mut self, expr: &Expr) -> Range {
        let Kind::Call { target, function, args } = &expr.kind else { return Range::fixed(0) };
        if let ("dyn", [arg]) = (function.as_str(), &args[..]) {
            let cost = self.cost(arg).plus(Range::fixed(1));
            self.copy_sizes(expr.id, arg);
            return cost;
        }
        let costs: Vec<Range> = args.iter().map(|arg| self.cost(arg)).collect();
        let Some(Reference::Call { function, overloads, namespaced }) = self.checked.reference(expr) else {
            return Range::fixed(0);
        };
        let (function, overloads, namespaced) = (*function, overloads.clone(), *namespaced);
        let mut sum = Range::fixed(0);
        let target = target.as_deref().filter(|_| !namespaced);
        if let Some(target) = target {
            sum = self.cost(target);
        }
        let mut total: Option<Range> = None;
        let mut size: Option<Range> = None;
        for overload in overloads {
            let call = self.call_cost(expr, function, overload, target, args, &costs);
            total = Some(total.map_or(call.cost, |total| total.union(call.cost)));
            if let Some(result) = call.size {
                size = Some(size.map_or(result, |size| size.union(result)));
            }
            let step = match overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(operand)) = (step, args.first()) {
                size = self.entries_of(operand).map(|entries| entries.value);
                let mut path = self.path(operand);
                path.push(step.to_owned());
                self.paths.insert(expr.id, path);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        sum.plus(total.unwrap_or(Range::fixed(0)))
    }

    fn list(&mut self, expr: &Expr, elements: &[Expr]) -> Range {
        let mut sum = Range::fixed(MAKE_LIST);
        let mut item: Option<Range> = None;
        for element in elements {
            sum = sum.plus(self.cost(element));
            let size = self.size_or_unknown(element);
            item = Some(item.map_or(size, |item| item.union(size)));
        }
        let value = item.unwrap_or(Range::fixed(0));
        self.entries.insert(expr.id, Entries { is_list: true, key: Range::fixed(1), value });
        sum
    }

    fn map(&mut self, expr: &Expr, pairs: &[(&Expr, &Expr)]) -> Range {
        let mut sum = Range::fixed(MAKE_MAP);
        let (mut keys, mut values): (Option<Range>, Option<Range>) = (None, None);
        for (key, value) in pairs {
            sum = sum.plus(self.cost(key)).plus(self.cost(value));
            let size = self.size_or_unknown(key);
            keys = Some(keys.map_or(size, |keys| keys.union(size)));
            let size = self.size_or_unknown(value);
            values = Some(values.map_or(size, |values| values.union(size)));
        }
        let zero = Range::fixed(0);
        let entries = Entries { is_list: false, key: keys.unwrap_or(zero), value: values.unwrap_or(zero) };
        self.entries.insert(expr.id, entries);
        sum
    }

    fn push(&mut self, name: &str, path: Path, size: Option<Range>, entries: Option<Entries>) {
        self.locals.push(Local { name: name.to_owned(), path, size, entries });
    }

    fn push_bound(&mut self, name: &str, value: &Expr) {
        let entries = self.entries_of(value);
        let size = self.size(value);
        let path = self.path(value);
        self.push(name, path, size, entries);
    }

    /// A variable of a fold. `keys`: it goes over keys or positions.
    fn push_item(&mut self, name: &str, range: &Expr, keys: bool) {
        let entries = self.entries_of(range);
        let is_list = entries
            .map_or_else(|| matches!(self.checked.type_of(range), Type::List(_)), |entries| entries.is_list);
        let step = match (is_list, keys) {
            (true, true) => "@indices",
            (true, false) => "@items",
            (false, true) => "@keys",
            (false, false) => "@values",
        };
        let size = entries.map(|entries| if keys { entries.key } else { entries.value });
        let mut path = self.path(range);
        path.push(step.to_owned());
        self.push(name, path, size, None);
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let depth = self.locals.len();
        self.push_bound(&fold.accumulator, &fold.init);
        match &fold.var2 {
            Some(second) => {
                self.push_item(&fold.var, &fold.range, true);
                self.push_item(second, &fold.range, false);
            }
            None => {
                let entries = self.entries_of(&fold.range);
                let is_list = entries.map_or_else(
                    || matches!(self.checked.type_of(&fold.range), Type::List(_)),
                    |entries| entries.is_list,
                );
                self.push_item(&fold.var, &fold.range, !is_list);
            }
        }
        let condition = self.cost(&fold.condition);
        let step = self.cost(&fold.step);
        self.locals.truncate(depth + 1);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(depth);
        let count = self.size_or_unknown(&fold.range);
        sum = sum.plus(count.times(step.plus(condition)));
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = self.entries_of(&fold.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let depth = self.locals.len();
        self.push_bound(&fold.accumulator, &fold.init);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(depth);
        self.copy_sizes(expr.id, &fold.result);
        sum
    }

    fn copy_sizes(&mut self, to: Id, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to, size);
        }
        if let Some(entries) = self.entries_of(from) {
            self.entries.insert(to, entries);
        }
    }

    fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.entries,
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    /// How large a value is, as far as that is known.
    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = written_size(expr) {
            return Some(Range::fixed(size));
        }
        if let Some(size) = self.declared_size(&self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.checked.type_of(expr).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    /// What the schema says of the size at a path.
    fn declared_size(&self, path: &[String]) -> Option<Range> {
        let (_, steps) = path.split_first()?;
        let mut shape = self.root;
        for step in steps {
            shape = match step.as_str() {
                "@items" | "@values" => shape.elem.as_deref()?,
                "@keys" => shape.key.as_deref()?,
                field => shape.field(field)?,
            };
        }
        #[expect(clippy::cast_sign_loss, reason = "upstream's conversion; a bound is never negative")]
        Some(Range { min: 0, max: shape.max_elements as u64 })
    }
}

/// A fold that only binds a name, as `optMap` makes it.
fn is_bind(fold: &Fold) -> bool {
    matches!(&fold.range.kind, Kind::List { elements, .. } if elements.is_empty())
        && matches!(&fold.condition.kind, Kind::Literal(Literal::Bool(false)))
        && fold.accumulator != "__result__"
}

/// The size of what is written out.
fn written_size(expr: &Expr) -> Option<u64> {
    Some(match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count() as u64,
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len() as u64,
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len() as u64,
        Kind::Map(entries) => entries.len() as u64,
        _ => return None,
    })
}
