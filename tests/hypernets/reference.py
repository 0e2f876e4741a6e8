"""Doc-to-LoRA's forward mathematics written out plainly, from tensors by name.

Independent of the code under test: loops and explicit softmax in float64, after the published
format's description (RMSNorm eps 1e-6, 16 heads of 128 with 4 for keys and values).
"""

import torch


def compute_factors(config, tensors, hidden):
    """A and B of every module: {module: ((layers, rank, d_in), (layers, rank, d_out))}."""
    t = {name: tensor.double() for name, tensor in tensors.items()}
    n_modules, rank, width = len(config.target_modules), config.rank, config.latent_size
    read = [_perceive(config, t, h.double()) for h in hidden]
    x = torch.cat(read).view(config.n_layers, n_modules, rank, width)
    made = {module: ([], []) for module in config.target_modules}
    for layer in range(config.n_layers):
        for m, module in enumerate(config.target_modules):
            d_in, d_out = config.d_in[m], config.d_out[m]
            v = x[layer, m]  # (rank, latents)
            for block in range(config.n_pre_head_blocks):
                v = v + _pre_head(config, t, f"layers.{block}.", layer, v)
            v = v / v.square().sum(-1, keepdim=True).sqrt()
            head = t["head.weight"][layer]
            y = v @ (head if n_modules == 1 else head[m])
            scaler_a, scaler_b = t[f"scaler_A.{module}"], t[f"scaler_B.{module}"]
            made[module][0].append(y[:, :d_in] * scaler_a[0, layer])
            made[module][1].append(y[:, d_in : d_in + d_out] * scaler_b[0, layer])
    return {module: (torch.stack(a), torch.stack(b)) for module, (a, b) in made.items()}


def _perceive(config, t, text):
    p = "aggregator.perceiver."
    text = _mlp(t, p + "modality_projection.", text)
    u = t[p + "encoder.latents_q"]
    for block in range(config.n_blocks):
        for place in range(1 + config.n_self_attention):
            index = block * (1 + config.n_self_attention) + place
            u = _layer(t, f"{p}encoder.layers.{index}.", u, text if place == 0 else None)
    u = _rms(u, t[p + "encoder.layernorm.weight"])
    v = _layer(t, p + "decoder.layers.0.", t[p + "decoder.latents_q"], u)
    return _rms(v, t[p + "decoder.layernorm.weight"])


def _layer(t, p, u, text):
    h = _rms(u, t[p + "input_latents_layernorm.weight"])
    source = h if text is None else _rms(text, t[p + "input_context_layernorm.weight"])
    q, k, v = (
        s @ t[f"{p}self_attn.{n}_proj.weight"].T
        for n, s in (("q", h), ("k", source), ("v", source))
    )
    heads = []
    for head in range(16):
        own, shared = (
            slice(head * 128, head * 128 + 128),
            slice(head // 4 * 128, head // 4 * 128 + 128),
        )
        score = q[:, own] @ k[:, shared].T / 128**0.5
        heads.append(torch.softmax(score, -1) @ v[:, shared])
    mixed = torch.cat(heads, -1) @ t[p + "self_attn.o_proj.weight"].T
    u = u + _rms(mixed, t[p + "post_attention_layernorm.weight"])
    mlp = _mlp(t, p + "mlp.", _rms(u, t[p + "pre_ff_layernorm.weight"]))
    return u + _rms(mlp, t[p + "post_ff_layernorm.weight"])


def _mlp(t, p, x):
    gate = x @ t[p + "gate_proj.weight"].T
    up = x @ t[p + "up_proj.weight"].T
    return (gate * torch.sigmoid(gate) * up) @ t[p + "down_proj.weight"].T


def _pre_head(config, t, p, layer, v):
    if config.per_layer_pre_head:
        p += "layers."
        names, w1, w2 = "0134", t[p + "1.weight"][layer], t[p + "3.weight"][layer]
        b1, b2 = t[p + "1.bias"][0, layer, 0, 0], t[p + "3.bias"][0, layer, 0, 0]
    else:
        p += "mlp."
        names, w1, w2 = "0256", t[p + "2.weight"].T, t[p + "5.weight"].T
        b1, b2 = t[p + "2.bias"], t[p + "5.bias"]
    h = _layer_norm(v, t[f"{p}{names[0]}.weight"], t[f"{p}{names[0]}.bias"]) @ w1 + b1
    h = (h * torch.sigmoid(h)) @ w2 + b2
    return _layer_norm(h, t[f"{p}{names[3]}.weight"], t[f"{p}{names[3]}.bias"])


def _rms(x, weight):
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def _layer_norm(x, weight, bias):
    centered = x - x.mean(-1, keepdim=True)
    return weight * centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt() + bias
