//! Levels, versions, and what a namespace's labels ask for.

use std::fmt;

use serde_json::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much a pod may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Everything.
    #[default]
    Privileged,
    /// Nothing that is known to escalate.
    Baseline,
    /// What hardening demands.
    Restricted,
}

impl Level {
    /// By its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// Which edition of the standards: that of a minor version of Kubernetes 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `v1.N`.
    Minor(u32),
    /// The newest there is.
    #[default]
    Latest,
}

impl Version {
    /// `latest` or `v1.N`, without leading zeros.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let canonical = !minor.is_empty()
            && minor.bytes().all(|byte| byte.is_ascii_digit())
            && (minor == "0" || !minor.starts_with('0'));
        canonical.then(|| minor.parse().ok().map(Self::Minor)).flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// A level in an edition; prints as `restricted:v1.30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The edition.
    pub version: Version,
}

impl LevelVersion {
    fn equivalent(self, other: Self) -> bool {
        self.level == other.level && (self.level == Level::Privileged || self.version == other.version)
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What a namespace asks for. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: LevelVersion,
    /// Violations are noted in the audit log.
    pub audit: LevelVersion,
    /// Violations are told to the client.
    pub warn: LevelVersion,
}

/// A label that says neither level nor version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelProblem {
    /// The label.
    pub label: String,
    /// What it says.
    pub value: String,
    /// What it should say.
    pub detail: &'static str,
}

/// A label about one of the three modes; notes what is wrong with it.
struct Reader<'a> {
    labels: &'a Value,
    problems: Vec<LabelProblem>,
}

impl Reader<'_> {
    /// `None`: no such label. `Some(None)`: it says nothing that can be understood.
    fn read<T>(
        &mut self,
        name: &str,
        parse: fn(&str) -> Option<T>,
        detail: &'static str,
    ) -> Option<Option<T>> {
        let label = format!("{PREFIX}{name}");
        let value = self.labels.get(&label)?.as_str().unwrap_or_default();
        let parsed = parse(value);
        if parsed.is_none() {
            self.problems.push(LabelProblem { label, value: value.to_owned(), detail });
        }
        Some(parsed)
    }

    fn level(&mut self, name: &str) -> Option<Option<Level>> {
        self.read(name, Level::parse, "must be one of privileged, baseline, restricted")
    }

    fn version(&mut self, name: &str) -> Option<Option<Version>> {
        self.read(name, Version::parse, "must be \"latest\" or \"v1.x\"")
    }
}

impl Policy {
    /// What `metadata.labels` ask for, over what counts without labels. Labels that cannot be understood enforce
    /// `restricted`, warn and note nothing, and are returned.
    #[must_use]
    pub fn of_labels(labels: &Value, defaults: &Self) -> (Self, Vec<LabelProblem>) {
        let mut policy = *defaults;
        let mut reader = Reader { labels, problems: Vec::new() };
        let enforced = reader.level("enforce");
        if let Some(level) = enforced {
            policy.enforce.level = level.unwrap_or(Level::Restricted);
        }
        if let Some(version) = reader.version("enforce-version") {
            policy.enforce.version = version.unwrap_or_default();
        }
        if let Some(level) = reader.level("audit") {
            policy.audit.level = level.unwrap_or_default();
        }
        if let Some(version) = reader.version("audit-version") {
            policy.audit.version = version.unwrap_or_default();
        }
        let warned = reader.level("warn");
        if let Some(level) = warned {
            policy.warn.level = level.unwrap_or_default();
        }
        let warned_version = reader.version("warn-version");
        if let Some(version) = warned_version {
            policy.warn.version = version.unwrap_or_default();
        }
        // Whoever enforces more than is warned about by default is warned about that, too.
        if warned.is_none() && enforced.flatten().is_some() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if warned_version.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, reader.problems)
    }

    /// Whether it asks for nothing at all.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|each| each.level == Level::Privileged)
    }

    /// Whether both ask for the same.
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        self.enforce.equivalent(other.enforce)
            && self.audit.equivalent(other.audit)
            && self.warn.equivalent(other.warn)
    }
}
