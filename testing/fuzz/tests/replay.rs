//! Every target bears its seeds and a fixed number of mutations of them.

use fuzz::Target;
use fuzz::replay::{self, Until};
use fuzz::targets::TARGETS;

/// Another number tries other mutations.
const SEED: u64 = 36;

#[test]
fn every_target_bears_its_seeds_and_their_mutations() {
    // Targets run beside one another: each of them alone is bound by one core.
    let threads: Vec<_> = TARGETS
        .iter()
        .map(|target| {
            std::thread::spawn(|| replay::run(*target, SEED, Until::Mutations(target.mutations), |_| {}))
        })
        .collect();
    let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let failures: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err().map(|error| format!("{error:#}")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_target_has_seeds_and_every_seed_a_target() {
    for target in TARGETS {
        assert!(!replay::seeds(target).unwrap().is_empty(), "{} has no seeds", target.name);
    }
    let corpus = replay::directory(&TARGETS[0]);
    for entry in std::fs::read_dir(corpus.parent().unwrap()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "corpus/{name} belongs to no target");
    }
}

#[test]
fn a_broken_promise_is_found() {
    fn planted(input: &[u8]) {
        assert!(!input.windows(2).any(|pair| pair == b"{{"), "planted");
    }
    let target = Target { name: "json", run: planted, mutations: 0, words: &["{"] };
    std::panic::set_hook(Box::new(|_| {}));
    let found = replay::run(target, SEED, Until::Mutations(2000), |_| {});
    drop(std::panic::take_hook());
    assert!(
        found.unwrap_err().root_cause().to_string().starts_with("panicked on json"),
        "the runner is blind"
    );
}
