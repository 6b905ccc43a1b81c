//! Files that are fetched before steps: each source is a step of its own.

use fleet_objects::test_workflow::{
    Content, ContentGit, ContentTarball, EnvironmentVariable, RetryPolicy, TestStep,
};
use serde_json::Value;

use crate::expression::Template;

/// The image with `git`, `wget` and `tar` unless the workflow names one.
const IMAGE: &str = "alpine/git:v2.49.1";

/// A step that writes files as they stand, as the compiler needs it.
pub(super) struct Files(pub(super) Vec<(String, String, u32, Option<EnvironmentVariable>)>);

/// The files of a content; paths are made absolute by the compiler.
pub(super) fn files(content: &Content) -> Files {
    let files = content.files.iter().enumerate().map(|(index, file)| {
        let from = file
            .content_from
            .clone()
            .map(|from| variable(&format!("FAIRLEAD_FILE_{index}"), Some(from), None));
        let text = match &from {
            Some(variable) => format!("{{{{ env.{} }}}}", variable.name),
            None => file.content.clone().unwrap_or_default(),
        };
        let mode = file.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644);
        (file.path.clone(), text, mode, from)
    });
    Files(files.collect())
}

fn variable(name: &str, from: Option<Value>, value: Option<&str>) -> EnvironmentVariable {
    let value = value.unwrap_or_default().to_owned();
    EnvironmentVariable { name: name.to_owned(), value, value_from: from, global: false }
}

/// The step that fetches a repository. Credentials reach `git` through its environment: neither command lines nor files
/// of the workspace hold them.
pub(super) fn git(git: &ContentGit, workspace: &str) -> TestStep {
    let mut env = Vec::new();
    let mut take = |name: &str, plain: &Option<String>, from: &Option<Value>| {
        if plain.is_some() || from.is_some() {
            env.push(variable(name, from.clone(), plain.as_deref()));
        }
    };
    take("FAIRLEAD_GIT_USERNAME", &git.username, &git.username_from);
    take("FAIRLEAD_GIT_TOKEN", &git.token, &git.token_from);
    take("FAIRLEAD_GIT_KEY", &git.ssh_key, &git.ssh_key_from);
    for (name, value) in
        [("FAIRLEAD_GIT_URI", Some(&git.uri)), ("FAIRLEAD_GIT_REVISION", git.revision.as_ref())]
    {
        env.push(variable(name, None, Some(value.map_or("HEAD", String::as_str))));
    }
    let directory = git.mount_path.clone().unwrap_or_else(|| format!("{workspace}/repo"));
    env.push(variable("FAIRLEAD_GIT_DIRECTORY", None, Some(&directory)));
    TestStep {
        title: Some(format!("Fetch {}", plain(&git.uri))),
        image: git.image.clone().unwrap_or_else(|| IMAGE.to_owned()),
        shell: Some(git_script(git)),
        env,
        retry: Some(git.retry.clone().unwrap_or(RetryPolicy { count: 2, until: None })),
        working_dir: Some(workspace.to_owned()),
        ..TestStep::default()
    }
}

/// A title must not hold what an expression might bring.
fn plain(text: &str) -> String {
    if Template::parse(text).is_ok_and(|template| template.names().is_empty()) {
        text.to_owned()
    } else {
        "a repository".to_owned()
    }
}

/// A password for the repository's own server: `git` asks for it by the server's name, and wherever a server redirects to it has
/// none.
const PASSWORD: &str = r#"  server="$(printf %s "$FAIRLEAD_GIT_URI" | sed -E 's#^(https?://)([^/@]*@)?([^/]+).*$#\1\3#')"
  export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=credential.helper GIT_CONFIG_VALUE_0= GIT_CONFIG_KEY_1="credential.$server.helper"
  export GIT_CONFIG_VALUE_1='!f() { [ "$1" = get ] && printf "username=%s\npassword=%s\n" "${FAIRLEAD_GIT_USERNAME:-git}" "$FAIRLEAD_GIT_TOKEN"; }; f'
"#;
/// A header would go wherever a server redirects to, so that no redirection is followed.
const BEARER: &str = r#"  export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=http.followRedirects GIT_CONFIG_VALUE_0=false
  export GIT_CONFIG_KEY_1=http.extraHeader GIT_CONFIG_VALUE_1="Authorization: Bearer $FAIRLEAD_GIT_TOKEN"
"#;

fn git_script(git: &ContentGit) -> String {
    let mut script = String::from(
        "set -eu\nexport HOME=\"$(mktemp -d)\" GIT_TERMINAL_PROMPT=0\ngit config --global --add safe.directory '*'\n",
    );
    if git.token.is_some() || git.token_from.is_some() {
        let login = if git.auth_type.as_deref() == Some("header") { BEARER } else { PASSWORD };
        script.push_str(&format!("if [ -n \"${{FAIRLEAD_GIT_TOKEN:-}}\" ]; then\n{login}fi\n"));
    }
    if git.ssh_key.is_some() || git.ssh_key_from.is_some() {
        script.push_str(
            "umask 077\nprintf '%s\\n' \"$FAIRLEAD_GIT_KEY\" > \"$HOME/key\"\numask 022\nexport GIT_SSH_COMMAND=\"ssh -i $HOME/key -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=$HOME/hosts\"\n",
        );
    }
    script.push_str(
        "mkdir -p \"$FAIRLEAD_GIT_DIRECTORY\"\ncd \"$FAIRLEAD_GIT_DIRECTORY\"\n[ -d .git ] || git init -q .\ngit remote remove origin 2>/dev/null || true\ngit remote add origin \"$FAIRLEAD_GIT_URI\"\n",
    );
    if !git.paths.is_empty() {
        let mode = if git.cone { "--cone" } else { "--no-cone" };
        let paths: Vec<_> = git.paths.iter().map(|path| crate::expression::quote(path)).collect();
        script.push_str(&format!("git sparse-checkout set {mode} -- {}\n", paths.join(" ")));
    }
    script.push_str(
        "git fetch -q --depth 1 --filter=blob:none origin \"$FAIRLEAD_GIT_REVISION\" || git fetch -q origin \"$FAIRLEAD_GIT_REVISION\"\ngit checkout -q --force FETCH_HEAD\ngit log -1 --oneline\n",
    );
    script
}

/// The step that fetches and unpacks an archive.
pub(super) fn tarball(tarball: &ContentTarball, workspace: &str) -> TestStep {
    let env = vec![
        variable("FAIRLEAD_ARCHIVE_URL", None, Some(&tarball.url)),
        variable("FAIRLEAD_ARCHIVE_DIRECTORY", None, Some(&tarball.path)),
    ];
    TestStep {
        title: Some(format!("Fetch {}", plain(&tarball.url))),
        image: tarball.image.clone().unwrap_or_else(|| IMAGE.to_owned()),
        shell: Some(
            "set -eu\nmkdir -p \"$FAIRLEAD_ARCHIVE_DIRECTORY\"\narchive=\"$(mktemp)\"\nwget -q -O \"$archive\" \"$FAIRLEAD_ARCHIVE_URL\"\ntar -xf \"$archive\" -C \"$FAIRLEAD_ARCHIVE_DIRECTORY\"\nrm -f \"$archive\"\n"
                .to_owned(),
        ),
        env,
        retry: Some(RetryPolicy { count: 2, until: None }),
        working_dir: Some(workspace.to_owned()),
        ..TestStep::default()
    }
}
