"""SHINE's forward mathematics written out plainly, and small random checkpoints in its layout.

Independent of the code under test: loops and explicit softmax in float64, after the published
format's description, with a Qwen 3 block of its own.
"""

import json
from collections import OrderedDict

import torch

MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
RANK, META_RANK, HEADS, FEED_FORWARD, SCALE = 2, 3, 4, 24, 0.001


def make_checkpoint(causal, seed=0, n_mixers=2):
    """Random objects of the three files, for a base: meta network, meta-LoRA, memory tokens."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.3):
        return torch.randn(*shape, generator=generator) * scale

    n_layers, hidden = causal.config.num_hidden_layers, causal.config.hidden_size
    sizes = {
        name: causal.get_submodule(f"model.layers.0.{path}").weight.shape[::-1]
        for name, path in MODULES.items()
    }
    n_memory, rest = divmod(RANK * sum(map(sum, sizes.values())), hidden)
    assert rest == 0
    network = OrderedDict(layer_pe=draw(n_layers, hidden), token_pe=draw(n_memory, hidden))
    for i in range(n_mixers):
        p = f"transformer_layers.{i}."
        network[f"{p}self_attn.in_proj_weight"] = draw(3 * hidden, hidden)
        network[f"{p}self_attn.in_proj_bias"] = draw(3 * hidden)
        network[f"{p}self_attn.out_proj.weight"] = draw(hidden, hidden)
        network[f"{p}self_attn.out_proj.bias"] = draw(hidden)
        network[f"{p}linear1.weight"] = draw(FEED_FORWARD, hidden)
        network[f"{p}linear1.bias"] = draw(FEED_FORWARD)
        network[f"{p}linear2.weight"] = draw(hidden, FEED_FORWARD)
        network[f"{p}linear2.bias"] = draw(hidden)
        for norm in ("norm1", "norm2"):
            network[f"{p}{norm}.weight"] = 1 + draw(hidden)
            network[f"{p}{norm}.bias"] = draw(hidden)

    def make_pair(d_in, d_out):
        a, b = draw(1, d_in, META_RANK), draw(1, META_RANK, d_out)
        return {"A": a.requires_grad_(), "B": b.requires_grad_(), "C": None}

    pairs = {
        layer: {
            "attention": {name: make_pair(*sizes[name]) for name in "qkvo"},
            "mlp": {name: make_pair(*sizes[name]) for name in ("gate", "up", "down")},
        }
        for layer in range(n_layers)
    }
    return network, pairs, torch.nn.Parameter(draw(n_memory, hidden))


def write_checkpoint(folder, checkpoint, base, **settings):
    """Write the three files as the original does, and the settings beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(("metanetwork.pth", "metalora.pth", "mem_tokens.pt"), checkpoint):  # noqa: B905
        torch.save(value, folder / name)
    values = {"base_model": base, "m2p_heads": HEADS, **settings}
    (folder / "shine.json").write_text(json.dumps(values))
    return folder


def compute_factors(causal, checkpoint, token_ids):
    """A (rank, d_in) and B (d_out, rank) of every module, by its path in the causal model."""
    network, pairs, memory = checkpoint
    t = {name: tensor.detach().double() for name, tensor in network.items()}
    states = _read(causal, pairs, memory.detach().double(), token_ids)
    x = states + t["layer_pe"][:, None] + t["token_pe"]  # (layers, memory, hidden)
    n_mixers = sum(name.endswith("linear1.weight") for name in t)
    for i in range(n_mixers):
        mix = [x[:, m] for m in range(x.shape[1])] if i % 2 == 0 else list(x)
        mixed = [_mix(t, f"transformer_layers.{i}.", rows) for rows in mix]
        x = torch.stack(mixed, 1 if i % 2 == 0 else 0)
    factors = {}
    for layer, rows in enumerate(x):
        numbers = rows.reshape(-1)
        for path in MODULES.values():
            d_out, d_in = causal.get_submodule(f"model.layers.{layer}.{path}").weight.shape
            a, b, numbers = numbers.split(
                [d_in * RANK, RANK * d_out, len(numbers) - RANK * (d_in + d_out)]
            )
            a, b = a.reshape(d_in, RANK) * SCALE**0.5, b.reshape(RANK, d_out) * SCALE**0.5
            factors[f"model.layers.{layer}.{path}"] = (a.T, b.T)
        assert len(numbers) == 0
    return factors


def _mix(t, p, x):
    """An encoder layer on a sequence (length, hidden): norms behind the sums, no mask."""
    hidden = x.shape[1]
    q, k, v = (x @ t[f"{p}self_attn.in_proj_weight"].T + t[f"{p}self_attn.in_proj_bias"]).split(
        hidden, dim=1
    )
    heads = []
    for columns in torch.arange(hidden).split(hidden // HEADS):
        score = q[:, columns] @ k[:, columns].T / (hidden // HEADS) ** 0.5
        heads.append(torch.softmax(score, -1) @ v[:, columns])
    a = torch.cat(heads, 1) @ t[f"{p}self_attn.out_proj.weight"].T
    y = _layer_norm(t, f"{p}norm1.", x + a + t[f"{p}self_attn.out_proj.bias"])
    inner = y @ t[f"{p}linear1.weight"].T + t[f"{p}linear1.bias"]
    inner = 0.5 * inner * (1 + torch.erf(inner / 2**0.5))
    return _layer_norm(
        t, f"{p}norm2.", y + inner @ t[f"{p}linear2.weight"].T + t[f"{p}linear2.bias"]
    )


def _layer_norm(t, p, x):
    deviation = x - x.mean(-1, keepdim=True)
    scaled = deviation / (deviation.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * t[f"{p}weight"] + t[f"{p}bias"]


def _read(causal, pairs, memory, token_ids):
    """States of the memory rows behind each block, before the final norm."""
    w = {name: tensor.double() for name, tensor in causal.state_dict().items()}
    x = torch.cat([w["model.embed_tokens.weight"][token_ids], memory])
    states = []
    for layer in range(causal.config.num_hidden_layers):

        def linear(name, rows, p=f"model.layers.{layer}.", layer=layer):
            pair = pairs[layer]["attention" if name in "qkvo" else "mlp"][name]
            a, b = (pair[side][0].detach().double() for side in "AB")
            return rows @ w[f"{p}{MODULES[name]}.weight"].T + rows @ a @ b

        p = f"model.layers.{layer}."
        h = _rms(x, w[f"{p}input_layernorm.weight"], causal.config)
        x = x + linear("o", _attend(linear, h, w, f"{p}self_attn.", causal.config))
        h = _rms(x, w[f"{p}post_attention_layernorm.weight"], causal.config)
        x = x + linear("down", torch.nn.functional.silu(linear("gate", h)) * linear("up", h))
        states.append(x[-len(memory) :])
    return torch.stack(states)


def _attend(linear, h, w, p, config):
    """Causal attention of all rows, with norms and rotary positions of queries and keys."""
    size, n_rows = config.head_dim, len(h)
    q, k, v = (linear(name, h).split(size, dim=1) for name in "qkv")
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    angles = torch.arange(n_rows)[:, None] * theta ** (-torch.arange(0, size, 2).double() / size)
    cos, sin = torch.cat([angles, angles], 1).cos(), torch.cat([angles, angles], 1).sin()

    def turn(x, norm):
        x = _rms(x, w[f"{p}{norm}.weight"], config)
        return x * cos + torch.cat([-x[:, size // 2 :], x[:, : size // 2]], 1) * sin

    later = torch.ones(n_rows, n_rows, dtype=torch.bool).triu(1)
    heads = []
    for n, query in enumerate(q):
        shared = n * len(k) // len(q)
        score = turn(query, "q_norm") @ turn(k[shared], "k_norm").T / size**0.5
        heads.append(torch.softmax(score.masked_fill(later, -torch.inf), -1) @ v[shared])
    return torch.cat(heads, 1)


def _rms(x, weight, config):
    return x / (x.square().mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * weight
