"""d2l: compile a document into a LoRA adapter, in one pass through a pretrained hypernetwork."""

__version__ = "0.2.0.dev0"
