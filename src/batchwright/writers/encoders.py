"""What turns outputs into the bytes of a file, whatever its format.

The one rule: an encoder that was restored goes on as if there had been no restart, byte for byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

Out_contra = TypeVar("Out_contra", contravariant=True)


class Encoder(Protocol[Out_contra]):
    """Turns the outputs of one chunk after another into bytes. Belongs to one sink."""

    @property
    def form(self) -> str:
        """How the file is written, in words; a restart with another form is refused."""
        ...

    def add(self, outputs: Sequence[Out_contra]) -> Mapping[int, BaseException]:
        """Encode outputs into the chunk. Those that cannot be encoded are left out and named by their index."""
        ...

    def take(self) -> bytes:
        """The chunk, which is committed now."""
        ...

    def drop(self) -> None:
        """Forget the chunk."""
        ...

    def head(self) -> bytes:
        """What the file begins with, even if it holds nothing else."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What `restore` needs, after a restart, to go on as if there had been none."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Begin anew from what `state` gave, or, without its entries, from the start."""
        ...
