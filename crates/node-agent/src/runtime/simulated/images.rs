//! What is taken for granted of images that nobody has. Pure.

use std::time::Duration;

use super::exec::{self, Container};
use super::host::{self, Files, Outcome};

/// Images (by the last part of their name) whose own command serves until it is stopped, whatever the pod's restart
/// policy: a web server does not end by itself.
const SERVERS: [&str; 9] =
    ["agnhost", "etcd", "httpd", "httpd-new", "nginx", "nginx-new", "pause", "redis", "webserver"];
/// What the many-sided test image `agnhost` can be told to do that ends by itself.
const ENDING: [&str; 6] =
    ["connect", "dns-suffix", "dns-server-list", "entrypoint-tester", "etc-hosts", "mounttest"];
/// Tags that say that there is no such image.
const ABSENT: [&str; 3] = ["404", "does-not-exist", "nonexistent"];

/// The last part of an image's name, and its tag.
fn name_and_tag(image: &str) -> (&str, &str) {
    let image = image.split('@').next().unwrap_or(image);
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').unwrap_or((last, ""))
}

/// Whether the image's tag says that there is none.
pub(super) fn is_absent(image: &str) -> bool {
    ABSENT.contains(&name_and_tag(image).1)
}

/// What a command line does in a container, as far as the simulation understands it; `None` when it does not.
pub(super) fn commanded(command: &[String], container: &Container, files: &mut Files) -> Option<Outcome> {
    let steps = exec::steps(command, container)?;
    let mut whole = Outcome::default();
    let mut elapsed = Duration::ZERO;
    for step in steps {
        let mut outcome = match step {
            exec::Step::Tool(tool) => host::start(&tool, &container.view, files),
            exec::Step::Ends(code) => Outcome { end: Some((Duration::ZERO, code)), ..Outcome::default() },
            exec::Step::Prints(text) => Outcome {
                lines: text.lines().map(|line| (Duration::ZERO, line.to_owned())).collect(),
                end: Some((Duration::ZERO, 0)),
                ..Outcome::default()
            },
        };
        whole
            .lines
            .extend(outcome.lines.drain(..).map(|(after, line)| (after.saturating_add(elapsed), line)));
        whole.serving.append(&mut outcome.serving);
        let Some((after, code)) = outcome.end else { return Some(whole) };
        elapsed = elapsed.saturating_add(after);
        whole.end = Some((elapsed, code));
        if code != 0 {
            break;
        }
    }
    Some(whole)
}

/// Whether a container of this image runs until it is stopped; `None` when that is the pod's restart policy's to say.
pub(super) fn serves(image: &str, command: &[String], args: &[String]) -> Option<bool> {
    let (name, _) = name_and_tag(image);
    let known = SERVERS.contains(&name) && command.is_empty();
    known.then(|| !args.first().is_some_and(|verb| ENDING.contains(&verb.as_str())))
}

/// What a container of this image says when it begins, where tests and people look for it.
pub(super) fn greeting(image: &str, args: &[String]) -> Option<&'static str> {
    let pauses = args.first().is_none_or(|verb| verb == "pause");
    (name_and_tag(image).0 == "agnhost" && pauses).then_some("Paused")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn servers_stay_and_others_are_left_to_the_restart_policy() {
        let agnhost = "registry.example/e2e/agnhost:2.57";
        assert_eq!(serves(agnhost, &[], &words("pause")), Some(true));
        assert_eq!(serves(agnhost, &[], &words("mounttest --fs_type=/x")), Some(false));
        assert_eq!(serves(agnhost, &words("/bin/sh"), &[]), None);
        assert_eq!(serves("busybox", &[], &[]), None);
        assert_eq!((greeting(agnhost, &[]), greeting(agnhost, &words("netexec"))), (Some("Paused"), None));
        assert_eq!(serves("nginx@sha256:0123", &[], &[]), Some(true));
    }

    #[test]
    fn some_tags_say_that_there_is_no_image() {
        assert!(is_absent("webserver:404") && is_absent("registry:5000/x/redis:nonexistent"));
        assert!(!is_absent("webserver") && !is_absent("registry:404/webserver"));
    }

    #[test]
    fn commands_take_their_time_and_end_as_they_say() {
        let run = |line: &[&str]| {
            let command: Vec<String> = line.iter().map(|&word| word.to_owned()).collect();
            commanded(&command, &Container::default(), &mut Files::default()).map(|outcome| outcome.end)
        };
        assert_eq!(run(&["sleep", "100"]), Some(Some((Duration::from_secs(100), 0))));
        assert_eq!(run(&["/bin/sh", "-c", "sleep 2; exit 3"]), Some(Some((Duration::from_secs(2), 3))));
        assert_eq!(run(&["false"]), Some(Some((Duration::ZERO, 1))));
        assert_eq!(run(&["/usr/bin/unheard-of"]), None);
    }
}
