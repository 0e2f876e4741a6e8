import torch

from d2l.hypernets.doc_to_lora.perceiver import Perceiver, RmsNorm, make_layers


def test_rms_norm_is_computed_in_float32():
    norm = RmsNorm(4)
    x = torch.tensor([[1e20, -1e20, 1e20, -1e20]], dtype=torch.bfloat16)
    small = torch.tensor([[3.0, -4.0, 0.0, 0.0]], dtype=torch.bfloat16)
    assert norm(small).dtype == torch.float32
    torch.testing.assert_close(norm(small), torch.tensor([[1.2, -1.6, 0.0, 0.0]]))  # rms is 2.5
    assert torch.equal(norm(x), torch.zeros(1, 4))  # the square overflows float32: x / inf


def test_perceiver_depends_neither_on_the_order_of_tokens_nor_on_other_texts():
    torch.manual_seed(0)
    layers = make_layers(8, n_blocks=2, n_self_attention=1, shared=False)
    perceiver = Perceiver(6, 8, 5, n_latents=3, layers=layers)
    torch.nn.init.normal_(perceiver.encoder.latents_q)
    torch.nn.init.normal_(perceiver.decoder.latents_q)
    texts = torch.randn(2, 7, 6)
    out = perceiver(texts)
    assert out.shape == (2, 5, 8)
    for same in (perceiver(texts.flip(1)), torch.cat([perceiver(text[None]) for text in texts])):
        torch.testing.assert_close(same, out, atol=1e-5, rtol=0)  # order of sums


def test_shared_layers_are_one_cross_layer_after_the_first_and_one_self_layer_per_place():
    layers = make_layers(8, n_blocks=3, n_self_attention=2, shared=True)
    first = {id(layer): i for i, layer in reversed(list(enumerate(layers)))}
    assert [first[id(layer)] for layer in layers] == [0, 1, 2, 3, 1, 2, 3, 1, 2]
