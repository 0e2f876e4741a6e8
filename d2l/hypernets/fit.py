"""Whether a base fits a checkpoint: its shapes must, and its name should."""

from d2l.bases.models import BaseFiles, same_model
from d2l.errors import BaseModelError
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.protocol import HypernetConfig


def check_fit(config: HypernetConfig, base: BaseFiles, *, given: str | None = None) -> list[str]:
    """Refuse a base whose shapes differ from the checkpoint's; warn where only its name does.

    `given` is what the user called the base, which is what the warning calls it. Another warning is
    for a network that was trained on what a 4-bit model makes of a text: none is run here.
    """
    found = base.config
    family = base.family
    n_layers = int(found.num_hidden_layers)
    if n_layers != config.n_base_layers:
        raise BaseModelError(
            f"{base.folder}: has {n_layers} layers, the checkpoint is for {config.n_base_layers}",
            hint=f"the checkpoint needs {config.base}",
        )
    for module, expected in config.module_shapes.items():
        shape = family.module_shape(found, module)
        if shape != expected:
            raise BaseModelError(
                f"{base.folder}: {module} is {shape[0]} → {shape[1]}, "
                f"the checkpoint is for {expected[0]} → {expected[1]}",
                hint=f"the checkpoint needs {config.base}",
            )
    warnings = []
    if isinstance(config, DocToLoraConfig) and config.encoder_quantized:
        warnings.append(
            "the checkpoint was trained on the activations of a 4-bit model, and the base runs in "
            "full precision here: adapters come out close to the original's, not the same"
        )
    if same_model(config.base, base):
        return warnings
    where = given or base.gguf or base.folder
    return [
        *warnings,
        f"the checkpoint was trained for {config.base}, and {where} does not look like it: the "
        "shapes fit, so every runtime will accept the adapter, but answers may be nonsense",
    ]
