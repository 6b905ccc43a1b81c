//! Which files `collect` prints, and how: shared by the process in a container and the simulation.

use std::io;

use workflow::collect::{Encoder, Globs};

use crate::execute::Collection;

/// Prints `files` (path relative to the directory, size) that match, reading each with `read`. A file that does not fit
/// or cannot be read is printed as skipped.
///
/// # Errors
/// What is wrong with a glob, for people.
pub fn print(
    from: &Collection<'_>,
    files: &[(String, u64)],
    mut read: impl FnMut(&str) -> io::Result<Vec<u8>>,
    mut line: impl FnMut(&str),
) -> Result<(), String> {
    let globs = Globs::new(from.artifacts, from.junit)?;
    let mut encoder = Encoder::default();
    let mut left = from.max_bytes.unwrap_or(u64::MAX);
    let mut print = |text: &str| text.lines().for_each(&mut line);
    print(&encoder.begin());
    for (path, size) in files {
        let Some(keep) = globs.matches(path) else { continue };
        let admitted = encoder.admit(path, *size).and_then(|()| {
            if *size > left { Err(format!("{size} bytes are more than the {left} left")) } else { Ok(()) }
        });
        if let Err(reason) = admitted {
            print(&encoder.skipped(path, &reason));
            continue;
        }
        match read(path) {
            // A file may have grown since it was listed.
            Ok(content)
                if content.len() as u64 <= left && encoder.admit(path, content.len() as u64).is_ok() =>
            {
                left -= content.len() as u64;
                let junit = keep == workflow::collect::Keep::Junit;
                print(&encoder.file(path, junit, &content));
            }
            Ok(content) => print(&encoder.skipped(path, &format!("it grew to {} bytes", content.len()))),
            Err(error) => print(&encoder.skipped(path, &error.to_string())),
        }
    }
    print(&encoder.end());
    Ok(())
}
