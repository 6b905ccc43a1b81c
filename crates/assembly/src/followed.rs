//! Files that others write while this runs: when to read them again.
//!
//! * Looked at by time, as upstream's server does: what replaces files (a Secret's volume, a certificate's renewal) swaps
//!   links and directories, which notifications of single files miss.
//! * Read when they have changed and rest: half a configuration may be a valid one that says something else.
//! * What cannot be used is tried again with every look, and said once.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// Between two looks. A look costs a few system calls; what changed counts after two, and a rotated key must be verified
/// before its tokens come around.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// How files were at one moment: which they are, how long, and when they and their names were changed. The time of the
/// content alone would miss a file that is put in another's place with a time of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(Vec<Option<[u64; 7]>>);

impl Seen {
    /// As they are now, whatever links lead to them; a directory changes with what is in it.
    pub(crate) fn now(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let of = |path: &Path| {
            let facts = std::fs::metadata(path).ok()?;
            let times = [facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()];
            let [changed, changed_nanos, named, named_nanos] = times.map(i64::cast_unsigned);
            Some([facts.dev(), facts.ino(), facts.len(), changed, changed_nanos, named, named_nanos])
        };
        Self(paths.into_iter().map(|path| of(path.as_ref())).collect())
    }
}

/// What was read of files, and what is to be read.
#[derive(Debug)]
pub(crate) struct Followed {
    /// As they were when they were read; `None`: what was read could not be used.
    read: Option<Seen>,
    last: Seen,
    /// Why what was read last could not be used.
    said: Option<String>,
}

impl Followed {
    /// They are about to be read, and are as `now`.
    pub(crate) fn new(now: Seen) -> Self {
        Self { read: Some(now.clone()), last: now, said: None }
    }

    /// Whether to read them: they are not as they were when they were read, and have not changed since the last look.
    pub(crate) fn is_due(&mut self, now: Seen) -> bool {
        let rests = self.last == now;
        let due = rests && self.read.as_ref() != Some(&now);
        if due {
            self.read = Some(now.clone());
        }
        self.last = now;
        due
    }

    /// What was read was taken over.
    pub(crate) fn took(&mut self) {
        self.said = None;
    }

    /// What was read cannot be used: it is read again with the next look. Answers whether that is to be said.
    pub(crate) fn failed(&mut self, why: String) -> bool {
        self.read = None;
        self.said.replace(why.clone()) != Some(why)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_changes_is_read_once_it_rests() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let mut followed = Followed::new(Seen::now([&file]));
        let mut look = || followed.is_due(Seen::now([&file]));
        assert!(!look() && !look());
        // Somebody writes it in two pieces, a look in between.
        std::fs::write(&file, "tw").unwrap();
        assert!(!look(), "half of it");
        std::fs::write(&file, "two").unwrap();
        assert!(!look(), "it has just changed");
        assert!(look() && !look());
        std::fs::remove_file(&file).unwrap();
        assert!(!look() && look() && !look());
    }

    #[test]
    fn another_file_in_its_place_is_seen_whatever_its_time_and_length() {
        let home = tempfile::tempdir().unwrap();
        let (file, next) = (home.path().join("file"), home.path().join("next"));
        let long_ago = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        let write = |path: &Path, text: &str| {
            std::fs::write(path, text).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_times(long_ago).unwrap();
        };
        write(&file, "one");
        let mut followed = Followed::new(Seen::now([&file]));
        write(&next, "two");
        std::fs::rename(&next, &file).unwrap();
        assert!(!followed.is_due(Seen::now([&file])) && followed.is_due(Seen::now([&file])));
    }

    #[test]
    fn a_volume_that_swaps_a_link_is_followed_through_it() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("key"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let mut followed = Followed::new(Seen::now([at("key")]));
        symlink("..2", at("..next")).unwrap();
        std::fs::rename(at("..next"), at("..data")).unwrap();
        std::fs::remove_dir_all(at("..1")).unwrap();
        assert!(!followed.is_due(Seen::now([at("key")])) && followed.is_due(Seen::now([at("key")])));
    }

    #[test]
    fn what_cannot_be_used_is_tried_again_and_said_once() {
        let mut followed = Followed::new(Seen::default());
        assert!(!followed.is_due(Seen::default()));
        assert!(followed.failed("it is torn".to_owned()));
        assert!(followed.is_due(Seen::default()));
        assert!(!followed.failed("it is torn".to_owned()));
        assert!(followed.is_due(Seen::default()));
        assert!(followed.failed("it is gone".to_owned()));
        assert!(followed.is_due(Seen::default()));
        followed.took();
        assert!(!followed.is_due(Seen::default()));
        assert!(followed.failed("it is gone".to_owned()), "after it was good, that is news");
    }
}
