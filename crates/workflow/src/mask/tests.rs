use proptest::prelude::*;

use super::*;

fn mask(values: &[&str]) -> Mask {
    Mask::new(values).expect("small")
}

/// Gives a stream out as an agent does: in pieces as they come, with the context that is needed.
fn stream(mask: &Mask, chunks: &[&[u8]]) -> String {
    let (mut held, mut context, mut out) = (Vec::new(), 0, Vec::new());
    for (index, chunk) in chunks.iter().enumerate() {
        held.extend_from_slice(chunk);
        let more = index + 1 < chunks.len();
        let (piece, end) = mask.release(&held, context, held.len(), more);
        out.extend(piece);
        let forget = end.saturating_sub(mask.context());
        held.drain(..forget);
        context = end - forget;
    }
    String::from_utf8(out).expect("text")
}

#[test]
fn values_are_hidden_however_they_are_written() {
    let mask = mask(&["s3cr3t&\"value\"", "first-line-of-key\nsecond-line-of-key\n}\n"]);
    for (text, expected) in [
        ("a s3cr3t&\"value\" b", "a ***** b"),
        ("{\"a\":\"s3cr3t&\\\"value\\\"\"}", "{\"a\":\"*****\"}"),
        ("<a b=\"s3cr3t&amp;&quot;value&quot;\"/>", "<a b=\"*****\"/>"),
        ("?q=s3cr3t%26%22value%22", "?q=*****"),
        ("got second-line-of-key }", "got ***** }"),
        ("nothing of it", "nothing of it"),
    ] {
        assert_eq!(mask.text(text), expected);
    }
    // As `base64` prints it, alone and within `user:password`.
    let alone = base64::engine::general_purpose::STANDARD.encode("s3cr3t&\"value\"");
    assert!(!mask.text(&alone).contains(&alone[..6]), "{}", mask.text(&alone));
    let within = base64::engine::general_purpose::STANDARD.encode("user:s3cr3t&\"value\"");
    assert!(mask.text(&within).contains(MASK), "{}", mask.text(&within));
}

#[test]
fn a_short_value_is_not_hidden_and_too_many_are_refused() {
    assert!(mask(&["abc", " \n"]).is_empty());
    assert_eq!(Mask::new(["x".repeat(MAX_VALUES + 1)]).err(), Some(TooLarge));
    assert_eq!(format!("{:?}", mask(&["hunter22"])).find("hunter"), None);
}

#[test]
fn a_secret_over_the_border_of_pieces_is_hidden() {
    let mask = mask(&["hunter2-hunter2", "abcdef", "defghi"]);
    assert_eq!(stream(&mask, &[b"password: hunter2-", b"hunter2 and more"]), "password: ***** and more");
    // The beginning of a secret that ends otherwise is told in the end.
    assert_eq!(stream(&mask, &[b"hunter2-", b"is not it"]), "hunter2-is not it");
    assert_eq!(stream(&mask, &[b"abc", b"def", b"ghi."]), "*****.");
}

proptest! {
    #[test]
    fn pieces_hide_what_the_whole_hides(
        text in "[ab]{0,40}",
        values in proptest::collection::vec("[ab]{4,9}", 1..4),
        cuts in proptest::collection::vec(0usize..40, 0..6),
    ) {
        let mask = Mask::new(&values).expect("small");
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(stream(&mask, &chunks), mask.text(&text));
    }
}
