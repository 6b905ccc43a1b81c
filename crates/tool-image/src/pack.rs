//! Files in one stream: for each a line of JSON and its bytes, for each symbolic link and each empty directory a line, then a
//! line that says how many there were. Devices are left out.

use serde::{Deserialize, Serialize};
use workflow::collect::{Globs, MAX_PATH};
use workflow::plan::Pack;

/// Bytes of a line.
pub const MAX_LINE: usize = 4096;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Line {
    /// A file follows.
    File {
        /// Relative to what was packed.
        path: String,
        /// Bytes.
        size: u64,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Relative to what was packed.
        path: String,
        /// Where it leads, as it says.
        link: String,
    },
    /// A directory with nothing in it.
    Directory {
        /// Relative to what was packed.
        directory: String,
        /// Permission bits.
        mode: u32,
    },
    /// Nothing follows.
    End {
        /// How many files, links and empty directories there were.
        files: usize,
    },
}

impl Line {
    /// As it stands in the stream.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("texts and numbers always serialise");
        line.push(b'\n');
        line
    }

    /// Reads a line, with or without its end.
    ///
    /// # Errors
    /// When it is none, or its path leads out of where it is put.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let parsed: Self = serde_json::from_slice(line.trim_ascii_end())
            .map_err(|error| format!("the pack is damaged: {error}"))?;
        if let Self::File { path, .. } | Self::Link { path, .. } | Self::Directory { directory: path, .. } =
            &parsed
            && (path.len() > MAX_PATH
                || path.contains('\0')
                || path.split('/').any(|part| matches!(part, "" | "." | "..")))
        {
            return Err(format!("the pack holds {path:?}, which leads elsewhere"));
        }
        Ok(parsed)
    }
}

/// What is wanted of a pack.
#[derive(Clone, Debug)]
pub struct Wanted {
    from: String,
    files: Option<globset::GlobSet>,
}

impl Wanted {
    /// Files below `from` that match a glob; empty ones mean everything.
    ///
    /// # Errors
    /// What is wrong with a glob.
    pub fn new(from: &str, files: &[String]) -> Result<Self, String> {
        let globs = if files.is_empty() { None } else { Some(Globs::anywhere(files)?) };
        Ok(Self { from: from.trim_matches('/').to_owned(), files: globs })
    }

    /// Where a file goes, relative to where the wanted ones go.
    #[must_use]
    pub fn place<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest =
            if self.from.is_empty() { path } else { path.strip_prefix(&self.from)?.strip_prefix('/')? };
        self.files.as_ref().is_none_or(|globs| globs.is_match(rest)).then_some(rest)
    }
}

/// Reads what `collect --pack` was given.
///
/// # Errors
/// What is wrong with it.
pub fn wanted(text: &str) -> Result<Pack, String> {
    let pack: Pack = serde_json::from_str(text).map_err(|error| format!("{text:?} is no pack: {error}"))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if pack.name.is_empty() || !pack.name.bytes().all(plain) {
        return Err(format!("{:?} is no name of a pack", pack.name));
    }
    Ok(pack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_hostile_ones_refused() {
        let line = Line::File { path: "a/b c".into(), size: 3, mode: 0o644 };
        assert_eq!(Line::parse(&line.bytes()), Ok(line));
        assert_eq!(Line::parse(b"{\"files\":2}"), Ok(Line::End { files: 2 }));
        for path in ["../x", "/etc/x", "a//b", "a/./b", ""] {
            let line = Line::File { path: path.into(), size: 0, mode: 0 };
            assert!(Line::parse(&line.bytes()).is_err(), "{path}");
            let line = Line::Directory { directory: path.into(), mode: 0o755 };
            assert!(Line::parse(&line.bytes()).is_err(), "{path}");
        }
        assert!(Line::parse(b"x").is_err());
    }

    #[test]
    fn what_is_wanted_is_a_part_by_globs() {
        let wanted = Wanted::new("repo", &["**/*.js".into()]).expect("globs");
        assert_eq!(wanted.place("repo/a/b.js"), Some("a/b.js"));
        assert_eq!(wanted.place("repo/a/b.ts"), None);
        assert_eq!(wanted.place("repository/b.js"), None);
        assert_eq!(Wanted::new("", &[]).expect("all").place("x"), Some("x"));
    }
}
