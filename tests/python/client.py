"""The official Python client against a wk cluster: python client.py KUBECONFIG

Every function that begins with `check_` is one check, in the order of the file.
"""

import json
import ssl
import sys
import threading
import traceback
import urllib.request

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

NAMESPACE = "python"


def status_of(call, *arguments, **keywords):
    """The HTTP status that a call fails with."""
    try:
        call(*arguments, **keywords)
    except ApiException as error:
        return error.status
    return None


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)


def check_typed_core(api):
    core = client.CoreV1Api(api)
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    made = core.create_namespaced_config_map(NAMESPACE, config_map("typed", a="1"))
    assert made.metadata.uid and made.data == {"a": "1"}
    made.data["b"] = "2"
    assert core.replace_namespaced_config_map("typed", NAMESPACE, made).data["b"] == "2"
    assert status_of(core.replace_namespaced_config_map, "typed", NAMESPACE, made) == 409
    assert status_of(core.read_namespaced_config_map, "none", NAMESPACE) == 404
    assert status_of(core.create_namespaced_config_map, NAMESPACE, config_map("typed")) == 409
    assert status_of(core.create_namespaced_config_map, NAMESPACE, config_map("No!")) == 422
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"a": "b"})
    assert core.create_namespaced_secret(NAMESPACE, secret).data == {"a": "Yg=="}
    core.delete_namespaced_config_map("typed", NAMESPACE)
    assert status_of(core.read_namespaced_config_map, "typed", NAMESPACE) == 404


def deployment(name, image):
    container = client.V1Container(name="main", image=image)
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": name}),
        spec=client.V1PodSpec(containers=[container]),
    )
    spec = client.V1DeploymentSpec(
        replicas=1,
        selector=client.V1LabelSelector(match_labels={"app": name}),
        template=template,
    )
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name), spec=spec)


def check_typed_apps(api):
    apps = client.AppsV1Api(api)
    made = apps.create_namespaced_deployment(NAMESPACE, deployment("web", "nginx:1"))
    assert made.spec.strategy.type == "RollingUpdate"
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert scale.spec.replicas == 1
    scale = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 0}})
    assert scale.spec.replicas == 0
    status = apps.read_namespaced_deployment_status("web", NAMESPACE)
    assert status.metadata.name == "web"


def check_patch_types(api):
    apps = client.AppsV1Api(api)
    side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox"}]}}}}
    patched = apps.patch_namespaced_deployment("web", NAMESPACE, side)
    names = [container.name for container in patched.spec.template.spec.containers]
    assert sorted(names) == ["main", "side"], names
    patched = apps.patch_namespaced_deployment(
        "web", NAMESPACE, [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]
    )
    assert patched.metadata.labels == {"a": "b"}


def check_paging(api):
    core = client.CoreV1Api(api)
    for number in range(7):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{number}", n=str(number)))
    names, token, pages = [], None, 0
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, limit=3, _continue=token)
        names += [item.metadata.name for item in page.items if item.metadata.name.startswith("page-")]
        pages += 1
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{number}" for number in range(7)], names
    assert pages >= 3
    assert status_of(core.list_namespaced_config_map, NAMESPACE, _continue="nonsense") == 400


def check_watch(api):
    core = client.CoreV1Api(api)
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    writer = threading.Thread(
        target=lambda: (
            core.create_namespaced_config_map(NAMESPACE, config_map("watched", a="1")),
            core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"a": "2"}}),
            core.delete_namespaced_config_map("watched", NAMESPACE),
        )
    )
    writer.start()
    seen = []
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=start, timeout_seconds=30
    )
    for event in stream:
        if event["object"].metadata.name == "watched":
            seen.append(event["type"])
        if seen[-1:] == ["DELETED"]:
            break
    writer.join()
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen


def check_watch_that_is_too_old_begins_again(api):
    """A revision from before this server's history is 410, after which clients list again."""
    core = client.CoreV1Api(api)
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version="1", timeout_seconds=5
    )
    try:
        names = [event["object"].metadata.name for event in stream]
        # The history still holds it: then everything since is there.
        assert "page-0" in names, names
    except ApiException as error:
        assert error.status == 410, error
    fresh = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=fresh, timeout_seconds=1
    )
    assert list(stream) == []


def check_dynamic_client(api):
    dynamic_client = dynamic.DynamicClient(api)
    maps = dynamic_client.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"a": "1"}}
    assert maps.create(body=body, namespace=NAMESPACE).data.a == "1"
    assert maps.get(name="dynamic", namespace=NAMESPACE).metadata.name == "dynamic"
    patched = maps.patch(
        name="dynamic",
        namespace=NAMESPACE,
        body={"data": {"a": None, "b": "2"}},
        content_type="application/merge-patch+json",
    )
    assert patched.data.to_dict() == {"b": "2"}
    listed = maps.get(namespace=NAMESPACE, field_selector="metadata.name=dynamic")
    assert len(listed.items) == 1
    maps.delete(name="dynamic", namespace=NAMESPACE)


def check_server_side_apply(api):
    dynamic_client = dynamic.DynamicClient(api)
    maps = dynamic_client.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    made = maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="python")
    assert made.metadata.managedFields[0].manager == "python"
    body["data"]["a"] = "2"
    other = dict(body=body, namespace=NAMESPACE, field_manager="other")
    assert status_of(maps.server_side_apply, **other) == 409
    assert maps.server_side_apply(**other, force_conflicts=True).data.a == "2"


def check_openapi_v2(api):
    settings = api.configuration
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    context.load_cert_chain(settings.cert_file, settings.key_file)
    document = json.load(urllib.request.urlopen(f"{settings.host}/openapi/v2", context=context))
    assert document["swagger"] == "2.0"
    assert "io.k8s.api.core.v1.Pod" in document["definitions"]


def check_the_end(api):
    client.CoreV1Api(api).delete_namespace(NAMESPACE)


def main():
    config.load_kube_config(config_file=sys.argv[1])
    api = client.ApiClient()
    failed = 0
    for name, check in list(globals().items()):
        if not name.startswith("check_"):
            continue
        try:
            check(api)
            print(f"ok   {name}")
        except Exception:
            failed += 1
            print(f"FAIL {name}")
            traceback.print_exc(file=sys.stdout)
    sys.exit(1 if failed else 0)


main()
