"""setup_enroot.sh as real processes against tests/shims/enroot."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIMS = ROOT / "tests" / "shims"
SCRIPT = ROOT / "setup_enroot.sh"
IMAGE = "lmsysorg/sglang:v0.5.4.post2"
LABEL = "lmsysorg_sglang_v0.5.4.post2"
LIMIT_S = 30.0
DIGEST = "sha256:" + "0123456789abcdef" * 4
TOKEN = "hf_secret"


class Site:
    """A machine's folders, in one that has a space in its name where enroot allows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "enroot.log"
        self.squash_dir = folder / "squash files"
        self.squash = self.squash_dir / f"{LABEL}.sqsh"
        self.data = folder / "data"
        self.sandbox = self.data / LABEL
        self.hold = folder / "hold"
        self.hold.mkdir()
        os.mkfifo(self.hold / "go")
        self.started: list[subprocess.Popen[str]] = []
        self.prefix: tuple[str, ...] = ()  # with_devices()
        self.environ = {
            "PATH": f"{SHIMS}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "ENROOT_DATA_PATH": str(self.data),
            "ENROOT_SYSCONF_PATH": str(folder / "etc"),
            "XDG_RUNTIME_DIR": str(folder),
            "FAKE_ENROOT_LOG": str(self.log),
        }

    def command(self, *flags: str, image: str = IMAGE) -> list[str]:
        named = ["--docker_image", image] if image else []
        return [str(SCRIPT), *named, "--squash_dir", str(self.squash_dir), *flags]

    def run(
        self, *flags: str, image: str = IMAGE, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *self.command(*flags, image=image)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
        )

    def start(self, *flags: str, image: str = IMAGE, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*flags, image=image),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environ | environ,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def held(self, what: str, *flags: str) -> subprocess.Popen[str]:
        """A run whose enroot waits in the midst of `what` until let go."""
        process = self.start(*flags, FAKE_ENROOT_HOLD=f"{what} {self.hold}")
        wait_for((self.hold / "waiting").exists)
        return process

    def let_go(self) -> None:
        def reader_is_there() -> bool:
            try:
                os.close(os.open(self.hold / "go", os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                return False
            return True

        wait_for(reader_is_there)

    def calls(self, which: str = "") -> list[list[str]]:
        """The arguments of each call of enroot."""
        if not self.log.exists():
            return []
        calls = [shlex.split(line) for line in self.log.read_text().splitlines()]
        return [call for call in calls if which in ("", call[0])]

    def partials(self) -> list[Path]:
        return list(self.squash_dir.glob("*.partial"))


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for process in site.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def ready(site: Site) -> Site:
    """With the sandbox made, and no calls counted yet."""
    assert site.run().returncode == 0
    site.log.unlink()
    return site


def tools_without(folder: Path, *missing: str) -> str:
    """A PATH with all of the system's programs but these."""
    for source in (Path("/usr/sbin"), Path("/usr/bin"), SHIMS):
        for program in source.iterdir():
            if program.name not in missing and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


def with_devices(folder: Path, *devices: str) -> tuple[str, ...]:
    """What starts a command where /dev has the usual and these, in namespaces of its own."""
    fake = folder / "dev"
    fake.mkdir()
    usual = ("null", "zero", "full", "random", "urandom", "tty")
    for name in (*usual, *devices):
        if name == "dri":
            (fake / name).mkdir()
        else:
            (fake / name).touch()
    (fake / "fd").symlink_to("/proc/self/fd")
    binds = " && ".join(f'mount --bind "/dev/{name}" "$0/{name}"' for name in usual)
    script = f'{binds} && mount --rbind "$0" /dev && exec "$@"'
    return ("unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, str(fake))


def test_the_first_run_makes_it_and_the_second_does_nothing(site: Site) -> None:
    first = site.run()
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    imported, created = site.calls()
    assert imported[:2] == ["import", "-o"] and imported[3:] == [f"docker://{IMAGE}"]
    assert imported[2].startswith(f"{site.squash}.") and imported[2].endswith(".partial")
    assert created == ["create", "--name", LABEL, str(site.squash)]
    assert (site.sandbox / "etc/image").read_text() == f"docker://{IMAGE}\n"
    assert not site.partials()

    before = (site.squash.stat().st_mtime_ns, site.sandbox.stat().st_mtime_ns)
    second = site.run()
    assert (second.returncode, second.stdout) == (0, "")
    assert f"the sandbox {LABEL} is ready" in second.stderr
    assert len(site.calls()) == 2
    assert before == (site.squash.stat().st_mtime_ns, site.sandbox.stat().st_mtime_ns)


def test_a_sandbox_needs_its_image_file_no_more(ready: Site) -> None:
    ready.squash.unlink()
    assert ready.run().returncode == 0
    assert ready.calls() == []


def test_import_only_prints_the_path_alone(site: Site) -> None:
    for _ in range(2):
        done = site.run("--import-only")
        assert (done.returncode, done.stdout) == (0, f"{site.squash}\n"), done.stderr
    assert [call[0] for call in site.calls()] == ["import"]
    assert not site.sandbox.exists()


def test_an_exact_file_of_another_image_is_refused(site: Site) -> None:
    file = site.folder / "mine.sqsh"
    command = [str(SCRIPT), "--import_only", "--squash", "mine.sqsh", "--docker_image"]

    def run(image: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, image],
            cwd=site.folder,
            env=site.environ,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    assert run(IMAGE).stdout == f"{file}\n"
    other = run("lmsysorg/sglang:v2")
    assert (other.returncode, other.stdout) == (3, "")
    assert "remedy:" in other.stderr and "--force" in other.stderr
    assert len(site.calls("import")) == 1


@pytest.mark.parametrize(
    ("image", "uri", "label"),
    [
        ("lmsysorg/sglang:v1", "docker://lmsysorg/sglang:v1", "lmsysorg_sglang_v1"),
        ("ubuntu:24.04", "docker://ubuntu:24.04", "ubuntu_24.04"),
        ("ubuntu", "docker://ubuntu:latest", "ubuntu_latest"),
        ("rocm/7.0:rocm7_u22", "docker://rocm/7.0:rocm7_u22", "rocm_7.0_rocm7_u22"),
        ("docker.io/a/b:v1", "docker://a/b:v1", "a_b_v1"),
        ("docker://docker.io#a/b:v1", "docker://a/b:v1", "a_b_v1"),
        ("docker://a/b:v1", "docker://a/b:v1", "a_b_v1"),
        ("nvcr.io/nvidia/x:v1", "docker://nvcr.io#nvidia/x:v1", "nvcr.io_nvidia_x_v1"),
        ("docker://nvcr.io/nvidia/x:v1", "docker://nvcr.io#nvidia/x:v1", "nvcr.io_nvidia_x_v1"),
        ("nvcr.io#nvidia/x:v1", "docker://nvcr.io#nvidia/x:v1", "nvcr.io_nvidia_x_v1"),
        ("localhost:5000/x:v1", "docker://localhost:5000#x:v1", "localhost_5000_x_v1"),
        (
            "docker://$oauthtoken@nvcr.io#nvidia/x:v1",
            "docker://$oauthtoken@nvcr.io#nvidia/x:v1",
            "nvcr.io_nvidia_x_v1",
        ),
        (
            f"a/b:v1@{DIGEST}",
            f"docker://registry-1.docker.io#a/b:{DIGEST}",
            f"a_b_{DIGEST.replace(':', '_')}",
        ),
        (
            f"docker://ubuntu@{DIGEST}",
            f"docker://registry-1.docker.io#library/ubuntu:{DIGEST}",
            f"ubuntu_{DIGEST.replace(':', '_')}",
        ),
        (f"ghcr.io/a/b@{DIGEST}", f"docker://ghcr.io#a/b:{DIGEST}", None),
        ("dockerd://nvcr.io/x:v1", "dockerd://nvcr.io/x:v1", "dockerd_nvcr.io_x_v1"),
        ("podman://localhost/x:v1", "podman://localhost/x:v1", "podman_localhost_x_v1"),
    ],
)
def test_images_are_named_as_every_enroot_takes_them(
    site: Site, image: str, uri: str, label: str | None
) -> None:
    done = site.run("--import_only", image=image)
    assert done.returncode == 0, done.stderr
    assert site.calls("import")[0][-1] == uri
    assert label is None or Path(done.stdout.strip()).name == f"{label}.sqsh"


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("docker://lmsysorg#sglang:v1", "remedy: docker://lmsysorg/sglang:v1"),
        ("lmsysorg#sglang:v1", "remedy: docker://lmsysorg/sglang:v1"),
        ("-x", "no image's name"),
        ("a b:v1", "no image's name"),
        ("a/b:v 1", "no image's name"),
        ("A/B:v1", "no image's name"),
        ("a//b:v1", "no image's name"),
        ("../b:v1", "registry"),
        ("a/b@sha256:12", "no image's name"),
        ("a/b:v1;id", "no image's name"),
        ("https://a/b:v1", "docker://"),
        (f"dockerd://a/b@{DIGEST}", "remedy:"),
        ("x#y.io/a#b:v1", "'#'"),
        ("", "--docker_image"),
    ],
)
def test_other_names_are_refused(site: Site, image: str, said: str) -> None:
    done = subprocess.run(
        [str(SCRIPT), "--docker_image", image, "--import_only"],
        env=site.environ,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stdout, site.calls()) == (2, "", [])
    assert said in done.stderr


def test_two_imports_at_once_import_once(site: Site) -> None:
    first = site.held("import", "--import_only")
    assert not site.squash.exists()  # half a file has another name
    second = site.start("--import_only", "--lock_timeout", "29")
    assert second.stderr is not None
    assert "waiting for another run" in second.stderr.readline()
    site.let_go()
    for process in (first, second):
        out, err = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out) == (0, f"{site.squash}\n"), err
    assert len(site.calls("import")) == 1


def test_waiting_for_the_lock_ends(site: Site) -> None:
    site.held("import", "--import_only")
    second = site.run("--import_only", "--lock_timeout", "0")
    assert second.returncode == 3 and "--lock_timeout" in second.stderr
    assert len(site.calls("import")) == 1


def test_a_file_system_without_locks_costs_a_warning(site: Site) -> None:
    """Lustre's default: flock ends with another code than where somebody has the lock."""
    folder = site.folder / "bin"
    folder.mkdir()
    (folder / "flock").write_text(
        "#!/bin/sh\necho 'flock: Function not implemented' >&2\nexit 71\n"
    )
    (folder / "flock").chmod(0o755)
    done = site.run("--import_only", PATH=f"{folder}:{site.environ['PATH']}")
    assert (done.returncode, done.stdout) == (0, f"{site.squash}\n"), done.stderr
    assert f"WARNING: the file system of {site.squash}.lock has no locks" in done.stderr
    assert len(site.calls("import")) == 1 and not site.partials()


def test_waiting_can_be_interrupted(site: Site) -> None:
    """A plain kill, which does not reach the program that waits."""
    first = site.held("import", "--import_only")
    second = site.start("--import_only")
    assert second.stderr is not None
    assert "waiting for another run" in second.stderr.readline()
    second.terminate()
    assert second.wait(LIMIT_S) == 143
    site.let_go()
    assert first.wait(LIMIT_S) == 0


def test_a_killed_import_is_cleared_away(site: Site) -> None:
    first = site.held("import")
    (partial,) = site.partials()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert partial.exists()
    assert site.run().returncode == 0
    assert not site.partials() and site.sandbox.exists()


def test_what_a_killed_script_left_running_is_waited_for(site: Site) -> None:
    first = site.held("import", "--import_only")
    first.kill()
    first.wait()
    second = site.start("--import_only")
    assert second.stderr is not None
    assert "waiting for another run" in second.stderr.readline()
    site.let_go()
    out, err = second.communicate(timeout=LIMIT_S)
    assert (second.returncode, out) == (0, f"{site.squash}\n"), err
    assert not site.partials() and len(site.calls("import")) == 2


def test_a_partial_of_another_node_is_left_until_it_is_old(site: Site) -> None:
    site.squash_dir.mkdir()
    new, old = (Path(f"{site.squash}.node{number}.7.partial") for number in (1, 2))
    for path in (new, old):
        path.touch()
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    assert site.run("--import_only").returncode == 0
    assert site.partials() == [new]


def test_a_partial_bears_its_own_nodes_name(site: Site) -> None:
    """Slurm hands HOSTNAME on from a job's first node; another node's file is not ours to remove."""
    foreign = site.squash_dir / f"{site.squash.name}.elsewhere.7.partial"
    site.squash_dir.mkdir()
    foreign.touch()
    assert site.run("--import_only", HOSTNAME="elsewhere").returncode == 0
    (call,) = site.calls("import")
    assert call[2].startswith(f"{site.squash}.{os.uname().nodename.partition('.')[0]}.")
    assert site.partials() == [foreign]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_import_leaves_nothing(
    site: Site, number: signal.Signals, code: int
) -> None:
    process = site.held("import")
    process.send_signal(number)
    _, err = process.communicate(timeout=LIMIT_S)  # ends only if enroot's programs ended, too
    assert process.returncode == code, err
    assert not site.partials() and not site.squash.exists() and not site.sandbox.exists()


@pytest.mark.parametrize("how", ["fail", "garbage", "cut"])
def test_a_failed_import_leaves_nothing_and_says_what_to_do(site: Site, how: str) -> None:
    done = site.run(FAKE_ENROOT_FAIL=how)
    assert (done.returncode, done.stdout) == (3, "")
    assert "remedy:" in done.stderr and "free:" in done.stderr
    assert ("no space left on device" in done.stderr) == (how == "fail")
    assert not site.partials() and not site.squash.exists() and not site.calls("create")
    assert site.run().returncode == 0


@pytest.mark.parametrize("broken", ["garbage", "cut off", "empty"])
def test_an_invalid_file_is_imported_anew(site: Site, broken: str) -> None:
    assert site.run("--import_only").returncode == 0
    whole = site.squash.read_bytes()
    files = {"garbage": b"x" * len(whole), "cut off": whole[:300], "empty": b""}
    times = site.squash.stat()
    site.squash.write_bytes(files[broken])
    os.utime(site.squash, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = site.run("--import_only")
    assert done.returncode == 0 and "no valid squashfs file" in done.stderr
    assert len(site.calls("import")) == 2
    subprocess.run(["unsquashfs", "-l", site.squash], check=True, capture_output=True)


def test_another_programs_file_is_taken_and_said(site: Site) -> None:
    assert site.run("--import_only").returncode == 0
    Path(f"{site.squash}.image").unlink()
    done = site.run("--import_only")
    assert done.returncode == 0 and "another program made it" in done.stderr
    assert len(site.calls("import")) == 1


def test_without_unsquashfs_the_first_bytes_are_checked(site: Site) -> None:
    tools = site.folder / "tools"
    tools.mkdir()
    path = tools_without(tools, "unsquashfs", "mksquashfs")
    first = site.run(PATH=path)
    assert first.returncode == 0, first.stderr
    assert "only the first four bytes" in first.stderr and site.sandbox.exists()
    site.squash.write_bytes(b"garbage")
    again = site.run("--import_only", PATH=path)
    assert again.returncode == 0 and len(site.calls("import")) == 2


def test_a_half_made_sandbox_is_made_anew(site: Site) -> None:
    first = site.held("create")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert site.sandbox.exists() and not (site.sandbox / "etc").exists()
    again = site.run()
    assert again.returncode == 0 and "never completed" in again.stderr
    assert (site.sandbox / "etc/image").exists()
    assert len(site.calls("import")) == 1


def test_two_sandboxes_at_once_are_made_once(site: Site) -> None:
    first = site.held("create")
    second = site.start()
    assert second.stderr is not None
    assert "is there" in second.stderr.readline()
    assert "waiting for another run" in second.stderr.readline()
    site.let_go()
    for process in (first, second):
        assert process.wait(LIMIT_S) == 0
    assert len(site.calls("create")) == 1 and not site.calls("remove")


def test_another_images_sandbox_of_that_name_is_refused(ready: Site) -> None:
    other = ready.run("--sandbox_name", LABEL, image="lmsysorg/sglang:v2")
    assert other.returncode == 3 and f"made from docker://{IMAGE}" in other.stderr
    assert "--force" in other.stderr and "--sandbox_name" in other.stderr
    assert ready.calls() == []  # said before anything is downloaded

    forced = ready.run("--sandbox_name", LABEL, "--force", image="lmsysorg/sglang:v2")
    assert forced.returncode == 0, forced.stderr
    assert (ready.sandbox / "etc/image").read_text() == "docker://lmsysorg/sglang:v2\n"


def test_a_sandbox_of_an_older_file_is_refused(ready: Site) -> None:
    os.utime(ready.squash, (1, 1))
    done = ready.run()
    assert done.returncode == 3 and "older" in done.stderr and "--force" in done.stderr


def test_a_strangers_sandbox_is_refused(site: Site) -> None:
    (site.sandbox / "precious").mkdir(parents=True)
    done = site.run()
    assert done.returncode == 3 and "not made by this script" in done.stderr
    assert (site.sandbox / "precious").exists() and site.calls() == []


def test_force_makes_both_anew(ready: Site) -> None:
    assert ready.run("--force").returncode == 0
    assert [call[0] for call in ready.calls()] == ["import", "remove", "create"]


def test_the_command_gets_the_variables_that_are_set_and_no_others(ready: Site) -> None:
    given = {
        "ROCR_VISIBLE_DEVICES": "0,1",
        "HF_TOKEN": TOKEN,
        "SLURM_JOB_ID": "7",
        "VLLM_X": "a b",
        "SGLANG_X": "s",
        "HSA_X": "h",
        "NCCL_X": "n",
        "RCCL_X": "r",
        "MINE": "m",
        "OTHER": "never",
    }
    flags = ("--env", "MINE", "--env", "NOT_SET", "--env", "NEW=1 2", "--env", f"MY_KEY={TOKEN}")
    done = ready.run(*flags, "--", "env", **given)
    assert done.returncode == 0, done.stderr
    got = dict(line.split("=", 1) for line in done.stdout.splitlines())
    del given["OTHER"]
    wanted = given | {"NEW": "1 2", "MY_KEY": TOKEN}
    assert {name: got.get(name) for name in wanted} == wanted
    assert set(got) - set(wanted) <= {"PATH", "HOME", "PWD", "SHLVL", "OLDPWD", "_"}
    assert TOKEN not in ready.log.read_text() + done.stderr
    assert "NOT_SET" in done.stderr
    shown = ready.run("--dry-run", *flags, "--", "env", **given)
    assert TOKEN not in shown.stdout + shown.stderr


def test_the_command_stands_in_the_images_folder_without_its_entry_point(ready: Site) -> None:
    done = ready.run("--", "sh", "-c", 'pwd; echo "$1"; touch /written', "sh", "a  'b' $c")
    assert (done.returncode, done.stdout) == (0, "/opt\na  'b' $c\n")
    (start,) = ready.calls("start")
    assert start[:3] == ["start", "--root", "--rw"] and (ready.sandbox / "written").exists()


def test_only_the_command_writes_to_stdout(site: Site) -> None:
    done = site.run("--", "echo", "answer")
    assert (done.returncode, done.stdout) == (0, "answer\n")


def test_the_commands_exit_code_is_the_scripts(ready: Site) -> None:
    assert ready.run("--", "sh", "-c", "exit 42").returncode == 42


def test_the_command_has_the_scripts_pid_and_gets_its_signals(ready: Site) -> None:
    program = 'trap "exit 9" TERM; echo $$; while :; do sleep 0.05; done'
    process = ready.start("--", "sh", "-c", program)
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 9


def test_a_container_holds_no_lock(site: Site) -> None:
    """Or the next --force would wait as long as a server runs."""
    process = site.start("--", "sh", "-c", "echo up; sleep 60")
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    for lock in (f"{site.squash}.lock", str(site.data / f".{LABEL}.lock")):
        subprocess.run(["flock", "-n", lock, "true"], check=True)


def test_mounts_are_passed(ready: Site) -> None:
    (ready.folder / "host").mkdir()
    (ready.folder / "host" / "file").write_text("seen")
    flags = ("--mount", "host:/inside", "--mount", f"{ready.folder}/host:/twice:ro")
    done = ready.run(*flags, "--", "cat", "/inside/file", "/twice/file")
    assert (done.returncode, done.stdout) == (0, "seenseen"), done.stderr
    (start,) = ready.calls("start")
    host = ready.folder / "host"
    assert (f"{host}:/inside" in start, f"{host}:/twice:ro" in start) == (True, True)


@pytest.mark.parametrize(
    ("devices", "flags", "environ", "mounted"),
    [
        (("kfd", "dri"), [], {}, []),
        (("kfd", "dri"), [], {"ENROOT_RESTRICT_DEV": "no"}, []),
        (("kfd", "dri"), [], {"ENROOT_RESTRICT_DEV": "yes"}, ["kfd", "dri"]),
        (("kfd",), [], {"ENROOT_RESTRICT_DEV": "y"}, ["kfd"]),
        (("kfd", "dri"), ["--devices", "never"], {"ENROOT_RESTRICT_DEV": "yes"}, []),
        (("kfd", "dri"), ["--devices", "always"], {}, ["kfd", "dri"]),
        (("nvidiactl", "dri"), [], {"ENROOT_RESTRICT_DEV": "yes"}, []),
    ],
)
def test_device_files_are_mounted_only_where_dev_is_hidden(
    site: Site,
    devices: tuple[str, ...],
    flags: list[str],
    environ: dict[str, str],
    mounted: list[str],
) -> None:
    site.prefix = with_devices(site.folder, *devices)
    done = site.run(*flags, "--dry-run", "--", "true", **environ)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"--mount /dev/(\w+):/dev/\1", done.stdout) == mounted


def test_enroots_own_configuration_counts(site: Site) -> None:
    """Where sandboxes lie and whether /dev is hidden is often said there alone."""
    (site.folder / "etc").mkdir()
    text = f'ENROOT_DATA_PATH "{site.folder}/site-$(echo data)"\nENROOT_RESTRICT_DEV=yes\n'
    (site.folder / "etc" / "enroot.conf").write_text(text)
    del site.environ["ENROOT_DATA_PATH"]
    assert site.run().returncode == 0
    assert (site.folder / "site-data" / LABEL).is_dir()
    site.prefix = with_devices(site.folder, "kfd")
    assert "--mount /dev/kfd" in site.run("--dry-run", "--", "true").stdout


def test_nvidias_hook_is_asked_for_all_gpus(ready: Site) -> None:
    script = 'echo "$NVIDIA_VISIBLE_DEVICES $NVIDIA_DRIVER_CAPABILITIES"'
    for platform, environ, wanted in (
        ("cuda", {}, "all compute,utility\n"),
        ("cuda", {"NVIDIA_VISIBLE_DEVICES": "0"}, "0 \n"),
        ("rocm", {}, " \n"),
    ):
        done = ready.run("--platform", platform, "--", "sh", "-c", script, **environ)
        assert done.stdout == wanted


def test_a_missing_runtime_folder_is_replaced(ready: Site) -> None:
    shim = ready.folder / "bin"
    shim.mkdir()
    (shim / "enroot").write_text('#!/bin/sh\necho "${ENROOT_RUNTIME_PATH:-none}"\n')
    (shim / "enroot").chmod(0o755)
    path = f"{shim}:{ready.environ['PATH']}"
    gone = ready.run("--", "true", PATH=path, XDG_RUNTIME_DIR="/nowhere")
    given = ready.run("--", "true", PATH=path)
    chosen = ready.run("--", "true", PATH=path, XDG_RUNTIME_DIR="/x", ENROOT_RUNTIME_PATH="/mine")
    assert (given.stdout, chosen.stdout) == ("none\n", "/mine\n")
    run_user = Path(f"/run/user/{os.getuid()}")
    usual = run_user if os.access(run_user, os.W_OK) else None
    fallback = usual / "enroot" if usual else ready.folder / f"enroot-runtime-{os.getuid()}"
    assert gone.stdout == f"{fallback}\n" and fallback.is_dir()


ROCM = (
    "--privileged --cap-add=CAP_SYS_ADMIN --device=/dev/kfd --device=/dev/dri --device=/dev/mem "
    "--cap-add=SYS_PTRACE --security-opt seccomp=unconfined"
)


@pytest.mark.parametrize(
    ("tool", "platform", "flags"),
    [
        ("docker", "rocm", f"--ipc=host --shm-size=16g --network=host {ROCM}"),
        ("podman", "rocm", f"--ipc=host --network=host {ROCM}"),
        ("docker", "cuda", "--ipc=host --shm-size=16g --network=host --gpus all"),
        ("podman", "cuda", "--ipc=host --network=host --device nvidia.com/gpu=all"),
    ],
)
def test_the_same_container_for_docker_and_podman(
    site: Site, tool: str, platform: str, flags: str
) -> None:
    given = ["--print", tool, "--platform", platform, "--mount", "/a b:/c", "--env", "X=1 2"]
    given += ["--env", f"MY_TOKEN={TOKEN}"]
    done = site.run(
        *given, "--", "python3", "-c", "print('hi')", HF_TOKEN=TOKEN, PATH="/usr/bin:/bin"
    )
    wanted = (
        f"{tool} run -it --name {LABEL} {flags} -v /a\\ b:/c -e HF_TOKEN -e MY_TOKEN -e X=1\\ 2 "
        f"--entrypoint '' {IMAGE} python3 -c print\\(\\'hi\\'\\)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, wanted, "")
    assert shlex.split(done.stdout)[-1] == "print('hi')"
    shell = site.run("--print", tool, "--platform", platform)
    assert shell.stdout.endswith(f" -e HF_TOKEN --entrypoint '' {IMAGE} /bin/bash\n")
    assert not site.squash_dir.exists() and not site.data.exists()


def test_a_dry_run_shows_all_and_changes_nothing(site: Site) -> None:
    before = sorted(site.folder.rglob("*"))
    done = site.run("--dry-run", "--", "echo", "a b", HF_TOKEN=TOKEN, XDG_RUNTIME_DIR="/nowhere")
    assert done.returncode == 0, done.stderr
    shown = [shlex.split(line)[1:] for line in done.stdout.splitlines()]
    assert [words[:2] for words in shown] == [
        ["enroot", "import"],
        ["mv", "--"],
        ["enroot", "create"],
        ["enroot", "start"],
    ]
    assert shown[1][-1] == shown[2][-1] == str(site.squash)
    rc = str(ROOT / "cluster" / "shell" / "rc")
    wanted = ["--root", "--rw", "--rc", rc, "--env", "HF_TOKEN", LABEL, "echo", "a b"]
    assert shown[3][2:] == wanted
    assert TOKEN not in done.stdout + done.stderr
    assert sorted(site.folder.rglob("*")) == before and site.calls() == []

    # Of another machine, which has enroot.
    elsewhere = site.run("--dry-run", "--", "true", PATH="/usr/bin:/bin")
    assert elsewhere.returncode == 0 and "enroot is not on PATH" in elsewhere.stderr


def test_a_dry_run_knows_what_is_there(ready: Site) -> None:
    done = ready.run("--dry-run", "--", "true")
    assert [line.split()[1:3] for line in done.stdout.splitlines()] == [["enroot", "start"]]
    forced = ready.run("--dry-run", "--force")
    words = [line.split()[1:3] for line in forced.stdout.splitlines()]
    assert words == [["enroot", "import"], ["mv", "--"], ["enroot", "remove"], ["enroot", "create"]]
    assert ready.sandbox.exists() and ready.calls() == []


def test_without_enroot_it_says_so(site: Site) -> None:
    done = site.run(PATH="/usr/bin:/bin")
    assert (done.returncode, done.stdout) == (3, "")
    assert "enroot is not on PATH" in done.stderr and "--print docker" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--gpus", "8"], "--gpus: unknown"),
        (["stray"], "stray: unknown"),
        (["--sandbox_name"], "--sandbox_name: its value is missing"),
        (["--squash_dir", "--force"], "--squash_dir: its value is missing"),
        (["--sandbox_name", "../x"], "--sandbox_name ../x"),
        (["--sandbox_name", ".x"], "--sandbox_name .x"),
        (["--platform", "tpu"], "rocm cuda"),
        (["--devices", "some"], "auto always never"),
        (["--print", "lxc"], "docker podman"),
        (["--engine", "vllm"], "--docker_image names the image"),
        (["--lock_timeout", "soon"], "--lock_timeout soon"),
        (["--squash", "x.sqsh"], "--squash names the file"),
        (["--env", "A-B=1"], "--env A-B"),
        (["--mount", "/only"], "--mount /only"),
        (["--mount", "/a:relative"], "--mount /a:relative"),
        (["--mount", "/a b:/c"], "remedy: a link"),
        (["--import_only", "--", "true"], "--import_only"),
        (["--import_only", "--print", "docker"], "--import_only"),
        (["--"], "the command is missing"),
    ],
)
def test_wrong_arguments_exit_2(site: Site, flags: list[str], said: str) -> None:
    done = site.run(*flags)
    assert (done.returncode, done.stdout, site.calls()) == (2, "", [])
    assert said in done.stderr


def test_no_other_file_is_ever_replaced(site: Site) -> None:
    file = site.folder / "notes.txt"
    file.write_text("mine")
    done = subprocess.run(
        [str(SCRIPT), "--docker_image", IMAGE, "--squash", str(file)],
        env=site.environ,
        capture_output=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 2 and file.read_text() == "mine"


def test_a_file_alone_is_taken_as_it_is(site: Site) -> None:
    assert site.run("--import_only").returncode == 0
    file = site.folder / "squash files" / "my image+1.sqsh"
    site.squash.rename(file)
    command = [str(SCRIPT), "--squash", str(file)]

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *flags],
            env=site.environ,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    for _ in range(2):
        done = run("--", "cat", "/etc/image")
        assert (done.returncode, done.stdout) == (0, f"docker://{IMAGE}\n"), done.stderr
    assert run("--import_only", "--force").stdout == f"{file}\n"
    assert [call[0] for call in site.calls()] == ["import", "create", "start", "start"]
    assert (site.data / "my_image_1").is_dir()

    file.write_text("garbage")
    broken = run("--import_only")
    assert broken.returncode == 3 and "no valid squashfs file" in broken.stderr
    assert file.read_text() == "garbage"
    file.unlink()
    gone = run("--force")
    assert gone.returncode == 3 and "is not there" in gone.stderr and "remedy:" in gone.stderr
    assert len(site.calls("import")) == 1


def test_a_missing_mount_is_said_first(site: Site) -> None:
    done = site.run("--mount", "/nowhere:/x", "--", "true")
    assert done.returncode == 3 and "/nowhere is not there" in done.stderr and site.calls() == []


def rows() -> list[list[str]]:
    lines = (ROOT / "cluster" / "images.txt").read_text(encoding="utf-8").splitlines()
    return [line.split(maxsplit=5) for line in lines if line and not line.startswith("#")]


def test_the_list_of_images_is_well_formed() -> None:
    for engine, platform, gpu, _, date, source in rows():
        assert engine in ("sglang", "vllm") and platform in ("rocm", "cuda")
        assert re.fullmatch(r"\*|[A-Z0-9]+", gpu)
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])-([0-2]\d|3[01])", date)
        assert len(source) > 10
    keys = [tuple(row[:3]) for row in rows()]
    assert len(set(keys)) == len(keys)
    assert {key[:2] for key in keys} == {
        (e, p) for e in ("sglang", "vllm") for p in ("rocm", "cuda")
    }


@pytest.mark.parametrize("row", rows(), ids=lambda row: "-".join(row[:3]))
def test_each_listed_image_is_found_and_named(site: Site, row: list[str]) -> None:
    engine, platform, gpu, image = row[:4]
    flags = ["--engine", engine, "--platform", platform, "--dry-run"]
    flags += [] if gpu == "*" else ["--gpu", gpu.lower()]
    done = site.run(*flags, image="")
    assert done.returncode == 0, done.stderr
    assert f" docker://{image}\n" in done.stdout  # all of them are on Docker Hub, with a tag


def test_the_platform_is_found(site: Site) -> None:
    images = {tuple(row[:3]): row[3] for row in rows()}
    site.prefix = with_devices(site.folder, "nvidiactl")
    cuda = site.run("--dry-run", image="")
    assert f"docker://{images['sglang', 'cuda', '*']}\n" in cuda.stdout
    shutil.rmtree(site.folder / "dev")
    site.prefix = with_devices(site.folder, "kfd")
    rocm = site.run("--dry-run", "--gpu", "MI355X", image="")
    assert f"docker://{images['sglang', 'rocm', 'MI355X']}\n" in rocm.stdout


def test_without_a_gpu_the_platform_is_asked_for(site: Site) -> None:
    site.prefix = with_devices(site.folder)
    for flags in ([], ["--engine", "vllm"]):
        done = site.run(*flags, image="", PATH=f"{SHIMS}:/usr/bin:/bin")
        assert done.returncode == 3 and "--platform rocm" in done.stderr
    unknown = site.run("--platform", "rocm", "--gpu", "MI50", image="")
    assert unknown.returncode == 2 and "MI300X" in unknown.stderr


def test_help_names_every_flag_also_through_a_link(site: Site) -> None:
    link = site.folder / "a link.sh"
    link.symlink_to(SCRIPT)
    done = subprocess.run([link, "--help"], capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.findall(r"^  (--\w+)", done.stdout, re.MULTILINE)
    known = re.findall(r"^ +(?:_h \| )?__(\w+)\)", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {f"--{name}" for name in known} - {"--help"} == set(shown)
