"""The command `d2l calibrate`: second moments of the base that will serve, measured and kept."""

from d2l.commands import console
from d2l.commands.options import AsJson, Base, CheckpointName, Device, Offline


def calibrate(
    checkpoint: CheckpointName = "smollm2-135m",
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Measure a base that is not the file of training, so that seats fit it. Minutes on a CPU."""
    from d2l.compiler.calibrate import CalibrateOptions
    from d2l.compiler.calibrate import calibrate as measure

    options = CalibrateOptions(checkpoint, base, device, offline)
    with console.Steps("reading plain text") as steps:
        path = measure(options, watch=steps)
    if as_json:
        console.result_json({"moments": str(path)})
    else:
        console.result(str(path))
