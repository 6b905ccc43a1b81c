//! Kill -9 in the normal test run. `cargo run -p robustness -- kill --cycles N --seed S` does any number.

use robustness::campaign::Campaign;
use robustness::load::{Plant, Subject};

fn campaign(subject: Subject, cycles: u64, plant: Plant) -> Campaign {
    let seed = rand::random();
    println!("seed {seed}");
    Campaign { program: env!("CARGO_BIN_EXE_robustness").into(), subject, cycles, seed, plant }
}

#[test]
fn a_killed_store_loses_nothing_acknowledged() {
    let report = campaign(Subject::Store, 200, Plant::None).run().expect("no violation");
    println!("{report:?}");
    assert!(report.acknowledged > 1000, "too little was written to prove anything: {report:?}");
    assert!(report.replayed > 10, "hardly any watch could be checked: {report:?}");
}

#[test]
fn a_killed_log_loses_nothing_acknowledged() {
    let report = campaign(Subject::Log, 60, Plant::None).run().expect("no violation");
    println!("{report:?}");
    assert!(report.acknowledged > 300, "too little was written to prove anything: {report:?}");
}

#[test]
fn acknowledging_before_the_commit_is_caught() {
    for subject in [Subject::Store, Subject::Log] {
        let violation =
            campaign(subject, 60, Plant::AckBeforeCommit).run().expect_err("the planted bug must be found");
        println!("{subject:?}: {violation:#}");
    }
}
