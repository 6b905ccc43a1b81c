//! What modules define and call: by their words alone, without a parser.
//!
//! The engine takes a function that is not there for one without a value when it is called within another, and follows a
//! function that calls itself until the stack ends. Both are therefore looked for before anything runs. What is looked at
//! is cut into the definitions at the outermost level; a word that is the name of a definition is taken for its use. That
//! finds every use, and some that are none (a variable called like a rule), which only counts for the depth.

use std::collections::{BTreeMap, BTreeSet};

use super::{OWN, RegoError};

/// Definitions that need one another, one within the other. Gatekeeper's own are 10 deep at most; the engine takes some 20 kB
/// of stack for each.
pub(super) const MAX_DEPTH: usize = 32;

/// What modules use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Functions that they do not define.
    pub(super) functions: BTreeSet<String>,
    /// Whether they look at `data.inventory`.
    pub(super) referential: bool,
}

/// A word (with dots), or a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// Where it begins.
    pub(super) at: usize,
    pub(super) is_word: bool,
    /// The first of its line.
    pub(super) begins_line: bool,
    /// Brackets around it.
    pub(super) depth: usize,
}

/// Words of the language that a parenthesis may follow, or that begin no definition.
pub(super) const KEYWORDS: [&str; 14] = [
    "not", "in", "some", "every", "if", "else", "contains", "with", "as", "default", "import", "package",
    "null", "set",
];

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut all = Vec::new();
    let mut rest = text.char_indices().peekable();
    let (mut begins_line, mut depth) = (true, 0_usize);
    while let Some((start, c)) = rest.next() {
        match c {
            '\n' => begins_line = true,
            c if c.is_whitespace() => {}
            '#' => while rest.next_if(|(_, c)| *c != '\n').is_some() {},
            '"' | '`' => {
                let mut escaped = false;
                for (_, inner) in rest.by_ref() {
                    if inner == c && !escaped {
                        break;
                    }
                    escaped = c == '"' && inner == '\\' && !escaped;
                }
                all.push(Token { text: c.to_string(), at: start, is_word: false, begins_line, depth });
                begins_line = false;
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut end = start + c.len_utf8();
                while let Some((at, c)) = rest.next_if(|(_, c)| c.is_alphanumeric() || *c == '_' || *c == '.')
                {
                    end = at + c.len_utf8();
                }
                let word = text.get(start..end).unwrap_or_default().trim_end_matches('.');
                all.push(Token { text: word.to_owned(), at: start, is_word: true, begins_line, depth });
                begins_line = false;
            }
            c => {
                if matches!(c, ')' | ']' | '}') {
                    depth = depth.saturating_sub(1);
                }
                all.push(Token { text: c.to_string(), at: start, is_word: false, begins_line, depth });
                if matches!(c, '(' | '[' | '{') {
                    depth += 1;
                }
                begins_line = false;
            }
        }
    }
    all
}

/// Tokens cut into what begins at the outermost level: package, imports, definitions.
pub(super) fn chunks(tokens: Vec<Token>) -> Vec<Vec<Token>> {
    let mut chunks: Vec<Vec<Token>> = Vec::new();
    let mut before: Option<Token> = None;
    for token in tokens {
        // A line that goes on with what an earlier one began is no definition.
        let goes_on = before.as_ref().is_some_and(|before| match before.is_word {
            true => matches!(before.text.as_str(), "if" | "else" | "contains" | "in" | "not"),
            false => !matches!(before.text.as_str(), ")" | "]" | "}" | "\"" | "`"),
        });
        let begins = token.is_word && token.begins_line && token.depth == 0 && token.text != "else";
        if chunks.is_empty() || (begins && !goes_on) {
            chunks.push(Vec::new());
        }
        before = Some(token.clone());
        chunks.last_mut().into_iter().for_each(|chunk| chunk.push(token.clone()));
    }
    chunks
}

/// A module cut into its definitions.
struct Module {
    package: String,
    /// Names that stand for others.
    imports: BTreeMap<String, String>,
    definitions: Vec<(String, Vec<Token>)>,
}

impl Module {
    fn of(text: &str) -> Self {
        let mut module = Self { package: String::new(), imports: BTreeMap::new(), definitions: Vec::new() };
        chunks(tokens(text)).into_iter().for_each(|chunk| module.take(chunk));
        module
    }

    fn take(&mut self, chunk: Vec<Token>) {
        let words: Vec<&str> = chunk.iter().filter(|token| token.is_word).map(|token| &*token.text).collect();
        match words.as_slice() {
            ["package", name, ..] => self.package = (*name).to_owned(),
            ["import", path, "as", alias, ..] => {
                drop(self.imports.insert((*alias).to_owned(), (*path).to_owned()))
            }
            ["import", path, ..] => {
                let last = path.rsplit('.').next().unwrap_or_default();
                self.imports.insert(last.to_owned(), (*path).to_owned());
            }
            ["default", name, ..] | [name, ..] => {
                let name = format!("data.{}.{name}", self.package);
                self.definitions.push((name, chunk));
            }
            [] => {}
        }
    }

    /// The full name of a word, were it a name of this module's or an imported one.
    fn full(&self, word: &str, defined: &BTreeSet<String>) -> Option<String> {
        // `data.lib.names` also stands for what is within it.
        let known = |path: &str| {
            let mut path = path;
            loop {
                if defined.contains(path) {
                    return Some(path.to_owned());
                }
                path = path.rsplit_once('.')?.0;
            }
        };
        if word.starts_with("data.") {
            return known(word);
        }
        let (first, others) =
            word.split_once('.').map_or((word, None), |(first, others)| (first, Some(others)));
        let own = known(&format!("data.{}.{word}", self.package));
        own.or_else(|| {
            let path = self.imports.get(first)?;
            known(&others.map_or_else(|| path.clone(), |others| format!("{path}.{others}")))
        })
    }

    /// A path in full, of whatever it is.
    fn path(&self, word: &str) -> String {
        let (first, others) = word.split_once('.').map_or((word, ""), |(first, others)| (first, others));
        match self.imports.get(first) {
            Some(path) => format!("{path}.{others}"),
            None => word.to_owned(),
        }
    }
}

/// What a definition needs.
#[derive(Default)]
struct Needs {
    all: BTreeSet<String>,
    /// Of these what is called.
    called: BTreeSet<String>,
}

/// Looks through modules.
///
/// # Errors
/// When a function calls itself or definitions need one another too deeply.
pub(super) fn check(texts: &[String]) -> Result<Used, RegoError> {
    let modules: Vec<Module> = texts.iter().map(|text| Module::of(text)).collect();
    let defined: BTreeSet<String> =
        modules.iter().flat_map(|module| module.definitions.iter().map(|(name, _)| name.clone())).collect();
    let mut used = Used::default();
    let mut needs: BTreeMap<String, Needs> = BTreeMap::new();
    for module in &modules {
        for (name, chunk) in &module.definitions {
            let own = needs.entry(name.clone()).or_default();
            // The first word is the name itself, behind `default` the second.
            let head = usize::from(chunk.first().is_some_and(|first| first.text == "default"));
            for (index, token) in chunk.iter().enumerate().skip(head + 1).filter(|(_, token)| token.is_word) {
                let is_called =
                    chunk.get(index + 1).is_some_and(|next| next.text == "(" && !next.begins_line);
                let path = module.path(&token.text);
                used.referential |= path == "data" || path.starts_with("data.inventory");
                match module.full(&token.text, &defined) {
                    Some(full) => {
                        if is_called {
                            own.called.insert(full.clone());
                        }
                        own.all.insert(full);
                    }
                    None if is_called && OWN.iter().any(|(name, _)| *name == path) => {
                        check_arguments(&path, chunk.get(index + 1..).unwrap_or_default())?;
                    }
                    None if is_called && !KEYWORDS.contains(&token.text.as_str()) => {
                        used.functions.insert(path.trim_end_matches('.').to_owned());
                    }
                    None => {}
                }
            }
        }
    }
    let mut depths = BTreeMap::new();
    for name in needs.keys() {
        calls_itself(name, &needs)?;
        depth(name, &needs, &mut depths, 1)?;
    }
    Ok(used)
}

/// `call`: from the parenthesis on.
///
/// # Errors
/// When one of our own functions is called with more or fewer arguments than it has.
fn check_arguments(name: &str, call: &[Token]) -> Result<(), RegoError> {
    let Some(wanted) = OWN.iter().find(|(own, _)| *own == name).map(|(_, wanted)| usize::from(*wanted))
    else {
        return Ok(());
    };
    let depth = call.first().map_or(0, |first| first.depth);
    let within: Vec<&Token> = call.iter().skip(1).take_while(|token| token.depth > depth).collect();
    let is_comma = |index: usize, token: &Token| {
        // A comma at the very end separates nothing.
        token.depth == depth + 1 && token.text == "," && index + 1 < within.len()
    };
    let commas = within.iter().enumerate().filter(|(index, token)| is_comma(*index, token)).count();
    let given = if within.is_empty() { 0 } else { commas + 1 };
    match given == wanted {
        true => Ok(()),
        false => Err(RegoError::Arguments { name: name.to_owned(), given, wanted }),
    }
}

/// # Errors
/// When calls lead from a function back to it.
fn calls_itself(function: &str, needs: &BTreeMap<String, Needs>) -> Result<(), RegoError> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut next = vec![function];
    while let Some(name) = next.pop() {
        for called in needs.get(name).into_iter().flat_map(|needs| &needs.called) {
            if called == function {
                return Err(RegoError::Recursion(function.to_owned()));
            }
            if seen.insert(called) {
                next.push(called);
            }
        }
    }
    Ok(())
}

/// How deep a definition leads; `None` in `depths` while it is looked at.
fn depth<'n>(
    name: &'n str,
    needs: &'n BTreeMap<String, Needs>,
    depths: &mut BTreeMap<&'n str, Option<usize>>,
    above: usize,
) -> Result<usize, RegoError> {
    if above > MAX_DEPTH {
        return Err(RegoError::TooDeep);
    }
    match depths.get(name) {
        Some(Some(known)) => return Ok(*known),
        // A rule that needs itself is refused when it is evaluated; a variable of its name is nothing.
        Some(None) => return Ok(0),
        None => drop(depths.insert(name, None)),
    }
    let mut deepest = 0;
    for needed in needs.get(name).into_iter().flat_map(|needs| &needs.all) {
        deepest = deepest.max(depth(needed, needs, depths, above + 1)?);
    }
    if deepest + 1 > MAX_DEPTH {
        return Err(RegoError::TooDeep);
    }
    depths.insert(name, Some(deepest + 1));
    Ok(deepest + 1)
}
