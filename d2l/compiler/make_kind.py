"""What the compiler must know of a kind of network that reads task descriptions.

`make_text_to_lora` and `make_seats` say it, `make_kinds` lists them; `make` asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from d2l.compiler.make_plan import MakeOptions, MakePlan, Maker
from d2l.hypernets.fit import Config, Kind, OpenNetwork


@dataclass(frozen=True)
class MakeKind(Kind[Config]):
    """How networks of one configuration make adapters from descriptions.

    `prepare` finds what reads for the network and refuses options that make no sense for it; `load`
    loads the weights for a plan that `prepare` made.
    """

    prepare: Callable[[OpenNetwork[Config], MakeOptions], MakePlan]
    load: Callable[[Any], Maker]  # of the kind's own plan
