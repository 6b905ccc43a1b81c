//! What is checked of a well-typed expression beyond types: written-out durations, timestamps, patterns and formats
//! have to be valid, and lists and maps hold values of one type (upstream `ASTValidators`, since 1.29).

use super::Checked;
use crate::cel::ast::{Expr, Id, Kind, Literal};
use crate::cel::source::Issue;
use crate::cel::types::Type;
use crate::cel::{patterns, time};

/// Whatever is wrong.
pub(super) fn check(checked: &Checked, positions: &[u32]) -> Vec<Issue> {
    let mut validator = Validator { checked, positions, issues: Vec::new() };
    validator.walk(&checked.root, false);
    validator.issues
}

struct Validator<'c> {
    checked: &'c Checked,
    positions: &'c [u32],
    issues: Vec<Issue>,
}

impl Validator<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.issues.push(Issue { at: self.positions.get(id as usize).copied(), message });
    }

    /// `formatted`: inside a call of `format`, whose arguments may be of any type.
    fn walk(&mut self, expr: &Expr, formatted: bool) {
        let mut inside = formatted;
        match &expr.kind {
            Kind::Call { function, args, .. } => {
                self.literal_argument(function, args);
                inside |= function == "format";
            }
            Kind::List { elements, optional } if !formatted => self.list(elements, optional),
            Kind::Map(entries) if !formatted => {
                self.same_types(entries.iter().map(|entry| (&entry.key, false)).collect(), false);
                self.same_types(entries.iter().map(|entry| (&entry.value, entry.optional)).collect(), false);
            }
            _ => {}
        }
        for child in expr.children() {
            self.walk(child, inside);
        }
    }

    fn literal_argument(&mut self, function: &str, args: &[Expr]) {
        let Some(Expr { id, kind: Kind::Literal(literal) }) = args.first() else { return };
        let valid = match (function, literal) {
            ("duration", Literal::String(text)) => time::parse_duration(text).is_ok(),
            ("timestamp", Literal::Int(seconds)) => time::Timestamp::from_seconds(*seconds).is_some(),
            ("timestamp", Literal::String(text)) => time::parse_timestamp(text).is_ok(),
            ("matches", Literal::String(pattern)) => patterns::compile(pattern).is_ok(),
            _ => true,
        };
        if !valid {
            self.report(*id, format!("invalid {function} argument"));
        }
    }

    fn list(&mut self, elements: &[Expr], optional: &[bool]) {
        self.same_types(elements.iter().zip(optional.iter().copied()).collect(), true);
    }

    /// `once`: the first difference is all that is said.
    fn same_types(&mut self, values: Vec<(&Expr, bool)>, once: bool) {
        let mut first: Option<Type> = None;
        for (value, optional) in values {
            let t = self.checked.type_of(value);
            let t = if optional { t.unwrap_optional().0 } else { t.clone() };
            match &first {
                None => first = Some(t),
                Some(expected) if equivalent(expected, &t) => {}
                Some(expected) => {
                    let message = format!("expected type '{expected}' but found '{t}'");
                    self.report(value.id, message);
                    if once {
                        return;
                    }
                }
            }
        }
    }
}

/// The same kind of type; parameters may differ where one is unknown (cel-go `IsEquivalentType`).
fn equivalent(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::List(a), Type::List(b)) => equivalent(a, b),
        (Type::Map(a), Type::Map(b)) => equivalent(&a.0, &b.0) && equivalent(&a.1, &b.1),
        (Type::Opaque(a, Some(p)), Type::Opaque(b, Some(q))) => a == b && equivalent(p, q),
        (Type::Meta(_), Type::Meta(_)) => true,
        _ => a.is(b),
    }
}
