"""Energy of GPUs: AMD's from a tree of files, NVIDIA's by the real library over a driver of a test."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from core.errors import ConfigError, RunError, SetupError
from telemetry import power_integral
from telemetry.power import open_meter, parse_gpus
from telemetry.power_integral import IntegratingMeter
from telemetry.power_meter import Sensor, Unreadable
from tests.harness import ROOT
from tests.telemetry.driver import NAME, driver_folder

NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST = 3, 9, 15  # nvml.h
LIMIT_S = 60.0
THREAD = "GPU power"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_integral, "PERIOD_S", 0.001)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock is the machine's, which may be busy with other things."""
    monkeypatch.setattr(power_integral, "MAX_GAP_S", LIMIT_S)


def near(watts: Any) -> Any:
    """By the machine's clock, whose steps are coarse to a block of microseconds."""
    return pytest.approx(watts, rel=1e-3)


def measuring() -> bool:
    return any(thread.name == THREAD for thread in threading.enumerate())


# ------------------------------------------------------------------------------ power, integrated


class Scene:
    """A GPU and a clock of a test: every reading takes a tenth of a second."""

    def __init__(self, watts: Callable[[float], float | None]) -> None:
        self.now_s, self._watts = 1000.0, watts
        self._readings, self._changed = 0, threading.Condition()
        self.meter = IntegratingMeter([Sensor("GPU 3", self._read)], "a test", lambda: self.now_s)

    def _read(self) -> float:
        with self._changed:
            self._readings += 1
            self.now_s = 1000.0 + 0.1 * self._readings
            self._changed.notify_all()
        if (found := self._watts(self.now_s - 1000.0)) is None:
            raise Unreadable("nobody knows")
        return found

    def measure(self, readings: int) -> IntegratingMeter:
        with self.meter:
            self.wait(readings)
        return self.meter

    def wait(self, readings: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._readings >= readings, LIMIT_S)


def test_a_steady_power_is_its_energy() -> None:
    scene = Scene(lambda _: 250.0)
    energy = scene.measure(20).energy()
    assert energy.seconds == pytest.approx(scene.now_s - 1000.0) and energy.seconds >= 2.0
    assert list(energy.joules) == pytest.approx([250.0 * energy.seconds])
    assert energy.mean_w == pytest.approx(250.0)
    assert energy.source == "a test"
    scene.now_s += 100.0
    assert scene.meter.energy() == energy  # of the block, whenever it is asked for


def test_a_rising_power_is_integrated_and_not_averaged_over_readings() -> None:
    energy = Scene(lambda s: 1000.0 * s).measure(20).energy()
    # The first tenth of a second, before the first reading, counts as the first reading says.
    assert energy.total_j == pytest.approx(500.0 * energy.seconds**2 + 5.0)


def test_within_the_block_it_is_the_energy_so_far() -> None:
    scene = Scene(lambda _: 100.0)
    with scene.meter as meter:
        scene.wait(3)
        first = meter.energy()
        scene.wait(30)
        second = meter.energy()
    assert first.total_j < second.total_j <= meter.energy().total_j
    assert [first.mean_w, second.mean_w] == pytest.approx([100.0, 100.0])


def test_a_moment_without_readings_is_bridged() -> None:
    scene = Scene(lambda s: None if 0.55 < s < 1.35 else 400.0)  # eight of them: 0.9 s
    energy = scene.measure(20).energy()
    assert energy.total_j == pytest.approx(400.0 * energy.seconds)


def test_what_could_not_be_read_for_longer_is_an_error_and_never_0_w() -> None:
    scene = Scene(lambda s: None if 0.55 < s < 1.65 else 400.0)
    with pytest.raises(RunError, match=r"GPU 3: .* for 1\.2 of \d+\.\d s \(nobody knows\)"):
        scene.measure(20).energy()


def test_a_hundredth_of_the_block_may_be_missing() -> None:
    scene = Scene(lambda s: None if 0.55 < s < 1.65 else 400.0)
    energy = scene.measure(1201).energy()
    assert energy.total_j == pytest.approx(400.0 * energy.seconds)


@pytest.mark.parametrize("said", [0.0, -1.0, None])
def test_a_gpu_that_says_nothing_of_use_has_no_energy(said: float | None) -> None:
    with pytest.raises(RunError, match="GPU 3: its power could not be read"):
        Scene(lambda _: said).measure(10).energy()


def test_a_sensor_that_falls_silent_is_an_error() -> None:
    with pytest.raises(RunError, match="could not be read"):
        Scene(lambda s: 400.0 if s < 1.0 else None).measure(20).energy()


def test_the_thread_ends_with_the_block_even_if_that_fails() -> None:
    scene = Scene(lambda _: 100.0)
    with pytest.raises(ZeroDivisionError), scene.meter:
        scene.wait(2)
        assert measuring()
        raise ZeroDivisionError
    assert not measuring()
    assert scene.meter.energy().mean_w == pytest.approx(100.0)


# --------------------------------------------------------------------------------------------- AMD


@pytest.fixture
def no_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)


def refuse() -> None:
    raise pynvml.NVMLError(DRIVER_NOT_LOADED)


class Tree:
    """/sys as amdgpu fills it; cards are numbered against the order of their addresses."""

    def __init__(self, root: Path) -> None:
        self.root, self._cards = root, 9

    def card(self, address: str, vendor: str = "0x1002", **files: int | str) -> Path:
        """A GPU; returns the folder of its sensors."""
        device = self.root / "sys/devices/pci0000:00" / address
        sensors = device / "hwmon" / f"hwmon{self._cards}"
        sensors.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        self.add(device)
        for name, value in files.items():
            (sensors / name).write_text(f"{value}\n")
        return sensors

    def add(self, device: Path) -> None:
        card = device / "drm" / f"card{self._cards}"
        connector = card / f"{card.name}-DP-1"
        connector.mkdir(parents=True)
        (card / "device").symlink_to("../..")
        (connector / "device").symlink_to("..")
        drm = self.root / "sys/class/drm"
        drm.mkdir(parents=True, exist_ok=True)
        for made in (card, connector):
            (drm / made.name).symlink_to(made)
        self._cards -= 1


@pytest.fixture
def tree(tmp_path: Path, no_nvidia: None, patient: None) -> Tree:
    return Tree(tmp_path)


def test_amd_power_is_followed_while_it_changes(tree: Tree) -> None:
    sensors = tree.card("0000:05:00.0", power1_average=100_000_000)
    with open_meter([0], tree.root) as meter:
        while not meter.energy().total_j:
            pass  # the test's own limit ends this
        assert meter.energy().mean_w == near(100.0)
        (sensors / "power1_average").write_text("300000000\n")
        while meter.energy().mean_w < 200.0:
            pass
    energy = meter.energy()
    assert 200.0 <= energy.mean_w < 300.0
    assert energy.source == "amdgpu hwmon power1_average, integrated"
    assert not measuring()


def test_amd_gpus_are_numbered_by_address_and_others_are_none(tree: Tree) -> None:
    tree.card("0000:05:00.0", power1_input=50_000_000)
    tree.card("0000:03:00.0", vendor="0x8086", energy1_input=1, power1_input=1_000_000)
    tree.add(tree.root / "sys/devices/platform/amdgpu_xcp_0")  # a partition: no vendor, no sensor
    tree.card("0000:c1:00.0", power1_input=120_000_000)
    with open_meter([1, 0], tree.root) as meter:
        pass
    energy = meter.energy()
    assert [watts / energy.seconds for watts in energy.joules] == near([120.0, 50.0])
    assert energy.mean_w == near(170.0)
    with pytest.raises(ConfigError, match="GPU 2: amdgpu has 2 on this machine, 0 to 1"):
        open_meter([0, 2], tree.root)


@pytest.mark.parametrize("average", ["0", "n/a", ""])
def test_the_other_file_is_read_where_the_average_says_nothing(tree: Tree, average: str) -> None:
    tree.card("0000:05:00.0", power1_average=average, power1_input=700_000_000)
    with open_meter([0], tree.root) as meter:
        pass
    assert meter.energy().mean_w == near(700.0)
    assert meter.energy().source == "amdgpu hwmon power1_input, integrated"


def test_a_counter_is_taken_rather_than_power_if_all_have_it(tree: Tree) -> None:
    counter = tree.card("0000:05:00.0", energy1_input=5_000_000, power1_average=1) / "energy1_input"
    with open_meter([0], tree.root) as meter:
        counter.write_text("12500000\n")
        assert list(meter.energy().joules) == pytest.approx([7.5])
        counter.write_text("15000000\n")
    counter.write_text("99000000\n")
    assert list(meter.energy().joules) == pytest.approx([10.0])
    assert meter.energy().source == "amdgpu hwmon energy1_input"
    tree.card("0000:06:00.0", power1_average=2)
    tree.card("0000:07:00.0", power1_input=2)
    meter = open_meter([1, 2], tree.root)
    assert isinstance(meter, IntegratingMeter)
    with open_meter([0, 2], tree.root) as meter:
        pass
    assert meter.energy().source == "amdgpu hwmon power1_average and power1_input, integrated"


@pytest.mark.parametrize("end", ["5000000", "4000000", "gone"])
def test_a_counter_that_does_not_grow_is_an_error(tree: Tree, end: str) -> None:
    counter = tree.card("0000:05:00.0", energy1_input=5_000_000) / "energy1_input"
    with open_meter([0], tree.root) as meter:
        counter.write_text(end)
    with pytest.raises(RunError, match=r"GPU 0 \(0000:05:00.0\): its energy counter"):
        meter.energy()


def test_a_gpu_without_a_sensor_is_named(tree: Tree) -> None:
    tree.card("0000:05:00.0", power1_average=1)
    tree.card("0000:06:00.0", power1_cap=1)
    with pytest.raises(SetupError, match=r"GPU 1 \(0000:06:00.0\): none of power1_average"):
        open_meter([0, 1], tree.root)


def test_a_machine_without_gpus_says_what_was_looked_for(tree: Tree) -> None:
    with pytest.raises(
        SetupError, match=r"NVML says Driver Not Loaded; no AMD GPU in .*/class/drm"
    ):
        open_meter([0], tree.root)


@pytest.mark.parametrize("gpus", [[], [0, 0]])
def test_every_gpu_counts_once(tree: Tree, gpus: list[int]) -> None:
    tree.card("0000:05:00.0", power1_average=1)
    with pytest.raises(ConfigError, match="name at least one, and each once"):
        open_meter(gpus, tree.root)


# ------------------------------------------------------------------------------------------ NVIDIA


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: None) -> ctypes.CDLL:
    library = ctypes.CDLL(str(driver_folder(tmp_path) / NAME))
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return library


def tell(driver: ctypes.CDLL, **values: int) -> None:
    for name, value in values.items():
        ctypes.c_int.in_dll(driver, name).value = value


def test_nvidia_energy_is_the_difference_of_counters(driver: ctypes.CDLL) -> None:
    with open_meter([1, 0]) as meter:
        assert not measuring()
    energy = meter.energy()
    assert (energy.joules, energy.total_j) == ((100.0, 50.0), 150.0)
    assert energy.source == "NVML energy counter"
    assert energy.mean_w == pytest.approx(150.0 / energy.seconds)


def test_nvidia_power_is_integrated_where_there_is_no_counter(driver: ctypes.CDLL) -> None:
    tell(driver, energy_result=NOT_SUPPORTED)
    with open_meter([0, 1]) as meter:
        assert measuring()
    assert meter.energy().mean_w == near(600.0)
    assert meter.energy().source == "NVML power, integrated"
    assert not measuring()


def test_a_gpu_that_is_lost_while_it_is_measured_is_an_error(driver: ctypes.CDLL) -> None:
    with open_meter([1]) as meter:
        tell(driver, energy_result=GPU_IS_LOST)
    with pytest.raises(RunError, match=r"GPU 1: its energy counter .*NVML says GPU is lost"):
        meter.energy()


def test_nvidia_gpus_that_cannot_be_measured_are_named(driver: ctypes.CDLL) -> None:
    with pytest.raises(ConfigError, match="GPU 2: NVML has 2 on this machine, 0 to 1"):
        open_meter([2])
    tell(driver, energy_result=NOT_SUPPORTED, power_result=NOT_SUPPORTED)
    with pytest.raises(SetupError, match=r"GPU 0: NVML says Not Supported.*nvidia-smi"):
        open_meter([0])


def test_nvidia_comes_first_and_amd_where_there_is_none(
    driver: ctypes.CDLL, tmp_path: Path
) -> None:
    Tree(tmp_path).card("0000:05:00.0", power1_average=1)
    with open_meter([0], tmp_path) as meter:
        pass
    assert meter.energy().source.startswith("NVML")
    for missing in ({"count": 0}, {"init_result": DRIVER_NOT_LOADED}):
        tell(driver, **missing)
        with open_meter([0], tmp_path) as meter:
            pass
        assert meter.energy().source.startswith("amdgpu")


def test_without_the_library_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delitem(sys.modules, "telemetry.power_nvml", raising=False)
    with pytest.raises(SetupError, match=r"nvidia-ml-py, .*\./setup\.sh --competition"):
        open_meter([0], tmp_path)
    Tree(tmp_path).card("0000:05:00.0", power1_average=1)
    assert open_meter([0], tmp_path)


# -------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("text", "gpus"), [("0", (0,)), ("0,2", (0, 2)), ("2-4,0, 3", (2, 3, 4, 0)), ("7-7", (7,))]
)
def test_gpus_are_numbers_and_ranges(text: str, gpus: tuple[int, ...]) -> None:
    assert parse_gpus("--power", text) == gpus


@pytest.mark.parametrize("text", ["", "all", "1,", "-1", "0-", "3-1", "0-9999", "²", "1.5"])
def test_what_names_no_gpu_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--power {text}: "):
        parse_gpus("--power", text)


def command(*flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-W", "error", "-m", "telemetry", "power", *flags]
    environ = {"PATH": os.environ["PATH"]} | environ
    return subprocess.run(
        argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=LIMIT_S
    )


def test_the_command_shows_each_gpu_and_all(tmp_path: Path) -> None:
    path = str(driver_folder(tmp_path))
    done = command("--gpus", "0-1", "--seconds", "0.01", LD_LIBRARY_PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [(row[-2], row[-1]) for row in rows[:3]] == [
        ("50.0", "J"),
        ("100.0", "J"),
        ("150.0", "J"),
    ]
    assert "by NVML energy counter" in done.stdout


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--gpus", "x"), 2, "--gpus x: give numbers"),
        (("--seconds", "0"), 2, "--seconds 0.0: must be above 0"),
        (("--seconds", "nan"), 2, "--seconds nan"),
        (("--gpus", "5"), 2, "GPU 5: NVML has 2"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, flags: tuple[str, ...], code: int, said: str
) -> None:
    done = command(*flags, LD_LIBRARY_PATH=str(driver_folder(tmp_path)))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"error: {said}")
