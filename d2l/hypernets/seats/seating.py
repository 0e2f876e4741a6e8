"""Seating: make an adapter that gives the opening's tokens the keys and values of a memory.

A memory, the frozen base, its statistics and the opening's token ids in, LoRA weights out.

All is fp32 on the base's device, but the solves are float64 on the CPU: the second moments are so
ill-conditioned that solving in fp32 moves logits by 7e-3. The pass through a base in less than fp32
computes in fp32; the seats then fit the rounded weights, which are used later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.families import module_path
from d2l.errors import BaseModelError, MergeError, ShapeError
from d2l.hypernets.seats.fp32_pass import run_exact
from d2l.hypernets.seats.second_moments import Statistics
from d2l.hypernets.seats.shared import Shared

MODULES = ("k_proj", "v_proj")
_Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


@dataclass(frozen=True)
class Watch:
    """Callbacks for every k_proj and v_proj with memory, layer by layer.

    `keep` gets the name, inputs (tokens, d_in) and outputs (tokens, d_out). `choose` may replace
    the seats' outputs: it gets the name, the memory's and the base's outputs, (seats, d_out) each,
    before `keep`; for v_proj after the layer's k_proj was kept. The pass is `exact`, in fp32, or in
    the base's own precision.
    """

    keep: Callable[[str, Tensor, Tensor], None]
    choose: Callable[[str, Tensor, Tensor], Tensor] | None = None
    exact: bool = True


@dataclass(frozen=True)
class Seating:
    """Constants of seating: the second moments of ordinary text, the solve's `epsilon`, the shared
    part of the adapter, which changes the opening's states, and the ridge of values (`soften`)."""

    statistics: Statistics
    epsilon: float
    shared: Shared | None = None
    value_ridge: float = 0.0


@torch.no_grad()
def seat_memory(
    memory: Memory, base_model: nn.Module, *, seating: Seating, opening: Sequence[int], base: str
) -> LoraWeights:
    """Write a memory into a LoRA on k_proj and v_proj of rank `n_seats`, scale 1.

    Row i of A gives 1 for the state of the opening's token i + 1, 0 for its other tokens (also for
    the first, the sink of attention), and as little as possible for ordinary text. Column i of B is
    the difference of the seat's key or value to the base's; with a ridge, values give up what would
    affect ordinary text most. Cost: one pass over the opening.
    """
    statistics = seating.statistics
    _check(memory, statistics, opening)
    solves = _Solves(seating)
    run_imposed(
        memory,
        base_model,
        opening=opening,
        layers=statistics.layers,
        shared=seating.shared,
        watch=Watch(solves.keep, solves.choose_values if seating.value_ridge else None),
    )
    return LoraWeights(base, 1.0, solves.write(memory, base_model))


class _Solves:
    """Results of the pass over an opening: inputs H of every layer with seats, their solve, and the
    seats' values."""

    def __init__(self, seating: Seating) -> None:
        self._seating = seating
        self._whitened: list[Tensor] = []
        self._factors: list[Tensor] = []
        self.inputs: list[Tensor] = []  # float64 (tokens, d_in)
        self.values: list[Tensor] = []  # (seats, d_out)

    def keep(self, name: str, given: Tensor, output: Tensor) -> None:
        """Watch a projection; k_proj comes first, and v_proj has the same inputs."""
        if name == "v_proj":
            self.values.append(output[1:])
            return
        inputs = given.cpu().to(torch.float64)  # MPS has no float64
        cholesky = self._seating.statistics.cholesky[len(self.inputs)]
        self.inputs.append(inputs)
        whitened, factor = whiten(inputs[None], cholesky[None], epsilon=self._seating.epsilon)
        self._whitened.append(whitened)
        self._factors.append(factor)

    def choose_values(self, name: str, wanted: Tensor, given: Tensor) -> Tensor:
        """Choose the seats' values, from the memory's values and the base's."""
        if name != "v_proj":
            return wanted
        factor = self._factors[len(self.values)][0]
        leak = torch.cholesky_inverse(factor)[1:, 1:]
        lacking = wanted.cpu().to(torch.float64) - given.cpu().to(torch.float64)
        softened = soften(lacking, leak, ridge=self._seating.value_ridge)
        return given + softened.to(given.device, given.dtype)

    def write(self, memory: Memory, base_model: nn.Module) -> dict[str, LoraFactors]:
        """Write the factors that turn these inputs into the keys of `memory` and chosen values."""
        statistics = self._seating.statistics
        whitened, triangles = torch.cat(self._whitened), torch.cat(self._factors)
        answers = answer(whitened, triangles, statistics.cholesky).to(torch.float32).contiguous()
        factors = {}
        for index, layer in enumerate(statistics.layers):
            seats = self.inputs[index][1:]  # (seats, d_in), the sink left out
            for name, wanted in zip(MODULES, (memory.keys[index], self.values[index]), strict=True):
                module = find_projection(base_model, layer, name)
                given = functional.linear(seats, *_exact_parameters(module))  # (seats, d_out)
                lacking = wanted.cpu().to(torch.float64) - given
                factors[module_path(layer, name)] = LoraFactors(
                    # PEFT stores A once for each module, and safetensors refuses shared memory.
                    a=answers[index].clone(),  # (rank, d_in)
                    b=lacking.to(torch.float32).T.contiguous(),  # (d_out, rank)
                )
        return factors


def soften(lacking: Tensor, leak: Tensor, *, ridge: float) -> Tensor:
    """Compute L' = (I + rP)⁻¹ L for the seats' differences L (…, seats, d_out), and r = `ridge`.

    P (…, seats, seats) is the response of seats to ordinary text: A C Aᵀ, which is the inverse of
    H C⁻¹ Hᵀ + εI without its row and column of the sink. L' minimizes tr(L'ᵀ P L') + ‖L' - L‖² / r:
    the larger r, the more seats give up to protect ordinary text.
    """
    eye = torch.eye(leak.shape[-1], dtype=leak.dtype, device=leak.device)
    softened: Tensor = torch.cholesky_solve(lacking, torch.linalg.cholesky(eye + ridge * leak))
    return softened


@torch.no_grad()
def fill_memory(
    memory: Memory,
    base_model: nn.Module,
    *,
    opening: Sequence[int],
    layers: Sequence[int],
    shared: Shared | None = None,
) -> Memory:
    """Fill `memory` up with the base's own keys and values for the rest of the opening.

    The rest then has a delta of zero. For a memory with fewer seats than the shortest opening.
    Cost: one pass over the opening.
    """
    if memory.n_seats >= len(opening) - 1:
        return memory
    found: dict[str, list[Tensor]] = {name: [] for name in MODULES}

    def watch(name: str, _: Tensor, output: Tensor) -> None:
        found[name].append(output[1:].cpu())  # without the sink

    run_imposed(
        memory, base_model, opening=opening, layers=layers, shared=shared, watch=Watch(watch)
    )
    keys, values = (torch.stack(found[name]) for name in MODULES)  # (layers, seats, heads · dim)
    return Memory(keys, values)


def run_imposed(
    memory: Memory,
    base_model: nn.Module,
    *,
    opening: Sequence[int],
    layers: Sequence[int],
    shared: Shared | None,
    watch: Watch,
) -> None:
    """Run the opening through the base, the memory imposed on its first seats."""
    hooks: list[RemovableHandle] = []
    try:
        for index, layer in enumerate(layers):
            outputs = (memory.keys[index], memory.values[index])
            for name, wanted in zip(MODULES, outputs, strict=True):
                module = find_projection(base_model, layer, name)
                hooks.append(module.register_forward_hook(_impose(wanted, name, watch)))
        if shared is not None:
            hooks += shared.attach(base_model, n_seats=memory.n_seats)
        if watch.exact:
            run_exact(base_model, opening)
        else:
            ids = torch.tensor([list(opening)], device=next(base_model.parameters()).device)
            base_model(ids, use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()


def answer(whitened: Tensor, factor: Tensor, cholesky: Tensor) -> Tensor:
    """Solve rows 1 … N of (H C⁻¹ Hᵀ + εI)⁻¹ H C⁻¹ for every layer, by the results of `whiten`:
    float64 (layers, seats, d_in)."""
    # A'ᵀ = L⁻ᵀ Y (YᵀY + εI)⁻¹
    rows = torch.cholesky_solve(whitened.mT, factor)[:, 1:]  # (layers, seats, d_in): no sink
    answers: Tensor = torch.linalg.solve_triangular(cholesky.mT, rows.mT, upper=True).mT
    return answers


def whiten(inputs: Tensor, cholesky: Tensor, *, epsilon: float) -> tuple[Tensor, Tensor]:
    """Compute Y = L⁻¹Hᵀ (layers, d_in, tokens), and the lower Cholesky factor of H C⁻¹ Hᵀ + εI =
    YᵀY + εI (layers, tokens, tokens), with C = LLᵀ. `inputs` is H (layers, tokens,
    d_in), `cholesky` the lower factor of C (layers, d_in, d_in).

    Raises MergeError if the tokens' states are too similar.
    """
    whitened = torch.linalg.solve_triangular(
        cholesky, inputs.mT, upper=False
    )  # (layers, d_in, tokens)
    gram = whitened.mT @ whitened  # (layers, tokens, tokens)
    gram.diagonal(dim1=1, dim2=2).add_(epsilon)
    factor, info = torch.linalg.cholesky_ex(gram)
    if bool(info.any()) or not bool(factor.isfinite().all()):
        raise MergeError(
            "the opening's states cannot be told apart, or the memory is not finite",
            hint="compile the document again; if this stays, the checkpoint is damaged",
        )
    return whitened, factor


def find_projection(model: nn.Module, layer: int, name: str) -> nn.Linear:
    """Find one of the base's projections in a layer; raises BaseModelError if it is not linear."""
    path = module_path(layer, name).removeprefix("model.")
    try:
        module = model.get_submodule(path)
    except AttributeError as error:
        raise BaseModelError(f"the base has no module {path}") from error
    if not isinstance(module, nn.Linear) or not module.weight.is_floating_point():
        raise BaseModelError(
            f"the base's {path} is quantized or not linear: {type(module).__name__}",
            hint="load the base in fp32 or bf16: seats need its exact keys and values",
        )
    return module


def _impose(wanted: Tensor, name: str, watch: Watch) -> _Hook:
    """Make a hook that imposes the wanted outputs (seats, d_out) on the first seats, with
    watches."""

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        imposed = output.clone()  # (1, tokens, d_out)
        seats = imposed[0, 1 : 1 + len(wanted)]
        here = wanted.to(output.device, output.dtype)
        seats[:] = here if watch.choose is None else watch.choose(name, here, seats)
        watch.keep(name, inputs[0][0], imposed[0])
        return imposed

    return hook


def _exact_parameters(module: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Weight and bias in float64 on the CPU."""
    bias: Tensor | None = module.bias
    return (
        module.weight.detach().cpu().to(torch.float64),
        None if bias is None else bias.detach().cpu().to(torch.float64),
    )


def _check(memory: Memory, statistics: Statistics, opening: Sequence[int]) -> None:
    """Raise ShapeError for a memory that does not fit the opening or the statistics."""
    if memory.n_seats != len(opening) - 1:
        raise ShapeError(
            f"memory of {memory.n_seats} seats for an opening of {len(opening)} tokens",
            hint="an opening has one token more than there are seats: its first holds none",
        )
    if memory.keys.shape[0] != statistics.n_layers:
        raise ShapeError(
            f"memory of {memory.keys.shape[0]} layers, statistics of {statistics.n_layers}",
            hint="the memory was written by another checkpoint",
        )
