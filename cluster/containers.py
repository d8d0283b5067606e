"""How a command is put into a container: further words for srun, and words before the command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.images import enroot_name, image_of, squash_name
from cluster.job import Job
from cluster.site import Site
from core.errors import ConfigError

# What a rank of Slurm sets and an engine reads; docker passes on those that are set.
GPU_VARIABLES = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
TOKENS = ("HF_TOKEN",)
DOCKER_NAME = "gptoss-harness-{job}-{node}"
DOCKER = {
    "rocm": ("--device=/dev/kfd", "--device=/dev/dri", "--group-add=video", "--ipc=host"),
    "cuda": ("--gpus=all", "--ipc=host"),
    "cpu": (),
}
PODMAN = DOCKER | {"cuda": ("--device=nvidia.com/gpu=all", "--ipc=host")}


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A command in its container."""

    srun: tuple[str, ...]  # options of srun
    words: tuple[str, ...]  # the command
    prepare: tuple[str, ...] = ()  # what has to be done once before
    clean: tuple[str, ...] = ()  # what may be left on a node after


def wrap(site: Site, job: Job, harness: Path, command: tuple[str, ...]) -> Wrapped:
    """The command in the site's kind of container. Raises ConfigError where no image is known."""
    kinds: dict[str, Callable[[Site, Job, Path, tuple[str, ...]], Wrapped]] = {
        "none": lambda site, job, harness, command: Wrapped((), command),
        "enroot": _enroot,
        "pyxis": _pyxis,
        "docker": _docker,
        "podman": _docker,
    }
    return kinds[site.container.style if job.container else "none"](site, job, harness, command)


def image_for(site: Site, job: Job) -> str:
    """Raises ConfigError where none is known."""
    return site.container.image or image_of(job.servers.engine, site.gpus.platform, site.gpus.model)


def _is_file(image: str) -> bool:
    """One that is imported already."""
    return image.startswith("/")


def _mounts(site: Site, job: Job, harness: Path) -> list[str]:
    """What a server needs to see, at the same path as outside; then the site's own."""
    if set(str(harness)) & set(",:"):
        raise ConfigError(f"{harness}: a path with , or : cannot be mounted: move the harness")
    needed = [f"{harness}:{harness}", f"{job.folder}:{job.folder}"]
    if job.servers.model_folder is not None:
        needed.append(f"{job.servers.model_folder}:{job.servers.model_folder}:ro")
    return [*needed, *site.container.mounts]


def _named(site: Site, job: Job) -> list[str]:
    """Variables that a container must get from outside."""
    ours = [name for name, _ in (*site.environment, *job.environment)]
    return list(dict.fromkeys([*ours, *site.container.environment]))


def _import(site: Site, job: Job, harness: Path) -> tuple[str, ...]:
    """setup_enroot.sh with the image and its file, without what to do with it."""
    image, folder = image_for(site, job), site.container.squash_dir
    script = str(harness / "setup_enroot.sh")
    if _is_file(image):
        return (script, "--squash", image)
    words = [script, "--docker_image", image]
    if folder is not None:
        words += ["--squash", str(folder / squash_name(image))]
    return tuple(words)


def _enroot(site: Site, job: Job, harness: Path, command: tuple[str, ...]) -> Wrapped:
    """A sandbox on each node; the image comes from the shared folder, where there is one."""
    imported = _import(site, job, harness)
    words = [*imported, "--devices", site.container.devices]
    for mount in _mounts(site, job, harness):
        words += ["--mount", mount]
    for name in _named(site, job):  # those of Slurm and of GPUs it knows itself
        words += ["--env", name]
    shared = site.container.squash_dir is not None and not _is_file(image_for(site, job))
    once = (*imported, "--import_only") if shared else ()
    return Wrapped((), (*words, *site.container.flags, "--", *command), once)


def _pyxis(site: Site, job: Job, harness: Path, command: tuple[str, ...]) -> Wrapped:
    """srun's own options. An image is imported once into the shared folder, where there is one."""
    image, folder, once = image_for(site, job), site.container.squash_dir, tuple[str, ...]()
    if folder is not None and not _is_file(image):
        once = (*_import(site, job, harness), "--import_only")
        image = str(folder / squash_name(image))
    image = image if _is_file(image) else enroot_name(image)
    mounts = _mounts(site, job, harness)
    if site.container.devices == "always" and site.gpus.platform == "rocm":
        mounts += [f"{device}:{device}" for device in ("/dev/kfd", "/dev/dri")]
    options = [f"--container-image={image}", f"--container-mounts={','.join(mounts)}"]
    if named := _named(site, job):  # an image's own values win over those that are not named
        options.append(f"--container-env={','.join(named)}")
    return Wrapped((*options, *site.container.flags), command, once)


def _docker(site: Site, job: Job, harness: Path, command: tuple[str, ...]) -> Wrapped:
    """One container a node, named after the job, so that what a hard end leaves can be removed."""
    program, image = site.container.style, image_for(site, job)
    if _is_file(image):
        raise ConfigError(f"image: {image}: {program} wants a name, not a file")
    words = [program, "run", "--rm", f"--name={DOCKER_NAME}", "--network=host"]
    words += (DOCKER if program == "docker" else PODMAN)[site.gpus.platform]
    words += [f"--volume={mount}" for mount in _mounts(site, job, harness)]
    # By name: a value would stand in the list of processes.
    words += [f"--env={name}" for name in (*GPU_VARIABLES, *_named(site, job), *TOKENS)]
    words += [*site.container.flags, f"--workdir={harness}", f"--entrypoint={command[0]}"]
    words.append(image)
    return Wrapped((), (*words, *command[1:]), (), (program, "rm", "--force", DOCKER_NAME))
