"""llama.cpp's library: tokens of several sequences in, logits and keys and values out.

The only module that knows the package `llama-cpp-py-sync`, which binds all of `llama.h`, and the
layout of a sequence's state (llama.cpp, llama-kv-cache.cpp: state_write).
"""

import os
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from d2l.errors import BaseModelError, OutOfMemoryError

Array: TypeAlias = np.ndarray[Any, Any]
#: Words of a state before its cells, and behind them; bytes before the rows of a layer.
_N_BEFORE, _N_BEHIND, _LAYER_HEAD = 4, 4, 12
#: Words of a cell: its position, the number of its sequences, and their number.
_N_CELL = 3
#: Tokens that are read at once; between them `is_due` is asked.
_N_BATCH = 128
_NORM, _NEOX = 0, 2  # llama.h: LLAMA_ROPE_TYPE_NORM (pairs of neighbors), LLAMA_ROPE_TYPE_NEOX
_FLASH, _NO_SLOT = 1, 1  # LLAMA_FLASH_ATTN_TYPE_ENABLED; llama_decode finds no free cells
_HINT = "torch answers with --reader torch"


class Piece(NamedTuple):
    """Tokens to read behind those of a sequence, from a position on; logits of the last
    `n_wanted` are wanted."""

    sequence: int
    start: int
    ids: Sequence[int]
    n_wanted: int = 1


class Rope(NamedTuple):
    """Rotary embedding of a base: angles of position 1 for each pair of a head (head_dim / 2), and
    whether a pair are neighbors or stand half a head apart."""

    angles: Array
    neighbors: bool

    def rotate(self, keys: Array, positions: Array) -> Array:
        """Rotate keys (layers, tokens, heads, head_dim), laid out as the library does."""
        turned = positions[:, None, None] * self.angles
        cos, sin = np.cos(turned).astype(np.float32), np.sin(turned).astype(np.float32)
        half = keys.shape[-1] // 2
        first, second = (
            (slice(0, None, 2), slice(1, None, 2))
            if self.neighbors
            else (slice(0, half), slice(half, None))
        )
        rotated = np.empty_like(keys)
        rotated[..., first] = keys[..., first] * cos - keys[..., second] * sin
        rotated[..., second] = keys[..., second] * cos + keys[..., first] * sin
        return rotated


class Llama:
    """A base in a GGUF file with a context of cells, which sequences share. Raises BaseModelError
    where the package is missing, or its library lays states out in another way."""

    def __init__(self, gguf: Path, *, n_cells: int, n_sequences: int, n_threads: int) -> None:
        self._lib, self._ffi = _open_library()
        lib, ffi = self._lib, self._ffi
        options = lib.llama_model_default_params()
        self._model = lib.llama_model_load_from_file(os.fsencode(gguf), options)
        if self._model == ffi.NULL:
            raise BaseModelError(f"{gguf}: llama.cpp cannot load this file", hint=_HINT)
        wish = lib.llama_context_default_params()
        wish.n_ctx, wish.n_seq_max, wish.kv_unified = n_cells, n_sequences, True
        wish.n_batch = wish.n_ubatch = _N_BATCH
        wish.n_threads = wish.n_threads_batch = n_threads
        wish.flash_attn_type = _FLASH  # values are rows, too
        self._context = lib.llama_init_from_model(self._model, wish)
        if self._context == ffi.NULL:
            lib.llama_model_free(self._model)
            raise OutOfMemoryError(f"no memory for {n_cells:,} cells of {gguf.name}", hint=_HINT)
        self._batch = lib.llama_batch_init(_N_BATCH, 0, 1)
        weakref.finalize(self, _free, lib, self._batch, self._context, self._model)
        self._memory = lib.llama_get_memory(self._context)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.gguf, self.n_cells, self.n_sequences = gguf, n_cells, n_sequences
        self.n_vocab = int(lib.llama_vocab_n_tokens(self._vocab))
        self.n_layers = int(lib.llama_model_n_layer(self._model))
        self.window = min(int(lib.llama_model_n_ctx_train(self._model)), n_cells)
        self.n_heads = int(lib.llama_model_n_head_kv(self._model))
        self.is_due: Callable[[], bool] = lambda: False
        self.rope = self._find_rope()
        self._check()

    def is_end(self, token: int) -> bool:
        """True if a token ends an answer."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def clear(self) -> None:
        """Free all cells."""
        self._lib.llama_memory_clear(self._memory, False)

    def cut(self, sequence: int, start: int) -> None:
        """Free the cells of a sequence from a position on."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def read(self, pieces: Sequence[Piece]) -> list[Array]:
        """Read pieces side by side; returns the logits (n_wanted, vocabulary) of each. Raises
        TimeoutError once `is_due`, and OutOfMemoryError if the cells do not suffice."""
        rows = [
            (own, n, token, n >= len(piece.ids) - piece.n_wanted)
            for own, piece in enumerate(pieces)
            for n, token in enumerate(piece.ids)
        ]
        logits: list[list[Array]] = [[] for _ in pieces]
        for start in range(0, len(rows), _N_BATCH):
            if len(rows) > 1 and self.is_due():  # later its asker ends the answer
                raise TimeoutError("the time was over before the answer began")
            some, batch = rows[start : start + _N_BATCH], self._batch
            batch.n_tokens = len(some)
            for at, (own, n, token, is_wanted) in enumerate(some):
                batch.token[at], batch.pos[at] = token, pieces[own].start + n
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, pieces[own].sequence
                batch.logits[at] = is_wanted
            if (failed := self._lib.llama_decode(self._context, batch)) == _NO_SLOT:
                raise OutOfMemoryError(
                    f"the question and its parts need more than {self.n_cells:,} cells", hint=_HINT
                )
            if failed:
                raise BaseModelError(f"{self.gguf}: llama.cpp fails ({failed})", hint=_HINT)
            for at, (own, _, _, is_wanted) in enumerate(some):
                if is_wanted:
                    pointer = self._lib.llama_get_logits_ith(self._context, at)
                    held = self._ffi.buffer(pointer, 4 * self.n_vocab)
                    logits[own].append(np.frombuffer(held, np.float32).copy())
        return [np.stack(own) if own else np.empty((0, self.n_vocab)) for own in logits]

    def take(self, sequence: int) -> Array:
        """Copy the cells of a sequence, (2 * layers, cells, channels) in fp16: keys as they are
        cached, then values."""
        size = self._lib.llama_state_seq_get_size(self._context, sequence)
        state = np.empty(size, np.uint8)
        self._lib.llama_state_seq_get_data(
            self._context, self._ffi.from_buffer("uint8_t[]", state), size, sequence
        )
        words = state[: len(state) // 4 * 4].view(np.uint32)
        n_cells = int(words[_N_BEFORE - 1])
        start = 4 * (_N_BEFORE + _N_CELL * n_cells + _N_BEHIND)
        layers = state[start:]
        if not n_cells or len(layers) % (2 * self.n_layers):
            raise self._refuse("has another size")
        layers = layers.reshape(2 * self.n_layers, -1)
        rows = np.ascontiguousarray(layers[:, _LAYER_HEAD:]).view(np.float16)
        if rows.shape[1] % n_cells:
            raise self._refuse("has rows of another size")
        self._frame = words[:_N_BEFORE].copy(), words[start // 4 - _N_BEHIND : start // 4].copy()
        self._layer_head = layers[0, :_LAYER_HEAD].copy()
        return rows.reshape(2 * self.n_layers, n_cells, -1)

    def put(self, sequence: int, rows: Array) -> None:
        """Put cells, as `take` gives them, into a sequence at the positions from 0 on."""
        before, behind = self._frame
        before[_N_BEFORE - 1] = n_cells = rows.shape[1]
        cells = np.empty((n_cells, _N_CELL), np.uint32)
        cells[:, 0], cells[:, 1], cells[:, 2] = np.arange(n_cells), 1, sequence
        words = np.concatenate((before, cells.reshape(-1), behind)).view(np.uint8)
        layers = np.empty((len(rows), _LAYER_HEAD + rows[0].nbytes), np.uint8)
        layers[:, :_LAYER_HEAD] = self._layer_head
        layers[:, _LAYER_HEAD:] = rows.reshape(len(rows), -1).view(np.uint8)
        state = np.concatenate((words, layers.reshape(-1)))
        pointer = self._ffi.from_buffer("uint8_t[]", state)
        if not self._lib.llama_state_seq_set_data(self._context, pointer, len(state), sequence):
            raise self._refuse("is refused")

    def _find_rope(self) -> Rope:
        """Find the rotary embedding by the file's fields."""
        kind, arch = (
            self._lib.llama_model_rope_type(self._model),
            self._tell("general.architecture"),
        )
        scaling = self._tell(f"{arch}.rope.scaling.type") or "none"
        if kind not in (_NORM, _NEOX) or scaling != "none":
            raise BaseModelError(f"{self.gguf}: positions of another kind", hint=_HINT)
        width = int(self._tell(f"{arch}.embedding_length"))
        dim = int(
            self._tell(f"{arch}.attention.key_length")
            or width // int(self._tell(f"{arch}.attention.head_count"))
        )
        if int(self._tell(f"{arch}.rope.dimension_count") or dim) != dim:
            raise BaseModelError(f"{self.gguf}: positions turn a share of a head", hint=_HINT)
        theta = float(self._tell(f"{arch}.rope.freq_base") or 10_000)
        angles = theta ** (-np.arange(0, dim, 2) / dim)
        return Rope(angles, neighbors=kind == _NORM)

    def _tell(self, field: str) -> str:
        """Tell a field of the file; "" if it has none."""
        text = self._ffi.new("char[]", 256)
        n = self._lib.llama_model_meta_val_str(self._model, field.encode(), text, 256)
        return "" if n < 0 else str(self._ffi.string(text).decode())

    def _check(self) -> None:
        """Check on some tokens that cells put back answer as those that were read, and that keys
        turn as `rope` says; raises BaseModelError."""
        ids = [token % self.n_vocab for token in range(100, 106)]
        self.read([Piece(0, 0, ids[:-1])])
        self.put(1, self.take(0))
        read, again = self.read([Piece(n, len(ids) - 1, ids[-1:]) for n in (0, 1)])
        if not np.allclose(read, again, rtol=1e-2, atol=1e-2):
            raise self._refuse("does not answer as before")
        self.clear()
        far = min(997, self.window - 1)
        self.read([Piece(0, 0, ids[:1]), Piece(1, far, ids[:1])])
        near, turned = (self.take(n)[0].astype(np.float32) for n in (0, 1))
        shape = 1, 1, self.n_heads, -1
        own = self.rope.rotate(near.reshape(shape), np.array([far])).reshape(turned.shape)
        if np.abs(own - turned).max() > 1e-2 * np.abs(turned).max():
            raise BaseModelError(f"{self.gguf}: positions of another kind", hint=_HINT)
        self.clear()

    def _refuse(self, problem: str) -> BaseModelError:
        return BaseModelError(
            f"the state of a sequence {problem} in this version of llama-cpp-py-sync", hint=_HINT
        )


def find_dequantizer(kind: str) -> Callable[[Array, Array], None] | None:
    """Find the function that dequantizes values of a kind, as "Q4_K": bytes in, fp32 out. None
    without the package, or if its library has none of this name."""
    try:
        _open_library()
        from llama_cpp_py_sync import _cffi_bindings as bindings

        made: Any = bindings
        lib, ffi = made.get_backend_base_lib(), made.get_ffi()
        name = "dequantize_row_" + kind.lower().replace("_k", "_K")
        ffi.cdef(f"void {name}(const void *, float *, int64_t);", override=True)
        function = getattr(lib, name)
    except (BaseModelError, AttributeError, RuntimeError, OSError):
        return None

    def dequantize(data: Array, out: Array) -> None:
        function(ffi.from_buffer(data), ffi.from_buffer("float[]", out), out.size)

    return dequantize


def _free(lib: Any, batch: Any, context: Any, model: Any) -> None:
    """Free what was made, the last first; at the end of the process before the library goes."""
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    lib.llama_model_free(model)


@cache
def _open_library() -> tuple[Any, Any]:
    """Open the library and its interface, once for a process."""
    try:
        from llama_cpp_py_sync import _cffi_bindings as bindings

        made: Any = bindings  # it has no types
        lib, ffi = made.get_lib(), made.get_ffi()
        quiet = ffi.callback("ggml_log_callback", lambda _level, _text, _data: None)
        lib.llama_log_set(quiet, ffi.NULL)
        lib.llama_backend_init()
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        raise BaseModelError(
            f"llama.cpp cannot be loaded ({error})", hint="pip install 'd2l[reader]', or " + _HINT
        ) from error
    _KEPT.append(quiet)
    return lib, ffi


#: Callbacks that the library holds.
_KEPT: list[Any] = []
