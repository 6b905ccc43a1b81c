use std::collections::{BTreeMap, VecDeque};
use std::io;

use workflow::pod::OUTPUTS_DIRS;

use super::*;
use crate::execute::{Collection, Listing};

/// A container with files, whose commands end as they are told to.
#[derive(Default)]
struct Fake {
    files: BTreeMap<String, Vec<u8>>,
    endings: VecDeque<RunEnd>,
    ran: Vec<Vec<String>>,
    told: Vec<String>,
}

impl Host for Fake {
    fn out(&mut self, line: &str) {
        self.told.push(line.to_owned());
    }
    fn err(&mut self, line: &str) {
        self.told.push(line.to_owned());
    }
    fn sleep(&mut self, _: Duration) -> bool {
        true
    }
    fn wait_for_stop(&mut self) {}
    fn write(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.files.insert(path.to_owned(), content.to_vec());
        Ok(())
    }
    fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn variable(&self, name: &str) -> Option<String> {
        (name == "WHO").then(|| "you".to_owned())
    }
    fn serve(&mut self, _: u16, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn pause(&mut self) {}
    fn collect(&mut self, _: &Collection<'_>) -> Result<usize, String> {
        Ok(0)
    }
    fn copy(&mut self, from: &str, to: &str) -> io::Result<u64> {
        let content = self.read(from)?;
        self.write(to, &content)?;
        Ok(content.len() as u64)
    }
    fn archive(&mut self, files: &[(String, String)], to: &str) -> io::Result<()> {
        let mut archive = Vec::new();
        let open = |path: &str| {
            let content = self.files.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
            Ok((content.len() as u64, io::Cursor::new(content)))
        };
        crate::archive::write(files, open, &mut archive)?;
        self.write(to, &archive)
    }
    fn pack(&mut self, _: &str, _: &crate::pack::Wanted, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn unpack(&mut self, _: u64, _: &crate::pack::Wanted, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn wait_for_files(&mut self, _: &[String]) -> bool {
        true
    }
    fn send(&mut self, _: &str, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn fill(&mut self, path: &str, size: u64, seed: u64) -> io::Result<()> {
        let content: Vec<u8> = crate::execute::junk(size, seed).flatten().collect();
        self.write(path, &content)
    }
    fn run(&mut self, run: &Run) -> RunEnd {
        self.ran.push(run.command.clone());
        self.endings.pop_front().unwrap_or(RunEnd::Code(0))
    }
    fn list(&mut self, dir: &str, levels: usize, most: usize) -> Listing {
        let below = |(path, content): (&String, &Vec<u8>)| {
            let path = path.strip_prefix(dir.trim_end_matches('/'))?.strip_prefix('/')?;
            (path.matches('/').count() < levels).then(|| (path.to_owned(), content.len() as u64))
        };
        Listing::of(self.files.iter().filter_map(below).collect(), most)
    }
    fn remove(&mut self, path: &str) {
        self.files.remove(path);
    }
    fn set_mode(&mut self, _: &str, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn make_dirs(&mut self, _: &[&str]) -> io::Result<()> {
        Ok(())
    }
    fn variables(&self) -> Vec<(String, String)> {
        vec![("WHO".to_owned(), "you".to_owned())]
    }
    fn elapsed_millis(&self) -> u64 {
        0
    }
    fn clock_millis(&self) -> u64 {
        0
    }
    fn date(&self) -> String {
        "2026-01-01T00:00:00Z".to_owned()
    }
    fn install(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

fn step(command: &[&str]) -> PlannedStep {
    PlannedStep {
        name: "probe".to_owned(),
        id: "probe".to_owned(),
        image: "x".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        attempts: 1,
        timeout: Duration::from_secs(60),
        working_dir: "/data".to_owned(),
        ..PlannedStep::default()
    }
}

fn host(steps: Vec<PlannedStep>) -> Fake {
    let plan = ExecutionPlan { steps, ..ExecutionPlan::default() };
    let mut host = Fake::default();
    host.files.insert(PLAN_FILE.to_owned(), serde_json::to_vec(&plan).unwrap());
    host
}

fn message(host: &Fake) -> StepMessage {
    serde_json::from_slice(&host.files[TERMINATION_LOG]).unwrap()
}

#[test]
fn words_see_the_environment_and_files() {
    let mut host =
        host(vec![step(&["say", "{{ env.WHO }}", "{{ file(\"/data/a\") }}", "{{ glob(\"*.txt\") }}"])]);
    for (path, content) in [("/data/a", "b"), ("/data/c.txt", ""), ("/data/d.xml", "")] {
        host.files.insert(path.to_owned(), content.as_bytes().to_vec());
    }
    assert_eq!(run(0, false, &mut host), Ending::Code(0));
    assert_eq!(host.ran, [["say", "you", "b", "[\"c.txt\"]"]]);
    assert_eq!(message(&host).outcome, Some(Outcome::Passed));
}

#[test]
fn a_glob_looks_where_it_must_and_is_whole_or_an_error() {
    let mut files = BTreeMap::from(["/data/b.js", "/data/x/a.js"].map(|path| (path.to_owned(), Vec::new())));
    files.extend((0..=MAX_LOOKED_AT).map(|number| (format!("/data/modules/{number}/m.js"), Vec::new())));
    for (glob, wanted) in [
        ("x/**/*.js", Some("[\"x/a.js\"]")),
        ("./*.js", Some("[\"b.js\"]")),
        ("modules/7/m.js", Some("[\"modules/7/m.js\"]")),
        ("**/*.js", None),
        ("{x,modules}/*/*.js", None),
    ] {
        let mut host = host(vec![step(&["say", &format!("{{{{ glob({glob:?}) }}}}")])]);
        host.files.extend(files.clone());
        run(0, false, &mut host);
        assert_eq!(host.ran.first().map(|words| words[1].as_str()), wanted, "{glob}");
        let told = message(&host).attempts.remove(0).message;
        assert_eq!(told.contains("there are more than 200000 files below /data"), wanted.is_none(), "{told}");
    }
}

#[test]
fn files_are_told_by_their_place_below_the_step_s_directory_or_by_all_of_it() {
    let mut host = host(vec![PlannedStep {
        artifacts: ["*.txt", "/data/reports/b.txt", "../c.txt"].map(str::to_owned).into(),
        artifacts_dir: "/data/rep".to_owned(),
        ..step(&["make"])
    }]);
    for path in ["/data/rep/a.txt", "/data/reports/b.txt", "/data/c.txt"] {
        host.files.insert(path.to_owned(), Vec::new());
    }
    run(0, false, &mut host);
    let kept: Vec<_> =
        host.list(FILES_DIR, usize::MAX, 100).files.into_iter().map(|(path, _)| path).collect();
    assert_eq!(kept, ["file/probe/a.txt", "file/probe/data/c.txt", "file/probe/data/reports/b.txt"]);
}

#[test]
fn a_file_that_is_not_there_is_told_whatever_it_is_called() {
    for name in ["fetch €€", "fetch file[]", "fetch x"] {
        let word = format!("{{{{ file(\"{name}\") }}}}");
        let mut host = host(vec![step(&[&word])]);
        run(0, false, &mut host);
        let told = message(&host);
        assert_eq!(told.outcome, Some(Outcome::NotRun), "{name}");
        assert_eq!(told.attempts[0].reason, "InvalidExpression");
        assert!(
            told.attempts[0].message.contains(&format!("/data/{name}: ")),
            "{:?}",
            told.attempts[0].message
        );
        assert!(host.ran.is_empty());
    }
}

#[test]
fn every_attempt_is_told_until_one_passes() {
    let mut host = host(vec![PlannedStep { attempts: 5, ..step(&["try"]) }]);
    host.endings = [RunEnd::Code(3), RunEnd::TimedOut, RunEnd::Code(0)].into();
    run(0, false, &mut host);
    let told = message(&host);
    let outcomes: Vec<_> = told.attempts.iter().map(|attempt| (attempt.outcome, attempt.code)).collect();
    let wanted = [(Outcome::Failed, Some(3)), (Outcome::TimedOut, None), (Outcome::Passed, Some(0))];
    assert_eq!((outcomes.as_slice(), told.outcome), (wanted.as_slice(), Some(Outcome::Passed)));
}

#[test]
fn until_may_ask_for_files() {
    let until = "file(\"done\") == \"yes\"".to_owned();
    let mut host = host(vec![PlannedStep { attempts: 3, until, ..step(&["try"]) }]);
    host.files.insert("/data/done".to_owned(), b"yes".to_vec());
    run(0, false, &mut host);
    assert_eq!(host.ran.len(), 1, "{:?}", host.told);
}

#[test]
fn outputs_are_taken_and_kept_for_later_steps() {
    let mut host = host(vec![step(&["make"]), step(&["use", "{{ outputs.probe.version }}"])]);
    host.files.insert(format!("{}/version", OUTPUTS_DIRS[0]), b"1.2\n".to_vec());
    run(0, false, &mut host);
    assert!(!host.files.contains_key(&format!("{}/version", OUTPUTS_DIRS[0])));
    let progress: Progress = serde_json::from_slice(&host.files[PROGRESS_FILE]).unwrap();
    assert_eq!(progress.outputs["probe"]["version"], "1.2");
}

#[test]
fn a_step_that_is_stopped_tells_nothing() {
    let mut host = host(vec![step(&["wait"])]);
    host.endings = [RunEnd::Stopped].into();
    assert_eq!(run(0, false, &mut host), Ending::Stopped);
    assert!(!host.files.contains_key(TERMINATION_LOG));
}

#[test]
fn the_pod_ends_before_a_bare_container_that_is_not_to_run() {
    let bare = PlannedStep { condition: "passed".to_owned(), ..step(&[]) };
    let mut host = host(vec![step(&["fail"]), bare]);
    host.endings = [RunEnd::Code(1)].into();
    assert_eq!(run(0, true, &mut host), Ending::Code(STOP_HERE));
}

#[test]
fn what_is_no_plan_is_said() {
    let mut host = host(vec![step(&["x"])]);
    assert_eq!(run(7, false, &mut host), Ending::Code(1));
    host.files.insert(PLAN_FILE.to_owned(), b"{".to_vec());
    assert_eq!(run(0, false, &mut host), Ending::Code(1));
    assert!(host.told.iter().all(|line| line.starts_with("fairlead: ")));
}

#[test]
fn lists_of_files_are_noted_for_others() {
    let lists: Lists = serde_json::from_value(json!({
        "for": "all", "shards": {"file": {"fairlead.dev/expression": "glob(\"**/*.js\")"}}, "count": 2,
    }))
    .unwrap();
    let mut host = host(vec![PlannedStep { lists: Some(lists.clone()), ..step(&[]) }]);
    for path in ["/data/b.js", "/data/x/a.js", "/data/x/a.css"] {
        host.files.insert(path.to_owned(), Vec::new());
    }
    assert_eq!(run(0, false, &mut host), Ending::Code(0));
    assert_eq!(message(&host).outcome, Some(Outcome::Passed), "{:?}", host.told);
    let noted: Value = serde_json::from_slice(&host.files[&format!("{FILES_DIR}/{RECORD}")]).unwrap();
    assert_eq!(noted, json!({"lists": {"all": {"shards": {"file": ["b.js", "x/a.js"]}, "count": 2}}}));
    // More than an agent keeps.
    let name = "n".repeat(60);
    for number in 0..6000 {
        host.files.insert(format!("/data/{name}{number}.js"), Vec::new());
    }
    run(0, false, &mut host);
    assert_eq!(message(&host).outcome, Some(Outcome::NotRun));
    assert!(message(&host).attempts[0].message.contains("at most 262144"), "{:?}", message(&host));
}

#[test]
fn kept_files_become_one_archive_and_reports_stay() {
    let keeps = |archive: &str| PlannedStep {
        artifacts: vec!["**/*.txt".to_owned()],
        junit: vec!["*.xml".to_owned()],
        artifacts_dir: "/data".to_owned(),
        archive: archive.to_owned(),
        ..step(&["make"])
    };
    for (archive, wanted) in [
        ("{{ env.WHO }}.tar.gz", vec!["file/probe/you.tar.gz", "junit/probe/r.xml"]),
        ("", vec!["file/probe/a.txt", "file/probe/b/c.txt", "junit/probe/r.xml"]),
        ("../../x", vec!["junit/probe/r.xml"]),
    ] {
        let mut host = host(vec![keeps(archive)]);
        for path in ["/data/a.txt", "/data/b/c.txt", "/data/r.xml", "/data/other"] {
            host.files.insert(path.to_owned(), b"x".to_vec());
        }
        run(0, false, &mut host);
        let kept: Vec<_> =
            host.list(FILES_DIR, usize::MAX, 100).files.into_iter().map(|(path, _)| path).collect();
        assert_eq!(kept, wanted, "{:?}", host.told);
        assert_eq!(message(&host).why.is_empty(), archive != "../../x");
    }
}
