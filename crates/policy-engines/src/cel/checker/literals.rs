//! Types of lists, maps and objects that are written out.

use std::sync::Arc;

use super::{Checker, MAX_TYPE_PARTS};
use crate::cel::ast::{Entry, Expr, Field, Id};
use crate::cel::declared::FieldType;
use crate::cel::types::Type;

impl Checker<'_> {
    pub(super) fn list(&mut self, id: Id, elements: &[Expr], optional: &[bool]) {
        let mut joined = None;
        for (element, optional) in elements.iter().zip(optional) {
            self.expr(element);
            let t = self.type_of(element);
            let t = if *optional { self.optional_entry(element.id, &t) } else { t };
            joined = Some(self.join(joined, t));
        }
        let of = joined.unwrap_or_else(|| self.bindings.fresh());
        self.set_bounded(id, Type::list(of));
    }

    pub(super) fn map(&mut self, id: Id, entries: &[Entry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.expr(&entry.key);
            let t = self.type_of(&entry.key);
            keys = Some(self.join(keys, t));
            self.expr(&entry.value);
            let t = self.type_of(&entry.value);
            let t = if entry.optional { self.optional_entry(entry.value.id, &t) } else { t };
            values = Some(self.join(values, t));
        }
        let keys = keys.unwrap_or_else(|| self.bindings.fresh());
        let values = values.unwrap_or_else(|| self.bindings.fresh());
        self.set_bounded(id, Type::map(keys, values));
    }

    pub(super) fn object(&mut self, id: Id, name: &str, fields: &[Field]) {
        let plain = name.strip_prefix('.').unwrap_or(name);
        let Some(t) = self.environment.type_named(plain) else {
            for field in fields {
                self.expr(&field.value);
            }
            return self.undeclared(id, name);
        };
        let declared = match &t {
            Type::Struct(declared) => Some(Arc::clone(declared)),
            Type::Object(_) => None,
            other => {
                self.report(id, format!("'{other}' is not a message type"));
                None
            }
        };
        self.set(id, if declared.is_some() { t.clone() } else { Type::Error });
        for field in fields {
            self.expr(&field.value);
            let wanted = match declared.as_ref().map(|declared| declared.field_type(&field.name)) {
                Some(FieldType::Is(t)) => t,
                Some(FieldType::Unknown) => {
                    self.report(field.id, format!("undefined field '{}'", field.name));
                    Type::Error
                }
                None => Type::Error,
            };
            let found = self.type_of(&field.value);
            let found = if field.optional { self.optional_entry(field.value.id, &found) } else { found };
            if !self.bindings.assign(&wanted, &found) {
                let name = &field.name;
                let message =
                    format!("expected type of field '{name}' is '{wanted}' but provided type is '{found}'");
                self.report(field.id, message);
            }
        }
    }

    fn optional_entry(&mut self, id: Id, t: &Type) -> Type {
        let (inner, is_optional) = t.unwrap_optional();
        if !is_optional && !t.is_dyn() {
            self.mismatch(id, &Type::optional(inner.clone()), t);
        }
        inner
    }

    fn set_bounded(&mut self, id: Id, t: Type) {
        let mut parts = 0;
        let resolved = self.bindings.resolve(&t, false);
        if too_many_parts(&resolved, &mut parts) {
            self.report(id, "the type of the literal is too complex".to_owned());
            return self.set(id, Type::Error);
        }
        self.set(id, t);
    }
}

fn too_many_parts(t: &Type, parts: &mut usize) -> bool {
    *parts += 1;
    if *parts > MAX_TYPE_PARTS {
        return true;
    }
    match t {
        Type::List(of) | Type::Meta(Some(of)) | Type::Opaque(_, Some(of)) => too_many_parts(of, parts),
        Type::Map(of) => too_many_parts(&of.0, parts) || too_many_parts(&of.1, parts),
        _ => false,
    }
}
