//! From text to tree, as cel-go's grammar (`CEL.g4`) has it, macros expanded.
//!
//! Bounds: the size of the text, the nesting of the source and the depth of the tree, so that every walk over a tree
//! may recurse.

use super::ast::{Entry, Expr, Field, Id, Kind, Literal};
use super::lexer::{self, Kind as Word, Token};
use super::source::{Issue, Issues};
use api_machinery::names::is_cel_word;

mod literals;
mod macros;
mod messages;

/// cel-go's limit of an expression, in code points.
const MAX_CODE_POINTS: usize = 100_000;
/// cel-go's limit of nested rules.
const MAX_NESTING: usize = 250;
/// How deep a tree may be once macros are expanded. A walk takes at most about 3 kB of stack per level even unoptimised.
const MAX_DEPTH: u16 = 320;
/// How many nodes a tree may have. `optMap` doubles its target, so that a short text can make a huge tree.
const MAX_NODES: usize = 200_000;
/// Reported problems; more are of no use to anybody.
const MAX_ISSUES: usize = 100;

/// A parsed expression.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) root: Expr,
    /// Where each node stands, by its id.
    pub(crate) positions: Vec<u32>,
}

/// Parses.
pub(crate) fn parse(source: &str) -> Result<Parsed, Issues> {
    let size = source.chars().count();
    if size > MAX_CODE_POINTS {
        let message =
            format!("expression code point size exceeds limit: size: {size}, limit {MAX_CODE_POINTS}");
        return Err(Issues::new(source, vec![Issue { at: None, message }]));
    }
    let (tokens, issues) = lexer::split(source);
    let mut parser = Parser {
        tokens,
        next: 0,
        nesting: 0,
        positions: Vec::new(),
        depths: Vec::new(),
        issues,
        lost: false,
    };
    let root = parser.expression();
    parser.end();
    if !parser.issues.is_empty() {
        return Err(Issues::new(source, parser.issues));
    }
    Ok(Parsed { root, positions: parser.positions })
}

fn too_deep() -> Issue {
    Issue { at: None, message: format!("expression recursion limit exceeded: {MAX_NESTING}") }
}

struct Parser<'s> {
    tokens: Vec<Token<'s>>,
    next: usize,
    nesting: usize,
    positions: Vec<u32>,
    /// How deep the tree below each node is, by its id.
    depths: Vec<u16>,
    issues: Vec<Issue>,
    /// After the first syntax error nothing more is said: what follows would be guesses.
    lost: bool,
}

impl<'s> Parser<'s> {
    fn peek(&self) -> Token<'s> {
        self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn peek_at(&self, ahead: usize) -> Token<'s> {
        self.tokens[(self.next + ahead).min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token<'s> {
        let token = self.peek();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn is(&self, symbol: &str) -> bool {
        let token = self.peek();
        token.kind == Word::Symbol && token.text == symbol
    }

    fn accept(&mut self, symbol: &str) -> Option<Token<'s>> {
        self.is(symbol).then(|| self.take())
    }

    fn node(&mut self, at: u32, kind: Kind) -> Expr {
        let id = self.id(at);
        self.build(id, kind)
    }

    /// Makes the node, unless the tree would get too deep.
    fn build(&mut self, id: Id, kind: Kind) -> Expr {
        let node = Expr { id, kind };
        let below = node.children().iter().map(|child| self.depths[child.id as usize]).max().unwrap_or(0);
        if below >= MAX_DEPTH {
            self.give_up(too_deep());
            return Expr { id, kind: Kind::Broken };
        }
        self.depths[id as usize] = below + 1;
        node
    }

    fn call(&mut self, id: Id, function: &str, args: Vec<Expr>) -> Expr {
        self.build(id, Kind::Call { target: None, function: function.to_owned(), args })
    }

    fn id(&mut self, at: u32) -> Id {
        if self.positions.len() >= MAX_NODES {
            self.give_up(too_deep());
            return 0;
        }
        let id = Id::try_from(self.positions.len()).unwrap_or(0);
        self.positions.push(at);
        self.depths.push(0);
        id
    }

    fn report(&mut self, at: u32, message: impl Into<String>) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue { at: Some(at), message: message.into() });
        }
    }

    fn give_up(&mut self, issue: Issue) {
        if !self.lost {
            self.lost = true;
            self.issues.push(issue);
        }
        self.next = self.tokens.len() - 1;
    }

    fn syntax_error(&mut self, message: String) {
        let at = Some(self.peek().at);
        self.give_up(Issue { at, message: format!("Syntax error: {message}") });
    }

    fn expect(&mut self, symbol: &str, expected: &str) {
        if self.accept(symbol).is_none() && !self.lost {
            let message = messages::mismatched(self.peek(), expected);
            self.syntax_error(message);
        }
    }

    fn end(&mut self) {
        if self.peek().kind != Word::End {
            let message = messages::at_end(self.peek());
            self.syntax_error(message);
        }
    }

    /// Counts one more level around `parse`.
    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Expr) -> Expr {
        if self.nesting >= MAX_NESTING {
            self.give_up(too_deep());
            return self.node(0, Kind::Broken);
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    fn expression(&mut self) -> Expr {
        self.nested(|parser| {
            let condition = parser
                .logical("||", "_||_", |parser| parser.logical("&&", "_&&_", |parser| parser.relation()));
            let Some(question) = parser.accept("?") else { return condition };
            let id = parser.id(question.at);
            let then = parser
                .logical("||", "_||_", |parser| parser.logical("&&", "_&&_", |parser| parser.relation()));
            parser.expect(":", "':'");
            let otherwise = parser.expression();
            parser.call(id, "_?_:_", vec![condition, then, otherwise])
        })
    }

    /// Terms joined by `&&` or `||`, balanced as cel-go balances them.
    fn logical(&mut self, symbol: &str, function: &str, term: impl Fn(&mut Self) -> Expr) -> Expr {
        let mut terms = vec![Some(term(self))];
        let mut operators = Vec::new();
        while let Some(operator) = self.accept(symbol) {
            terms.push(Some(term(self)));
            operators.push(self.id(operator.at));
        }
        if operators.is_empty() {
            return terms.swap_remove(0).unwrap_or_else(nothing);
        }
        self.balanced(function, &mut terms, &operators, (0, operators.len() - 1))
    }

    fn balanced(
        &mut self,
        function: &str,
        terms: &mut [Option<Expr>],
        operators: &[Id],
        (low, high): (usize, usize),
    ) -> Expr {
        let middle = (low + high).div_ceil(2);
        let left = if middle == low {
            terms[middle].take().unwrap_or_else(nothing)
        } else {
            self.balanced(function, terms, operators, (low, middle - 1))
        };
        let right = if middle == high {
            terms[middle + 1].take().unwrap_or_else(nothing)
        } else {
            self.balanced(function, terms, operators, (middle + 1, high))
        };
        self.call(operators[middle], function, vec![left, right])
    }

    fn relation(&mut self) -> Expr {
        self.binary(0)
    }

    /// Operators of one precedence and above, left-associative.
    fn binary(&mut self, level: usize) -> Expr {
        const LEVELS: [&[(&str, &str)]; 3] = [
            &[
                ("<", "_<_"),
                ("<=", "_<=_"),
                (">=", "_>=_"),
                (">", "_>_"),
                ("==", "_==_"),
                ("!=", "_!=_"),
                ("in", "@in"),
            ],
            &[("+", "_+_"), ("-", "_-_")],
            &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
        ];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1);
        let mut chained = 0;
        loop {
            let token = self.peek();
            let known =
                operators.iter().find(|(symbol, _)| token.kind == Word::Symbol && token.text == *symbol);
            let Some((_, function)) = known else { return left };
            chained += 1;
            if chained > MAX_NESTING {
                self.give_up(too_deep());
                return left;
            }
            self.take();
            let id = self.id(token.at);
            let right = self.binary(level + 1);
            left = self.call(id, function, vec![left, right]);
        }
    }

    fn unary(&mut self) -> Expr {
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            let Some(first) = self.accept(symbol) else { continue };
            if symbol == "-" && matches!(self.peek().kind, Word::Int | Word::Float) {
                let literal = self.number(Some(first));
                return self.members(literal);
            }
            let mut count = 1;
            while self.accept(symbol).is_some() {
                count += 1;
            }
            let id = (count % 2 == 1).then(|| self.id(first.at));
            let operand = self.member();
            return match id {
                Some(id) => self.call(id, function, vec![operand]),
                None => operand,
            };
        }
        self.member()
    }

    fn member(&mut self) -> Expr {
        let primary = self.primary();
        self.members(primary)
    }

    fn members(&mut self, mut operand: Expr) -> Expr {
        let mut chained = 0;
        loop {
            chained += 1;
            if chained > MAX_NESTING {
                self.give_up(too_deep());
                return operand;
            }
            if let Some(dot) = self.accept(".") {
                operand = self.selection(operand, dot);
            } else if let Some(bracket) = self.accept("[") {
                let optional = self.accept("?").is_some();
                let id = self.id(bracket.at);
                let index = self.expression();
                self.expect("]", "']'");
                operand = self.call(id, if optional { "_[?_]" } else { "_[_]" }, vec![operand, index]);
            } else {
                return operand;
            }
        }
    }

    fn selection(&mut self, operand: Expr, dot: Token<'s>) -> Expr {
        let optional = self.accept("?").is_some();
        let name = self.peek();
        match name.kind {
            Word::Ident | Word::Quoted => {}
            _ => {
                let message = messages::mismatched(name, "{IDENTIFIER, ESC_IDENTIFIER}");
                let message = if name.kind == Word::Symbol { messages::no_identifier(name) } else { message };
                self.syntax_error(message);
                return operand;
            }
        }
        self.take();
        if name.kind == Word::Quoted {
            self.report(name.at, "unsupported syntax: '`'");
        }
        if optional {
            let field = self.node(name.at, Kind::Literal(Literal::String(name.text.into())));
            let id = self.id(dot.at);
            return self.call(id, "_?._", vec![operand, field]);
        }
        if name.kind == Word::Ident
            && let Some(open) = self.accept("(")
        {
            let id = self.id(open.at);
            let args = self.arguments();
            return self.call_or_macro(id, name.text, Some(operand), args);
        }
        self.node(
            dot.at,
            Kind::Select { operand: Box::new(operand), field: name.text.to_owned(), test_only: false },
        )
    }

    fn arguments(&mut self) -> Vec<Expr> {
        let mut args = Vec::new();
        if self.accept(")").is_some() {
            return args;
        }
        loop {
            args.push(self.expression());
            if self.accept(",").is_none() {
                break;
            }
        }
        self.expect(")", "')'");
        args
    }

    fn primary(&mut self) -> Expr {
        let token = self.peek();
        match token.kind {
            Word::Int | Word::Float => self.number(None),
            Word::Uint => self.unsigned(),
            Word::String => self.string(),
            Word::Bytes => self.bytes(),
            Word::Ident => self.name(None),
            Word::Symbol => self.symbol(token),
            Word::Quoted | Word::End => self.no_primary(),
        }
    }

    fn symbol(&mut self, token: Token<'s>) -> Expr {
        let literal = match token.text {
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            "null" => Literal::Null,
            "(" => {
                self.take();
                let inner = self.expression();
                self.expect(")", "')'");
                return inner;
            }
            "[" => return self.list(),
            "{" => return self.map(),
            "." => {
                self.take();
                if self.peek().kind == Word::Ident {
                    return self.name(Some(token));
                }
                let message = messages::no_identifier(self.peek());
                self.syntax_error(message);
                return self.node(token.at, Kind::Broken);
            }
            _ => return self.no_primary(),
        };
        self.take();
        self.node(token.at, Kind::Literal(literal))
    }

    fn no_primary(&mut self) -> Expr {
        let token = self.peek();
        let message = messages::mismatched(token, messages::PRIMARY);
        self.syntax_error(message);
        self.node(token.at, Kind::Broken)
    }

    /// A variable, a call, or an object literal.
    fn name(&mut self, dot: Option<Token<'s>>) -> Expr {
        if let Some(length) = self.object_name() {
            return self.object(dot, length);
        }
        let token = self.take();
        let at = dot.map_or(token.at, |dot| dot.at);
        let name = if dot.is_some() { format!(".{}", token.text) } else { token.text.to_owned() };
        if is_cel_word(token.text) {
            self.report(token.at, format!("reserved identifier: {}", token.text));
            return self.node(at, Kind::Broken);
        }
        if let Some(open) = self.accept("(") {
            let id = self.id(open.at);
            let args = self.arguments();
            return self.call_or_macro(id, &name, None, args);
        }
        self.node(at, Kind::Ident(name))
    }

    /// How many words until the `{` of an object literal, if one starts here.
    fn object_name(&self) -> Option<usize> {
        let mut length = 1;
        loop {
            let token = self.peek_at(length);
            if token.kind != Word::Symbol {
                return None;
            }
            match token.text {
                "{" => return Some(length),
                "." if self.peek_at(length + 1).kind == Word::Ident => length += 2,
                _ => return None,
            }
        }
    }

    fn object(&mut self, dot: Option<Token<'s>>, length: usize) -> Expr {
        let mut name = if dot.is_some() { ".".to_owned() } else { String::new() };
        for _ in 0..length {
            name.push_str(self.take().text);
        }
        let open = self.take();
        let id = self.id(open.at);
        let mut fields = Vec::new();
        while !self.lost && self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let field = self.peek();
            if !matches!(field.kind, Word::Ident | Word::Quoted) {
                let message = messages::mismatched(field, "{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}");
                self.syntax_error(message);
                break;
            }
            self.take();
            if field.kind == Word::Quoted {
                self.report(field.at, "unsupported syntax: '`'");
            }
            let colon = self.peek();
            self.expect(":", "':'");
            let field_id = self.id(colon.at);
            let value = self.expression();
            fields.push(Field { id: field_id, name: field.text.to_owned(), value, optional });
            self.separator("}", "{'}', ','}");
        }
        self.build(id, Kind::Struct { name, fields })
    }

    /// A comma, or what ends the list; a comma may stand before the end.
    fn separator(&mut self, close: &str, expected: &str) {
        if self.accept(",").is_none() && !self.is(close) && !self.lost {
            let message = messages::mismatched(self.peek(), expected);
            self.syntax_error(message);
        }
    }

    fn list(&mut self) -> Expr {
        let open = self.take();
        let id = self.id(open.at);
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        while !self.lost && self.accept("]").is_none() {
            optional.push(self.accept("?").is_some());
            elements.push(self.expression());
            self.separator("]", "{']', ','}");
        }
        self.build(id, Kind::List { elements, optional })
    }

    fn map(&mut self) -> Expr {
        let open = self.take();
        let id = self.id(open.at);
        let mut entries = Vec::new();
        while !self.lost && self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let key = self.expression();
            let colon = self.peek();
            self.expect(":", "':'");
            self.id(colon.at);
            let value = self.expression();
            entries.push(Entry { key, value, optional });
            self.separator("}", "{'}', ','}");
        }
        self.build(id, Kind::Map(entries))
    }
}

/// What stands in for a term that was taken already, which does not happen.
fn nothing() -> Expr {
    Expr { id: 0, kind: Kind::Broken }
}
