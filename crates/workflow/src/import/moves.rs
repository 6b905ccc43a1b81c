//! Moves fields.

use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

#[derive(Default)]
pub(super) struct Mover {
    pub(super) lost: Vec<(String, String)>,
}

/// Fields that keep their place and meaning.
const WORKFLOW: [&str; 4] = ["config", "use", "pvcs", "concurrency"];
const STEP: [&str; 11] = [
    "id",
    "condition",
    "paused",
    "negative",
    "optional",
    "delay",
    "timeout",
    "use",
    "template",
    "container",
    "workingDir",
];
const PARALLEL: [&str; 6] = ["count", "maxCount", "matrix", "shards", "parallelism", "failFast"];
/// What a workflow within `parallel` may have of a step: it becomes one.
const STEP_IN_PARALLEL: [&str; 9] =
    ["run", "shell", "execute", "artifacts", "delay", "negative", "optional", "retry", "template"];
const SERVICE: [&str; 21] = [
    "description",
    "count",
    "maxCount",
    "matrix",
    "shards",
    "use",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "shell",
    "env",
    "envFrom",
    "workingDir",
    "readinessProbe",
    "restartPolicy",
    "timeout",
    "logs",
    "resources",
    "securityContext",
    "volumeMounts",
];

impl Mover {
    fn lose(&mut self, at: String, why: &str) {
        self.lost.push((at, why.to_owned()));
    }

    fn rest(&mut self, from: &Value, known: &[&str], at: &str) {
        for name in from.as_object().into_iter().flat_map(Object::keys) {
            if !known.contains(&name.as_str()) {
                self.lose(format!("{at}.{name}"), "there is no such field here");
            }
        }
    }

    pub(super) fn workflow(&mut self, from: &Value, at: &str) -> Object {
        let mut to = Object::new();
        copy(from, &WORKFLOW, &mut to);
        self.common(from, &mut to, at);
        for list in ["setup", "steps", "after"] {
            let steps = self.steps(&from[list], &format!("{at}.{list}"));
            if !steps.is_empty() {
                to.insert(list.to_owned(), Value::Array(steps));
            }
        }
        if let Some(job) = from.get("job") {
            self.job(job, &mut to, &format!("{at}.job"));
        }
        if let Some(config) = to.get_mut("config").and_then(Value::as_object_mut) {
            for parameter in config.values_mut() {
                as_text(parameter, "example");
            }
        }
        for (name, why) in [
            ("events", "schedules and triggers are objects of their own: see fairlead test schedule"),
            ("notifications", "deprecated there as well"),
            ("system", "the agent decides how steps become pods"),
            ("timeouts", "write timeout"),
        ] {
            if from.get(name).is_some() {
                self.lose(format!("{at}.{name}"), why);
            }
        }
        if let Some(execution) = from.get("execution") {
            for name in execution.as_object().into_iter().flat_map(Object::keys) {
                self.lose(
                    format!("{at}.execution.{name}"),
                    "belongs to a run: targets, tags and silence are chosen there",
                );
            }
        }
        to
    }

    /// What workflows and the workflows within `parallel` share.
    fn common(&mut self, from: &Value, to: &mut Object, at: &str) {
        if let Some(container) = from.get("container") {
            to.insert("container".to_owned(), container.clone());
        }
        if let Some(content) = self.content(from.get("content"), &format!("{at}.content")) {
            to.insert("content".to_owned(), content);
        }
        if let Some(pod) = self.pod(from.get("pod"), &format!("{at}.pod")) {
            to.insert("pod".to_owned(), pod);
        }
        if let Some(services) = self.services(from.get("services"), &format!("{at}.services")) {
            to.insert("services".to_owned(), services);
        }
    }

    fn job(&mut self, job: &Value, to: &mut Object, at: &str) {
        if let Some(seconds) = job["activeDeadlineSeconds"].as_u64() {
            to.insert("timeout".to_owned(), json!(format!("{seconds}s")));
        }
        if job.get("namespace").is_some() {
            self.lose(format!("{at}.namespace"), "the agent's own setting says where tests run");
        }
        let pod = to.entry("pod").or_insert_with(|| json!({}));
        for name in ["labels", "annotations"] {
            for (key, value) in job[name].as_object().into_iter().flatten() {
                pod[name][key] = value.clone();
            }
        }
        if pod.as_object().is_some_and(Object::is_empty) {
            to.remove("pod");
        }
    }

    fn pod(&mut self, pod: Option<&Value>, at: &str) -> Option<Value> {
        let mut pod = pod?.clone();
        for (name, why) in [
            ("serviceAccountName", "pods of tests have no rights"),
            ("disableFsGroupDefaulting", "write securityContext.fsGroup"),
        ] {
            if pod.as_object_mut().and_then(|pod| pod.remove(name)).is_some() {
                self.lose(format!("{at}.{name}"), why);
            }
        }
        Some(pod)
    }

    fn content(&mut self, content: Option<&Value>, at: &str) -> Option<Value> {
        let mut content = content?.clone();
        if let Some(git) = content.get_mut("git").and_then(Value::as_object_mut) {
            git.remove("verbosity");
            let retry = git.remove("retry").unwrap_or_default();
            if let Some(count) = retry["count"].as_u64() {
                git.insert("retry".to_owned(), json!({ "count": count.min(20) }));
            }
            if git.get("authType").and_then(Value::as_str) == Some("github") {
                self.lose(
                    format!("{at}.git.authType"),
                    "GitHub's app tokens are not made here; give a token",
                );
                git.remove("authType");
            }
        }
        for (index, archive) in content["tarball"].as_array_mut().into_iter().flatten().enumerate() {
            if archive
                .as_object_mut()
                .and_then(|archive| archive.remove("mount"))
                .is_some_and(|mount| mount == json!(true))
            {
                self.lose(format!("{at}.tarball[{index}].mount"), "mount a volume under pod.volumes");
            }
        }
        if content["tarball"].is_null() {
            content.as_object_mut().map(|content| content.remove("tarball"));
        }
        Some(content)
    }

    fn services(&mut self, services: Option<&Value>, at: &str) -> Option<Value> {
        let mut out = Object::new();
        for (name, from) in services?.as_object()? {
            let at = format!("{at}.{name}");
            let mut to = Object::new();
            copy(from, &SERVICE, &mut to);
            if let Some(pod) = self.pod(from.get("pod"), &format!("{at}.pod")) {
                to.insert("pod".to_owned(), pod);
            }
            let files = self.transfers(&from["transfer"], &format!("{at}.transfer"));
            if !files.is_empty() {
                to.insert("transfer".to_owned(), Value::Array(files));
            }
            let known: Vec<&str> = SERVICE.into_iter().chain(["pod", "transfer"]).collect();
            self.rest(from, &known, &at);
            out.insert(name.clone(), Value::Object(to));
        }
        Some(Value::Object(out))
    }

    fn steps(&mut self, steps: &Value, at: &str) -> Vec<Value> {
        let steps = steps.as_array().into_iter().flatten().enumerate();
        steps.map(|(index, step)| self.step(step, &format!("{at}[{index}]"))).collect()
    }

    fn step(&mut self, from: &Value, at: &str) -> Value {
        let mut to = Object::new();
        if let Some(name) = from["name"].as_str() {
            to.insert("title".to_owned(), json!(name));
        }
        copy(from, &STEP, &mut to);
        if let Some(retry) = from.get("retry") {
            to.insert("retry".to_owned(), retry.clone());
        }
        if let Some(content) = self.content(from.get("content"), &format!("{at}.content")) {
            to.insert("content".to_owned(), content);
        }
        if let Some(services) = self.services(from.get("services"), &format!("{at}.services")) {
            to.insert("services".to_owned(), services);
        }
        for list in ["setup", "steps"] {
            let steps = self.steps(&from[list], &format!("{at}.{list}"));
            if !steps.is_empty() {
                to.insert(list.to_owned(), Value::Array(steps));
            }
        }
        self.operations(from, &mut to, at);
        if let Some(parallel) = from.get("parallel") {
            let parallel = self.parallel(parallel, &format!("{at}.parallel"));
            to.insert("parallel".to_owned(), parallel);
        }
        let known: Vec<&str> = STEP
            .into_iter()
            .chain([
                "name",
                "pure",
                "retry",
                "content",
                "services",
                "setup",
                "steps",
                "run",
                "shell",
                "artifacts",
                "execute",
                "parallel",
            ])
            .collect();
        self.rest(from, &known, at);
        Value::Object(to)
    }

    /// `run`, `shell`, `artifacts` and `execute` of a step or of `parallel`.
    fn operations(&mut self, from: &Value, to: &mut Object, at: &str) {
        if let Some(shell) = from["shell"].as_str() {
            to.insert("shell".to_owned(), json!(shell));
        }
        if let Some(run) = from.get("run") {
            self.run(run, to, at, from.get("shell").is_some());
        }
        if let Some(artifacts) = from.get("artifacts") {
            to.insert("artifacts".to_owned(), artifacts["paths"].clone());
            let mut options = Object::new();
            if let Some(dir) = artifacts.get("workingDir") {
                options.insert("workingDir".to_owned(), dir.clone());
            }
            if let Some(compress) = artifacts.get("compress") {
                let name = compress["name"].as_str().filter(|name| !name.is_empty());
                options.insert("archive".to_owned(), json!(name.unwrap_or("artifacts.tar.gz")));
            }
            if !options.is_empty() {
                to.insert("artifactOptions".to_owned(), Value::Object(options));
            }
        }
        if let Some(execute) = from.get("execute") {
            let execute = self.execute(execute, &format!("{at}.execute"));
            to.insert("execute".to_owned(), execute);
        }
    }

    fn run(&mut self, run: &Value, to: &mut Object, at: &str, shell_too: bool) {
        let mut run = run.clone();
        let Some(own) = run.as_object_mut() else { return };
        let shell = own.remove("shell");
        if shell_too && shell.is_some() {
            self.lose(format!("{at}.run.shell"), "the step has a script already");
        } else if let Some(shell) = shell {
            to.insert("shell".to_owned(), shell);
        }
        for name in ["image", "command", "args", "env", "workingDir"] {
            if let Some(value) = own.remove(name) {
                to.insert(name.to_owned(), value);
            }
        }
        // With a script, arguments are the script's.
        if let (Some(shell), Some(Value::Array(args))) =
            (to.get("shell").and_then(Value::as_str), to.get("args"))
        {
            let words: Vec<&str> = args.iter().filter_map(Value::as_str).collect();
            let script = format!("{shell} {}", words.join(" "));
            to.insert("shell".to_owned(), json!(script));
            to.remove("args");
        }
        if to.contains_key("shell") {
            to.remove("command");
        }
        if !own.is_empty() {
            let under = to.remove("container");
            if let Some(container) = crate::templates::merged(under, Some(run)) {
                to.insert("container".to_owned(), container);
            }
        }
    }

    fn execute(&mut self, from: &Value, at: &str) -> Value {
        let mut workflows = Vec::new();
        for (index, wanted) in from["workflows"].as_array().into_iter().flatten().enumerate() {
            let at = format!("{at}.workflows[{index}]");
            let mut to = Object::new();
            copy(wanted, &["name", "config"], &mut to);
            self.rest(wanted, &["name", "config", "description"], &at);
            if to.contains_key("name") {
                workflows.push(Value::Object(to));
            }
        }
        if from.get("tests").is_some() {
            self.lose(format!("{at}.tests"), "kinds from before TestWorkflow are not read");
        }
        if from["async"] == json!(true) {
            self.lose(format!("{at}.async"), "what a run starts belongs to it");
        }
        let mut to = Object::new();
        copy(from, &["parallelism"], &mut to);
        to.insert("workflows".to_owned(), Value::Array(workflows));
        Value::Object(to)
    }

    /// Files between pods.
    fn transfers(&mut self, from: &Value, at: &str) -> Vec<Value> {
        let mut out = Vec::new();
        for (index, from) in from.as_array().into_iter().flatten().enumerate() {
            let at = format!("{at}[{index}]");
            // What lies beside the workspace has a volume of its own, whether or not it asks for one.
            if from.get("files").is_some_and(|files| !files.is_array()) {
                self.lose(format!("{at}.files"), "a list of globs is needed; expressions may stand in each");
                continue;
            }
            let mut to = Object::new();
            copy(from, &["from", "to", "files"], &mut to);
            self.rest(from, &["from", "to", "files", "mount"], &at);
            out.push(Value::Object(to));
        }
        out
    }

    fn parallel(&mut self, from: &Value, at: &str) -> Value {
        let mut to = self.workflow(from, at);
        copy(from, &PARALLEL, &mut to);
        if let Some(label) = from["description"].as_str() {
            to.insert("label".to_owned(), json!(label));
        }
        if from["paused"] == json!(true) {
            to.insert("together".to_owned(), json!(true));
        }
        for (index, fetch) in from["fetch"].as_array().into_iter().flatten().enumerate() {
            if fetch["mount"] == json!(true) {
                self.lose(format!("{at}.fetch[{index}].mount"), "what is fetched goes into the workspace");
            }
        }
        for list in ["transfer", "fetch"] {
            let files = self.transfers(&from[list], &format!("{at}.{list}"));
            if !files.is_empty() {
                to.insert(list.to_owned(), Value::Array(files));
            }
        }
        if let Some(timeout) = from["timeout"].as_str() {
            to.insert("timeout".to_owned(), json!(timeout));
        }
        let mut step = Object::new();
        self.operations(from, &mut step, at);
        copy(from, &["delay", "negative", "optional", "retry", "template"], &mut step);
        if !step.is_empty() {
            let steps = to.entry("steps").or_insert_with(|| json!([]));
            // Upstream runs an instance's own operation before its steps.
            if let Some(steps) = steps.as_array_mut() {
                steps.insert(0, Value::Object(step));
            }
        }
        let known: Vec<&str> = PARALLEL
            .into_iter()
            .chain(WORKFLOW)
            .chain(STEP_IN_PARALLEL)
            .chain([
                "description",
                "paused",
                "transfer",
                "fetch",
                "timeout",
                "logs",
                "container",
                "content",
                "pod",
                "services",
                "setup",
                "steps",
                "after",
                "job",
                "events",
                "notifications",
                "system",
                "timeouts",
                "execution",
            ])
            .collect();
        self.rest(from, &known, at);
        Value::Object(to)
    }
}

fn copy(from: &Value, names: &[&str], to: &mut Object) {
    for name in names {
        if let Some(value) = from.get(*name) {
            to.insert((*name).to_owned(), value.clone());
        }
    }
}

fn as_text(value: &mut Value, name: &str) {
    if let Some(own) = value.get_mut(name)
        && !own.is_string()
    {
        *own = json!(own.to_string());
    }
}
