//! Packs of files on a disk.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tool_image::pack::{Line, MAX_LINE, Wanted};

/// Files of one pack.
const MAX_FILES: usize = 200_000;

/// Packs what is wanted below a directory. One that is not there is empty.
///
/// # Errors
/// As the file system says.
pub(super) fn write(from: &Path, wanted: &Wanted, to: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(to)?);
    let mut count = 0;
    walk(from, "", &mut |path, whole| {
        let Some(place) = wanted.place(path) else { return Ok(()) };
        count += 1;
        if count > MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} files")));
        }
        if whole.is_symlink() {
            let link = fs::read_link(whole)?.to_string_lossy().into_owned();
            return out.write_all(&Line::Link { path: place.to_owned(), link }.bytes());
        }
        if whole.is_dir() {
            let mode = fs::metadata(whole)?.permissions().mode() & 0o7777;
            return out.write_all(&Line::Directory { directory: place.to_owned(), mode }.bytes());
        }
        let file = File::open(whole)?;
        let facts = file.metadata()?;
        let mode = facts.permissions().mode() & 0o777;
        out.write_all(&Line::File { path: place.to_owned(), size: facts.len(), mode }.bytes())?;
        // One that grows meanwhile is cut where it was; one that shrinks spoils the pack.
        let copied = io::copy(&mut file.take(facts.len()), &mut out)?;
        if copied < facts.len() {
            return Err(io::Error::other(format!("{path} became shorter")));
        }
        Ok(())
    })?;
    out.write_all(&Line::End { files: count }.bytes())?;
    out.flush()
}

/// Puts what is wanted of a pack below a directory.
///
/// # Errors
/// As the file system says, or that the pack is damaged.
pub(super) fn read(from: impl Read, wanted: &Wanted, to: &Path) -> io::Result<()> {
    let mut from = BufReader::new(from);
    fs::create_dir_all(to)?;
    let mut count = 0;
    let mut links: Vec<(PathBuf, String)> = Vec::new();
    loop {
        let mut line = Vec::new();
        (&mut from).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        match Line::parse(&line).map_err(io::Error::other)? {
            // Links come last, so that nothing of the pack is written through one.
            Line::End { files } if files == count => {
                return links.into_iter().try_for_each(|(place, link)| put_link(&link, &place));
            }
            Line::Link { path, link } => {
                count += 1;
                if links.len() >= MAX_FILES {
                    return Err(io::Error::other("too many links"));
                }
                links.extend(wanted.place(&path).map(|place| (to.join(place), link)));
            }
            Line::Directory { directory, mode } => {
                count += 1;
                if let Some(place) = wanted.place(&directory) {
                    let place = to.join(place);
                    fs::create_dir_all(&place)?;
                    fs::set_permissions(&place, fs::Permissions::from_mode(mode & 0o7777))?;
                }
            }
            Line::End { .. } => return Err(io::Error::other("the pack is damaged: files are missing")),
            Line::File { path, size, mode } => {
                count += 1;
                let mut content = (&mut from).take(size);
                match wanted.place(&path) {
                    Some(place) => put(&mut content, &to.join(place), mode)?,
                    None => {
                        io::copy(&mut content, &mut io::sink())?;
                    }
                }
                if content.limit() > 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
            }
        }
    }
}

fn put_link(link: &str, to: &Path) -> io::Result<()> {
    make_place(to)?;
    std::os::unix::fs::symlink(link, to)
}

/// Makes room for a file, which is never written through a link that lies there.
fn make_place(to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn put(content: &mut impl Read, to: &Path, mode: u32) -> io::Result<()> {
    make_place(to)?;
    let mut file = File::options().write(true).create_new(true).open(to)?;
    io::copy(content, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

fn walk(root: &Path, below: &str, each: &mut dyn FnMut(&str, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut entries = match fs::read_dir(root.join(below)) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && fs::read_dir(entry.path())?.next().is_some() {
            walk(root, &path, each)?;
        } else if kind.is_dir() || kind.is_file() || kind.is_symlink() {
            each(&path, &entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_where_it_is_wanted() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to, pack) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("pack"));
        fs::create_dir_all(from.join("repo/bin")).expect("made");
        fs::write(from.join("repo/a.txt"), "one").expect("written");
        fs::write(from.join("repo/bin/run"), vec![7; 100_000]).expect("written");
        fs::set_permissions(from.join("repo/bin/run"), fs::Permissions::from_mode(0o755)).expect("set");
        fs::write(from.join("other"), "two").expect("written");
        fs::create_dir_all(from.join("repo/empty/deep")).expect("made");
        fs::set_permissions(from.join("repo/empty/deep"), fs::Permissions::from_mode(0o1777)).expect("set");
        std::os::unix::fs::symlink("/etc/passwd", from.join("repo/link")).expect("linked");
        write(&from, &Wanted::new("", &[]).expect("all"), &pack).expect("packed");
        let all = fs::read(&pack).expect("a pack");
        read(all.as_slice(), &Wanted::new("repo", &[]).expect("all"), &to).expect("unpacked");
        assert_eq!(fs::read(to.join("a.txt")).expect("there"), b"one");
        assert_eq!(fs::metadata(to.join("bin/run")).expect("there").permissions().mode() & 0o777, 0o755);
        assert!(!to.join("other").exists());
        let empty = fs::metadata(to.join("empty/deep")).expect("there");
        assert_eq!((empty.is_dir(), empty.permissions().mode() & 0o7777), (true, 0o1777));
        assert_eq!(fs::read_link(to.join("link")).expect("a link"), Path::new("/etc/passwd"));
        // Again, over what is there; and through no link.
        fs::remove_file(to.join("a.txt")).expect("removed");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), to.join("a.txt")).expect("linked");
        read(all.as_slice(), &Wanted::new("repo", &["*.txt".into()]).expect("globs"), &to).expect("unpacked");
        assert!(!dir.path().join("elsewhere").exists());
        for length in 0..all.len().min(200) {
            assert!(read(&all[..length], &Wanted::new("", &[]).expect("all"), &to).is_err(), "{length}");
        }
        write(&dir.path().join("none"), &Wanted::new("", &[]).expect("all"), &pack).expect("an empty pack");
    }
}
