//! The whole of Gatekeeper's own library, where it is beside the repository: each template in each of its languages says of
//! each sample what its suite expects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::suite::{self, Outcome};
use super::super::{Preferred, TEMPLATES, Template, group_of};

fn documents(path: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let all = fleet_planner::yaml::values(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(all.into_iter().filter(|document| !document.is_null()).collect())
}

fn files(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(directory).expect("a directory").flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            files(&path, name, found);
        } else if path.file_name().is_some_and(|own| own == name) {
            found.push(path);
        }
    }
}

#[test]
fn every_sample_of_gatekeepers_library_comes_out_as_its_suite_says() {
    let Some(base) = fixtures::samples::find("manifests/gatekeeper-library/library") else { return };
    let (mut suites, mut cases) = (Vec::new(), 0);
    files(&base, "suite.yaml", &mut suites);
    assert!(suites.len() >= 30, "the library has grown smaller: {}", suites.len());
    let mut wrong = BTreeMap::new();
    for path in &suites {
        let directory = path.parent().expect("a directory");
        let template = documents(&directory.join("template.yaml")).expect("a template").remove(0);
        let several = template["spec"]["targets"][0]["code"].is_array();
        let languages = if several { &[Preferred::Cel, Preferred::Rego][..] } else { &[Preferred::Rego] };
        for preferred in languages {
            for suite in documents(path).expect("a suite") {
                let read = |file: &str| documents(&directory.join(file));
                for result in suite::run(&suite, *preferred, &read) {
                    cases += 1;
                    if result.outcome != Outcome::Passed {
                        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                        wrong.insert(
                            format!("{name} {preferred:?}: {}/{}", result.test, result.case),
                            result.outcome,
                        );
                    }
                }
            }
        }
    }
    assert!(cases > 100, "only {cases} cases");
    assert!(wrong.is_empty(), "{} of {cases}: {wrong:#?}", wrong.len());
}

#[test]
fn the_templates_of_gatekeepers_demonstration_are_usable() {
    let Some(base) = fixtures::samples::find("manifests/gatekeeper/demo-basic/templates") else { return };
    for entry in std::fs::read_dir(base).expect("a directory").flatten() {
        for document in documents(&entry.path()).expect("YAML") {
            assert_eq!(group_of(&document), TEMPLATES);
            let compiled = Template::compile(&document).1;
            assert!(compiled.is_ok(), "{}: {compiled:?}", entry.path().display());
        }
    }
}
