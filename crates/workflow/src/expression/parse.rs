//! Reads the words of an expression into its tree, by how tightly operators bind.

use serde_json::Value;

use super::lex::{self, Token};
use super::{Argument, ExpressionError, Key, MAX_DEPTH, Node, Operator};

pub(super) fn expression(text: &str) -> Result<Node, ExpressionError> {
    let tokens = lex::tokens(text)?;
    let mut parser = Parser { tokens, position: 0, end: text.len(), depth: 0 };
    let node = parser.choice()?;
    match parser.peek() {
        None => Ok(node),
        Some(token) => Err(parser.error(format!("{} is not expected here", describe(token)))),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    position: usize,
    end: usize,
    depth: usize,
}

type Parsed = Result<Node, ExpressionError>;

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position).map(|(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.position).map_or(self.end, |(at, _)| *at)
    }

    fn error(&self, message: impl Into<String>) -> ExpressionError {
        ExpressionError { at: self.at(), message: message.into() }
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(own)) if *own == sign);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ExpressionError> {
        if self.takes(sign) {
            return Ok(());
        }
        let found = self.peek().map_or_else(|| "the end".to_owned(), describe);
        Err(self.error(format!("{sign:?} is wanted, {found} was found")))
    }

    fn choice(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let condition = self.binary(0)?;
        let node = if self.takes("?") {
            let yes = self.choice()?;
            self.expect(":")?;
            let no = self.choice()?;
            Node::Choice { condition: Box::new(condition), yes: Box::new(yes), no: Box::new(no) }
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    fn operator(&self) -> Option<Operator> {
        let Some(Token::Sign(sign)) = self.peek() else { return None };
        Some(match *sign {
            "||" => Operator::Or,
            "&&" => Operator::And,
            "==" | "=" => Operator::Equal,
            "!=" | "<>" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            "+" => Operator::Add,
            "-" => Operator::Subtract,
            "*" => Operator::Multiply,
            "/" => Operator::Divide,
            "%" => Operator::Remainder,
            "**" => Operator::Power,
            _ => return None,
        })
    }

    /// Operators that bind tighter than `above`, from left to right; `**` from right to left.
    fn binary(&mut self, above: u8) -> Parsed {
        let mut left = self.unary()?;
        while let Some(operator) = self.operator().filter(|operator| operator.strength() > above) {
            let at = self.at();
            self.position += 1;
            let strength = operator.strength();
            let right = self.binary(if operator == Operator::Power { strength - 1 } else { strength })?;
            left = Node::Binary { at, operator, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let node = if self.takes("!") {
            Node::Not(Box::new(self.unary()?))
        } else if self.takes("-") {
            Node::Negative { at, inner: Box::new(self.unary()?) }
        } else {
            self.postfix()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn postfix(&mut self) -> Parsed {
        let at = self.at();
        let base = self.primary()?;
        let mut path = Vec::new();
        loop {
            if self.takes(".") {
                path.push(self.member()?);
            } else if self.takes("[") {
                path.push(Key::Index(self.choice()?));
                self.expect("]")?;
            } else {
                break;
            }
        }
        Ok(if path.is_empty() { base } else { Node::Access { at, base: Box::new(base), path } })
    }

    fn member(&mut self) -> Result<Key, ExpressionError> {
        let key = match self.peek() {
            Some(Token::Word(word)) => Key::Member(word.clone()),
            Some(Token::Integer(number)) => Key::Member(number.to_string()),
            Some(Token::Text(text)) => Key::Member(text.clone()),
            Some(Token::Sign("*")) => Key::Every,
            _ => return Err(self.error("a name, a number or * is wanted after the point")),
        };
        self.position += 1;
        // A name may have dashes where nothing else can be meant: `services.my-db.0` is no subtraction of `db`.
        Ok(key)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let Some(token) = self.peek().cloned() else { return Err(self.error("an expression is wanted")) };
        self.position += 1;
        Ok(match token {
            Token::Integer(value) => Node::Literal(value.into()),
            Token::Number(value) => Node::Literal(value.into()),
            Token::Text(value) => Node::Literal(value.into()),
            Token::Word(word) => match word.as_str() {
                "true" => Node::Literal(true.into()),
                "false" => Node::Literal(false.into()),
                "null" => Node::Literal(Value::Null),
                _ if self.takes("(") => Node::Call { at, name: word, arguments: self.arguments(")")? },
                _ => Node::Name { at, name: word },
            },
            Token::Sign("(") => {
                let inner = self.choice()?;
                self.expect(")")?;
                inner
            }
            Token::Sign("[") => list(self.arguments("]")?),
            Token::Sign("{") => self.object()?,
            Token::Sign(_) => {
                self.position -= 1;
                return Err(self.error(format!("{} is not expected here", describe(&token))));
            }
        })
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Argument>, ExpressionError> {
        let mut arguments = Vec::new();
        while !self.takes(end) {
            if !arguments.is_empty() {
                self.expect(",")?;
                if self.takes(end) {
                    break;
                }
            }
            let node = self.choice()?;
            let spread = self.takes("...");
            arguments.push(Argument { node, spread });
        }
        Ok(arguments)
    }

    fn object(&mut self) -> Parsed {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while !self.takes("}") {
            if !entries.is_empty() {
                self.expect(",")?;
            }
            let key = match self.peek() {
                Some(Token::Word(key) | Token::Text(key)) => key.clone(),
                _ => return Err(self.error("a key is wanted")),
            };
            self.position += 1;
            self.expect(":")?;
            entries.push((key, self.choice()?));
        }
        if entries.iter().all(|(_, node)| matches!(node, Node::Literal(_))) {
            let values = entries.into_iter().filter_map(|(key, node)| match node {
                Node::Literal(value) => Some((key, value)),
                _ => None,
            });
            return Ok(Node::Literal(Value::Object(values.collect())));
        }
        Ok(Node::Object(entries))
    }
}

fn list(arguments: Vec<Argument>) -> Node {
    let plain = |argument: &Argument| match &argument.node {
        Node::Literal(value) if !argument.spread => Some(value.clone()),
        _ => None,
    };
    match arguments.iter().map(plain).collect() {
        Some(values) => Node::Literal(Value::Array(values)),
        None => Node::List(arguments),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Integer(value) => value.to_string(),
        Token::Number(value) => value.to_string(),
        Token::Text(value) => format!("{value:?}"),
        Token::Word(word) => word.clone(),
        Token::Sign(sign) => format!("{sign:?}"),
    }
}
