//! Which type may stand for which, and what that says about types still to be found. The rules are those of cel-go's
//! `checker/types.go`, down to their order, because error texts and chosen overloads depend on it.

use std::sync::Arc;

use super::{OPTIONAL, Type};

/// What is known of type variables. Changes can be taken back.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    found: Vec<Option<Type>>,
    /// What variables were before, in order of change.
    undo: Vec<(u32, Option<Type>)>,
}

impl Bindings {
    /// A variable nothing is known of.
    pub(crate) fn fresh(&mut self) -> Type {
        let number = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        self.found.push(None);
        Type::Variable(number)
    }

    fn find(&self, t: &Type) -> Option<&Type> {
        match t {
            Type::Variable(number) => self.found.get(*number as usize)?.as_ref(),
            _ => None,
        }
    }

    fn bind(&mut self, variable: &Type, to: Type) {
        let Type::Variable(number) = variable else { return };
        let Some(slot) = self.found.get_mut(*number as usize) else { return };
        let before = slot.replace(to);
        self.undo.push((*number, before));
    }

    fn roll_back(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let Some((number, before)) = self.undo.pop() else { return };
            if let Some(slot) = self.found.get_mut(number as usize) {
                *slot = before;
            }
        }
    }

    /// Whether `b` takes `a`. What is learnt is kept only then.
    pub(crate) fn assign(&mut self, a: &Type, b: &Type) -> bool {
        self.assign_all(std::slice::from_ref(a), std::slice::from_ref(b))
    }

    /// As [`Self::assign`], for all of them or none.
    pub(crate) fn assign_all(&mut self, a: &[Type], b: &[Type]) -> bool {
        let mark = self.undo.len();
        let fits = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.fits(a, b));
        if !fits {
            self.roll_back(mark);
        }
        fits
    }

    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if matches!(b, Type::Variable(_)) {
            let (valid, known) = self.substitute_for(a, b);
            if valid || known {
                return valid;
            }
        }
        if matches!(a, Type::Variable(_)) {
            return self.substitute_for(b, a).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::Meta(_), Type::Meta(_)) => true,
            (Type::Opaque(a, p), Type::Opaque(b, q)) => a == b && self.fits_option(p, q),
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            _ => a.is(b),
        }
    }

    fn fits_option(&mut self, a: &Option<Arc<Type>>, b: &Option<Arc<Type>>) -> bool {
        match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => self.fits(a, b),
            _ => false,
        }
    }

    /// Whether the variable may stand for `t`, and whether it stood for something before.
    fn substitute_for(&mut self, t: &Type, variable: &Type) -> (bool, bool) {
        if t.is(variable) {
            return (true, true);
        }
        if let Some(known) = self.find(variable).cloned() {
            if t.is(&known) {
                return (true, true);
            }
            if self.fits(t, &known) {
                let general = more_general(t, &known).clone();
                if !self.occurs(variable, &general) {
                    self.bind(variable, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.occurs(variable, t) {
            return (false, false);
        }
        self.bind(variable, t.clone());
        (true, false)
    }

    fn occurs(&self, variable: &Type, within: &Type) -> bool {
        if variable.is(within) {
            return true;
        }
        match within {
            Type::Variable(_) => self.find(within).is_some_and(|found| self.occurs(variable, found)),
            Type::Opaque(_, Some(of)) | Type::List(of) | Type::Meta(Some(of)) => self.occurs(variable, of),
            Type::Map(of) => self.occurs(variable, &of.0) || self.occurs(variable, &of.1),
            _ => false,
        }
    }

    /// The type with all that is known filled in; what is unknown becomes `dyn` when `settle` is set.
    pub(crate) fn resolve(&self, t: &Type, settle: bool) -> Type {
        match t {
            Type::Variable(_) => match self.find(t) {
                Some(found) => self.resolve(found, settle),
                None if settle => Type::Dyn,
                None => t.clone(),
            },
            Type::Parameter(_) if settle => Type::Dyn,
            Type::List(of) => Type::list(self.resolve(of, settle)),
            Type::Map(of) => Type::map(self.resolve(&of.0, settle), self.resolve(&of.1, settle)),
            Type::Opaque(name, Some(of)) => Type::Opaque(name, Some(Arc::new(self.resolve(of, settle)))),
            Type::Meta(Some(of)) => Type::Meta(Some(Arc::new(self.resolve(of, settle)))),
            other => other.clone(),
        }
    }
}

fn is_nullable(t: &Type) -> bool {
    matches!(
        t,
        Type::Null | Type::Opaque(..) | Type::Struct(_) | Type::Object(_) | Type::Duration | Type::Timestamp
    )
}

/// The more general of two types that are known to fit.
pub(crate) fn more_general<'t>(a: &'t Type, b: &'t Type) -> &'t Type {
    if is_no_more_specific(a, b) { a } else { b }
}

fn is_no_more_specific(a: &Type, b: &Type) -> bool {
    if matches!(a, Type::Dyn | Type::Any | Type::Variable(_) | Type::Parameter(_)) {
        return true;
    }
    match (a, b) {
        (_, Type::Dyn | Type::Any | Type::Variable(_) | Type::Parameter(_)) => false,
        (Type::Opaque(OPTIONAL, Some(p)), Type::Opaque(OPTIONAL, Some(q))) => is_no_more_specific(p, q),
        (Type::List(a), Type::List(b)) => is_no_more_specific(a, b),
        (Type::Map(a), Type::Map(b)) => is_no_more_specific(&a.0, &b.0) && is_no_more_specific(&a.1, &b.1),
        (Type::Meta(_), Type::Meta(_)) => true,
        _ => a.is(b),
    }
}
