"""Asks Helm itself what the templates of probes/*.jsonl give, and writes the answers beside them.

Usage: PYTHON ask_templates.py [FILE...], where PYTHON has helm-python-sdk. A line is {"t": template} or {"files": {name: template}};
the answer is "out" (of x.yaml) or "err".
"""

import json
import pathlib
import shutil
import sys
import tempfile

from helm_python import Chart, disable_logging

HERE = pathlib.Path(__file__).parent
VALUES = json.loads((HERE / "values.json").read_text())


def ask(files):
    directory = pathlib.Path(tempfile.mkdtemp())
    try:
        (directory / "chart/templates").mkdir(parents=True)
        (directory / "chart/Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 1.2.3\nappVersion: '4.5'\n")
        for name, text in files.items():
            (directory / "chart/templates" / name).write_bytes(text.encode())
        try:
            rendered = Chart.load(directory / "chart").render(VALUES, name="rel", namespace="ns")
            return {"out": rendered["chart/templates/x.yaml"]}
        except Exception as error:
            return {"err": str(error).rstrip()}
    finally:
        shutil.rmtree(directory)


for path in map(pathlib.Path, sys.argv[1:]) if sys.argv[1:] else sorted(HERE.glob("*.jsonl")):
    probes = [json.loads(line) for line in path.read_text().splitlines() if line]
    for probe in probes:
        probe.pop("out", None), probe.pop("err", None)
        probe.update(ask(probe.get("files") or {"x.yaml": probe["t"]}))
    lines = (json.dumps(probe, ensure_ascii=False) + "\n" for probe in probes)
    path.write_text("".join(lines))
