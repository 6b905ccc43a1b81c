//! `fairlead version`

use clap::Args;

use crate::arguments::Format;
use crate::failure::{Code, Failure};
use crate::output;

#[derive(Args, Debug)]
pub(crate) struct VersionArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

pub(crate) fn run(arguments: &VersionArguments) -> Result<Code, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let value = serde_json::json!({
        "version": version,
        "os": std::env::consts::OS,
        "architecture": std::env::consts::ARCH,
    });
    match arguments.output {
        Format::Table | Format::Wide => output::data(&format!("fairlead {version}\n"))?,
        Format::Name => output::data(&format!("{version}\n"))?,
        Format::Json => output::data(&format!("{value:#}\n"))?,
        Format::Yaml => output::data(&output::yaml(&value)?)?,
    }
    Ok(Code::Ok)
}
