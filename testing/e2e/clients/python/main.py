"""The unmodified Python client against a cluster: `main.py KUBECONFIG [STEP…]`. Ends with 0 when everything held."""

import json
import sys
import threading
import time

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

TOOL = "fairlead.dev/tool:latest"
NAMESPACE = "python"


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def until(what, probe, seconds=60):
    end = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        check(time.monotonic() < end, f"never: {what}")
        time.sleep(0.1)


def refused(code, work):
    try:
        work()
    except ApiException as error:
        check(error.status == code, f"{error.status} instead of {code}: {error.body}")
        return error
    raise AssertionError(f"was not refused with {code}")


def objects(core):
    """Lists in pages, patches of every kind, conflicts, errors."""
    for number in range(5):
        core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": f"m{number}"}, "data": {"n": str(number)}})
    first = core.list_namespaced_config_map(NAMESPACE, limit=3)
    rest = core.list_namespaced_config_map(NAMESPACE, limit=3, _continue=first.metadata._continue)
    check(len(first.items) == 3 and not rest.metadata._continue, "pages")
    core.patch_namespaced_config_map("m0", NAMESPACE, {"data": {"n": None, "o": "1"}})
    check(core.read_namespaced_config_map("m0", NAMESPACE).data == {"o": "1"}, "a merge removes what is null")
    core.patch_namespaced_config_map("m0", NAMESPACE, [{"op": "replace", "path": "/data/o", "value": "2"}])
    found = core.read_namespaced_config_map("m0", NAMESPACE)
    check(found.data == {"o": "2"}, "a JSON patch")
    core.replace_namespaced_config_map("m0", NAMESPACE, found)
    found.data = {"o": "3"}
    core.replace_namespaced_config_map("m0", NAMESPACE, found)
    check("Conflict" in refused(409, lambda: core.replace_namespaced_config_map("m0", NAMESPACE, found)).body, "409")
    check("not found" in refused(404, lambda: core.read_namespaced_config_map("none", NAMESPACE)).body, "404")
    bad = {"metadata": {"name": "Bad_Name"}}
    check("metadata.name" in refused(422, lambda: core.create_namespaced_config_map(NAMESPACE, bad)).body, "422")


def apply(core):
    """Server-side apply: owners, conflicts, force."""
    def patch(value, manager, **options):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": value}}
        return core.patch_namespaced_config_map(
            "applied", NAMESPACE, body, field_manager=manager,
            _content_type="application/apply-patch+yaml", **options)

    created = patch("1", "one")
    check(created.metadata.managed_fields[0].operation == "Apply", "the manager is known")
    error = refused(409, lambda: patch("2", "two"))
    check(json.loads(error.body)["details"]["causes"][0]["message"] == 'conflict with "one"', error.body)
    check(patch("2", "two", force=True).data == {"a": "2"}, "force")


def watching(core):
    """A watch sees what happens behind its list, in order."""
    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "watched", "labels": {"w": "1"}}})
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"a": "b"}})
    core.delete_namespaced_config_map("watched", NAMESPACE)
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_config_map, NAMESPACE, label_selector="w=1",
                                resource_version=version, timeout_seconds=30):
        seen.append(event["type"])
        if event["type"] == "DELETED":
            watcher.stop()
    check(seen == ["ADDED", "MODIFIED", "DELETED"], seen)


def workloads(apps, core):
    """A deployment comes up; strategic patches merge containers by name."""
    labels = {"app": "web"}
    apps.create_namespaced_deployment(NAMESPACE, {
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": TOOL}]}}}})
    apps.patch_namespaced_deployment("web", NAMESPACE, {"spec": {"template": {"spec": {
        "containers": [{"name": "web", "env": [{"name": "A", "value": "b"}]}]}}}})
    found = until("the deployment is available", lambda: (
        lambda own: own if own.status.available_replicas == 2 and own.status.updated_replicas == 2 else None
    )(apps.read_namespaced_deployment("web", NAMESPACE)))
    check(found.spec.template.spec.containers[0].image == TOOL, "a strategic patch keeps the rest")
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    check(scale.spec.replicas == 2, "scale")
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 0}})
    until("no pod is left", lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items)


def custom(extensions, objects_api):
    """A definition, and objects of it."""
    group, plural = "python.example.com", "things"
    extensions.create_custom_resource_definition({
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "singular": "thing", "kind": "Thing"},
                 "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                               "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                                   "spec": {"type": "object", "properties": {
                                       "size": {"type": "integer", "default": 1, "maximum": 5}}},
                                   "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}}}]}})
    until("the definition is established", lambda: any(
        own.type == "Established" and own.status == "True"
        for own in extensions.read_custom_resource_definition(f"{plural}.{group}").status.conditions or []))
    at = (group, "v1", NAMESPACE, plural)
    made = objects_api.create_namespaced_custom_object(
        *at, {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {}})
    check(made["spec"]["size"] == 1, "defaults")
    too_large = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "b"}, "spec": {"size": 9}}
    check("spec.size" in refused(422, lambda: objects_api.create_namespaced_custom_object(*at, too_large)).body, "422")
    objects_api.patch_namespaced_custom_object(*at, "a", {"spec": {"size": 2}})
    objects_api.patch_namespaced_custom_object_status(*at, "a", {"status": {"phase": "Done"}})
    found = objects_api.get_namespaced_custom_object(*at, "a")
    check(found["spec"]["size"] == 2 and found["status"]["phase"] == "Done", found)
    check(len(objects_api.list_namespaced_custom_object(*at)["items"]) == 1, "a list")
    objects_api.delete_namespaced_custom_object(*at, "a")
    extensions.delete_custom_resource_definition(f"{plural}.{group}")


def pod(core, name, args):
    core.create_namespaced_pod(NAMESPACE, {
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": TOOL, "args": args}]}})
    until(f"pod {name} has started", lambda: core.read_namespaced_pod(name, NAMESPACE).status.phase in
          ("Running", "Succeeded"))


def logs(core):
    """A followed log ends with its container."""
    pod(core, "talks", ["do", "print one", "sleep 1", "print two"])
    lines = list(watch.Watch().stream(core.read_namespaced_pod_log, "talks", NAMESPACE))
    check(lines == ["one", "two"], lines)
    check(core.read_namespaced_pod_log("talks", NAMESPACE, tail_lines=1) == "two\n", "the tail")
    check("2" in core.read_namespaced_pod_log("talks", NAMESPACE, timestamps=True)[:1], "timestamps")
    refused(422, lambda: core.read_namespaced_pod_log("talks", NAMESPACE, limit_bytes=0))


def commands(core):
    """Commands in a container: output, input, exit codes."""
    pod(core, "serves", ["serve", "--port", "8080", "--text", "hello"])
    run = core.connect_get_namespaced_pod_exec

    def started(command, **streams):
        return stream(run, "serves", NAMESPACE, command=command, stdout=True, stderr=True, _preload_content=False,
                      **streams)

    said = stream(run, "serves", NAMESPACE, command=["/fairlead", "tool", "print", "hi", "there"], stdout=True,
                  stderr=True, stdin=False, tty=False)
    check(said == "hi there\n", repr(said))
    ended = started(["/fairlead", "tool", "exit", "3"])
    ended.run_forever(timeout=30)
    check(ended.returncode == 3, ended.returncode)
    missing = started(["/fairlead", "tool", "env", "NOT_THERE"])
    missing.run_forever(timeout=30)
    check((missing.returncode, missing.read_stderr()) == (1, "NOT_THERE is not set\n"), "standard error")


def interactive(core):
    """Input goes to a command as it comes."""
    shell = stream(core.connect_get_namespaced_pod_exec, "serves", NAMESPACE, command=["cat"], stdin=True, stdout=True,
                   stderr=True, tty=False, _preload_content=False)
    shell.write_stdin("to and fro\n")
    check(shell.readline_stdout(timeout=30) == "to and fro", "input comes back")
    shell.close()


def ports(core):
    """A forwarded port, and a port that is closed."""
    forward = portforward(core.connect_get_namespaced_pod_portforward, "serves", NAMESPACE, ports="8080")
    connection = forward.socket(8080)
    connection.setblocking(True)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: serves\r\nConnection: close\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    check(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"hello\n"), answer)
    check(forward.error(8080) is None, forward.error(8080))
    closed = portforward(core.connect_get_namespaced_pod_portforward, "serves", NAMESPACE, ports="9")
    closed.socket(9)
    check("refused" in until("the error is told", lambda: closed.error(9)), "a closed port")


def proxies(core):
    said = core.connect_get_namespaced_pod_proxy_with_path("serves:8080", NAMESPACE, "some/path")
    check(said == "hello\n", repr(said))


def main():
    config.load_kube_config(sys.argv[1])
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    steps = {
        "objects": lambda: objects(core),
        "apply": lambda: apply(core),
        "watch": lambda: watching(core),
        "workloads": lambda: workloads(apps, core),
        "custom": lambda: custom(client.ApiextensionsV1Api(), client.CustomObjectsApi()),
        "logs": lambda: logs(core),
        "exec": lambda: commands(core),
        "exec-input": lambda: interactive(core),
        "portforward": lambda: ports(core),
        "proxy": lambda: proxies(core),
    }
    failed = False
    wanted = sys.argv[2:] or steps
    for name, step in steps.items():
        if name not in wanted:
            continue
        try:
            step()
            print(f"ok {name}", flush=True)
        except Exception as error:  # every step is told
            failed = True
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
    core.delete_namespace(NAMESPACE)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    # A hanging connection must not hang the tests.
    threading.Timer(240, lambda: __import__("os")._exit(3)).start()
    try:
        main()
    except SystemExit as end:
        sys.stdout.flush()
        __import__("os")._exit(end.code or 0)
