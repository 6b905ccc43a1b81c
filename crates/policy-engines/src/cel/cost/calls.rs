//! What calls can cost: Kubernetes' functions as upstream's `library/cost.go` reckons them, then cel-go's own.

use super::{CallCost, Estimator, PATTERN, Range, TRAVERSE};
use crate::cel::ast::{Expr, Kind, Literal};
use crate::cel::types::Type;

/// Upstream's `MaxNameFormatRegexSize` and `MaxFormatSize`.
const FORMAT_PATTERN: f64 = 128.0;
const FORMAT_SIZE: u64 = 64;
const ONE: Range = Range::fixed(1);

impl Estimator<'_> {
    pub(super) fn call_cost(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[Range],
    ) -> CallCost {
        let of_args = costs.iter().fold(Range::fixed(0), |sum, cost| sum.plus(*cost));
        let known = self.of_overload(overload, target, args);
        let known = known.or_else(|| self.of_library(function, overload, target, args));
        if let Some(call) = known {
            return CallCost { cost: call.cost.plus(of_args), size: call.size };
        }
        self.of_standard(expr, overload, target, args, costs, of_args)
    }

    /// Sets and the later list functions.
    fn of_overload(&mut self, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<CallCost> {
        let sets = |factor: f64, estimator: &mut Self| {
            let product = estimator.size_or_unknown(&args[0]).times(estimator.size_or_unknown(&args[1]));
            CallCost::of(product.scaled(factor).plus(ONE))
        };
        let allocating = |factor: f64, size: Range| CallCost {
            cost: size.scaled(factor).plus(ONE).plus(Range::fixed(super::MAKE_LIST)),
            size: Some(size),
        };
        match (overload, target, args) {
            ("list_sets_contains_list" | "list_sets_intersects_list", None, [_, _]) => Some(sets(1.0, self)),
            ("list_sets_equivalent_list", None, [_, _]) => Some(sets(2.0, self)),
            ("list_slice", Some(target), [start, end]) => {
                let size = self.size_or_unknown(target);
                let length = whole(end, size.max).wrapping_sub(whole(start, 0));
                Some(allocating(1.0, Range::fixed(length)))
            }
            ("lists_range", None, [count]) => Some(allocating(1.0, Range::fixed(whole(count, u64::MAX)))),
            ("list_reverse", Some(target), []) => Some(allocating(1.0, self.size_or_unknown(target))),
            #[expect(clippy::cast_precision_loss, reason = "a depth")]
            ("list_flatten" | "list_flatten_int", Some(target), rest) => {
                let depth = rest.first().map_or(1, |depth| whole(depth, u64::MAX));
                Some(allocating(depth as f64, self.size_or_unknown(target)))
            }
            ("list_distinct", Some(target), []) => {
                let size = self.size_or_unknown(target);
                Some(allocating(2.0, size.times(size)))
            }
            (sort, Some(target), []) if sort.starts_with("list_") && sort.ends_with("_sort") => {
                let size = self.size_or_unknown(target);
                Some(allocating(sort_factor(sort), size.times(size)))
            }
            (sort, Some(_), [keys]) if sort.ends_with("_sortByAssociatedKeys") => {
                let size = self.size_or_unknown(keys);
                Some(allocating(sort_factor(sort), size.times(size)))
            }
            _ => None,
        }
    }

    fn of_library(
        &mut self,
        function: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Option<CallCost> {
        let read =
            |estimator: &mut Self, expr: &Expr, factor: f64| estimator.size_or_unknown(expr).scaled(factor);
        Some(match (function, target, args) {
            ("check", ..) => CallCost::of(Range::fixed(350_000)),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "format.named"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "getScheme"
                | "getHostname"
                | "getHost"
                | "getPort"
                | "getEscapedPath"
                | "getQuery",
                ..,
            ) => CallCost::of(ONE),
            ("fieldSelector" | "labelSelector", _, [selector]) => {
                let size = self.size_or_unknown(selector);
                let requirements = size.scaled(0.5).scaled(50.0);
                CallCost::of(Range::fixed(super::MAKE_LIST).plus(size.scaled(TRAVERSE)).plus(requirements))
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
                CallCost::of(self.scan(target))
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => {
                let size = self.size_or_unknown(text);
                CallCost { cost: size.scaled(TRAVERSE), size: Some(size) }
            }
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target), _) => {
                let size = self.size_or_unknown(target);
                CallCost { cost: size.scaled(TRAVERSE), size: Some(size) }
            }
            ("replace", Some(target), [old, new, ..]) => self.replace(target, old, new),
            ("split", Some(target), _) => {
                let size = self.size_or_unknown(target);
                let most = match args.get(1).map(|limit| &limit.kind) {
                    #[expect(clippy::cast_sign_loss, reason = "upstream's conversion")]
                    Some(Kind::Literal(Literal::Int(limit))) => *limit as u64,
                    _ => size.max,
                };
                CallCost { cost: size.scaled(2.0 * TRAVERSE), size: Some(Range { min: 0, max: most }) }
            }
            ("join", Some(target), _) => self.join(target, args.first()),
            ("find" | "findAll", Some(target), [pattern, ..]) => {
                let size = self.size_or_unknown(target);
                let text = size.plus(ONE).scaled(TRAVERSE);
                let cost = text.times(read(self, pattern, PATTERN));
                CallCost { cost, size: Some(Range { min: 0, max: size.max }) }
            }
            ("ip", ..) if overload == "cidr_ip" => CallCost::of(ONE),
            (
                "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver",
                _,
                [text, ..],
            ) => CallCost::of(read(self, text, TRAVERSE)),
            ("ip.isCanonical", _, [text, ..]) => CallCost::of(read(self, text, 2.0 * TRAVERSE)),
            ("containsIP" | "containsCIDR", _, [other, ..]) => {
                let size = Range { min: 4, max: 16 };
                let mut cost = size.plus(size).scaled(TRAVERSE);
                if function == "containsCIDR" {
                    cost = cost.plus(size.scaled(TRAVERSE)).plus(ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(read(self, other, TRAVERSE));
                }
                CallCost::of(cost)
            }
            ("validate", _, [text, ..]) => {
                CallCost::of(read(self, text, TRAVERSE).scaled(FORMAT_PATTERN * PATTERN))
            }
            ("_==_", _, [left, right]) => self.library_equality(left, right)?,
            _ => return None,
        })
    }

    /// Going through a list, texts and all; or through a text.
    fn scan(&mut self, target: &Expr) -> Range {
        let t = self.checked.type_of(target).clone();
        let size = self.size_or_unknown(target);
        let Some(item) = parameter(&t) else { return size.scaled(TRAVERSE) };
        let mut each = ONE;
        if matches!(item, Type::String | Type::Bytes) {
            each = each.plus(self.item_size(target).scaled(TRAVERSE));
        }
        size.times(each)
    }

    /// The size of a list's items.
    fn item_size(&mut self, list: &Expr) -> Range {
        let mut path = self.path(list);
        if path.is_empty() || path[0] == super::super::ast::ACCUMULATOR {
            return Range::UNKNOWN;
        }
        path.push("@items".to_owned());
        self.declared_size(&path).unwrap_or(Range::UNKNOWN)
    }

    fn replace(&mut self, target: &Expr, old: &Expr, new: &Expr) -> CallCost {
        let size = self.size_or_unknown(target);
        let (old, new) = (self.size_or_unknown(old), self.size_or_unknown(new));
        let (mut count, mut kept) = (Range::fixed(0), Range::fixed(0));
        if old.min == 0 {
            count.max = size.max.saturating_add(1);
            kept.max = size.max;
        } else if new.max <= old.min {
            kept.max = size.max;
        } else {
            count.max = ratio(size.max, old.min);
        }
        if old.max == 0 {
            count.min = size.min.saturating_add(1);
            kept.min = size.min;
        } else if old.max <= new.min {
            kept.min = size.min;
        } else {
            count.min = ratio(size.min, old.max);
        }
        CallCost { cost: size.scaled(2.0 * TRAVERSE), size: Some(count.times(new).plus(kept)) }
    }

    fn join(&mut self, target: &Expr, separator: Option<&Expr>) -> CallCost {
        let count = self.size_or_unknown(target);
        let mut size = Range::fixed(0);
        if parameter(&self.checked.type_of(target).clone()).is_some() {
            size = count.times(self.item_size(target));
        }
        if let Some(separator) = separator {
            let between = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
            size = size.plus(self.size_or_unknown(separator).times(between));
        }
        CallCost { cost: size.scaled(TRAVERSE), size: Some(size) }
    }

    fn library_equality(&mut self, left: &Expr, right: &Expr) -> Option<CallCost> {
        let (a, b) = (self.checked.type_of(left), self.checked.type_of(right));
        if !a.is(b) {
            return None;
        }
        Some(CallCost::of(match a {
            Type::Opaque("net.IP" | "net.CIDR", _) => ONE,
            Type::Object("kubernetes.NamedFormat") => Range { min: 1, max: FORMAT_SIZE }.scaled(TRAVERSE),
            Type::Object("kubernetes.URL") => {
                let known = self.size(right);
                Range { min: 1, max: known.map_or(1, |size| size.max) }.scaled(TRAVERSE)
            }
            Type::Object(_) => ONE,
            _ => return None,
        }))
    }

    fn of_standard(
        &mut self,
        expr: &Expr,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[Range],
        of_args: Range,
    ) -> CallCost {
        let one = CallCost::of(ONE.plus(of_args));
        match (overload, target, args) {
            ("string_format", Some(target), _) => {
                CallCost::of(self.size_or_unknown(target).scaled(TRAVERSE).plus(of_args))
            }
            ("string_to_bytes", _, [text]) => {
                let size = self.size_or_unknown(text);
                let result = Range { min: size.min, max: size.max.wrapping_mul(4) };
                CallCost { cost: size.scaled(TRAVERSE).plus(of_args), size: Some(result) }
            }
            ("bytes_to_string", _, [bytes]) => {
                let size = self.size_or_unknown(bytes);
                let result = Range { min: size.min / 4, max: size.max };
                CallCost { cost: size.scaled(TRAVERSE).plus(of_args), size: Some(result) }
            }
            ("strings_quote", _, [text]) => {
                let size = self.size_or_unknown(text);
                let result =
                    Range { min: size.min.wrapping_add(2), max: size.max.wrapping_mul(2).wrapping_add(2) };
                CallCost { cost: size.scaled(TRAVERSE).plus(of_args), size: Some(result) }
            }
            ("starts_with_string" | "ends_with_string", _, [part]) => {
                CallCost::of(self.size_or_unknown(part).scaled(TRAVERSE).plus(of_args))
            }
            ("in_list", _, [_, list]) => CallCost::of(self.size_or_unknown(list).plus(of_args)),
            ("matches_string", Some(target), [pattern]) => {
                let text = self.size_or_unknown(target).plus(ONE).scaled(TRAVERSE);
                CallCost::of(text.times(self.size_or_unknown(pattern).scaled(PATTERN)).plus(of_args))
            }
            ("contains_string", Some(target), [part]) => {
                let text = self.size_or_unknown(target).scaled(TRAVERSE);
                CallCost::of(text.times(self.size_or_unknown(part).scaled(TRAVERSE)).plus(of_args))
            }
            ("logical_and" | "logical_or", ..) if costs.len() == 2 => {
                CallCost::of(Range { min: costs[0].min, max: costs[0].plus(costs[1]).max })
            }
            ("conditional", _, [_, then, otherwise]) => self.conditional(expr, then, otherwise, costs),
            ("add_string" | "add_bytes" | "add_list", _, [left, right]) => {
                let size = self.size_or_unknown(left).plus(self.size_or_unknown(right));
                if let (Some(a), Some(b)) = (self.entries_of(left), self.entries_of(right)) {
                    self.entries.insert(expr.id, a.union(b));
                }
                let cost = if overload == "add_list" { ONE } else { size.scaled(TRAVERSE) };
                CallCost { cost: cost.plus(of_args), size: Some(size) }
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                [left, right],
            ) => {
                let most = self.size_or_unknown(left).max.min(self.size_or_unknown(right).max);
                let least = u64::from(most > 0);
                CallCost::of(Range { min: least, max: most }.scaled(TRAVERSE).plus(of_args))
            }
            _ => one,
        }
    }

    fn conditional(&mut self, expr: &Expr, then: &Expr, otherwise: &Expr, costs: &[Range]) -> CallCost {
        let size = self.size_or_unknown(then).union(self.size_or_unknown(otherwise));
        if let (Some(a), Some(b)) = (self.entries_of(then), self.entries_of(otherwise)) {
            self.entries.insert(expr.id, a.union(b));
        }
        let cost = match costs {
            [condition, then, otherwise] => condition.plus(then.union(*otherwise)),
            _ => Range::UNKNOWN,
        };
        CallCost { cost, size: Some(size) }
    }
}

/// The first type parameter of a list, map or optional.
fn parameter(t: &Type) -> Option<Type> {
    match t {
        Type::List(of) | Type::Opaque(_, Some(of)) => Some((**of).clone()),
        Type::Map(of) => Some(of.0.clone()),
        _ => None,
    }
}

/// The value of a written-out integer.
fn whole(expr: &Expr, otherwise: u64) -> u64 {
    match &expr.kind {
        Kind::Literal(Literal::Int(value)) => u64::try_from(*value).unwrap_or(0),
        _ => otherwise,
    }
}

fn sort_factor(overload: &str) -> f64 {
    if overload.starts_with("list_string") || overload.starts_with("list_bytes") {
        2.0 + TRAVERSE
    } else {
        2.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "upstream divides as doubles and rounds up"
)]
fn ratio(size: u64, by: u64) -> u64 {
    (size as f64 / by as f64).ceil() as u64
}
