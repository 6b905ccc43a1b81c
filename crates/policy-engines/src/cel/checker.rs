//! Type check: gives every node a type and every call its overloads, or says what does not fit, in cel-go's words.

use super::ast::{Expr, Fold, Id, Kind, Literal};
use super::declared::FieldType;
use super::environment::Environment;
use super::functions::{self, Overload};
use super::parser::Parsed;
use super::source::{Issue, Issues};
use super::types::{Bindings, Type, more_general, signature};

mod literals;
mod validators;

/// What a name or a call refers to.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    /// A variable, by its whole name.
    Variable(String),
    /// A type's name used as a value.
    TypeName(Type),
    /// A function. `namespaced`: what looks like a target is part of the name.
    Call { function: &'static str, overloads: Vec<&'static str>, namespaced: bool },
}

/// A checked expression.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) root: Expr,
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Option<Reference>>,
}

impl Checked {
    pub(crate) fn type_of(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id as usize).unwrap_or(&Type::Dyn)
    }

    pub(crate) fn reference(&self, expr: &Expr) -> Option<&Reference> {
        self.references.get(expr.id as usize)?.as_ref()
    }

    /// The type of the whole.
    pub(crate) fn output(&self) -> &Type {
        self.type_of(&self.root)
    }

    /// Whether a field of a variable is selected somewhere by its name, `has(…)` and `.?` included. An index (`v["field"]`)
    /// is none (upstream `hasSelectExp`).
    pub(crate) fn selects(&self, variable: &str, field: &str) -> bool {
        selects(&self.root, variable, field)
    }

    /// Whether a variable is referred to.
    pub(crate) fn uses(&self, variable: &str) -> bool {
        let is_it = |reference: &Option<Reference>| matches!(reference, Some(Reference::Variable(name)) if name == variable);
        self.references.iter().any(is_it)
    }
}

/// A type with more parts than this is refused: nested literals can double a type's size with each level.
const MAX_TYPE_PARTS: usize = 2_000;

/// Checks.
pub(crate) fn check(source: &str, parsed: Parsed, environment: &Environment) -> Result<Checked, Issues> {
    let nodes = parsed.positions.len();
    let mut checker = Checker {
        environment,
        positions: &parsed.positions,
        types: vec![Type::Dyn; nodes],
        references: vec![None; nodes],
        bindings: Bindings::default(),
        scopes: Vec::new(),
        issues: Vec::new(),
    };
    checker.expr(&parsed.root);
    let (mut types, references, issues) = (checker.types, checker.references, checker.issues);
    if !issues.is_empty() {
        return Err(Issues::new(source, issues));
    }
    for t in &mut types {
        *t = checker.bindings.resolve(t, true);
    }
    let checked = Checked { root: parsed.root, types, references };
    let issues = validators::check(&checked, &parsed.positions);
    if issues.is_empty() { Ok(checked) } else { Err(Issues::new(source, issues)) }
}

struct Checker<'c> {
    environment: &'c Environment,
    positions: &'c [u32],
    types: Vec<Type>,
    references: Vec<Option<Reference>>,
    bindings: Bindings,
    /// Variables of folds, innermost last.
    scopes: Vec<(String, Type)>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        let at = self.positions.get(id as usize).copied();
        self.issues.push(Issue { at, message });
    }

    fn set(&mut self, id: Id, t: Type) {
        if let Some(slot) = self.types.get_mut(id as usize) {
            *slot = t;
        }
    }

    fn refer(&mut self, id: Id, reference: Reference) {
        if let Some(slot) = self.references.get_mut(id as usize) {
            *slot = Some(reference);
        }
    }

    fn type_of(&self, expr: &Expr) -> Type {
        self.types.get(expr.id as usize).cloned().unwrap_or(Type::Dyn)
    }

    fn resolved(&self, expr: &Expr) -> Type {
        self.bindings.resolve(&self.type_of(expr), false)
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
        self.set(id, Type::Error);
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            Kind::Literal(literal) => self.set(expr.id, literal_type(literal)),
            Kind::Ident(name) => self.ident(expr.id, name),
            Kind::Select { operand, field, test_only } => self.select(expr, operand, field, *test_only),
            Kind::Call { target, function, args } => self.call(expr, target.as_deref(), function, args),
            Kind::List { elements, optional } => self.list(expr.id, elements, optional),
            Kind::Map(entries) => self.map(expr.id, entries),
            Kind::Struct { name, fields } => self.object(expr.id, name, fields),
            Kind::Fold(fold) => self.fold(expr.id, fold),
            Kind::Broken => self.set(expr.id, Type::Error),
        }
    }

    fn local(&self, name: &str) -> Option<Type> {
        self.scopes.iter().rev().find(|(known, _)| known == name).map(|(_, t)| t.clone())
    }

    fn global(&self, name: &str) -> Option<(Type, Reference)> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some(t) = self.environment.variable(name) {
            return Some((t, Reference::Variable(name.to_owned())));
        }
        let t = self.environment.type_named(name)?;
        Some((Type::Meta(Some(std::sync::Arc::new(t.clone()))), Reference::TypeName(t)))
    }

    fn ident(&mut self, id: Id, name: &str) {
        if let Some(t) = self.local(name) {
            return self.set(id, t);
        }
        match self.global(name) {
            Some((t, reference)) => {
                self.set(id, t);
                self.refer(id, reference);
            }
            None => self.undeclared(id, name),
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test_only: bool) {
        if !test_only && let Some((t, reference)) = self.qualified(expr) {
            self.set(expr.id, t);
            return self.refer(expr.id, reference);
        }
        let t = self.field(expr.id, operand, field, false);
        let t = if test_only { Type::Bool } else { t };
        let t = self.bindings.resolve(&t, false);
        self.set(expr.id, t);
    }

    /// What a chain of selections refers to as one name, `authorizer.requestResource`.
    fn qualified(&self, expr: &Expr) -> Option<(Type, Reference)> {
        let name = expr.qualified_name()?;
        let first = name.split('.').find(|part| !part.is_empty())?;
        if !name.starts_with('.') && self.local(first).is_some() {
            return None;
        }
        self.global(&name)
    }

    fn field(&mut self, id: Id, operand: &Expr, field: &str, optional: bool) -> Type {
        self.expr(operand);
        let (target, was_optional) = self.resolved(operand).unwrap_optional();
        let found = match &target {
            Type::Map(of) => of.1.clone(),
            Type::Struct(declared) => match declared.field_type(field) {
                FieldType::Is(t) => t,
                FieldType::Unknown => {
                    self.report(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Object(name) => {
                self.report(id, format!("unexpected failed resolution of '{name}'"));
                Type::Error
            }
            Type::Variable(_) => {
                self.bindings.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.report(id, format!("type '{other}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(found) } else { found }
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, function: &str, args: &[Expr]) {
        if function == "_?._" {
            return self.optional_select(expr, args);
        }
        for arg in args {
            self.expr(arg);
        }
        let plain = function.strip_prefix('.').unwrap_or(function);
        let Some(target) = target else {
            return match self.environment.function(plain) {
                Some(found) => self.resolve_call(expr.id, found, None, args, false),
                None => self.undeclared(expr.id, function),
            };
        };
        if let Some(prefix) = target.qualified_name() {
            let name = format!("{}.{function}", prefix.strip_prefix('.').unwrap_or(&prefix));
            if let Some(found) = self.environment.function(&name) {
                return self.resolve_call(expr.id, found, None, args, true);
            }
        }
        self.expr(target);
        match self.environment.function(function) {
            Some(found) => self.resolve_call(expr.id, found, Some(target), args, false),
            None => self.undeclared(expr.id, function),
        }
    }

    fn optional_select(&mut self, expr: &Expr, args: &[Expr]) {
        let [operand, field] = args else { return self.set(expr.id, Type::Error) };
        let Kind::Literal(Literal::String(name)) = &field.kind else {
            self.report(field.id, "unsupported optional field selection".to_owned());
            return self.set(expr.id, Type::Error);
        };
        self.set(field.id, Type::String);
        let t = self.field(expr.id, operand, name, true);
        let t = self.bindings.resolve(&t, false);
        self.set(expr.id, t);
        let overloads = functions::overload("select_optional_field").into_iter().collect();
        self.refer(expr.id, Reference::Call { function: "_?._", overloads, namespaced: false });
    }

    fn resolve_call(
        &mut self,
        id: Id,
        (name, overloads): (&'static str, Vec<&'static Overload>),
        target: Option<&Expr>,
        args: &[Expr],
        namespaced: bool,
    ) {
        let types: Vec<Type> = target.into_iter().chain(args).map(|arg| self.type_of(arg)).collect();
        if matches!(name, "_&&_" | "_||_") {
            return self.logical(id, name, &overloads, args);
        }
        let (mut result, mut chosen) = (None, Vec::new());
        for overload in overloads {
            if overload.is_method != target.is_some() {
                continue;
            }
            let fresh: Vec<(char, Type)> =
                overload.parameters.iter().map(|name| (*name, self.bindings.fresh())).collect();
            let wanted: Vec<Type> = overload.args.iter().map(|t| functions::instantiate(t, &fresh)).collect();
            if !self.bindings.assign_all(&types, &wanted) {
                continue;
            }
            chosen.push(overload.id);
            let t = self.bindings.resolve(&functions::instantiate(&overload.result, &fresh), false);
            result = Some(match result {
                None => t,
                Some(before) if before_agrees(&before, &t) => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let types: Vec<Type> = types.iter().map(|t| self.bindings.resolve(t, true)).collect();
            let applied = signature(&types, target.is_some());
            self.report(id, format!("found no matching overload for '{name}' applied to '{applied}'"));
            return self.set(id, Type::Error);
        };
        self.set(id, result);
        self.refer(id, Reference::Call { function: name, overloads: chosen, namespaced });
    }

    fn logical(&mut self, id: Id, name: &'static str, overloads: &[&'static Overload], args: &[Expr]) {
        let mut fits = true;
        for arg in args {
            let t = self.type_of(arg);
            if !self.bindings.assign(&t, &Type::Bool) {
                self.mismatch(arg.id, &Type::Bool, &t);
                fits = false;
            }
        }
        self.set(id, if fits { Type::Bool } else { Type::Error });
        let overloads = overloads.iter().map(|overload| overload.id).collect();
        self.refer(id, Reference::Call { function: name, overloads, namespaced: false });
    }

    fn fold(&mut self, id: Id, fold: &Fold) {
        self.expr(&fold.range);
        self.expr(&fold.init);
        let range = self.resolved(&fold.range);
        let accumulator = self.type_of(&fold.init);
        let depth = self.scopes.len();
        self.scopes.push((fold.accumulator.clone(), accumulator.clone()));
        let two = fold.var2.is_some();
        let (first, second) = match &range {
            Type::List(of) if two => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Dyn),
            Type::Map(of) => (of.0.clone(), of.1.clone()),
            Type::Dyn | Type::Error | Type::Variable(_) => {
                self.bindings.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        self.scopes.push((fold.var.clone(), first));
        if let Some(name) = &fold.var2 {
            self.scopes.push((name.clone(), second));
        }
        self.expr(&fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.expr(&fold.step);
        self.assert(&fold.step, &accumulator);
        self.scopes.truncate(depth + 1);
        self.expr(&fold.result);
        self.scopes.truncate(depth);
        let t = self.resolved(&fold.result);
        self.set(id, t);
    }

    fn assert(&mut self, expr: &Expr, expected: &Type) {
        let t = self.type_of(expr);
        if !self.bindings.assign(expected, &t) {
            self.mismatch(expr.id, expected, &t);
        }
    }

    /// The one type of a list's items so far and the next one; `dyn` when they have none in common.
    fn join(&mut self, before: Option<Type>, next: Type) -> Type {
        let Some(before) = before else { return next };
        if self.bindings.assign(&before, &next) {
            return more_general(&before, &next).clone();
        }
        Type::Dyn
    }
}

fn selects(expr: &Expr, variable: &str, field: &str) -> bool {
    let is_variable = |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if name.strip_prefix('.').unwrap_or(name) == variable);
    let here = match &expr.kind {
        Kind::Select { operand, field: selected, .. } => is_variable(operand) && selected == field,
        Kind::Call { target: None, function, args } if function == "_?._" => {
            let is_field =
                |expr: &Expr| matches!(&expr.kind, Kind::Literal(Literal::String(text)) if **text == *field);
            matches!(&args[..], [operand, name] if is_variable(operand) && is_field(name))
        }
        _ => false,
    };
    here || expr.children().into_iter().any(|child| selects(child, variable, field))
}

fn before_agrees(before: &Type, next: &Type) -> bool {
    before.is_dyn() || next.is(before)
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
