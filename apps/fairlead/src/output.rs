//! Printing: data on stdout, progress on stderr.

use std::io::{IsTerminal as _, Write as _};

use kube::ResourceExt;
use serde::Serialize;

use crate::arguments::Format;
use crate::failure::Failure;

/// Writes data. A reader that has gone away (`| head`) is no failure.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to stdout").into())
        }
        _ => Ok(()),
    }
}

/// Says what is going on.
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

/// Colours the prefix of a cluster's line, where there is a terminal and `NO_COLOR` is not set.
pub(crate) fn prefix(cluster: &str, index: usize) -> String {
    const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];
    let coloured =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if coloured {
        format!("\u{1b}[{}m{cluster}\u{1b}[0m", COLOURS[index % COLOURS.len()])
    } else {
        cluster.to_owned()
    }
}

/// Prints objects in the chosen format; `row` makes the table's lines.
pub(crate) fn objects<K>(
    format: Format,
    kind: &str,
    header: &[&str],
    items: &[K],
    row: impl Fn(&K) -> Vec<String>,
) -> Result<(), Failure>
where
    K: ResourceExt + Serialize,
{
    match format {
        Format::Table | Format::Wide => {
            let mut rows = vec![header.iter().map(|cell| (*cell).to_owned()).collect()];
            rows.extend(items.iter().map(row));
            if items.is_empty() {
                progress(&format!("no {kind} found"));
                return Ok(());
            }
            data(&workflow::report::columns(&rows))
        }
        Format::Name => {
            let names: String = items.iter().map(|item| format!("{kind}/{}\n", item.name_any())).collect();
            data(&names)
        }
        Format::Json => data(&(json(&list(items)?)? + "\n")),
        Format::Yaml => data(&yaml(&list(items)?)?),
    }
}

/// Prints one object; as a table of one line where a table is asked for.
pub(crate) fn object<K>(
    format: Format,
    kind: &str,
    header: &[&str],
    item: &K,
    row: impl Fn(&K) -> Vec<String>,
) -> Result<(), Failure>
where
    K: ResourceExt + Serialize,
{
    match format {
        Format::Table | Format::Wide | Format::Name => {
            objects(format, kind, header, std::slice::from_ref(item), row)
        }
        Format::Json => data(&(json(item)? + "\n")),
        Format::Yaml => data(&yaml(item)?),
    }
}

/// What a listing shows of things that are no objects of an API.
pub(crate) struct Columns<'a> {
    /// In every table.
    pub(crate) always: &'a [&'a str],
    /// Behind them in a wide one.
    pub(crate) wide: &'a [&'a str],
}

/// Prints things that are no objects of an API: as a table, as a plain list for programs, or one name a line. `row` makes the
/// cells of all columns.
pub(crate) fn values<T: Serialize>(
    format: Format,
    nothing: &str,
    columns: &Columns<'_>,
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
    name: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Json => data(&(json(&items)? + "\n")),
        Format::Yaml => data(&yaml(&items)?),
        Format::Name => data(&items.iter().map(|item| name(item) + "\n").collect::<String>()),
        Format::Table | Format::Wide if items.is_empty() => {
            progress(nothing);
            Ok(())
        }
        Format::Table | Format::Wide => {
            let wide = if format == Format::Wide { columns.wide } else { &[] };
            let header: Vec<String> =
                columns.always.iter().chain(wide).map(|&cell| cell.to_owned()).collect();
            let width = header.len();
            let rows = items.iter().map(|item| row(item).into_iter().take(width).collect());
            data(&workflow::report::columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>()))
        }
    }
}

fn list<K: Serialize>(items: &[K]) -> Result<serde_json::Value, Failure> {
    let items = serde_json::to_value(items).map_err(anyhow::Error::new)?;
    Ok(serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(value).map_err(anyhow::Error::new)?)
}

pub(crate) fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_saphyr::to_string(value).map_err(anyhow::Error::new)?)
}

/// An age as `kubectl` writes it: `12s`, `5m`, `3h`, `4d`.
pub(crate) fn age(since: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>) -> String {
    let Some(since) = since else { return "<unknown>".to_owned() };
    let seconds = jiff::Timestamp::now().duration_since(since.0).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
