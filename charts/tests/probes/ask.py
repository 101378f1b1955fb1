#!/usr/bin/env python3
"""Asks real Helm what the templates of probe files render to, and writes its answers into them.

    pip install helm-python-sdk        # Helm 4 as a library
    python3 charts/tests/probes/ask.py charts/tests/probes/functions/*.txt

A probe file is lines:

    # a comment
    % {"a": 1}          the values of the probes that follow, as JSON; `%` alone: none
    ? {{ .Values.a }}   a template; further lines of it are `?` lines too
    = 1                 what it renders to, a line for a line
    ! <first 1>: error  or why it does not: what Helm says after the template's name and place
    =" \\t"              output with control characters or blanks at a line's end, as one JSON string

A blank line parts probes. Only `?`, `%` and `#` lines are written by hand; the answers are replaced.
The template is `probe/templates/probe.yaml`; the release is `probe` in the namespace `default`.
"""

import json
import os
import re
import sys
import tempfile

from helm_python import Chart


def render(template, values):
    with tempfile.TemporaryDirectory() as root:
        chart = os.path.join(root, "probe")
        os.makedirs(os.path.join(chart, "templates"))
        with open(os.path.join(chart, "Chart.yaml"), "w") as file:
            file.write("apiVersion: v2\nname: probe\nversion: 1.2.3\nappVersion: \"4.5\"\n")
        with open(os.path.join(chart, "templates", "probe.yaml"), "w", newline="") as file:
            file.write(template)
        with Chart.load(chart) as loaded:
            return loaded.render(values, name="probe", namespace="default")[
                "probe/templates/probe.yaml"
            ]


def why(error):
    """An error without the template's name and place: Helm tells it in one of three forms."""
    text = str(error)
    found = re.match(r'template: \S+: executing "[^"]*" at (<.*)', text, re.S)
    if found:
        return found.group(1)
    found = re.match(r"\S+:\d+:\d+\n  (<.*?>):\n    (.*)", text, re.S)
    if found:
        return found.group(1) + ": " + found.group(2)
    return re.sub(r"^parse error at \(\S+\): ", "", text)


def answer(template, values):
    try:
        text = render(template, values)
    except Exception as error:
        return ["! " + json.dumps(why(error))[1:-1] if "\n" in why(error) else "! " + why(error)]
    lines = text.split("\n")
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text) or any(line != line.rstrip() for line in lines):
        return ["=" + json.dumps(text, ensure_ascii=False)]
    return [("= " + line).rstrip() for line in lines]


def ask(path):
    out, template, values = [], [], None
    with open(path) as file:
        lines = file.read().split("\n")

    def flush():
        if template:
            out.extend(answer("\n".join(template), values))
            template.clear()

    for line in lines:
        if line.startswith("?"):
            template.append(line[2:])
            out.append(line)
            continue
        flush()
        if line.startswith(("=", "!")):
            continue
        if line.startswith("%"):
            values = json.loads(line[1:]) if line[1:].strip() else None
        out.append(line)
    flush()
    with open(path, "w") as file:
        file.write("\n".join(out).rstrip("\n") + "\n")


for name in sys.argv[1:]:
    ask(name)
