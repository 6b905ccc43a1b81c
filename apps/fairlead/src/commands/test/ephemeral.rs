//! `fairlead test run --ephemeral`: a cluster and everything that carries out tests, in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use assembly::ephemeral::{Options, TestBed};
use fleet_objects::test_run::{TestRun, TestTargets};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::run::RunArguments;
use super::{targets, watch};
use crate::arguments::Global;
use crate::commands::throw_away;
use crate::documents::Document;
use crate::failure::{Code, Failure, api, program};
use crate::output;

/// Runs to the end. `others` are what the workflow refers to, such as workflows it executes.
pub(super) async fn run(
    global: &Global,
    arguments: &RunArguments,
    mut run: TestRun,
    others: &[Document],
) -> Result<Code, Failure> {
    let seeds = arguments.cluster.seeds()?;
    let directory = throw_away::directory()?;
    let access = arguments.cluster_access;
    // Pods come from other addresses than this machine's own; clients need a certificate of the cluster's authority.
    let bind = access.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let cluster = arguments.cluster.options(directory.path(), bind)?;
    let options = Options { cluster, directory: directory.path().to_owned(), access };
    let began = Instant::now();
    let bed = Box::pin(TestBed::start(options)).await.map_err(program)?;
    output::progress(&format!("ephemeral cluster ready after {} ms", began.elapsed().as_millis()));
    let result = async {
        throw_away::apply(&bed.cluster().client(), &seeds).await?;
        throw_away::apply(&bed.hub(), others).await?;
        run.spec.targets = TestTargets { all: true, ..TestTargets::default() };
        run.metadata.namespace = Some("default".to_owned());
        let runs: Api<TestRun> = Api::namespaced(bed.hub(), "default");
        let made =
            runs.create(&PostParams::default(), &run).await.map_err(api("cannot make the test run"))?;
        let global = Global { namespace: "default".to_owned(), ..global.clone() };
        let name = made.name_any();
        let code = watch::follow(&bed.hub(), &global, &name, arguments.timeout).await?;
        targets::write(&bed.hub(), &global, &name, &arguments.reports).await?;
        Ok(code)
    };
    let result = result.await;
    bed.stop().await.map_err(program)?;
    arguments.cluster.clean_up(directory.path()).await?;
    result
}
