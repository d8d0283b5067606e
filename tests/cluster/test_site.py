"""A site's file: what it leaves out, and what it has wrong."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from cluster import images
from cluster.job import read_job
from cluster.planning import make_plan
from cluster.script import render
from cluster.site import PYXIS_FLAGS, Container, Gpus, Site, read_site
from core.errors import ConfigError
from tests.cluster.inputs import job_file, site_file, written


def test_defaults(tmp_path: Path) -> None:
    path = written(tmp_path / "my-site.yaml", {"gpus": {"platform": "cuda"}})
    assert read_site(path) == Site(
        name="my-site",
        partition=None,
        account=None,
        qos=None,
        reservation=None,
        exclusive=True,
        cpus_per_node=None,
        gpus=Gpus("cuda", 8, "gres", None),
        container=Container("none", None, None, (), "auto", (), ()),
        modules=(),
        environment=(),
        options=(),
        step_options=(),
        python=None,
        domain="",
        kill_wait_s=30,
    )


def test_everything_set(tmp_path: Path) -> None:
    site = read_site(
        site_file(
            tmp_path,
            partition="p",
            account="a#b",
            qos="q",
            reservation="r",
            exclusive="no",
            cpus_per_node="010",
            gpus={"platform": "rocm", "per_node": 4, "request": "gpus-per-node", "type": "mi300x"},
            container={
                "style": "pyxis",
                "image": "docker://x#y:z",
                "squash_dir": "images",
                "mounts": ["/a:/b", "/c:/d:ro"],
                "devices": "always",
                "flags": ["--container-writable"],
                "environment": ["NCCL_DEBUG"],
            },
            modules=["rocm/7.2"],
            environment={"A": "1 2", "B": "02:00"},
            sbatch_options=["--constraint=a&b"],
            srun_options=["-v"],
            python="/opt/link/python",
            domain=".example.org",
            kill_wait_s=60,
        )
    )
    images = tmp_path.resolve() / "images"
    flags = ("--container-writable",)
    mounts = ("/a:/b", "/c:/d:ro")
    assert site == Site(
        name="s",
        partition="p",
        account="a#b",
        qos="q",
        reservation="r",
        exclusive=False,
        cpus_per_node=10,
        gpus=Gpus("rocm", 4, "gpus-per-node", "mi300x"),
        container=Container(
            "pyxis", "docker://x#y:z", images, mounts, "always", flags, ("NCCL_DEBUG",)
        ),
        modules=("rocm/7.2",),
        environment=(("A", "1 2"), ("B", "02:00")),
        options=("--constraint=a&b",),
        step_options=("-v",),
        python=Path("/opt/link/python"),
        domain=".example.org",
        kill_wait_s=60,
    )


def test_what_follows_from_platform_and_style(tmp_path: Path) -> None:
    for platform, flags in PYXIS_FLAGS.items():
        path = site_file(tmp_path, gpus={"platform": platform}, container={"style": "pyxis"})
        site = read_site(path)
        assert site.container.flags == flags
        assert site.gpus.request == ("none" if platform == "cpu" else "gres")
        container = {"style": "enroot"}
        assert not read_site(site_file(tmp_path, container=container)).container.flags


def test_an_interpreter_keeps_its_name(tmp_path: Path) -> None:
    """Resolved, a virtual environment's python is the one without its packages."""
    link = tmp_path / "python"
    link.symlink_to("/usr/bin/env")
    assert read_site(site_file(tmp_path, python=str(link))).python == link


@pytest.mark.parametrize(
    ("changed", "field", "value", "remedy"),
    [
        ({"name": "a b"}, "name", "'a b'", "must match"),
        ({"name": "-x"}, "name", "'-x'", "must match"),
        ({"name": "x;y"}, "name", "'x;y'", "must match"),
        ({"partition": "a b"}, "partition", "'a b'", "must match"),
        ({"partition": "a\nb"}, "partition", r"'a\nb'", "one line"),
        ({"account": "it's"}, "account", "it's", "must match"),
        ({"qos": 'a"b'}, "qos", "'a\"b'", "must match"),
        ({"reservation": "a\\b"}, "reservation", r"'a\\b'", "must match"),
        ({"exclusive": "maybe"}, "exclusive", "'maybe'", "be true or false"),
        ({"cpus_per_node": "many"}, "cpus_per_node", "'many'", "be a whole number"),
        ({"gpus": None}, "gpus: platform", "missing", "missing"),
        ({"gpus": "rocm"}, "gpus", "'rocm'", "be fields such as"),
        ({"gpus": {"platform": "hip"}}, "gpus: platform", "'hip'", "be one of rocm, cuda, cpu"),
        ({"gpus": {"platform": "rocm", "per_node": -8}}, "per_node", "'-8'", "whole number"),
        ({"gpus": {"platform": "rocm", "request": "gpu"}}, "request", "'gpu'", "be one of gres"),
        ({"gpus": {"platform": "rocm", "type": "a b"}}, "gpus: type", "'a b'", "must match"),
        ({"gpus": {"platform": "rocm", "kind": "x"}}, "gpus: kind", "no such", "known: "),
        ({"container": {"style": "apptainer"}}, "style", "'apptainer'", "be one of none, enroot"),
        ({"container": {"image": "a b"}}, "container: image", "'a b'", "must match"),
        ({"container": {"mounts": "/a:/b"}}, "mounts", "'/a:/b'", "be a list: [a, b]"),
        ({"container": {"mounts": ["a:/b"]}}, "mounts", "'a:/b'", "be SOURCE:TARGET"),
        ({"container": {"mounts": ["/a"]}}, "mounts", "'/a'", "be SOURCE:TARGET"),
        ({"container": {"mounts": ["/a:/b,/:/host"]}}, "mounts", "'/a:/b,/:/host'", "SOURCE"),
        ({"container": {"mounts": ["/a:/b\n/c:/d"]}}, "mounts", r"\n", "no control characters"),
        ({"container": {"devices": "yes"}}, "devices", "'yes'", "be one of auto, always, never"),
        ({"container": {"flags": ["privileged"]}}, "flags", "'privileged'", "be one option"),
        ({"container": {"environment": ["A=b"]}}, "environment", "'A=b'", "be the name alone"),
        ({"container": {"environment": ["A,B"]}}, "environment", "'A,B'", "be the name alone"),
        ({"container": {"stile": "none"}}, "stile", "no such field", "did you mean style?"),
        ({"modules": "rocm"}, "modules", "'rocm'", "be a list"),
        ({"modules": ["a\nb"]}, "modules", r"'a\nb'", "no control characters"),
        ({"environment": ["A"]}, "environment", "['A']", "be fields such as"),
        ({"environment": {"A-B": "x"}}, "A-B", "'x'", "have a name like"),
        ({"environment": {"1A": "x"}}, "1A", "'x'", "have a name like"),
        ({"environment": {"A;touch x": "x"}}, "A;touch x", "'x'", "have a name like"),
        ({"environment": {"A": "x\ny"}}, "A", r"'x\ny'", "one line"),
        ({"environment": {"HF_TOKEN": "x"}}, "HF_TOKEN", "", "export it where you submit"),
        ({"sbatch_options": ["-C x"]}, "sbatch_options", "'-C x'", "be one option, such as"),
        ({"sbatch_options": ["x"]}, "sbatch_options", "'x'", "be one option"),
        ({"sbatch_options": ["--a='b'"]}, "sbatch_options", "--a='b'", "without quotes"),
        ({"sbatch_options": ['--a="b"']}, "sbatch_options", '--a="b"', "without quotes"),
        ({"sbatch_options": ["--a=\\#"]}, "sbatch_options", "--a=", "without quotes"),
        ({"sbatch_options": ["--a\n"]}, "sbatch_options", r"'--a\n'", "no control characters"),
        ({"srun_options": ["-v -v"]}, "srun_options", "'-v -v'", "be one option"),
        ({"python": "bin/python"}, "python", "'bin/python'", "be an absolute path"),
        ({"domain": "example.org"}, "domain", "'example.org'", "must match"),
        ({"domain": ".a/b"}, "domain", "'.a/b'", "must match"),
        ({"kill_wait_s": 0}, "kill_wait_s", "'0'", "at least 1"),
        ({"exclusive": False}, "cpus_per_node", "exclusive", "set cpus_per_node, or exclusive: t"),
        ({"partitoin": "x"}, "partitoin", "no such field", "did you mean partition?"),
    ],
)
def test_wrong_input(
    tmp_path: Path, changed: dict[str, Any], field: str, value: str, remedy: str
) -> None:
    path = site_file(tmp_path, **changed)
    with pytest.raises(ConfigError) as raised:
        read_site(path)
    said = str(raised.value)
    assert said.startswith(str(path)) and "\n" not in said
    assert field in said and value in said and remedy in said


SECRETS = ["HF_TOKEN", "hf_token", "WANDB_API_KEY", "OPENAI_APIKEY", "AWS_SECRET_ACCESS_KEY"]
SECRETS += ["AWS_ACCESS_KEY_ID", "DB_PASSWORD", "HUGGING_FACE_HUB_TOKEN"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_refused_and_not_repeated(tmp_path: Path, name: str) -> None:
    for read, path in (
        (read_site, site_file(tmp_path, environment={name: "s3cr3t"})),
        (read_job, job_file(tmp_path, environment={name: "s3cr3t"})),
    ):
        with pytest.raises(ConfigError, match="export it where you submit") as raised:
            read(path)
        assert name in str(raised.value) and "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "SGLANG_MAX_NEW_TOKENS", "KEYBOARD"])
def test_what_only_looks_like_a_secret(tmp_path: Path, name: str) -> None:
    assert read_site(site_file(tmp_path, environment={name: "1"})).environment == ((name, "1"),)


STYLES = ("none", "enroot", "pyxis", "docker", "podman")


@pytest.mark.parametrize("style", STYLES)
def test_what_a_container_is_told(tmp_path: Path, style: str) -> None:
    """Whichever way: the image, what it sees, which variables it gets; never their values."""
    (tmp_path / "model").mkdir()
    container = {"style": style, "image": "img:1", "mounts": ["/m:/n:ro"], "environment": ["EXTRA"]}
    site = read_site(
        site_file(tmp_path, container=container, environment={"OF_SITE": "value-of-a"})
    )
    servers = {"engine": "vllm", "model": "./model", "min_replicas": 1}
    job = read_job(job_file(tmp_path, servers, environment={"B": "value-of-b"}))
    plan = make_plan(site, job, job.chain)
    words = shlex.join(plan.serve)
    model = tmp_path.resolve() / "model"
    assert f"--model_path {model}" in words and "value-of" not in plan.to_json()
    told = (
        f"{job.folder}:{job.folder}",
        f"{model}:{model}:ro",
        "/m:/n:ro",
        "img:1",
        "EXTRA",
        "OF_SITE",
    )
    for text in told:
        assert (text in words) == (style != "none"), text
    before, _, _ = words.partition("run_server.sh")
    assert ("img:1" in before) == (style in ("pyxis", "enroot"))
    assert bool(plan.clean) == (style in ("docker", "podman"))
    export = [line for line in render(site, job)[0].text.splitlines() if line.startswith("export")]
    assert export == ["export OF_SITE=value-of-a", "export B=value-of-b"]


def test_an_image_is_imported_once_where_all_nodes_find_it(tmp_path: Path) -> None:
    job = read_job(job_file(tmp_path, {"engine": "vllm"}))
    for style in ("enroot", "pyxis"):
        container = {"style": style, "squash_dir": "/sq"}
        plan = make_plan(read_site(site_file(tmp_path, container=container)), job, job.chain)
        assert plan.prepare[-1] == "--import_only"
        (name,) = [word for word in plan.prepare if word.endswith(".sqsh")]
        assert name.startswith("/sq/vllm_vllm-openai-rocm_") and any(
            name in word for word in plan.serve
        )
        plan = make_plan(read_site(site_file(tmp_path, container={"style": style})), job, job.chain)
        assert plan.prepare == ()
        ready = container | {"image": "/images/x.sqsh"}  # imported already
        plan = make_plan(read_site(site_file(tmp_path, container=ready)), job, job.chain)
        assert plan.prepare == () and "/images/x.sqsh" in " ".join(plan.serve)
        assert "/sq" not in " ".join(plan.serve) and "--docker_image" not in plan.serve


IMAGES = """
# engine platform gpu image date source
sglang rocm MI355X a/one:1 2026-01-01 x
sglang rocm mi300x a/two:1 2026-01-01 sglang rocm * no:1
vllm   rocm MI355X a/three:1 2026-01-01 x
vllm   rocm *      a/four:1  2026-01-01 x  # vllm rocm MI300X no:1
"""


@pytest.mark.parametrize(
    ("engine", "gpus", "image"),
    [
        ("sglang", {"name": "MI355X"}, "a/one:1"),
        ("sglang", {"type": "mi355x"}, "a/one:1"),
        ("sglang", {"type": "gpu", "name": "MI300X"}, "a/two:1"),
        ("vllm", {"name": "MI355X"}, "a/three:1"),
        ("vllm", {"name": "MI300X"}, "a/four:1"),
        ("vllm", {}, "a/four:1"),
        (
            "sglang",
            {},
            "for the GPU (not named), only for MI355X, MI300X: set gpus: name, or image",
        ),
        ("sglang", {"name": "MI250"}, "for the GPU MI250, only for MI355X, MI300X"),
        ("sglang", {"platform": "cpu"}, "no image is known for sglang on cpu: set image"),
    ],
)
def test_which_image_a_gpu_gets(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    gpus: dict[str, str],
    image: str,
) -> None:
    (tmp_path / "images.txt").write_text(IMAGES)
    monkeypatch.setattr(images, "TABLE", tmp_path / "images.txt")
    site = read_site(
        site_file(tmp_path, gpus={"platform": "rocm"} | gpus, container={"style": "docker"})
    )
    job = read_job(job_file(tmp_path, {"engine": engine}))
    if image.startswith("a/"):
        plan = make_plan(site, job, job.chain)
        assert image in plan.serve
        at = plan.serve.index("--platform")
        told = (
            ("--gpu", gpus["name"]) if "name" in gpus else ("--model_path", "openai/gpt-oss-120b")
        )
        assert plan.serve[at + 2 : at + 4] == told
        return
    with pytest.raises(ConfigError) as raised:
        render(site, job)
    assert image in str(raised.value)


@pytest.mark.parametrize("style", STYLES)
def test_a_container_that_sees_all_gpus_needs_the_node_for_itself(
    tmp_path: Path, style: str
) -> None:
    changed = {"exclusive": False, "cpus_per_node": 8, "container": {"style": style, "image": "x"}}
    path = site_file(tmp_path, **changed)
    if style not in ("docker", "podman"):
        assert not read_site(path).exclusive
        return
    with pytest.raises(ConfigError, match="set exclusive: true, or use enroot") as raised:
        read_site(path)
    assert str(raised.value).startswith(f"{path}: container: style: {style} sees every GPU")
    assert read_site(site_file(tmp_path, **changed | {"exclusive": True})).exclusive
