//! Macros: calls that become folds. Expanded exactly as cel-go does, because what a rule costs is reckoned on the
//! expanded tree.

use super::Parser;
use crate::cel::ast::{ACCUMULATOR, Entry, Expr, Field, Fold, Id, Kind, Literal};

/// The variable that a fold without elements never sets.
const UNUSED: &str = "#unused";
const OVERWRITES: &str = "iteration variable overwrites accumulator variable";

/// A complaint about a macro's argument: which node, and what.
type Refusal = (Id, String);

/// Makes the nodes of one expansion; all stand where the macro's call stands.
struct Maker<'p, 's> {
    parser: &'p mut Parser<'s>,
    at: u32,
}

impl Parser<'_> {
    /// A call, or what the macro of that name makes of it.
    pub(super) fn call_or_macro(
        &mut self,
        id: Id,
        name: &str,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Expr {
        let is_macro = match (target.is_some(), args.len()) {
            (false, 1) => name == "has",
            (true, 2) => matches!(
                name,
                "all"
                    | "exists"
                    | "exists_one"
                    | "existsOne"
                    | "map"
                    | "filter"
                    | "optMap"
                    | "optFlatMap"
                    | "sortBy"
            ),
            (true, 3) => matches!(
                name,
                "map"
                    | "all"
                    | "exists"
                    | "exists_one"
                    | "existsOne"
                    | "transformList"
                    | "transformMap"
                    | "transformMapEntry"
            ),
            (true, 4) => matches!(name, "transformList" | "transformMap" | "transformMapEntry"),
            _ => false,
        };
        if !is_macro || self.lost {
            let target = target.map(Box::new);
            return self.build(id, Kind::Call { target, function: name.to_owned(), args });
        }
        let at = self.position(id);
        let mut maker = Maker { parser: self, at };
        match maker.expand(name, target, args) {
            Ok(expanded) => expanded,
            Err((node, message)) => {
                let at = self.position(node);
                self.report(at, message);
                self.node(at, Kind::Broken)
            }
        }
    }

    fn position(&self, id: Id) -> u32 {
        self.positions.get(id as usize).copied().unwrap_or_default()
    }
}

fn simple_name(expr: &Expr, message: &str) -> Result<String, Refusal> {
    match &expr.kind {
        Kind::Ident(name) if name == ACCUMULATOR || name == "__result__" => {
            Err((expr.id, OVERWRITES.to_owned()))
        }
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err((expr.id, message.to_owned())),
    }
}

impl Maker<'_, '_> {
    fn make(&mut self, kind: Kind) -> Expr {
        self.parser.node(self.at, kind)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        let id = self.parser.id(self.at);
        self.parser.call(id, function, args)
    }

    fn method(&mut self, function: &str, target: Expr) -> Expr {
        self.make(Kind::Call {
            target: Some(Box::new(target)),
            function: function.to_owned(),
            args: Vec::new(),
        })
    }

    fn accumulator(&mut self) -> Expr {
        self.make(Kind::Ident(ACCUMULATOR.to_owned()))
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.make(Kind::Literal(literal))
    }

    fn list(&mut self, elements: Vec<Expr>) -> Expr {
        let optional = vec![false; elements.len()];
        self.make(Kind::List { elements, optional })
    }

    fn expand(&mut self, name: &str, target: Option<Expr>, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let Some(target) = target else { return self.has(args.swap_remove(0)) };
        match (name, args.len()) {
            ("map" | "filter", _) => self.map(name, target, args),
            ("optMap" | "optFlatMap", _) => self.optional(name, target, args),
            ("sortBy", _) => self.sort_by(target, args),
            ("all" | "exists" | "exists_one" | "existsOne", 2) => {
                let predicate = args.swap_remove(1);
                let var = simple_name(&args[0], "argument must be a simple name")?;
                Ok(self.quantifier(name, target, var, None, predicate))
            }
            _ => {
                let (var, var2) = two_names(&args)?;
                let rest = args.split_off(2);
                if name.starts_with("transform") {
                    return Ok(self.transform(name, target, (var, var2), rest));
                }
                let predicate = rest.into_iter().next().unwrap_or_else(|| self.make(Kind::Broken));
                Ok(self.quantifier(name, target, var, Some(var2), predicate))
            }
        }
    }

    fn has(&mut self, argument: Expr) -> Result<Expr, Refusal> {
        match argument.kind {
            Kind::Select { operand, field, test_only: false } => {
                Ok(self.make(Kind::Select { operand, field, test_only: true }))
            }
            _ => Err((argument.id, "invalid argument to has() macro".to_owned())),
        }
    }

    fn quantifier(
        &mut self,
        name: &str,
        range: Expr,
        var: String,
        var2: Option<String>,
        predicate: Expr,
    ) -> Expr {
        let (init, condition, step, result);
        match name {
            "all" => {
                init = self.literal(Literal::Bool(true));
                let accumulator = self.accumulator();
                condition = self.call("@not_strictly_false", vec![accumulator]);
                let accumulator = self.accumulator();
                step = self.call("_&&_", vec![accumulator, predicate]);
                result = self.accumulator();
            }
            "exists" => {
                init = self.literal(Literal::Bool(false));
                let accumulator = self.accumulator();
                let not = self.call("!_", vec![accumulator]);
                condition = self.call("@not_strictly_false", vec![not]);
                let accumulator = self.accumulator();
                step = self.call("_||_", vec![accumulator, predicate]);
                result = self.accumulator();
            }
            _ => {
                init = self.literal(Literal::Int(0));
                condition = self.literal(Literal::Bool(true));
                let (accumulator, one) = (self.accumulator(), self.literal(Literal::Int(1)));
                let sum = self.call("_+_", vec![accumulator, one]);
                let accumulator = self.accumulator();
                step = self.call("_?_:_", vec![predicate, sum, accumulator]);
                let (accumulator, one) = (self.accumulator(), self.literal(Literal::Int(1)));
                result = self.call("_==_", vec![accumulator, one]);
            }
        }
        let accumulator = ACCUMULATOR.to_owned();
        self.fold(Fold { range, var, var2, accumulator, init, condition, step, result })
    }

    fn fold(&mut self, fold: Fold) -> Expr {
        self.make(Kind::Fold(Box::new(fold)))
    }

    /// Steps only when the filter lets through.
    fn filtered(&mut self, filter: Option<Expr>, step: Expr) -> Expr {
        let Some(filter) = filter else { return step };
        let accumulator = self.accumulator();
        self.call("_?_:_", vec![filter, step, accumulator])
    }

    fn collect(
        &mut self,
        range: Expr,
        names: (String, Option<String>),
        filter: Option<Expr>,
        item: Expr,
    ) -> Expr {
        let init = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(true));
        let accumulator = self.accumulator();
        let item = self.list(vec![item]);
        let step = self.call("_+_", vec![accumulator, item]);
        let step = self.filtered(filter, step);
        let result = self.accumulator();
        let (var, var2) = names;
        let accumulator = ACCUMULATOR.to_owned();
        self.fold(Fold { range, var, var2, accumulator, init, condition, step, result })
    }

    fn map(&mut self, name: &str, range: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let var = simple_name(&args[0], "argument is not an identifier")?;
        if name == "filter" {
            let filter = args.swap_remove(1);
            let item = args.swap_remove(0);
            return Ok(self.collect(range, (var, None), Some(filter), item));
        }
        let item = args.pop().unwrap_or_else(|| self.make(Kind::Broken));
        let filter = (args.len() == 2).then(|| args.swap_remove(1));
        Ok(self.collect(range, (var, None), filter, item))
    }

    fn transform(
        &mut self,
        name: &str,
        range: Expr,
        (var, var2): (String, String),
        mut rest: Vec<Expr>,
    ) -> Expr {
        let item = rest.pop().unwrap_or_else(|| self.make(Kind::Broken));
        let filter = rest.pop();
        if name == "transformList" {
            return self.collect(range, (var, Some(var2)), filter, item);
        }
        let init = self.make(Kind::Map(Vec::new()));
        let condition = self.literal(Literal::Bool(true));
        let accumulator = self.accumulator();
        let args = if name == "transformMap" {
            let key = self.make(Kind::Ident(var.clone()));
            vec![accumulator, key, item]
        } else {
            vec![accumulator, item]
        };
        let step = self.call("cel.@mapInsert", args);
        let step = self.filtered(filter, step);
        let result = self.accumulator();
        self.fold(Fold {
            range,
            var,
            var2: Some(var2),
            accumulator: ACCUMULATOR.to_owned(),
            init,
            condition,
            step,
            result,
        })
    }

    /// `optMap` and `optFlatMap`: a fold over nothing binds the value.
    fn optional(&mut self, name: &str, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let message = format!("{name}() variable name must be a simple identifier");
        let Kind::Ident(var) = &args[0].kind else { return Err((args[0].id, message)) };
        let var = var.clone();
        let body = args.swap_remove(1);
        let copy = self.copy(&target);
        let present = self.method("hasValue", target);
        let range = self.list(Vec::new());
        let init = self.method("value", copy);
        let condition = self.literal(Literal::Bool(false));
        let step = self.make(Kind::Ident(var.clone()));
        let bound = self.fold(Fold {
            range,
            var: UNUSED.to_owned(),
            var2: None,
            accumulator: var,
            init,
            condition,
            step,
            result: body,
        });
        let then = if name == "optMap" { self.call("optional.of", vec![bound]) } else { bound };
        let none = self.call("optional.none", Vec::new());
        Ok(self.call("_?_:_", vec![present, then, none]))
    }

    /// `list.sortBy(x, key)`: the list is bound once, its keys are computed, then it is sorted by them.
    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Result<Expr, Refusal> {
        const INPUT: &str = "@__sortBy_input__";
        const WRONG: &str =
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            return Err((target.id, WRONG.to_owned()));
        }
        let input = self.make(Kind::Ident(INPUT.to_owned()));
        let keys = self.map("map", input, args)?;
        let input = self.make(Kind::Ident(INPUT.to_owned()));
        let sorted = self.make(Kind::Call {
            target: Some(Box::new(input)),
            function: "@sortByAssociatedKeys".to_owned(),
            args: vec![keys],
        });
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.make(Kind::Ident(INPUT.to_owned()));
        Ok(self.fold(Fold {
            range,
            var: UNUSED.to_owned(),
            var2: None,
            accumulator: INPUT.to_owned(),
            init: target,
            condition,
            step,
            result: sorted,
        }))
    }

    /// The same tree under fresh ids, each standing where its original stands.
    fn copy(&mut self, expr: &Expr) -> Expr {
        if self.parser.lost {
            return Expr { id: expr.id, kind: Kind::Broken };
        }
        let at = self.parser.position(expr.id);
        let id = self.parser.id(at);
        let kind = match &expr.kind {
            Kind::Select { operand, field, test_only } => Kind::Select {
                operand: Box::new(self.copy(operand)),
                field: field.clone(),
                test_only: *test_only,
            },
            Kind::Call { target, function, args } => Kind::Call {
                target: target.as_ref().map(|target| Box::new(self.copy(target))),
                function: function.clone(),
                args: args.iter().map(|arg| self.copy(arg)).collect(),
            },
            Kind::List { elements, optional } => Kind::List {
                elements: elements.iter().map(|element| self.copy(element)).collect(),
                optional: optional.clone(),
            },
            Kind::Map(entries) => Kind::Map(entries.iter().map(|entry| self.copy_entry(entry)).collect()),
            Kind::Struct { name, fields } => Kind::Struct {
                name: name.clone(),
                fields: fields.iter().map(|field| self.copy_field(field)).collect(),
            },
            Kind::Fold(fold) => Kind::Fold(Box::new(self.copy_fold(fold))),
            same @ (Kind::Literal(_) | Kind::Ident(_) | Kind::Broken) => same.clone(),
        };
        self.parser.build(id, kind)
    }

    fn copy_entry(&mut self, entry: &Entry) -> Entry {
        Entry { key: self.copy(&entry.key), value: self.copy(&entry.value), optional: entry.optional }
    }

    fn copy_field(&mut self, field: &Field) -> Field {
        let at = self.parser.position(field.id);
        Field {
            id: self.parser.id(at),
            name: field.name.clone(),
            value: self.copy(&field.value),
            optional: field.optional,
        }
    }

    fn copy_fold(&mut self, fold: &Fold) -> Fold {
        Fold {
            range: self.copy(&fold.range),
            var: fold.var.clone(),
            var2: fold.var2.clone(),
            accumulator: fold.accumulator.clone(),
            init: self.copy(&fold.init),
            condition: self.copy(&fold.condition),
            step: self.copy(&fold.step),
            result: self.copy(&fold.result),
        }
    }
}

fn two_names(args: &[Expr]) -> Result<(String, String), Refusal> {
    const SIMPLE: &str = "argument must be a simple name";
    let names = |index: usize| match &args[index].kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err((args[index].id, SIMPLE.to_owned())),
    };
    let (first, second) = (names(0)?, names(1)?);
    if first == second {
        return Err((args[1].id, format!("duplicate variable name: {first}")));
    }
    simple_name(&args[0], SIMPLE)?;
    simple_name(&args[1], SIMPLE)?;
    Ok((first, second))
}
