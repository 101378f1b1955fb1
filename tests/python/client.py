"""The official Python client against a wk cluster: python client.py KUBECONFIG

Every function that begins with `check_` is one check, in the order of the file.
"""

import functools
import io
import json
import pathlib
import ssl
import sys
import threading
import time
import traceback
import urllib.request

import urllib3
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE = "python"
SOURCE = pathlib.Path(__file__).resolve().parents[2]


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


def check_watch_goes_on_after_410(api):
    """The client's watch, told once that its revision is too old, asks again and misses nothing."""
    core = client.CoreV1Api(api)
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("late"))
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    error = json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n"
    asked = []

    @functools.wraps(core.list_namespaced_config_map)
    def forgetful(*arguments, **keywords):
        asked.append(keywords["resource_version"])
        if len(asked) == 1:
            return urllib3.HTTPResponse(io.BytesIO(error), preload_content=False)
        return core.list_namespaced_config_map(*arguments, _request_timeout=20, **keywords)

    stream = watch.Watch().stream(forgetful, NAMESPACE, resource_version=start)
    event = next(stream)
    assert (event["type"], event["object"].metadata.name) == ("ADDED", "late"), event
    stream.close()
    assert asked == [start, start], asked
    fresh = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=fresh, timeout_seconds=1
    )
    assert list(stream) == []


def check_service_account_token(api):
    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    named = client.V1ObjectMeta(name="reader")
    core.create_namespaced_service_account(NAMESPACE, client.V1ServiceAccount(metadata=named))
    rule = client.V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])
    rbac.create_namespaced_role(NAMESPACE, client.V1Role(metadata=named, rules=[rule]))
    binding = client.V1RoleBinding(
        metadata=named,
        role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="reader"),
        subjects=[client.RbacV1Subject(kind="ServiceAccount", name="reader", namespace=NAMESPACE)],
    )
    rbac.create_namespaced_role_binding(NAMESPACE, binding)
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    answer = core.create_namespaced_service_account_token("reader", NAMESPACE, request)

    def bearer(token):
        settings = client.Configuration()
        settings.host, settings.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
        settings.api_key = {"authorization": f"Bearer {token}"}
        return client.ApiClient(settings)

    reader = bearer(answer.status.token)
    review = client.AuthenticationV1Api(reader).create_self_subject_review(client.V1SelfSubjectReview())
    assert review.status.user_info.username == f"system:serviceaccount:{NAMESPACE}:reader"
    # The authorizer hears of a binding a moment after it was made.
    end = time.monotonic() + 20
    while status_of(client.CoreV1Api(reader).list_namespaced_config_map, NAMESPACE):
        assert time.monotonic() < end, "the binding has no effect"
        time.sleep(0.05)
    assert status_of(client.CoreV1Api(reader).list_namespaced_secret, NAMESPACE) == 403
    assert status_of(client.CoreV1Api(reader).list_namespaced_config_map, "default") == 403
    forged = bearer(answer.status.token[:-8] + "AAAAAAAA")
    assert status_of(client.CoreV1Api(forged).list_namespaced_config_map, NAMESPACE) == 401


def check_custom_objects(api):
    group, plural = "python.example.com", "widgets"
    size = {"type": "integer", "minimum": 1}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": size}}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": plural, "kind": "Widget"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    extensions = client.ApiextensionsV1Api(api)
    extensions.create_custom_resource_definition(definition)
    custom = client.CustomObjectsApi(api)
    where = (group, "v1", NAMESPACE, plural)
    end = time.monotonic() + 20
    while status_of(custom.list_namespaced_custom_object, *where):
        assert time.monotonic() < end, "the kind is not served"
        time.sleep(0.05)
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"size": 1}}
    made = custom.create_namespaced_custom_object(*where, widget)
    made["spec"]["size"] = 2
    assert custom.replace_namespaced_custom_object(*where, "a", made)["spec"] == {"size": 2}
    assert status_of(custom.replace_namespaced_custom_object, *where, "a", made) == 409
    merge = {"_content_type": "application/merge-patch+json"}
    patch = {"spec": {"size": 3}}
    assert custom.patch_namespaced_custom_object(*where, "a", patch, **merge)["spec"] == {"size": 3}
    patch = {"spec": {"size": 0}}
    assert status_of(custom.patch_namespaced_custom_object, *where, "a", patch, **merge) == 422
    assert custom.get_namespaced_custom_object_status(*where, "a")["metadata"]["name"] == "a"
    assert [item["metadata"]["name"] for item in custom.list_namespaced_custom_object(*where)["items"]] == ["a"]
    custom.delete_namespaced_custom_object(*where, "a")
    assert status_of(custom.get_namespaced_custom_object, *where, "a") == 404
    extensions.delete_custom_resource_definition(f"{plural}.{group}")


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
    core = client.CoreV1Api(api)
    apply = dict(field_manager="python", _content_type="application/apply-patch+yaml")
    body["data"]["a"] = "3"
    try:
        core.patch_namespaced_config_map("applied", NAMESPACE, body, **apply)
        raise AssertionError("there is no conflict")
    except ApiException as error:
        causes = json.loads(error.body)["details"]["causes"]
        assert (error.status, causes[0]["field"]) == (409, ".data.a"), causes
    assert core.patch_namespaced_config_map("applied", NAMESPACE, body, force=True, **apply).data["a"] == "3"


def check_openapi_v2(api):
    settings = api.configuration
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    context.load_cert_chain(settings.cert_file, settings.key_file)
    document = json.load(urllib.request.urlopen(f"{settings.host}/openapi/v2", context=context))
    assert document["swagger"] == "2.0"
    assert "io.k8s.api.core.v1.Pod" in document["definitions"]


def running_pod(core, name, source, *arguments):
    container = client.V1Container(name="main", image=f"file://{SOURCE / source}", args=list(arguments))
    spec = client.V1PodSpec(containers=[container], termination_grace_period_seconds=0)
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name=name), spec=spec)
    core.create_namespaced_pod(NAMESPACE, pod)
    deadline = time.monotonic() + 60
    while True:
        status = core.read_namespaced_pod(name, NAMESPACE).status
        if any(condition.type == "Ready" and condition.status == "True" for condition in status.conditions or []):
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def check_exec(_):
    # A client of its own: `stream` changes the one that it is given while it runs.
    core = client.CoreV1Api(client.ApiClient())
    running_pod(core, "tools", "runtimes/wasm/tests/fixtures/toolbox.wat", "zombie")
    execute = functools.partial(
        stream, core.connect_get_namespaced_pod_exec, "tools", NAMESPACE, stdout=True, stderr=True, tty=False
    )
    assert execute(command=["echo", "a", "b"], stdin=False) == "a\nb\n"
    failed = execute(command=["cat", "/none"], stdin=False, _preload_content=False)
    failed.run_forever(timeout=30)
    assert failed.returncode == 1, failed.returncode
    text = "hello\n" * 10_000
    pipe = execute(command=["pipe"], stdin=True, _preload_content=False)
    pipe.write_stdin(text)
    seen = ""
    deadline = time.monotonic() + 30
    while len(seen) < len(text) and time.monotonic() < deadline:
        seen += pipe.read_stdout(timeout=1) or ""
    pipe.close()
    assert seen == text, len(seen)


def check_port_forward(_):
    core = client.CoreV1Api(client.ApiClient())
    running_pod(core, "hello", "examples/hello.wat")
    connect = functools.partial(portforward, core.connect_get_namespaced_pod_portforward, "hello", NAMESPACE)
    forward = connect(ports="8080")
    http = forward.socket(8080)
    http.settimeout(30)
    http.sendall(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")
    answer = b"".join(iter(lambda: http.recv(4096), b""))
    assert b"Hello from hello" in answer, answer
    assert forward.error(8080) is None, forward.error(8080)
    refused = connect(ports="9")
    nothing = refused.socket(9)
    nothing.settimeout(30)
    assert nothing.recv(1) == b""
    assert "connection refused" in refused.error(9), refused.error(9)


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
