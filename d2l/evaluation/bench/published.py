"""What others report of public checkpoints; none of it was measured with this package."""

_PAPER = "Doc-to-LoRA's paper, as a fork of its code quotes it"
_RERUN = "a run by others on the full test sets, eval_results of VietDocMemory/doc-to-lora"
_DEMO = ("sakana/gemma-2-2b-demo",)
_SAKANA = ("sakana/gemma-2-2b", *_DEMO, "sakana/mistral-7b", "sakana/qwen3-4b")
#: Benchmark, short names of checkpoints, what is reported, and by whom.
REPORTED = (
    (
        "niah",
        _SAKANA,
        "nearly all right up to 40 chunks of 1,024 tokens, by a network trained on needles alone, "
        "which is not among the released ones",
        _PAPER,
    ),
    (
        "squad",
        _SAKANA,
        "2WikiMultihopQA relative to the document in the prompt: .857 with all layers at once "
        "(0.209 s, 11.5 GB more), .844 layer by layer (0.551 s, 3.8 GB more)",
        _PAPER,
    ),
    (
        "squad",
        _DEMO,
        "F1, in brackets with the document in the prompt: SQuAD .717 (.875), DROP .241 (.426), "
        "ROPES .682 (.723), QASPER .183 (.386), 2WikiMultihopQA .268 (.347), MultiFieldQA .169; "
        "SQuAD by tokens of the text: .77 below 128, .72 below 256, .60 below 512, .42 below 1,024",
        _RERUN,
    ),
)


def list_reported(bench: str, checkpoint: str) -> list[dict[str, str]]:
    """Figures of others for a benchmark of a checkpoint that goes by its short name."""
    return [
        {"figure": figure, "source": source}
        for name, checkpoints, figure, source in REPORTED
        if bench in (name, "check") and checkpoint in checkpoints
    ]
