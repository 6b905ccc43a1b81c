//! `fairlead image …`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{connection, output};

/// Socket of the private container runtime below the state directory of `fairlead up`.
const PRIVATE_SOCKET: &str = "containerd/containerd.sock";

#[derive(Subcommand, Debug)]
pub(crate) enum ImageCommand {
    /// Check an image archive and hand it to the container runtime
    Load(LoadArguments),
    /// Make the image that the samples and test collectors run, out of this executable
    BuildTool(BuildToolArguments),
}

#[derive(Args, Debug)]
pub(crate) struct LoadArguments {
    /// An OCI archive, or what `docker save` writes
    archive: PathBuf,
    /// Socket of containerd [default: that of `fairlead up`]
    #[arg(long, value_name = "SOCKET")]
    socket: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct BuildToolArguments {
    /// Where to write the archive
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) async fn run(global: &Global, command: ImageCommand) -> Result<Code, Failure> {
    match command {
        ImageCommand::Load(arguments) => load(global, arguments).await,
        ImageCommand::BuildTool(arguments) => build_tool(arguments).await,
    }
}

async fn load(global: &Global, arguments: LoadArguments) -> Result<Code, Failure> {
    let socket = match arguments.socket {
        Some(socket) => socket,
        None => connection::state_dir(global)?.join(PRIVATE_SOCKET),
    };
    if !socket.exists() {
        return Err(Failure::negative(format!("there is no container runtime at {}", socket.display()))
            .hint("fairlead up --runtime containerd"));
    }
    let archive = arguments.archive;
    let shown = archive.display().to_string();
    let loaded = tokio::task::spawn_blocking(move || container_images::load::load(&archive, &socket))
        .await
        .context("the import was cut off")?
        .with_context(|| format!("cannot load {shown}"))?;
    for name in &loaded.names {
        output::data(&format!("{name}\n"))?;
    }
    output::progress(&format!("loaded {shown}: {} blobs, all checked", loaded.blobs));
    Ok(Code::Ok)
}

async fn build_tool(arguments: BuildToolArguments) -> Result<Code, Failure> {
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let file = arguments.output;
    let shown = file.display().to_string();
    tokio::task::spawn_blocking(move || container_images::build::write_tool_image(&executable, &file))
        .await
        .context("the build was cut off")?
        .context("cannot make the tool image")?;
    output::progress(&format!("wrote {} to {shown}", tool_image::TOOL_IMAGE));
    Ok(Code::Ok)
}
