import json
import os
import sys
import threading
import time
import urllib.request

what, url = sys.argv[1:3]


def pieces():
    with urllib.request.urlopen(url + "/pieces", timeout=60) as answer:
        first = answer.readline().decode().strip()
        begun = time.monotonic()
        second = answer.readline().decode().strip()
        later = ", and later " if time.monotonic() - begun > 0.2 else " and at once "
        print(first + later + second)


def load(threads):
    lock = threading.Lock()
    # Whoever asked for it may be gone.
    end = time.monotonic() + 240
    failed, versions, pods, done = [], set(), set(), [0]

    def ask():
        while not os.path.exists("/tmp/stop") and time.monotonic() < end:
            try:
                with urllib.request.urlopen(url + "/slow?0.2", timeout=60) as answer:
                    version, pod = answer.read().decode().split()
                with lock:
                    versions.add(version)
                    pods.add(pod)
                    done[0] += 1
            except Exception as error:
                text = getattr(error, "read", lambda: b"")().decode()
                with lock:
                    failed.append(repr(error) + text)

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(
        json.dumps(
            {"done": done[0], "failed": failed[:5], "versions": sorted(versions), "most_pods": len(pods)}
        )
    )


if what == "pieces":
    pieces()
else:
    load(int(sys.argv[3]))
