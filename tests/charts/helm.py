"""Helm 4 as a library against a cluster: python helm.py KUBECONFIG NAMESPACE CALL...

A call is JSON: ["upgrade", "chart", "name", {"values": {"a": 1}}]; the last element, if it is a map, holds keywords. Prints
each answer as a line of JSON; an error ends the program with its text.
"""

import json
import os
import pathlib
import sys

import helm_python

# Helm applies objects under the name of its program.
if os.path.basename(sys.orig_argv[0]) != "helm":
    packages = pathlib.Path(helm_python.__file__).resolve().parents[1]
    environment = dict(os.environ, PYTHONPATH=str(packages))
    os.execve(os.path.realpath(sys.executable), ["helm", *sys.argv], environment)

kubeconfig, namespace, *calls = sys.argv[1:]
with helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace) as config:
    for call in calls:
        name, *arguments = json.loads(call)
        keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
        try:
            print(json.dumps(getattr(config, name)(*arguments, **keywords)))
        except helm_python.HelmError as error:
            sys.exit(f"{name}: {error}")
