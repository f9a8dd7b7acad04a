import math
from types import SimpleNamespace

import psutil
import pytest
import torch

from scopekit import memory
from scopekit.errors import UserError
from scopekit.memory import GB, choose_device, float64_device, memory_budget, to_cpu

CPU = torch.device("cpu")
free_in_groups = memory._free_in_groups


def test_a_named_budget_bounds_the_whole_process():
    budget = memory_budget(CPU, 500)
    assert budget.total == 500 * GB
    held = psutil.Process().memory_info().rss
    assert budget.available == pytest.approx(500 * GB - held, abs=0.2 * GB)


@pytest.fixture(autouse=True)
def no_limits(monkeypatch):
    """Leave out the limits of where the tests run."""
    monkeypatch.setattr(memory, "_free_in_groups", lambda: math.inf)
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def process(monkeypatch):
    """A process that holds 3 GB and maps 5, on a machine where 10 are free."""
    held = SimpleNamespace(rss=3 * GB, vms=5 * GB)
    process = SimpleNamespace(memory_info=lambda: held)
    monkeypatch.setattr(psutil, "Process", lambda: process)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GB))


@pytest.mark.usefixtures("process")
def test_without_a_name_four_fifths_of_what_is_free():
    budget = memory_budget(CPU)
    assert budget.available == pytest.approx(8 * GB)
    assert budget.total == pytest.approx(11 * GB)


@pytest.mark.usefixtures("process")
def test_the_limit_of_the_process_counts_too(monkeypatch):
    resource = pytest.importorskip("resource", reason="no memory limits on this system")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (7 * GB, resource.RLIM_INFINITY))
    assert memory_budget(CPU).available == pytest.approx(0.8 * 2 * GB)


def test_a_budget_below_what_the_program_holds():
    with pytest.raises(UserError, match=r"`max_memory_gb=0\.01`: .* room for the data"):
        memory_budget(CPU, 0.01)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(UserError, match="`device=cpu`"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")


@pytest.mark.gpu
def test_budgets_on_a_gpu():
    device = choose_device("cuda")
    held = torch.zeros(10**8, dtype=torch.uint8, device=device)
    budget = memory_budget(device, 1)
    assert budget.total == GB
    assert budget.available <= GB - held.nbytes
    assert memory_budget(device).available < torch.cuda.mem_get_info(device)[1]


@pytest.mark.gpu
def test_copies_from_a_gpu():
    values = torch.arange(12, device="cuda").view(3, 4)
    assert torch.equal(to_cpu(values), values.cpu())
    assert torch.equal(to_cpu(values.T), values.T.cpu())


def test_apples_gpu_is_taken_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"`device=mps`: PyTorch finds no Apple GPU here"):
        choose_device("mps")


def test_float64_is_computed_where_the_device_has_it():
    assert float64_device(torch.zeros(1)) == CPU
    on_apple = SimpleNamespace(device=torch.device("mps", 0))
    assert float64_device(on_apple) == CPU


@pytest.mark.parametrize(
    ("kind", "line", "group"),
    [
        (2, "0::/job/step", "job/step"),
        (2, "0::/job/step", "job"),  # a limit of the group around it
        (2, "0::/", ""),  # within a container
        (1, "5:cpu,memory:/job", "memory/job"),
        (1, "5:memory:/of/the/host", "memory"),  # within a container
    ],
)
def test_control_groups_limit_what_is_free(tmp_path, kind, line, group):
    limit_file, usage_file, cached = memory._GROUP_FILES[kind]
    told = tmp_path / "cgroup"
    told.write_text(f"7:pids:/job\n{line}\n")
    folder = tmp_path / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / usage_file).write_text("700\n")
    (folder / "memory.stat").write_text(f"anon 500\n{cached} 150\nother 5\n")
    (folder / limit_file).write_text("max\n" if kind == 2 else f"{2**63 - 4096}\n")
    assert free_in_groups(told, tmp_path) > 2**62
    (folder / limit_file).write_text("1000\n")
    assert free_in_groups(told, tmp_path) == 450
    assert free_in_groups(tmp_path / "none", tmp_path) == math.inf


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, math.inf),
        ({"SLURM_MEM_PER_NODE": "4096"}, 4096 * 2**20),
        ({"SLURM_MEM_PER_NODE": "4G"}, 4 * 2**30),
        ({"SLURM_MEM_PER_NODE": "0"}, math.inf),
        ({"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_ON_NODE": "8"}, 8000 * 2**20),
        ({"SLURM_MEM_PER_CPU": "1000"}, math.inf),
        ({"SLURM_MEM_PER_NODE": "what"}, math.inf),
    ],
)
def test_the_memory_of_a_slurm_job(environment, expected):
    assert memory._slurm_memory(environment) == expected


def test_limits_count_as_the_machines(monkeypatch):
    used = psutil.Process().memory_info().rss
    monkeypatch.setenv("SLURM_MEM_PER_NODE", str(round(used / 2**20 + 100)))
    assert memory_budget(CPU).available < 100 * 2**20
    monkeypatch.delenv("SLURM_MEM_PER_NODE")
    monkeypatch.setattr(memory, "_free_in_groups", lambda: 50e6)
    assert memory_budget(CPU).available <= 40e6
    monkeypatch.setattr(memory, "_free_in_groups", lambda: math.inf)  # again
    monkeypatch.setattr(memory, "_share", math.inf)  # restored afterwards
    memory.take_share(used + 30e6)
    assert memory_budget(CPU).available < 30e6
    assert memory_budget(CPU, used / 1e9 + 1).available > 0.9e9
