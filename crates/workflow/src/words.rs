//! Command lines as words, and `$(NAME)` in them.

/// Parts a command line into words at blanks, minding single and double quotes and `\` outside single quotes.
///
/// # Errors
/// When a quote isn't closed.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (quote, '\\') if quote != Some('\'') => {
                let escaped = chars.next().ok_or_else(|| format!("{line:?} ends in a backslash"))?;
                word.get_or_insert_default().push(escaped);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("{line:?} has a quote that is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Replaces `$(NAME)` by what `find` knows, as Kubernetes does in a container's command: what is not known stays, and
/// `$$` is a dollar.
#[must_use]
pub fn expand(text: &str, find: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let name = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = name {
            match find(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mind_quotes() {
        let line = r#"write a "b c" 'd"e' f\ g "" "#;
        assert_eq!(
            words(line),
            Ok(vec!["write", "a", "b c", "d\"e", "f g", ""].into_iter().map(String::from).collect())
        );
        assert!(words("a 'b").is_err());
        assert!(words("a \\").is_err());
    }

    #[test]
    fn dollars_are_read_as_kubernetes_reads_them() {
        let find = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, expected) in
            [("$(A)-$(B)", "x-$(B)"), ("$$(A)", "$(A)"), ("$A $", "$A $"), ("$(A", "$(A"), ("$$$(A)", "$x")]
        {
            assert_eq!(expand(text, &find), expected, "{text}");
        }
    }
}
