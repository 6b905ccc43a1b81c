//! Git repositories, by the `git` program.

mod address;
mod check;
mod lfs;
mod submodules;

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, aside};
use crate::process::{Call, Surroundings, find};
use crate::reach::reached;
use crate::shown::shown;
use address::PROTOCOLS;
pub use check::{check_reference, check_signed, check_signers, check_url};
use submodules::{Link, Trail, links};

/// Which commit of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// The one that the repository's HEAD names.
    #[default]
    Head,
    /// Whatever the server makes of a name: a branch, a tag or a commit.
    Name(String),
    /// The newest of a branch.
    Branch(String),
    /// The one a tag names.
    Tag(String),
    /// This one: 40 (or 64) hexadecimal digits.
    Commit(String),
}

/// By what a repository lets somebody in.
#[derive(Clone, Default)]
pub struct Credentials {
    /// For HTTP: user name and password or token.
    pub basic: Option<(String, String)>,
    /// For SSH: a private key, and the `known_hosts` that the server must be among.
    pub ssh: Option<(String, String)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (basic, ssh) = (self.basic.is_some(), self.ssh.is_some());
        f.debug_struct("Credentials").field("basic", &basic).field("ssh", &ssh).finish()
    }
}

/// Who must have signed, and what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Nobody.
    #[default]
    Nobody,
    /// Whom the own configuration of git trusts, the commit.
    Trusted,
    /// One of these, as `ssh-keygen` writes an `allowed_signers` file.
    AllowedSigners {
        /// The lines of the file.
        signers: String,
        /// What they must have signed.
        signed: Signed,
    },
}

/// What must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signed {
    /// The commit.
    #[default]
    Commit,
    /// The annotated tag that the reference names, by that very name.
    Tag,
    /// Both.
    TagAndCommit,
}

/// A repository.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    /// `https://`, `ssh://`, `git://`, `user@host:path`; in one's own surroundings also a path.
    pub url: String,
    /// Which commit.
    pub reference: Reference,
    /// How to get in.
    pub credentials: Credentials,
    /// Who must have signed.
    pub verify: Verify,
    /// Directories and files that are used of it; all of it when empty.
    pub paths: Vec<PathBuf>,
    /// Whether its submodules are fetched, and theirs. Otherwise nothing that is used may hold one, nor lie in one.
    pub submodules: bool,
    /// Whether what pointers of Git LFS point to is fetched. Otherwise nothing that becomes manifests may be one.
    pub lfs: bool,
}

impl Repository {
    /// The commit that the reference names now, without fetching it.
    ///
    /// # Errors
    /// When the repository is not reached or has no such reference.
    pub async fn resolve(&self, surroundings: &Surroundings, scratch: &Path) -> Result<String, Error> {
        self.check(surroundings)?;
        let name = match &self.reference {
            Reference::Commit(commit) => return Ok(commit.clone()),
            Reference::Head => "HEAD".to_owned(),
            Reference::Name(name) => name.clone(),
            Reference::Branch(name) => format!("refs/heads/{name}"),
            Reference::Tag(name) => format!("refs/tags/{name}"),
        };
        let peeled = format!("{name}^{{}}");
        let told =
            self.git(surroundings, scratch, scratch, &["ls-remote", &self.remote(), &name, &peeled]).await?;
        let lines = told.lines().filter_map(|line| line.split_once('\t'));
        // What an annotated tag leads to, before the tag itself.
        let (mut found, mut leads) = (None, None);
        for (commit, of) in lines {
            *(if of.ends_with("^{}") { &mut leads } else { &mut found }) = Some(commit.to_owned());
        }
        leads.or(found).ok_or_else(|| Error::Invalid(format!("{} has no {name}", shown(&self.url))))
    }

    /// Checks the reference out into `into`, which is there and empty; answers the commit. `scratch` is for files of the
    /// credentials, and not below `into`.
    ///
    /// # Errors
    /// When the repository or a submodule is not reached, has no such reference, or the commit is not signed as it must be.
    pub async fn check_out(
        &self,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
    ) -> Result<String, Error> {
        let mut trail = Trail::new();
        let commit = self.take(into, surroundings, scratch, &mut trail).await?;
        lfs::resolve(self, into, &trail.taken, surroundings, scratch).await?;
        Ok(commit)
    }

    async fn take(
        &self,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
        trail: &mut Trail,
    ) -> Result<String, Error> {
        self.check(surroundings)?;
        let wanted = match &self.reference {
            Reference::Head => "HEAD".to_owned(),
            Reference::Name(name) | Reference::Commit(name) => name.clone(),
            Reference::Branch(name) => format!("refs/heads/{name}"),
            Reference::Tag(name) => format!("refs/tags/{name}"),
        };
        let git = async |arguments: &[&str]| self.git(surroundings, into, scratch, arguments).await;
        git(&["init", "--quiet", "--template="]).await?;
        let fetch = ["fetch", "--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules"];
        git(&[&fetch[..], &[self.remote().as_ref(), wanted.as_str()]].concat()).await?;
        git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]).await?;
        let commit = git(&["rev-parse", "HEAD"]).await?.trim().to_owned();
        match &self.verify {
            Verify::Nobody => {}
            Verify::Trusted => drop(git(&["verify-commit", "HEAD"]).await?),
            Verify::AllowedSigners { signers, signed } => {
                if matches!(signed, Signed::Tag | Signed::TagAndCommit) {
                    self.verify_tag(signers, into, surroundings, scratch).await?;
                }
                if matches!(signed, Signed::Commit | Signed::TagAndCommit) {
                    self.verify_signers(&commit, signers, into, surroundings, scratch).await?;
                }
            }
        }
        trail.taken.push((into.to_owned(), self.clone()));
        let links = links(&git(&["ls-tree", "-r", "-z", "HEAD"]).await?);
        if self.submodules {
            self.fetch_submodules(links, into, surroundings, scratch, trail).await?;
        } else {
            self.refuse_submodules(links, into).await?;
        }
        Ok(commit)
    }

    /// What lies in a submodule would be missing without a word.
    async fn refuse_submodules(&self, links: Vec<Link>, into: &Path) -> Result<(), Error> {
        if links.is_empty() {
            return Ok(());
        }
        let (into, paths) = (into.to_owned(), self.paths.clone());
        let named = aside(move || Ok(reached(&into, &paths)?.named)).await?;
        let used = |link: &&Link| {
            let touches =
                |path: &PathBuf| Path::new(&link.path).starts_with(path) || path.starts_with(&link.path);
            named.iter().any(touches)
        };
        match links.iter().find(used) {
            None => Ok(()),
            Some(link) => Err(Error::Invalid(format!(
                "{} is a submodule, and this source does not follow submodules: have it do so (submodules: true, or \
                 --git-submodules), or make the submodule's repository a source of its own",
                link.path
            ))),
        }
    }

    /// A tag may be handed out under another name than it was made for: the name it was signed with counts.
    async fn verify_tag(
        &self,
        signers: &str,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
    ) -> Result<(), Error> {
        let name = check::signed_tag(&self.reference)?;
        let not_signed = |said: String| Error::NotSigned { what: format!("tag {name}"), said };
        let file = signers_file(scratch, signers)?;
        let git = async |arguments: &[&str]| self.git(surroundings, into, scratch, arguments).await;
        if git(&["cat-file", "-t", "FETCH_HEAD"]).await?.trim() != "tag" {
            return Err(not_signed("it is a name for a commit and cannot be signed".to_owned()));
        }
        let object = git(&["cat-file", "tag", "FETCH_HEAD"]).await?;
        let own =
            object.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix("tag "));
        if own != Some(name) {
            return Err(not_signed(format!("it was made as {:?}", own.unwrap_or_default())));
        }
        // A good signature of somebody unknown would pass below this trust.
        let with = ["-c", "gpg.format=ssh", "-c", "gpg.minTrustLevel=fully", "-c", file.as_str()];
        match git(&[&with[..], &["verify-tag", "FETCH_HEAD"]].concat()).await {
            Ok(_) => Ok(()),
            Err(Error::Failed { said, .. }) if said.is_empty() => {
                Err(not_signed("it is not signed".to_owned()))
            }
            Err(Error::Failed { said, .. }) => Err(not_signed(said)),
            Err(error) => Err(error),
        }
    }

    async fn verify_signers(
        &self,
        commit: &str,
        signers: &str,
        into: &Path,
        surroundings: &Surroundings,
        scratch: &Path,
    ) -> Result<(), Error> {
        let file = signers_file(scratch, signers)?;
        let with = ["-c", "gpg.format=ssh", "-c", file.as_str()];
        let not_signed = |said: String| Error::NotSigned { what: format!("commit {commit}"), said };
        let verified =
            self.git(surroundings, into, scratch, &[&with[..], &["verify-commit", commit]].concat()).await;
        match verified {
            Ok(_) => {}
            Err(Error::Failed { said, .. }) if said.is_empty() => {
                return Err(not_signed("it is not signed".to_owned()));
            }
            Err(Error::Failed { said, .. }) => return Err(not_signed(said)),
            Err(error) => return Err(error),
        }
        // A good signature of somebody unknown is one too, to git; `G` is a good one of somebody who is listed.
        let show = ["log", "-1", "--format=%G?", commit];
        let verdict = self.git(surroundings, into, scratch, &[&with[..], &show[..]].concat()).await?;
        match verdict.trim() {
            "G" => Ok(()),
            other => Err(not_signed(format!("git calls the signature {other:?}"))),
        }
    }

    /// The URL for git. A user's name in it would have git ask for that user's password alone, and the Secret may have another.
    fn remote(&self) -> Cow<'_, str> {
        let parts = self.url.split_once("://").filter(|_| self.credentials.basic.is_some());
        let bare = parts.and_then(|(scheme, rest)| {
            let (authority, path) = rest.split_once('/')?;
            Some(format!("{scheme}://{}/{path}", authority.rsplit_once('@')?.1))
        });
        bare.map_or(Cow::Borrowed(&self.url), Cow::Owned)
    }

    fn check(&self, surroundings: &Surroundings) -> Result<(), Error> {
        check_reference(&self.reference)?;
        match surroundings {
            Surroundings::Isolated { .. } => check_url(&self.url),
            Surroundings::Own => check::no_option(&self.url),
        }
    }

    async fn git(
        &self,
        surroundings: &Surroundings,
        directory: &Path,
        scratch: &Path,
        arguments: &[&str],
    ) -> Result<String, Error> {
        let Some(program) = find("git") else {
            let needs = "git is not on the PATH, and a repository needs it".to_owned();
            return Err(Error::MissingTool { needs, hint: "https://git-scm.com" });
        };
        // Asks nobody and runs nothing that a repository brings.
        let mut environment: Vec<(&'static str, OsString)> =
            vec![("GIT_TERMINAL_PROMPT", "0".into()), ("GIT_CONFIG_NOSYSTEM", "1".into())];
        if matches!(surroundings, Surroundings::Isolated { .. }) {
            environment.push(("GIT_ALLOW_PROTOCOL", PROTOCOLS.join(":").into()));
        }
        environment.extend(self.credentials.environment(&self.url, scratch)?);
        let call = Call {
            tool: "git",
            program,
            arguments: arguments.iter().map(Into::into).collect(),
            directory,
            surroundings,
            environment,
        };
        call.run().await
    }
}

impl Credentials {
    /// What lets git in: a password that it asks for by the server's name, a key in a file of its own. A header of ours would
    /// be sent on to wherever the server redirects to.
    fn environment(&self, url: &str, scratch: &Path) -> Result<Vec<(&'static str, OsString)>, Error> {
        let mut environment: Vec<(&'static str, OsString)> = Vec::new();
        if let Some((user, password)) = &self.basic {
            let no_server = || Error::Invalid(format!("{} is no URL to log in at", shown(url)));
            let server: http::Uri = url.parse().map_err(|_| no_server())?;
            let (Some(scheme), Some(authority)) = (server.scheme_str(), server.authority()) else {
                return Err(no_server());
            };
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let line = format!("{scheme}://{}:{}@{host}", escaped(user), escaped(password));
            let file = write_private(scratch, "credentials", &line)?;
            environment.extend([
                ("GIT_CONFIG_COUNT", "2".into()),
                // Nobody else's, first.
                ("GIT_CONFIG_KEY_0", "credential.helper".into()),
                ("GIT_CONFIG_VALUE_0", OsString::new()),
                ("GIT_CONFIG_KEY_1", "credential.helper".into()),
                ("GIT_CONFIG_VALUE_1", format!("store --file={}", quoted(&file)).into()),
            ]);
        }
        if let Some((key, known_hosts)) = &self.ssh {
            let key = write_private(scratch, "identity", key)?;
            let hosts = write_private(scratch, "known_hosts", known_hosts)?;
            let command = format!(
                "ssh -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} -o StrictHostKeyChecking=yes \
                 -o BatchMode=yes -o ConnectTimeout=20",
                quoted(&key),
                quoted(&hosts)
            );
            environment.push(("GIT_SSH_COMMAND", command.into()));
        }
        Ok(environment)
    }
}

/// The setting that names a file of allowed signers.
fn signers_file(scratch: &Path, signers: &str) -> Result<String, Error> {
    let file = scratch.join("allowed_signers");
    std::fs::write(&file, signers).map_err(Error::file("write", &file))?;
    Ok(format!("gpg.ssh.allowedSignersFile={}", file.display()))
}

/// As the shell that git hands the command to takes a word as it is.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

fn write_private(scratch: &Path, name: &str, content: &str) -> Result<PathBuf, Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = scratch.join(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&path).and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        // A key must end with a line.
        if content.ends_with('\n') { Ok(()) } else { file.write_all(b"\n") }
    });
    written.map_err(Error::file("write", &path))?;
    Ok(path)
}

#[cfg(test)]
mod tests;
