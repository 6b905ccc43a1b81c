//! Questions of authorization, put together step by step and asked by `check`.

use std::sync::Arc;

use kube_objects::UserInfo;

use super::{Implementation, fail, no_overload};
use crate::cel::authorizer::{Answer, AuthorizerValue, Question, State};
use crate::cel::error::EvalError;
use crate::cel::value::{Result, Value};

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "path" => path,
        "group" => |args| {
            let (value, [group]) = texts(args)?;
            step(&value, State::Group(group))
        },
        "serviceAccount" => service_account,
        "resource" => resource,
        "subresource" => |args| narrow(args, |question, text| question.subresource = text),
        "namespace" => |args| narrow(args, |question, text| question.namespace = text),
        "name" => |args| narrow(args, |question, text| question.name = text),
        // The built-in authorizers decide without selectors, so that they narrow nothing.
        "fieldSelector" | "labelSelector" => |args| narrow(args, |_, _| {}),
        "check" => check,
        "allowed" => |args| decision(args).map(|answer| Value::Bool(answer.allowed)),
        "reason" => |args| decision(args).map(|answer| Value::text(answer.reason)),
        "errored" => |args| decision(args).map(|answer| Value::Bool(answer.error.is_some())),
        "error" => |args| decision(args).map(|answer| Value::text(answer.error.unwrap_or_default())),
        _ => return None,
    })
}

type Out<T> = std::result::Result<T, EvalError>;

fn authorizer<'a>(value: Option<&Value<'a>>) -> Out<AuthorizerValue<'a>> {
    match value {
        Some(Value::Authorizer(value)) => Ok((**value).clone()),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// The target and so many texts.
fn texts<'a, const N: usize>(args: &[Value<'a>]) -> Out<(AuthorizerValue<'a>, [String; N])> {
    let target = authorizer(args.first())?;
    let rest = args.get(1..).unwrap_or_default();
    let texts: Option<Vec<String>> = rest.iter().map(|text| text.as_str().map(ToOwned::to_owned)).collect();
    let texts = texts.and_then(|texts| texts.try_into().ok()).ok_or_else(EvalError::no_such_overload)?;
    Ok((target, texts))
}

#[expect(clippy::unnecessary_wraps, reason = "the last step of functions that can fail")]
fn step<'a>(value: &AuthorizerValue<'a>, state: State) -> Result<'a> {
    Ok(Value::Authorizer(Arc::new(value.with(state))))
}

fn path<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (value, [path]) = texts(args)?;
    if path.trim().is_empty() {
        return fail("path must not be empty");
    }
    step(&value, State::Path(path))
}

fn resource<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (value, [resource]) = texts(args)?;
    let State::Group(group) = &value.state else { return no_overload() };
    if resource.trim().is_empty() {
        return fail("resource must not be empty");
    }
    let question = Question { group: group.clone(), resource, ..Question::default() };
    step(&value, State::Resource(question))
}

fn narrow<'a>(args: &[Value<'a>], set: impl Fn(&mut Question, String)) -> Result<'a> {
    let (value, [text]) = texts(args)?;
    let State::Resource(question) = &value.state else { return no_overload() };
    let mut question = question.clone();
    set(&mut question, text);
    step(&value, State::Resource(question))
}

fn service_account<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (value, [namespace, name]) = texts(args)?;
    let is_label = |text: &str| {
        let part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        bytes.first().is_some_and(|first| part(*first))
            && bytes.last().is_some_and(|last| part(*last))
            && bytes.iter().all(|byte| part(*byte) || *byte == b'-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return fail("Invalid service account name");
    }
    if namespace.len() > 63 || !is_label(&namespace) {
        return fail("Invalid service account namespace");
    }
    let user = UserInfo {
        username: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
        ..UserInfo::default()
    };
    Ok(Value::Authorizer(Arc::new(AuthorizerValue::new(value.by, user))))
}

fn check<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (value, [verb]) = texts(args)?;
    let question = match &value.state {
        State::Path(path) => Question { verb, path: Some(path.clone()), ..Question::default() },
        State::Resource(question) => Question { verb, ..question.clone() },
        _ => return no_overload(),
    };
    let answer = value.by.authorize(&value.user, &question);
    step(&value, State::Decision(answer))
}

fn decision(args: &[Value<'_>]) -> Out<Answer> {
    match authorizer(args.first())?.state {
        State::Decision(answer) if args.len() == 1 => Ok(answer),
        _ => Err(EvalError::no_such_overload()),
    }
}
