//! The configuration files of a private containerd.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::ContainerdOptions;

type FileError = (PathBuf, io::Error);

/// Writes `config.toml` and, with network plugins, `cni/`.
pub(super) fn write(options: &ContainerdOptions, plugins: Option<&Path>) -> Result<(), FileError> {
    let dir = &options.dir;
    let cni = dir.join("cni");
    let at = |path: &Path, done: io::Result<()>| done.map_err(|error| (path.to_path_buf(), error));
    at(&cni, fs::create_dir_all(&cni))?;
    if let Some(plugins) = plugins {
        let path = cni.join("10-fairlead.conflist");
        // Kept once it is there: pods that run have addresses of it.
        if !path.exists() {
            let network = options.pod_network.clone().unwrap_or_else(free_network);
            at(&path, fs::write(&path, network_config(dir, &network, plugins)))?;
        }
    }
    let path = dir.join("config.toml");
    at(&path, fs::write(&path, daemon_config(options, &cni, plugins)))
}

fn daemon_config(options: &ContainerdOptions, cni: &Path, plugins: Option<&Path>) -> String {
    let dir = &options.dir;
    let text = |value: &Path| json!(value.to_string_lossy()).to_string();
    let snapshotter = if overlay_works(dir) { "overlayfs" } else { "native" };
    format!(
        r#"version = 2
root = {root}
state = {state}
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = {socket}
[ttrpc]
  address = {ttrpc}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {image}
  disable_tcp_service = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {bin_dir}
    conf_dir = {conf_dir}
"#,
        root = text(&dir.join("root")),
        state = text(&dir.join("state")),
        socket = text(&dir.join("containerd.sock")),
        ttrpc = text(&dir.join("ttrpc.sock")),
        image = json!(options.sandbox_image),
        bin_dir = text(plugins.unwrap_or(Path::new("/usr/lib/cni"))),
        conf_dir = text(cni),
    )
}

/// A bridge of this directory's own; masquerading and host ports only where `iptables` is there for them.
fn network_config(dir: &Path, network: &str, plugins: &Path) -> String {
    let iptables = ["/usr/sbin/iptables", "/sbin/iptables", "/usr/bin/iptables"]
        .iter()
        .any(|path| Path::new(path).exists());
    let mut list = vec![json!({
        "type": "bridge",
        "bridge": bridge(dir),
        "isGateway": true,
        "ipMasq": iptables,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "dataDir": dir.join("addresses"),
            "ranges": [[{ "subnet": network }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    })];
    if iptables && plugins.join("portmap").is_file() {
        list.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
    }
    json!({ "cniVersion": "0.4.0", "name": "fairlead", "plugins": list }).to_string()
}

/// The name of a directory's bridge; an interface's has at most 15 characters.
pub(super) fn bridge(dir: &Path) -> String {
    format!("fl{:08x}", fingerprint(dir))
}

/// FNV-1a: tells directories apart, nothing more.
fn fingerprint(dir: &Path) -> u32 {
    let bytes = dir.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The first block of 10.200.0.0 … 10.254.0.0 that no route of the machine meets.
fn free_network() -> String {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let taken: Vec<(u32, u32)> =
        routes.lines().skip(1).filter_map(route).filter(|(_, mask)| *mask != 0).collect();
    let block = (200u8..=254).find(|second| {
        let network = u32::from(Ipv4Addr::new(10, *second, 0, 0));
        taken
            .iter()
            .all(|(to, mask)| network & mask != to & mask && network & 0xFFFF_0000 != to & 0xFFFF_0000)
    });
    format!("10.{}.0.0/16", block.unwrap_or(200))
}

/// Destination and mask of a line of `/proc/net/route`, which has them in the machine's byte order.
fn route(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split_whitespace();
    let to = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
    let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?;
    Some((u32::from_be(to), u32::from_be(mask)))
}

/// Tries an overlay mount: inside some containers and on some file systems there is none.
fn overlay_works(dir: &Path) -> bool {
    let probe = dir.join("overlay-probe");
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| probe.join(name));
    let made = [&lower, &upper, &work, &merged].iter().all(|path| fs::create_dir_all(path).is_ok());
    let data =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let flags = nix::mount::MsFlags::empty();
    let works = made
        && nix::mount::mount(Some("overlay"), &merged, Some("overlay"), flags, Some(data.as_str())).is_ok();
    if works {
        let _ = nix::mount::umount(&merged);
    }
    let _ = fs::remove_dir_all(&probe);
    works
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_in_the_machines_byte_order() {
        let line = "eth0\t0000C80A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0";
        if cfg!(target_endian = "little") {
            assert_eq!(route(line), Some((u32::from(Ipv4Addr::new(10, 200, 0, 0)), 0xFFFF_0000)));
        }
        assert!(free_network().ends_with(".0.0/16"));
    }
}
