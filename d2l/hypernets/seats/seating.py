"""Seating: make an adapter that gives the opening's tokens the keys and values of a memory.

A memory, the frozen base, its statistics and the opening's token ids in, LoRA weights out; knows
nothing of documents or of the network that wrote the memory.

Everything here is fp32 on the base's device, and the solves are float64 on the CPU: the second
moments are so ill-conditioned that solving with them in fp32 moves logits by 7e-3. A base held in
less than fp32 is copied to fp32 for the one pass (the copy is dropped afterwards); the seats then
fit the rounded weights, which are the ones that will run.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.families import module_path
from d2l.errors import BaseModelError, MergeError, ShapeError
from d2l.hypernets.seats.second_moments import Statistics
from d2l.hypernets.seats.shared import Shared

MODULES = ("k_proj", "v_proj")
_Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


@dataclass(frozen=True)
class Watch:
    """What sees every k_proj and v_proj with memory, layer by layer.

    `keep` gets the name, inputs (tokens, d_in) and outputs (tokens, d_out). `choose` may give seats
    other outputs than the memory's: it gets the name, those and the base's own, (seats, d_out)
    each, before `keep`; of v_proj, when the layer's k_proj was kept.
    """

    keep: Callable[[str, Tensor, Tensor], None]
    choose: Callable[[str, Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Seating:
    """What seats are made with, whatever the memory: the second moments of ordinary text, the
    solve's `epsilon`, what the adapter adds besides, which moves the opening's states, and how far
    values give way to ordinary text (`soften`)."""

    statistics: Statistics
    epsilon: float
    shared: Shared | None = None
    value_ridge: float = 0.0


@torch.no_grad()
def seat_memory(
    memory: Memory,
    base_model: nn.Module,
    *,
    seating: Seating,
    opening: Sequence[int],
    base: str,
) -> LoraWeights:
    """Write a memory into a LoRA on k_proj and v_proj of rank `n_seats`, scale 1.

    Row i of A answers 1 to the state of the opening's token i + 1, 0 to its other tokens, the
    first one (the sink, where attention rests) included, and as little as possible to ordinary
    text. Column i of B is what the seat's key or value lacks; with a ridge, values fall short of
    the memory's by what would be answered to ordinary text most. Cost: one pass over the opening.
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
    """What the pass over an opening leaves behind: inputs H of every layer with seats, their solve,
    and the values that seats get."""

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
        """What seats get of a projection for what the memory has and what they have without."""
        if name != "v_proj":
            return wanted
        factor = self._factors[len(self.values)][0]
        leak = torch.cholesky_inverse(factor)[1:, 1:]
        lacking = wanted.cpu().to(torch.float64) - given.cpu().to(torch.float64)
        softened = soften(lacking, leak, ridge=self._seating.value_ridge)
        return given + softened.to(given.device, given.dtype)

    def write(self, memory: Memory, base_model: nn.Module) -> dict[str, LoraFactors]:
        """The factors that make of these inputs the keys of `memory`, and values as chosen."""
        statistics = self._seating.statistics
        whitened, triangles = torch.cat(self._whitened), torch.cat(self._factors)
        answers = _answer(whitened, triangles, statistics.cholesky).to(torch.float32).contiguous()
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
    """L' = (I + rP)⁻¹ L for what seats lack, L (…, seats, d_out), and r = `ridge`.

    P (…, seats, seats) is how ordinary text answers seats: A C Aᵀ, which is the inverse of
    H C⁻¹ Hᵀ + εI without its row and column of the sink. L' makes tr(L'ᵀ P L') + ‖L' - L‖² / r
    least: seats give up what ordinary text would get of it, and the more the larger r is.
    """
    eye = torch.eye(leak.shape[-1], dtype=leak.dtype, device=leak.device)
    softened: Tensor = torch.cholesky_solve(lacking, torch.linalg.cholesky(eye + ridge * leak))
    return softened


@torch.no_grad()
def record_inputs(
    memory: Memory,
    base_model: nn.Module,
    *,
    opening: Sequence[int],
    layers: Sequence[int],
    shared: Shared | None = None,
) -> Tensor:
    """Attention inputs of the opening, memory imposed below: float64 (layers, tokens, d_in).

    One pass: each layer's seats get the memory's keys and values as they come out of k_proj and
    v_proj, so layers above see what the adapter will make of the opening. The sink keeps its own.
    What the adapter adds besides acts on all tokens.
    """
    inputs: list[Tensor] = []

    def watch(name: str, given: Tensor, _: Tensor) -> None:
        if name == "k_proj":  # v_proj has the same inputs
            inputs.append(given)

    run_imposed(
        memory, base_model, opening=opening, layers=layers, shared=shared, watch=Watch(watch)
    )
    return torch.stack(inputs).cpu().to(torch.float64)  # MPS has no float64


@torch.no_grad()
def fill_memory(
    memory: Memory,
    base_model: nn.Module,
    *,
    opening: Sequence[int],
    layers: Sequence[int],
    shared: Shared | None = None,
) -> Memory:
    """`memory`, and behind it the base's own keys and values for the rest of the opening.

    Seated, the rest gets a delta of zero: these tokens are read as the base reads them. For a
    memory of fewer seats than the shortest opening has. Cost: one pass over the opening.
    """
    if memory.n_seats >= len(opening) - 1:
        return memory
    found: dict[str, list[Tensor]] = {name: [] for name in MODULES}

    def watch(name: str, _: Tensor, output: Tensor) -> None:
        found[name].append(output[1:].cpu())  # the sink left out

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
    """Run the opening through the base in fp32, the memory imposed on its first seats."""
    model = base_model
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        model = copy.deepcopy(base_model).to(torch.float32)
    hooks: list[RemovableHandle] = []
    try:
        for index, layer in enumerate(layers):
            outputs = (memory.keys[index], memory.values[index])
            for name, wanted in zip(MODULES, outputs, strict=True):
                module = find_projection(model, layer, name)
                hooks.append(module.register_forward_hook(_impose(wanted, name, watch)))
        if shared is not None:
            hooks += shared.attach(model, n_seats=memory.n_seats)
        device = next(model.parameters()).device
        model(torch.tensor([list(opening)], device=device), use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()


def solve_answers(inputs: Tensor, cholesky: Tensor, *, epsilon: float) -> Tensor:
    """Rows 1 … N of (H C⁻¹ Hᵀ + εI)⁻¹ H C⁻¹ for every layer: float64 (layers, seats, d_in).

    `inputs` is H (layers, tokens, d_in), `cholesky` the lower factor of C (layers, d_in, d_in).
    """
    return _answer(*whiten(inputs, cholesky, epsilon=epsilon), cholesky)


def _answer(whitened: Tensor, factor: Tensor, cholesky: Tensor) -> Tensor:
    """A of what `whiten` gives."""
    # A'ᵀ = L⁻ᵀ Y (YᵀY + εI)⁻¹
    rows = torch.cholesky_solve(whitened.mT, factor)[:, 1:]  # (layers, seats, d_in): no sink
    answers: Tensor = torch.linalg.solve_triangular(cholesky.mT, rows.mT, upper=True).mT
    return answers


def whiten(inputs: Tensor, cholesky: Tensor, *, epsilon: float) -> tuple[Tensor, Tensor]:
    """Y = L⁻¹Hᵀ (layers, d_in, tokens), and the lower Cholesky factor of H C⁻¹ Hᵀ + εI = YᵀY + εI
    (layers, tokens, tokens), where C = LLᵀ; arguments as for `solve_answers`.

    Raises MergeError where the tokens' states cannot be told apart.
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
    """One of the base's projections in one layer; raises BaseModelError where it is not linear."""
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
    """Make a hook that gives the first seats the wanted outputs (seats, d_out) and is watched."""

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
    """Refuse a memory that does not fit the opening or the statistics."""
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
