"""What all cards share: how an adapter is loaded, and names that cannot break a card."""

import json
import re

#: Names go in as string literals: a folder may be called anything. `return_dict` is the default
#: of transformers 5 only.
LOADING = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({tokenizer})
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), {adapter})
turns = [{{"role": "user", "content": "Ask something that the document answers."}}]
prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, \
return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=40, do_sample=False)[0]))
"""


def literal(text: str) -> str:
    """A string literal of Python and of YAML: JSON's are both."""
    return json.dumps(text, ensure_ascii=False)


def quote(text: str) -> str:
    """Markdown code of one line, whatever characters a file name has."""
    line = " ".join(text.split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"{fence}{line}{fence}"
