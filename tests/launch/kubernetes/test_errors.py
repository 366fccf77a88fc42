"""What a Kubernetes cluster may refuse, case by case on the server of kube_server.py, and the whole sentence for each."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import socket
import ssl
import sys
import threading

import pytest
import yaml
from kubernetes.config import incluster_config, kube_config

from convoy import exits
from convoy.launch.targets.base import NoSuchJob
from convoy.launch.targets.kubernetes import api as kube_api
from convoy.launch.targets.kubernetes import errors as kube_errors
from convoy.launch.targets.kubernetes import target as kubernetes
from convoy.launch.targets.kubernetes.target import KubernetesTarget
from kube_jobs import refusal, spec


def test_no_kubeconfig(target, monkeypatch, tmp_path):
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert refusal(lambda: target.state("rn50"), kube_errors.NoKubeconfig) == (
        "there is no kubeconfig that names a cluster, neither in KUBECONFIG nor in ~/.kube/config; for GKE"
        " `gcloud container clusters get-credentials CLUSTER --location=LOCATION` writes one, and --target=local rehearses the"
        " job without a cluster."
    )


def test_an_unknown_current_context(target, tmp_path):
    (tmp_path / "kubeconfig").write_text("{contexts: [], current-context: here}")
    sentence = refusal(lambda: target.state("rn50"))
    assert sentence.startswith("the kubeconfig lacks its current context; `kubectl config get-contexts`")


def test_in_a_pod_its_own_account_is_used(server, monkeypatch, tmp_path):
    """As far as the way to the cluster: the server of these tests has no certificate, which a pod asks for."""
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    for name, text in (("TOKEN", "t"), ("CERT", "c")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(incluster_config, f"SERVICE_{name}_FILENAME", str(tmp_path / name))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert kube_api.Cluster("default", "").server == "https://10.0.0.1:443"
    assert "there is no kubeconfig" in refusal(lambda: kube_api.Cluster("default", "here"), kube_errors.NoKubeconfig)


def test_an_unknown_context(server):
    sentence = refusal(lambda: KubernetesTarget("default", "elsewhere").state("rn50"))
    assert sentence == (
        "--context=elsewhere is not in the kubeconfig; `kubectl config get-contexts` lists those there are."
    )


def test_no_current_context(server, target, tmp_path):
    place = tmp_path / "kubeconfig"
    config = yaml.safe_load(place.read_text())
    del config["current-context"]
    place.write_text(yaml.safe_dump(config))
    sentence = refusal(lambda: target.state("rn50"))
    assert sentence == (
        "the kubeconfig has no current context; give --context: `kubectl config get-contexts` lists those there are."
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "while parsing a flow node expected the node content, but found '<stream end>' in"),
        (
            "{contexts: [{name: here, context: {cluster: c, user: u}}], current-context: here}",
            "Expected object with name c in",
        ),
        (
            "{contexts: [{name: here, context: {cluster: c}}], clusters: [{name: c, cluster: {server: me}}],"
            " current-context: here}",
            "server 'me' of its cluster is no URL",
        ),
        ("- a list", "list indices must be integers"),
        ("\0", "special characters are not allowed"),
    ],
)
def test_a_broken_kubeconfig(target, tmp_path, text, reason):
    (tmp_path / "kubeconfig").write_text(text)
    sentence = refusal(lambda: target.state("rn50"))
    assert sentence.startswith("the kubeconfig cannot be used: ")
    assert reason in sentence
    assert sentence.endswith("; `gcloud container clusters get-credentials CLUSTER --location=LOCATION` mends it.")


def test_an_answer_that_is_not_kubernetes(server, target):
    server.fault(200)
    server._faults[-1].body = "<html>Log in to the network</html>"
    assert refusal(lambda: target.state("rn50"), exits.TryAgain) == (
        f"cannot get jobsets.jobset.x-k8s.io rn50 in namespace default: what answers at {server.url} does not speak Kubernetes'"
        " API; see what it says with `kubectl get --raw=/version`, and whether a proxy or a login page stands before it."
    )


def test_401(server, target, tmp_path):
    server.write_kubeconfig(tmp_path / "kubeconfig", token="an-old-token")
    sentence = refusal(lambda: target.submit(spec()))
    assert sentence == (
        f"cannot get jobsets.jobset.x-k8s.io rn50 in namespace default: the cluster at {server.url} does not accept the"
        " kubeconfig's credentials (401); log in again, for GKE with `gcloud container clusters get-credentials CLUSTER"
        " --location=LOCATION`, which needs gke-gcloud-auth-plugin, and see `kubectl auth whoami`."
    )
    assert "an-old-token" not in sentence


def test_credentials_that_expire_midway_are_read_again(server, target, life, tmp_path):
    server.token = "a-newer-token"
    server.write_kubeconfig(tmp_path / "kubeconfig", token="a-newer-token")
    assert target.state("rn50").phase == "pending"
    server.token = "nobody-has-it"
    assert "does not accept the kubeconfig's credentials (401)" in refusal(lambda: target.state("rn50"))


def test_an_anonymous_user(server, target, tmp_path):
    """The plugin that would know the credentials is not installed."""
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    config["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    assert "does not accept the kubeconfig's credentials (401)" in refusal(lambda: target.state("rn50"))
    server.fault(403, 'User "system:anonymous" cannot get resource "jobsets"')
    assert "does not accept the kubeconfig's credentials (403)" in refusal(lambda: target.state("rn50"))


def test_403(server):
    target = KubernetesTarget("default", "there")
    server.forbidden.add(("create", "jobsets"))
    sentence = refusal(lambda: target.submit(spec()))
    assert sentence == (
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: that is not permitted (jobsets.jobset.x-k8s.io is"
        ' forbidden: User "ann" cannot create resource "jobsets" in API group "jobset.x-k8s.io" in the namespace "default");'
        " `kubectl --context=there auth can-i create jobsets.jobset.x-k8s.io --namespace=default` must say yes, so ask for a"
        " role that allows it. Without JobSet in the cluster it says no, too."
    )


def test_403_of_jobsets_does_not_stop_an_indexed_job(server, target):
    server.forbidden |= {("get", "jobsets"), ("list", "jobsets")}
    assert target.submit(spec("--gang=indexed")).phase == "pending"
    assert target.state("rn50").phase == "pending"
    assert "cannot get jobsets" in refusal(lambda: target.state("other"))


def test_403_of_a_quota(server, target):
    server.fault(403, 'jobs.batch "rn50" is forbidden: exceeded quota: few, used: 2', method="POST", path="jobsets")
    assert refusal(lambda: target.submit(spec())) == (
        'cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: jobs.batch "rn50" is forbidden: exceeded quota: few,'
        " used: 2; `kubectl describe resourcequota --namespace=default` shows what is used, `convoy launch gc` ends what is"
        " over."
    )


def test_403_of_a_policy(server, target):
    server.fault(403, 'admission webhook "policy" denied the request: no latest', method="POST", path="jobsets")
    assert refusal(lambda: target.submit(spec())) == (
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: a policy of the cluster refuses it: admission webhook"
        ' "policy" denied the request: no latest; ask who runs the cluster.'
    )


def test_404_of_jobset(server, target):
    """Nothing falls back to an Indexed Job by itself."""
    del server.groups["jobset.x-k8s.io/v1alpha2"]
    assert refusal(lambda: target.submit(spec())) == (
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: JobSet is not installed in the cluster"
        " (`kubectl api-resources --api-group=jobset.x-k8s.io` lists nothing); install it as"
        " https://jobset.sigs.k8s.io/docs/installation says, or give --gang=indexed, a job that does not restart."
    )
    assert not [key for key in server.objects if key[0] in ("jobs", "jobsets")]


def test_404_of_a_namespace(server):
    target = KubernetesTarget("nowhere", "")
    sentence = refusal(lambda: target.submit(spec("--namespace=nowhere", "--service_account=me")))
    assert sentence == (
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace nowhere: there is no such namespace; give another --namespace,"
        " or `kubectl create namespace nowhere`."
    )


def test_no_namespace_leads_elsewhere(server):
    target = KubernetesTarget("x/../../other?y", "")
    assert "there is no job rn50 in namespace x/../../other?y" in refusal(lambda: target.state("rn50"), NoSuchJob)
    assert all("/namespaces/x%2F..%2F..%2Fother%3Fy/" in line for line in server.seen)


def test_404_of_a_kind_that_any_cluster_has(server, target):
    """The kubeconfig names a server that is no cluster."""
    server.fault(404, "404 page not found", method="POST", path="serviceaccounts")
    assert refusal(lambda: target.submit(spec())) == (
        f"cannot create serviceaccounts convoy in namespace default: the cluster at {server.url} does not know them;"
        " `kubectl api-resources` lists what it knows."
    )


def test_409(server, target):
    server.fault(409, "the object has been modified", method="POST", path="jobsets")
    assert refusal(lambda: target.submit(spec()), exits.TryAgain) == (
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: somebody else changed it at the same time (the object"
        " has been modified); try again."
    )


def test_422(server, target):
    causes = [
        {
            "reason": "FieldValueInvalid",
            "field": "spec.replicatedJobs[0]",
            "message": "must be no more than 63 characters.",
        },
        {"reason": "FieldValueInvalid", "field": "spec.x", "message": "field is immutable"},
    ]
    server.fault(422, 'JobSet "rn50" is invalid', method="POST", path="jobsets", details={"causes": causes})
    assert refusal(lambda: target.submit(spec())) == (
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: the cluster finds it invalid: spec.replicatedJobs[0]:"
        " must be no more than 63 characters; spec.x: field is immutable; `convoy launch render` prints it whole."
    )


def test_a_field_that_the_cluster_does_not_know_is_not_dropped(server, target, monkeypatch):
    """A JobSet that is older than the manifest would have pruned it without a word."""
    real = kubernetes.manifest.render

    def newer(job):
        objects = real(job)
        objects[-1]["spec"]["failurePolicy"]["ofTomorrow"] = True
        return objects

    monkeypatch.setattr(kubernetes.manifest, "render", newer)
    sentence = refusal(lambda: target.submit(spec()))
    assert sentence.startswith(
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: the cluster's version does not know all of it"
        ' (JobSet in version "jobset.x-k8s.io/v1alpha2" cannot be handled as a JobSet: strict decoding error: unknown field'
    )
    assert sentence.endswith(
        "ofTomorrow' was unexpected)); renew what is installed there, see https://jobset.sigs.k8s.io/docs/installation, or give"
        " --gang=indexed."
    )


def test_the_oldest_jobset_takes_our_jobs(server, target):
    server.jobset = "0.8.2"
    assert target.submit(spec()).phase == "pending"


def test_400(server, target):
    server.fault(400, "no body\n at all", method="POST", path="jobsets")
    sentence = refusal(lambda: target.submit(spec()))
    assert sentence == "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default: HTTP 400, no body at all."


def test_429_is_retried_when_the_server_says(server, target, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    server.fault(429, "slow down", times=3, headers={"Retry-After": "7"})
    server.fault(429, "slow down", headers={"Retry-After": "4000"})
    assert target.submit(spec()).phase == "pending"
    assert waits == [7, 7, 7, kube_errors.LONGEST_RETRY_AFTER_SECONDS]


def test_429_that_does_not_end(server, target):
    server.fault(429, "slow down", times=99)
    assert refusal(lambda: target.state("rn50"), exits.TryAgain) == (
        "cannot get jobsets.jobset.x-k8s.io rn50 in namespace default now: the cluster has too many requests (slow down); try"
        " again in a minute."
    )
    assert len(server.seen) == 1 + kube_errors.RETRIES


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_5xx_is_retried(server, target, status):
    server.fault(status, "etcd is away", method="POST", path="jobsets", times=3)
    assert target.submit(spec()).phase == "pending"
    server.fault(status, "etcd is away.", times=99)
    assert refusal(lambda: target.state("rn50"), exits.TryAgain) == (
        f"cannot get jobsets.jobset.x-k8s.io rn50 in namespace default now: HTTP {status}, etcd is away; try again, or look"
        " with `kubectl get '--raw=/readyz?verbose'`."
    )


def test_a_webhook_that_does_not_answer(server, target):
    server.fault(
        500,
        'failed calling webhook "mjobset.kb.io": connect: connection refused',
        method="POST",
        path="jobsets",
        times=9,
    )
    assert refusal(lambda: target.submit(spec()), exits.TryAgain) == (
        "cannot create jobsets.jobset.x-k8s.io rn50 in namespace default now: HTTP 500, failed calling webhook"
        ' "mjobset.kb.io": connect: connection refused; try again, or look with `kubectl get pods --all-namespaces'
        " --selector=control-plane=controller-manager`."
    )


def test_broken_connections_are_opened_again(server, target):
    server.fault(0, times=3)
    assert target.submit(spec()).phase == "pending"
    server.fault(0, times=99)
    assert refusal(lambda: target.state("rn50"), exits.TryAgain) == (
        f"cannot get jobsets.jobset.x-k8s.io rn50 in namespace default: the cluster at {server.url} cannot be reached: the"
        " connection broke; see whether it still exists and whether a VPN or an authorized network is needed, with"
        " `kubectl cluster-info`."
    )


def test_slow_answers(server, target, monkeypatch):
    monkeypatch.setattr(kube_api, "READ_SECONDS", 0.1)
    server.fault(200, times=2, seconds=0.3)
    assert target.submit(spec()).phase == "pending"
    server.fault(200, times=99, seconds=0.3)
    sentence = refusal(lambda: target.state("rn50"), exits.TryAgain)
    assert f"the cluster at {server.url} cannot be reached: no answer in time; see whether" in sentence


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", "connection refused"), ("cluster.invalid", "its name is not known here")],
)
def test_an_unreachable_cluster(server, tmp_path, host, reason):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://{host}:{nobody.getsockname()[1]}"
        server.write_kubeconfig(tmp_path / "kubeconfig", server=url)
        sentence = refusal(lambda: KubernetesTarget("default", "here").state("rn50"), exits.TryAgain)
    assert sentence == (
        f"cannot get jobsets.jobset.x-k8s.io rn50 in namespace default: the cluster at {url} cannot be reached: {reason}; see"
        " whether it still exists and whether a VPN or an authorized network is needed, with `kubectl --context=here"
        " cluster-info`."
    )


def test_a_certificate_of_an_unknown_authority(server, tmp_path):
    """A real handshake. The kubeconfig names no authority, so the system's are asked."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    begin = datetime.datetime.now(datetime.UTC)
    certificate = x509.CertificateBuilder(who, who, key.public_key(), 1, begin, begin + datetime.timedelta(days=1))
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "key-and-certificate").write_bytes(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "key-and-certificate")
    with socket.create_server(("127.0.0.1", 0)) as listener, context.wrap_socket(listener, server_side=True) as secure:
        url = f"https://127.0.0.1:{secure.getsockname()[1]}"

        def refuse_all():
            with contextlib.suppress(OSError):
                while True:
                    with contextlib.suppress(ssl.SSLError):
                        secure.accept()

        threading.Thread(target=refuse_all, daemon=True).start()
        server.write_kubeconfig(tmp_path / "kubeconfig", server=url)
        sentence = refusal(lambda: KubernetesTarget("default", "").state("rn50"))
    assert sentence == (
        f"cannot get jobsets.jobset.x-k8s.io rn50 in namespace default: the cluster at {url} has not the certificate that the"
        " kubeconfig asks for (certificate verify failed); `gcloud container clusters get-credentials CLUSTER"
        " --location=LOCATION` renews it."
    )


def test_the_client_is_an_extra(monkeypatch):
    """Who trains only does not need it."""
    for name in [name for name in sys.modules if name.startswith(("kubernetes", "convoy.launch.targets.kubernetes"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    sentence = refusal(lambda: importlib.import_module("convoy.launch.targets.kubernetes.target"))
    assert (
        sentence
        == "--target=k8s needs the package kubernetes, which is not here; run `pip install 'keras-convoy[launch]'`."
    )
