//! A JUnit report as the `junit` command writes it.

/// Renders a report of one suite: the passing cases, then the failing ones.
#[must_use]
pub fn render(suite: &str, passing: &[String], failing: &[String]) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" time=\"0\">\n",
        escape(suite),
        passing.len() + failing.len(),
        failing.len(),
    );
    for case in passing {
        xml.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{}\" time=\"0\"/>\n",
            escape(suite),
            escape(case)
        ));
    }
    for case in failing {
        xml.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{}\" time=\"0\">\n      <failure message=\"failed as told\">the command line asked for this case to fail</failure>\n    </testcase>\n",
            escape(suite),
            escape(case)
        ));
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Escapes for an attribute; characters that XML 1.0 cannot carry become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' | '\r' => escaped.push(' '),
            c if (c as u32) < 0x20 || matches!(c as u32, 0xFFFE | 0xFFFF) => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_counted() {
        let xml = render("a<b", &["ok".into()], &["\"bad\" & worse".into()]);
        assert!(xml.contains("name=\"a&lt;b\" tests=\"2\" failures=\"1\""), "{xml}");
        assert!(xml.contains("name=\"&quot;bad&quot; &amp; worse\""), "{xml}");
    }
}
