"""Answers lines of JSON with real Helm (PyPI's helm-python-sdk); a line for a line.

{"chart": path, "values": {…}}        renders and installs (dry) a chart on disk
{"template": text, "values": {…}}     renders a chart of this one template
{"yaml": text}                        reads a values file
{"set": text, "kind": "set-string"}   reads an argument of `--set` and the like
"""

import io
import json
import sys
import tarfile

import helm_python
from helm_python import Chart, Config

# Nothing listens there: what is installed with dry_run=client asks nobody.
KUBECONFIG = json.dumps({
    "apiVersion": "v1", "kind": "Config", "current-context": "none",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
})

SETTERS = {
    "set": helm_python.parse_set_string,
    "set-string": helm_python.parse_set_string_values,
    "set-json": helm_python.parse_set_json,
    "set-literal": helm_python.parse_set_literal,
}


def chart(path, values):
    try:
        # Rendering changes a loaded chart: each needs its own.
        with Chart.load(path) as loaded:
            files = loaded.render(values=values, name="r", namespace="ns")
    except Exception as error:
        return {"error": str(error)}
    try:
        with Config(kubeconfig_content=KUBECONFIG, namespace="ns", storage_driver="memory") as config:
            release = config.install(path, "r", values, dry_run="client")
        return {"files": files, "manifest": release["manifest"], "notes": release.get("notes", "")}
    except Exception as error:
        return {"files": files, "error": str(error)}


def template(text, values):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, content in (("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.2.3\n"), ("templates/x.yaml", text)):
            data = content.encode()
            entry = tarfile.TarInfo("c/" + name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    with Chart.load_archive(packed.getvalue()) as loaded:
        return loaded.render(values=values, name="r", namespace="ns")["c/templates/x.yaml"]


def answer(request):
    if "chart" in request:
        return chart(request["chart"], request["values"])
    try:
        if "template" in request:
            return {"out": template(request["template"], request["values"])}
        if "yaml" in request:
            return {"out": helm_python.values_from_yaml(request["yaml"])}
        return {"out": SETTERS[request["kind"]](request["set"])}
    except Exception as error:
        return {"error": str(error)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line)), sort_keys=True), flush=True)
