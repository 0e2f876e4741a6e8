import torch

from d2l.hypernets.doc_to_lora.perceiver import Attention, Perceiver, RmsNorm, make_layers


def test_rms_norm_is_computed_in_float32():
    norm = RmsNorm(4)
    x = torch.tensor([[1e20, -1e20, 1e20, -1e20]], dtype=torch.bfloat16)
    small = torch.tensor([[3.0, -4.0, 0.0, 0.0]], dtype=torch.bfloat16)
    assert norm(small).dtype == torch.float32
    torch.testing.assert_close(norm(small), torch.tensor([[1.2, -1.6, 0.0, 0.0]]))  # rms is 2.5
    assert torch.equal(norm(x), torch.zeros(1, 4))  # the square overflows float32: x / inf


def test_attention_reads_four_query_heads_per_key_head():
    torch.manual_seed(0)
    attention = Attention(8)
    x, source = torch.randn(3, 8), torch.randn(5, 8)
    query = attention.q_proj(x).view(3, 16, 128)
    key = attention.k_proj(source).view(5, 4, 128).repeat_interleave(4, dim=1)
    value = attention.v_proj(source).view(5, 4, 128).repeat_interleave(4, dim=1)
    score = torch.einsum("qhd,thd->hqt", query, key) / 128**0.5
    mixed = torch.einsum("hqt,thd->qhd", score.softmax(-1), value).reshape(3, -1)
    torch.testing.assert_close(attention(x, source), attention.o_proj(mixed))


def test_perceiver_does_not_depend_on_the_order_of_tokens():
    torch.manual_seed(0)
    layers = make_layers(8, n_blocks=2, n_self_attention=1, shared=False)
    perceiver = Perceiver(6, 8, 5, n_latents=3, layers=layers)
    torch.nn.init.normal_(perceiver.encoder.latents_q)
    torch.nn.init.normal_(perceiver.decoder.latents_q)
    text = torch.randn(7, 6)
    out = perceiver(text)
    assert out.shape == (5, 8)
    torch.testing.assert_close(perceiver(text.flip(0)), out, atol=1e-5, rtol=0)  # order of sums


def test_self_attention_layers_have_no_norm_of_the_text():
    names = [
        [name for name, _ in layer.named_parameters()]
        for layer in make_layers(8, n_blocks=1, n_self_attention=1, shared=False)
    ]
    assert [len(n) for n in names] == [12, 11]
    assert set(names[0]) - set(names[1]) == {"input_context_layernorm.weight"}


def test_shared_layers_are_one_cross_layer_after_the_first_and_one_self_layer_per_place():
    layers = make_layers(8, n_blocks=3, n_self_attention=2, shared=True)
    first = {id(layer): i for i, layer in reversed(list(enumerate(layers)))}
    assert [first[id(layer)] for layer in layers] == [0, 1, 2, 3, 1, 2, 3, 1, 2]


def test_layers_that_are_not_shared_are_all_different():
    layers = make_layers(8, n_blocks=3, n_self_attention=2, shared=False)
    assert len({id(layer) for layer in layers}) == 9
