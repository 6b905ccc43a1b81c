//! Log files of the container runtime interface: `<time> <stream> <P|F> <text>`, where `P` lines go on in the next of
//! their stream. Pure: bytes in, lines out.

use jiff::Timestamp;

/// One whole line of a container, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// When its first part was written.
    pub(super) time: Timestamp,
    /// Its text.
    pub(super) text: Vec<u8>,
}

/// Bytes of one line, at most: a container that never ends its lines must not eat memory. Longer lines are parted.
const MAX_LINE: usize = 1 << 20;

/// Puts lines together from the file's bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// Bytes of a file line whose end hasn't come.
    rest: Vec<u8>,
    /// Parts of a container's line, by stream.
    partial: [Option<Line>; 2],
}

impl Parser {
    /// Takes bytes and gives the lines they end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut bytes = bytes;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = bytes.split_at(end);
            bytes = &tail[1..];
            self.rest.extend_from_slice(head);
            let whole = std::mem::take(&mut self.rest);
            lines.extend(self.entry(&whole));
        }
        if self.rest.len() + bytes.len() <= MAX_LINE {
            self.rest.extend_from_slice(bytes);
        }
        lines
    }

    /// What is left when nothing more will come.
    pub(super) fn finish(&mut self) -> Vec<Line> {
        self.partial.iter_mut().filter_map(Option::take).collect()
    }

    /// One line of the file. A damaged one is left out.
    fn entry(&mut self, entry: &[u8]) -> Option<Line> {
        let mut fields = entry.splitn(4, |byte| *byte == b' ');
        let time: Timestamp = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let stream = match fields.next()? {
            b"stdout" => 0,
            b"stderr" => 1,
            _ => return None,
        };
        let goes_on = fields.next()?.first() == Some(&b'P');
        let text = fields.next().unwrap_or_default();
        let mut line = self.partial[stream].take().unwrap_or(Line { time, text: Vec::new() });
        line.text.extend_from_slice(text);
        if goes_on && line.text.len() < MAX_LINE {
            self.partial[stream] = Some(line);
            return None;
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_by_stream() {
        let mut parser = Parser::default();
        let file = b"2026-01-02T03:04:05.000000006Z stdout P one \n2026-01-02T03:04:05.1Z stderr F other\n\
            2026-01-02T03:04:05.2Z stdout F line\nbroken\n2026-01-02T03:04:06Z stdout F \n";
        let mut lines = Vec::new();
        for chunk in file.chunks(7) {
            lines.extend(parser.push(chunk));
        }
        let texts: Vec<_> =
            lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect();
        assert_eq!(texts, ["other", "one line", ""]);
        assert_eq!(lines[1].time, "2026-01-02T03:04:05.000000006Z".parse().expect("a time"));
    }
}
