"""The Python API in one sitting: plan, compile, ask, apply, export, edit, merge, check.

Usage: python examples/api.py [--tiny] [--out FOLDER]   (--tiny: two sentences for the handbook)
"""

import sys
from pathlib import Path

import d2l

out = Path(sys.argv[sys.argv.index("--out") + 1] if "--out" in sys.argv else "api")
note = d2l.Document.from_text("The pump was built in 1921. Its lid is made of copper.", name="note")
manual = note if "--tiny" in sys.argv else Path(__file__).with_name("handbook.pdf")

small = "smollm2-135m"  # the smallest network; without a name it is the default
d2l.compile(note, checkpoint=small).save_pretrained(out / "note.lora", force=True)  # one line

compiler = d2l.Compiler.from_pretrained(small, device="cpu")  # weights: at the first call
plan = compiler.plan([manual, note], max_rank=64)  # chunks, rank, size and warnings, no weights
print(f"tokens {plan.describe_tokens()}, rank {plan.rank}, {plan.adapter_bytes / 1e6:.1f} MB")
adapter = compiler(plan)  # in memory
adapter.save_pretrained(out / "manual.lora", force=True)
tuned = adapter.apply_to(d2l.load_base(adapter))  # a PeftModel
print(type(tuned).__name__, tuned.active_adapter, adapter)
print("asked:", adapter.ask("When was the pump built?", max_new_tokens=24))

print(d2l.export(adapter, out / "manual.gguf", to="gguf", force=True).load)
less = d2l.edit(adapter, drop=[":#1"])
print(less.provenance.prompt.opening.seats[-1], "seats without the last chunk")
both = d2l.merge([d2l.Adapter.from_pretrained(out / "note.lora"), compiler(note)], weights=[1, 0.5])
print("merged:", both)
print(d2l.check(out / "manual.lora").runtimes["vllm"])

model = d2l.AdaptedModel.from_pretrained(out / "note.lora")
print("adapter:", model.ask("When was the pump built?", max_new_tokens=24))
with model.disable_adapter():
    print("base:", model.ask("When was the pump built?", max_new_tokens=24))

make = d2l.TaskCompiler.from_pretrained("qwen2.5-coder-0.5b")
make("Summarize a support ticket in one sentence.").save_pretrained(out / "ticket.lora", force=True)
