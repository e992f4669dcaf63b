"""Another package's compiled code calls the kernel of the installed wattfill."""

import importlib.util
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import wattfill


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Build c_interface.pyx against the installed package alone."""
    pytest.importorskip("Cython", reason="Cython is not installed")
    link = shlex.split(sysconfig.get_config_var("LDSHARED") or "")
    if not link or not shutil.which(link[0]):
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("c_interface")
    source = shutil.copy(Path(__file__).with_name("c_interface.pyx"), folder)
    # Where an editable install keeps the .pxd, Cython does not look by itself.
    package = Path(wattfill.__file__).parents[1]
    module = folder / f"c_interface{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [f"-I{path}" for path in (wattfill.get_include(), sysconfig.get_path("include"))]
    for command in (
        [sys.executable, "-m", "cython", "-I", str(package), source],
        [*link, "-fPIC", "-O1", *includes, str(Path(source).with_suffix(".c")), "-o", str(module)],
    ):
        done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
    spec = importlib.util.spec_from_file_location("c_interface", module)
    built = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(built)
    return built


def results(n_connectors: int, n_groups: int) -> tuple[np.ndarray, ...]:
    return (
        np.empty(n_connectors),
        np.empty(n_connectors, np.uint8),
        np.empty(n_connectors, np.int64),
        np.empty((4, n_groups)),
    )


def test_compiled_code_that_calls_the_kernel_gets_what_allocate_returns(caller):
    random = np.random.default_rng(2)
    parent = np.array([4, 4, -1, 5, 5, -1, 2])
    offsets = np.array([0, 5, 9, 30, 30, 40, 41, 60])
    capacity = np.array([40.0, 30.0, 150.0, 10.0, 60.0, 55.0, 20.0])
    minimum = random.choice([0.0, 1.4, 4.1], 60)
    maximum = minimum + random.choice([0.0, 3.3, 11.0, 22.0], 60)
    power, reason, bound_by, per_group = results(60, 7)

    cyclic = caller.fill(
        minimum, maximum, offsets, capacity, parent, power, reason, bound_by, per_group
    )

    expected = wattfill.allocate(minimum, maximum, capacity, offsets, parent=parent)
    assert cyclic == -1
    assert power.tobytes() == expected.power.tobytes()
    assert reason.tobytes() == expected.reason.tobytes()
    assert bound_by.tobytes() == expected.bound_by.tobytes()
    for found, name in zip(per_group, ("level", "usable", "used", "needed"), strict=True):
        assert found.tobytes() == getattr(expected, name).tobytes(), name
    assert len(np.unique(reason)) > 2


def test_compiled_code_is_told_which_group_is_below_a_cycle(caller):
    parent = np.array([-1, 2, 1])
    offsets = np.array([0, 1, 1, 1])

    cyclic = caller.fill(np.zeros(1), np.ones(1), offsets, np.ones(3), parent, *results(1, 3))

    assert cyclic in (1, 2)
