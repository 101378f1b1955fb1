"""Helm 4 as a library against a cluster: python helm.py KUBECONFIG, calls as lines of JSON in, seconds out.

A call is ["install", "chart", "name", {"values": {}}]; the last element holds keywords.
"""

import json
import sys
import time

import helm_python

with helm_python.Config(kubeconfig_path=sys.argv[1], namespace="default") as config:
    for line in sys.stdin:
        name, *arguments, keywords = json.loads(line)
        start = time.perf_counter()
        try:
            getattr(config, name)(*arguments, **keywords)
            answer = {"seconds": time.perf_counter() - start}
        except helm_python.HelmError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
