"""Renders charts with real Helm (PyPI's helm-python-sdk): lines of [chart, values] in, lines of answers out."""

import json
import sys

from helm_python import Chart, Config

# Nothing listens there: what is installed with dry_run=client asks nobody.
KUBECONFIG = json.dumps({
    "apiVersion": "v1", "kind": "Config", "current-context": "none",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
})


def answer(path, values):
    try:
        # Rendering changes a loaded chart: each needs its own.
        with Chart.load(path) as chart:
            files = chart.render(values=values, name="r", namespace="ns")
    except Exception as error:
        return {"error": str(error)}
    try:
        with Config(kubeconfig_content=KUBECONFIG, namespace="ns", storage_driver="memory") as config:
            release = config.install(path, "r", values, dry_run="client")
        return {"files": files, "manifest": release["manifest"], "notes": release.get("notes", "")}
    except Exception as error:
        return {"files": files, "error": str(error)}


for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line)), sort_keys=True), flush=True)
