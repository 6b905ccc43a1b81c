//! Resource quantities, and the comparisons that they share with versions.

use std::cmp::Ordering;

use api_machinery::quantity::{Format, Quantity};

use super::{Implementation, fail, no_overload, semver};
use crate::cel::error::EvalError;
use crate::cel::value::{Library, Result, Value};

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "quantity" => |args| match parse(args)? {
            Ok(quantity) => Ok(Value::library(Library::Quantity(quantity))),
            Err(error) => fail(error.to_string()),
        },
        "isQuantity" => |args| Ok(Value::Bool(parse(args)?.is_ok())),
        "sign" => |args| one(args).map(|quantity| Value::Int(sign(quantity))),
        "isGreaterThan" => |args| Ok(Value::Bool(compare(args)? == Ordering::Greater)),
        "isLessThan" => |args| Ok(Value::Bool(compare(args)? == Ordering::Less)),
        "compareTo" => |args| Ok(Value::Int(compare(args)? as i64)),
        "asApproximateFloat" => |args| one(args).map(|quantity| Value::Double(approximately(quantity))),
        "asInteger" => |args| match whole(one(args)?) {
            Some(units) => Ok(Value::Int(units)),
            None => fail("cannot convert value to integer"),
        },
        "isInteger" => |args| Ok(Value::Bool(whole(one(args)?).is_some())),
        "add" => |args| combine(args, Quantity::plus),
        "sub" => |args| combine(args, Quantity::minus),
        _ => return None,
    })
}

type Out<T> = std::result::Result<T, EvalError>;

fn parse(args: &[Value<'_>]) -> Out<std::result::Result<Quantity, api_machinery::quantity::QuantityError>> {
    match args {
        [Value::String(text)] => Ok(text.as_str().parse()),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn one<'v>(args: &'v [Value<'_>]) -> Out<&'v Quantity> {
    match args {
        [Value::Library(library)] => match &**library {
            Library::Quantity(quantity) => Ok(quantity),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn sign(quantity: &Quantity) -> i64 {
    match (quantity.is_zero(), quantity.is_negative()) {
        (true, _) => 0,
        (_, true) => -1,
        _ => 1,
    }
}

fn compare(args: &[Value<'_>]) -> Out<Ordering> {
    let [Value::Library(a), Value::Library(b)] = args else { return Err(EvalError::no_such_overload()) };
    match (&**a, &**b) {
        (Library::Quantity(a), Library::Quantity(b)) => Ok(a.cmp(b)),
        (Library::Semver(a), Library::Semver(b)) => Ok(semver::Semver::compare(a, b)),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// The value in whole units, when it is one.
fn whole(quantity: &Quantity) -> Option<i64> {
    let units = quantity.units();
    (Quantity::from_units(units, Format::DecimalSi) == *quantity).then_some(units)
}

fn approximately(quantity: &Quantity) -> f64 {
    let mut low = quantity.units();
    if Quantity::from_units(low, Format::DecimalSi) > *quantity {
        low = low.saturating_sub(1);
    }
    let rest = quantity.minus(&Quantity::from_units(low, Format::DecimalSi));
    #[expect(clippy::cast_precision_loss, reason = "approximately")]
    let (whole, part) = (low as f64, rest.millis() as f64 / 1_000.0);
    whole + part
}

fn combine<'a>(args: &[Value<'a>], with: impl Fn(&Quantity, &Quantity) -> Quantity) -> Result<'a> {
    let [target, other] = args else { return no_overload() };
    let target = one(std::slice::from_ref(target))?;
    let made = match other {
        Value::Int(units) => with(target, &Quantity::from_units(*units, Format::DecimalExponent)),
        other => with(target, one(std::slice::from_ref(other))?),
    };
    Ok(Value::library(Library::Quantity(made)))
}
