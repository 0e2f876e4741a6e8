"""Learners: a kind of network on its base, with its data and its loss; `training` runs them."""
