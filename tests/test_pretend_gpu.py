"""The pipelines on a pretended GPU, and CUDA's precision on the CPU."""

import pytest
import torch
from torch.utils import backend_registration

from d2l.bases import devices
from d2l.hypernets.networks import load_hypernet
from tests.hypernets.loading import NAMES, load_golden
from tests.processes import ROOT, run_python

BOUND = 0.05  # of the norm of all deltas; measured: 0.007 to 0.028


def has_python_backends() -> bool:
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


@pytest.mark.skipif(not has_python_backends(), reason="this torch has no devices of Python")
def test_pipelines_run_on_a_pretended_gpu_as_on_the_cpu() -> None:
    """One process for all of tests/pretend_cases.py: the device stays in torch once it is there."""
    options = ("-m", "pytest", "-p", "tests.pretend_gpu", "-p", "no:cacheprovider")
    done = run_python(*options, ROOT / "tests" / "pretend_cases.py", folder=ROOT)
    assert done.returncode == 0, done.stdout[-10_000:]


@pytest.mark.parametrize("name", NAMES)
def test_goldens_in_cudas_precision_are_near(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A perceiver in bfloat16 writes nearly the recorded deltas, and not the very same."""
    monkeypatch.setattr(devices, "is_cuda", lambda _: True)
    golden = load_golden(name)
    network = load_hypernet(golden.folder, device="cpu")
    (chunk,) = golden.read_chunks("one", network.config)
    errors, norms = [], []
    for module, factors in network.generate(chunk, network.config.rank).factors.items():
        layer, kind = int(module.split(".")[2]), module.split(".")[-1]
        a, b = (golden.expected[f"one.chunk.{kind}.{side}"][0, layer] for side in "AB")
        wanted = b[: factors.rank].T @ a[: factors.rank]
        errors.append(torch.linalg.norm(factors.b @ factors.a - wanted))
        norms.append(torch.linalg.norm(wanted))
    error = torch.stack(errors).norm() / torch.stack(norms).norm()
    assert 1e-3 < error < BOUND
