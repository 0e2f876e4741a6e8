"""Answer: a question to an adapter → an answer with its passage, or the refusal."""
