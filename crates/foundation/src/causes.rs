//! Errors for people: what failed and why, in one line.

use std::error::Error;

/// An error with its causes, from the outermost in. What an outer one repeats of its cause is said once.
#[must_use]
pub fn in_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Told>>);

    impl std::fmt::Display for Told {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn causes_follow_and_repetitions_do_not() {
        let root = Told("no route", None);
        let middle = Told("connection failed: no route", Some(Box::new(root)));
        let outer = Told("cannot ask the hub", Some(Box::new(middle)));
        assert_eq!(in_line(&outer), "cannot ask the hub: connection failed: no route");
    }
}
