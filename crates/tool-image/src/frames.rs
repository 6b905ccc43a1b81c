//! Which files `collect` prints, and how: shared by the process in a container and the simulation.

use std::io;

use workflow::collect::{Encoder, Globs, Keep, PACKS, RECORD, Way};

use crate::execute::Collection;

/// Directories in the order in which a collector looks at them: however many files there are, what others wait for is among
/// those it sees.
pub const ORDER: [&str; 3] = ["record", "packs", ""];

/// Prints `files` (path relative to the directory, size) that match, reading each with `read`. What is too large for a log
/// is held: `digest` answers its size and SHA-256. A file that does not fit or cannot be read is printed as skipped.
/// Answers how many are held.
///
/// # Errors
/// What is wrong with a glob, for people.
pub fn print(
    from: &Collection<'_>,
    files: &[(String, u64)],
    mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
    mut digest: impl FnMut(&str) -> io::Result<(u64, String)>,
    mut line: impl FnMut(&str),
) -> Result<usize, String> {
    let globs = Globs::new(from.artifacts, from.junit)?;
    let mut encoder = Encoder::default();
    let mut left = from.max_bytes.unwrap_or(u64::MAX);
    let mut held = 0;
    let mut print = |text: &str| text.lines().for_each(&mut line);
    print(&encoder.begin());
    let (first, rest): (Vec<_>, Vec<_>) = files.iter().partition(|(path, _)| path == RECORD);
    for (path, size) in first.into_iter().chain(rest) {
        let pack = from.packs && path.starts_with(PACKS);
        let Some(keep) = globs.matches(path).or(pack.then_some(Keep::Pack)) else { continue };
        let within = |size: u64| {
            if size > left { Err(format!("{size} bytes are more than the {left} left")) } else { Ok(()) }
        };
        let way = within(*size).and_then(|()| encoder.admit(path, *size, keep));
        // A file may have grown since it was listed.
        let printed = match way {
            Ok(Way::Log) => read(path).map_err(|error| error.to_string()).and_then(|content| {
                let size = content.len() as u64;
                within(size)?;
                match encoder.admit(path, size, keep)? {
                    Way::Log => Ok((size, encoder.file(path, keep == Keep::Junit, &content))),
                    Way::Held => Err(format!("it grew to {size} bytes")),
                }
            }),
            Ok(Way::Held) => digest(path).map_err(|error| error.to_string()).and_then(|(size, sha256)| {
                within(size)?;
                held += 1;
                Ok((size, encoder.held(path, size, &sha256)))
            }),
            Err(why) => Err(why),
        };
        match printed {
            Ok((size, text)) => {
                left -= size;
                print(&text);
            }
            Err(reason) => print(&encoder.skipped(path, &reason)),
        }
    }
    print(&encoder.end());
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wait_for_lies_where_a_collector_looks_first() {
        assert!(RECORD.starts_with(&format!("{}/", ORDER[0])));
        assert_eq!(PACKS, format!("{}/", ORDER[1]));
    }
}
