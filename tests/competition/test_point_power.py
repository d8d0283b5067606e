"""The energy of points: a sweep over a driver of a test, and what of a point is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.engines import probe
from competition import point as module
from competition.point import Measured, measure_point
from competition.power import power_caveats, power_figures, read_energy
from competition.profile import DEFAULT, load_profile
from competition.settings import Settings, read_settings
from competition.sweep_options import parse_options
from competition.sweep_plot import draw
from competition.sweep_table import as_markdown, as_text, foot
from core.errors import ConfigError, RunError
from engine.emulator import Emulator, run_emulator
from telemetry.power import Energy, PowerMeter
from tests.competition.test_sweep import (
    FAST,
    SLOW,
    SMALL,
    document,
    interrupted,
    launch,
    read,
    rows,
    sweep,
)
from tests.server.servers import free_ports
from tests.telemetry.driver import NAME, driver_folder

LENGTHS = ("--lengths", "64/8", "--conc", "2,1")


def test_a_sweep_measures_energy_and_goes_on_with_the_same_gpus(tmp_path: Path) -> None:
    folder, driver = tmp_path / "out", str(driver_folder(tmp_path))
    with run_emulator(*FAST) as engine:
        url = ("--server-url", engine.urls[0])
        argv = (*url, *LENGTHS, *SMALL, "--output", folder)
        done = sweep(tmp_path, *argv, "--power", "0-1", LD_LIBRARY_PATH=driver)
        assert done.returncode == 0, done.stderr
        (folder / "result_isl64_osl8_conc1.json").unlink()
        before = len(engine.truth())
        again = sweep(tmp_path, *url, "--resume", folder, LD_LIBRARY_PATH=driver)
        assert again.returncode == 0, again.stderr
        assert len(engine.truth()) == before + 4
        other = sweep(tmp_path, *url, "--resume", folder, "--power", "0", LD_LIBRARY_PATH=driver)
        without = sweep(tmp_path, *url, "--resume", folder)
        assert len(engine.truth()) == before + 4
    for conc in (1, 2):
        found = read(folder / f"result_isl64_osl8_conc{conc}.json")
        # Of GPU 0 50 J, of GPU 1 100 J, whatever the time was.
        assert (found["energy_j"], found["power_gpus"]) == (150.0, [0, 1])
        assert found["power_source"] == "NVML energy counter"
        assert found["joules_per_output_token"] == 150.0 / (8 * 2 * conc)
        assert found["joules_per_token"] == 150.0 / ((64 + 8) * 2 * conc)
        assert found["avg_power_w"] > 0
        assert not [text for text in found["warnings"] if "energy" in text]
    assert [row[-1] for row in rows(done.stdout)] == ["9.375", "4.688"]
    assert "J per output token" in (folder / "table.md").read_text()
    assert read(folder / "sweep.json")["orders"]["power"] == "0,1"
    assert other.returncode == 2
    assert "was measured with power_gpus [0, 1], now it is [0]" in other.stderr
    assert without.returncode == 3
    assert "no GPU whose power can be measured" in without.stderr


def test_ctrl_c_while_power_is_read(tmp_path: Path) -> None:
    folder, driver = tmp_path / "out", str(driver_folder(tmp_path))
    not_supported = {"LD_LIBRARY_PATH": driver, "NVML_ENERGY_RESULT": "3"}
    with run_emulator("--served-name", "m", *SLOW) as engine:
        argv = ("--server-url", engine.urls[0], "--lengths", "64/4,64/9000", "--conc", "1")
        more = ("--tp", "1", "--num-prompts-per-conc", "2", "--power", "0")
        _, err = interrupted(tmp_path, folder, *argv, *more, **not_supported)
    assert "Traceback" not in err
    (found,) = read(folder / "sweep.json")["results"]
    assert found["power_source"] == "NVML power, integrated"
    assert found["avg_power_w"] == pytest.approx(300.0)


def test_of_a_server_that_the_sweep_starts(tmp_path: Path) -> None:
    port, folder, driver = free_ports(), tmp_path / "out", str(driver_folder(tmp_path))
    argv = ("--tp", "1", "--lengths", "64/8", "--conc", "1", "--output", folder, "--power", "0")
    flags = launch(tmp_path, *argv)
    done = sweep(tmp_path, *flags, PORT=str(port), MODEL="m", LD_LIBRARY_PATH=driver)
    assert done.returncode == 0, done.stderr
    assert read(folder / "result_isl64_osl8_conc1.json")["energy_j"] == 50.0


@pytest.mark.parametrize("started", [True, False])
def test_what_cannot_be_metered_is_said_before_a_server_is_asked_or_started(
    tmp_path: Path, started: bool
) -> None:
    port, driver, folder = str(free_ports()), driver_folder(tmp_path), tmp_path / "out"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / NAME).touch()
    argv = ("--tp", "1", "--lengths", "64/8", "--conc", "1", "--output", folder)
    url = ("--server-url", f"http://127.0.0.1:{port}", "--num-prompts-per-conc", "2")  # none there
    for gpu, library, code, said in (
        ("5", driver, 2, "GPU 5: NVML has 2 on this machine"),
        ("0", broken, 3, "no GPU whose power can be measured: NVIDIA's NVML says"),
    ):
        more = (*argv, "--power", gpu)
        flags = launch(tmp_path, *more) if started else (*more, *url)
        done = sweep(tmp_path, *flags, PORT=port, MODEL="m", LD_LIBRARY_PATH=str(library))
        assert (done.returncode, folder.exists()) == (code, False), done.stderr
        assert done.stderr.startswith(f"ERROR: {said}"), done.stderr


class Meter(PowerMeter):
    """Notes how many requests the engine had when the block began and ended."""

    def __init__(self, engine: Emulator, energy: Energy | RunError) -> None:
        self._engine, self._energy = engine, energy
        self.seen: list[int] = []

    def __enter__(self) -> Meter:
        self.seen.append(len(self._engine.truth()))
        return self

    def __exit__(self, *_: object) -> None:
        self.seen.append(len(self._engine.truth()))

    def energy(self) -> Energy:
        if isinstance(self._energy, RunError):
            raise self._energy
        return self._energy


def settings(url: str, folder: Path) -> Settings:
    environ = {"MODEL": "m", "TP": "2", "ISL": "64", "OSL": "8", "CONC": "2", "NUM_PROMPTS": "6"}
    environ["RESULT_FILENAME"] = str(folder / "result")
    made = read_settings(load_profile(DEFAULT), environ, (url,), batch=False)
    return replace(made, power_gpus=(4, 6))


def measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, energy: Energy | RunError
) -> tuple[Measured, Meter]:
    with run_emulator(*FAST) as engine:
        meter, asked = Meter(engine, energy), list[Sequence[int]]()

        def open_meter(gpus: Sequence[int]) -> PowerMeter:
            asked.append(gpus)
            return meter

        monkeypatch.setattr(module, "open_meter", open_meter)
        url = engine.urls[0]
        found = measure_point(settings(url, folder), probe((url,), "auto"), lambda _: None)
    assert asked == [(4, 6)]
    return found, meter


def test_the_measured_requests_are_metered_and_not_the_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = Energy(2.0, (1000.0, 440.0), "a test")
    found, meter = measured(tmp_path, monkeypatch, energy)
    assert meter.seen == [4, 4 + 6]
    assert found.reasons == ()
    assert found.power == {
        "power_gpus": [4, 6],
        "avg_power_w": 360.0,  # of one GPU
        "energy_j": 1440.0,
        "joules_per_output_token": 30.0,
        "joules_per_token": 1440.0 / (6 * 72),
        "power_source": "a test",
    }


def test_a_point_whose_energy_is_not_known_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = measured(tmp_path, monkeypatch, RunError("GPU 4: gone"))
    assert found.reasons == ("energy was not measured: GPU 4: gone",)
    assert found.power.pop("power_gpus") == [4, 6]
    assert set(found.power.values()) == {None}
    assert found.figures["completed"] == 6


def test_where_no_energy_is_asked_for_there_is_no_trace_of_it(tmp_path: Path) -> None:
    chosen = replace(settings("http://a:1", tmp_path), power_gpus=())
    assert power_figures(chosen, None, {}) == {}
    assert read_energy(None) == (None, ())


def test_other_gpus_than_the_server_has_are_a_warning(tmp_path: Path) -> None:
    chosen = settings("http://a:1", tmp_path)
    assert list(power_caveats(chosen)) == []
    assert list(power_caveats(replace(chosen, power_gpus=()))) == []
    (warning,) = power_caveats(replace(chosen, tp=8))
    assert "that of 2 GPUs" in warning and "the server uses 8" in warning


def test_orders_hold_the_gpus() -> None:
    argv = ("--lengths", "8/8", "--conc", "1", "--tp", "1")
    orders = parse_options((*argv, "--power", "0,4-6"), load_profile(DEFAULT), {}).orders
    assert orders.power_gpus == (0, 4, 5, 6)
    assert orders.plain()["power"] == "0,4,5,6"
    orders = parse_options(argv, load_profile(DEFAULT), {}).orders
    assert (orders.power_gpus, orders.plain()["power"]) == ((), None)
    with pytest.raises(ConfigError, match="--power all: give numbers of GPUs"):
        parse_options((*argv, "--power", "all"), load_profile(DEFAULT), {})


def metered(tp: int, conc: int) -> dict[str, Any]:
    return document(tp, conc, avg_power_w=400.0 + conc, joules_per_output_token=2.0 * tp / conc)


def test_the_table_has_power_only_where_it_was_measured() -> None:
    text = as_text([metered(1, 4), document(1, 8)])
    assert [row[-2:] for row in rows(text)] == [["404.0", "0.500"], ["n/a", "n/a"]]
    assert len({len(line) for line in text.splitlines()}) == 1
    assert "| W per GPU | J per output token |" in as_markdown("T", [metered(1, 4)], [])
    assert "--power" in foot([metered(1, 4)]) and "--power" not in foot([document(1, 4)])


def test_the_plot_has_a_third_panel_of_joules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    many = [metered(tp, conc) for tp in (1, 8) for conc in (4, 8, 16)]
    draw(many, load_profile(DEFAULT), "T", tmp_path / "p.png")
    *_, axes = drawn[0].axes
    assert len(drawn[0].axes) == 3
    assert axes.get_xlabel() == "Interactivity (tokens/s per user)"
    assert axes.get_ylabel() == "Energy of the GPUs (J per output token)"
    lines = {line.get_label(): np.array(line.get_ydata()) for line in axes.get_lines()}
    assert {name: list(values) for name, values in lines.items()} == {
        "TP 1": [0.5, 0.25, 0.125],
        "TP 8": [4.0, 2.0, 1.0],
    }
    assert sorted(text.get_text() for text in axes.texts) == sorted(
        f"{tp}/{conc}" for tp in (1, 8) for conc in (4, 8, 16)
    )
