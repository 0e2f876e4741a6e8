"""A pretended GPU: its tensors lie in this machine's memory and name another device.

An operation that would fail between a CPU and a GPU fails here, too. The CPU computes the results.
A copy to the CPU that does not block holds NaN until something waits for the device. pytest loads
this file as a plugin (`-p tests.pretend_gpu`) before d2l, since it replaces parts of torch for the
whole process. It shows neither a GPU's rounding nor its memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map

NAME = "pretend"
DEVICE = torch.device("cpu")  # until `install`
#: Operations that take tensors of both devices: copies, and indices of the CPU.
_COPIES = {"aten::_to_copy", "aten::copy_", "aten::_copy_from"}
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
#: Operations that autocast computes in lower precision, of those that d2l runs under it.
_LOWERED = ("linear", "matmul", "bmm", "scaled_dot_product_attention")
#: Copies to the CPU that nothing has waited for, with their values.
_LATE: list[tuple[Tensor, Tensor]] = []


class Pretended(Tensor):
    """A tensor of the pretended device; `here` holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Pretended":
        """Wrap a tensor of the CPU, with its shape and strides."""
        made = Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    def numpy(self, *_: Any, **__: Any) -> Any:
        """Refuse, as tensors of a GPU do."""
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy: use Tensor.cpu()")

    __array__ = numpy

    def __repr__(self, **_: Any) -> str:
        """For the messages of tests."""
        return f"Pretended({self.here})"

    def tolist(self) -> Any:
        """The values; a GPU's tensors give them, too."""
        return self.here.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A copy on the same device."""
        return self.detach().clone().requires_grad_(self.requires_grad)

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on the CPU; inputs of both devices raise RuntimeError."""
        return _compute(op, args, kwargs or {})


def _compute(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = tree_flatten((args, kwargs))[0]
    there = {id(leaf.here): leaf for leaf in leaves if isinstance(leaf, Pretended)}
    name, target = op._schema.name, kwargs.get("device")
    may_mix = name in _COPIES or (name in _INDEXING and isinstance(args[0], Pretended))
    if there and not may_mix:
        for leaf in leaves:
            if isinstance(leaf, Tensor) and not isinstance(leaf, Pretended) and leaf.dim():
                raise RuntimeError(f"{name}: tensors are on {NAME} and on cpu")
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = op(*tree_map(_unwrap, args), **tree_map(_unwrap, kwargs))
    goes_there = bool(there) if target is None else torch.device(target).type == NAME
    if there and not goes_there and kwargs.get("non_blocking"):
        late = torch.full_like(result, float("nan") if result.is_floating_point() else 0)
        _LATE.append((late, result))
        return late
    if name == "aten::_local_scalar_dense" or (there and not goes_there):
        while _LATE:
            late, values = _LATE.pop()
            late.copy_(values)

    def wrap(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in there:  # changed in place
            return there[id(leaf)]
        return Pretended(leaf) if goes_there else leaf

    return args[0] if name == "aten::copy_" else tree_map(wrap, result)


def _unwrap(leaf: Any) -> Any:
    return leaf.here if isinstance(leaf, Pretended) else leaf


def _allocate(op: Any, *args: Any, **kwargs: Any) -> Any:
    return _compute(op, args, kwargs | {"device": DEVICE})


def _copy_from(source: Tensor, to: Tensor, *_: Any) -> Tensor:
    _unwrap(to).copy_(_unwrap(source))
    return to


def _lower(op: Any) -> Callable[..., Any]:
    own = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def compute(*args: Any, **kwargs: Any) -> Any:
        def cast(leaf: Any) -> Any:
            is_float = isinstance(leaf, Tensor) and leaf.dtype == torch.float32
            return leaf.to(torch.get_autocast_dtype(NAME)) if is_float else leaf

        with torch._C._ExcludeDispatchKeyGuard(own):
            return op(*tree_map(cast, args), **tree_map(cast, kwargs))

    return compute


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Precisions of autocast."""
        return [torch.bfloat16]

    def get_rng_state(self, _: Any) -> Tensor:
        """Empty: numbers by chance are the CPU's."""
        return torch.empty(0)

    def set_rng_state(self, *_: Any) -> None:
        """Nothing is to be done."""


def install() -> tuple[torch.library.Library, ...]:
    """Add the device to torch, and let d2l take it; once in a process, before d2l is imported.

    Returns what must be kept. Raises AttributeError or ImportError where torch has no such API.
    """
    global DEVICE
    # Wrapped tensors have a version counter, which tensors of inference lack.
    torch.inference_mode = torch.no_grad  # type: ignore[assignment, misc]
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    DEVICE = torch.device(NAME, 0)
    aten = torch.library.Library("aten", "IMPL")
    for op in (torch.ops.aten.empty.memory_format, torch.ops.aten.empty_strided.default):
        aten.impl(op, partial(_allocate, op), "PrivateUse1")
    aten.impl("_copy_from", _copy_from, "PrivateUse1")
    others = torch.library.Library("_", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in _LOWERED:
        aten.impl(name, _lower(getattr(torch.ops.aten, name)), "AutocastPrivateUse1")
    return aten, others


def _let_d2l_take_it() -> None:
    from d2l.bases import devices

    pick = devices.pick_device
    devices.pick_device = lambda device: device if device == NAME else pick(device)


_KEPT = install()
_let_d2l_take_it()
