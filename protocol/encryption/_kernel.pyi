"""Arithmetic modulo n^2 on many residues at once; the source is in protocol/encryption/native/.

Bulk data are C-contiguous buffers. *Elements* are residues in an internal form, of ``element_bytes``
each, in a buffer of bytes or of unsigned 64-bit numbers aligned to 8 bytes; they belong to one
modulus and one path. Integers are little-endian, with a fixed width in bytes. ``out`` is overwritten;
it may be an operand of ``multiply`` or ``power`` itself, and otherwise overlaps with no argument. All functions
release the lock and may be called from several threads; a ``ValueError`` may leave ``out`` partly
written.
"""

from typing import Any, TypeAlias, final

from numpy.typing import NDArray

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[Any]

def paths() -> list[str]:
    """Return the paths this machine can take, fastest first, of "ifma" and "avx2"."""

@final
class Modulus:
    """Arithmetic modulo ``n^2`` for an odd ``n`` above 1, of at most 4096 bits."""

    def __new__(cls, n: Buffer, path: str) -> Modulus: ...
    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
    @property
    def bits(self) -> int:
        """Bits of n."""
    @property
    def path(self) -> str:
        """The path the arithmetic takes."""
    def load(self, data: Buffer, width: int, out: Buffer) -> None:
        """Turn integers into elements; raises ValueError unless each is below n^2."""
    def store(self, elements: Buffer, width: int, out: Buffer) -> None:
        """Turn elements into integers in [0, n^2)."""
    def high(self, elements: Buffer, width: int, out: Buffer) -> None:
        """Return floor(x / n) of each residue x: for x = 1 + m n it is m."""
    def multiply(self, a: Buffer, b: Buffer, out: Buffer) -> None:
        """Multiply element by element; ``b`` may hold one element for all of ``a``."""
    def power(self, elements: Buffer, exponent: Buffer, out: Buffer) -> None:
        """Raise each element to one exponent of at most 4096 bytes."""
    def dense(
        self,
        elements: Buffer,
        matrix: Buffer,
        rows: int,
        columns: int,
        out_magnitude: Buffer,
        out_sign: Buffer,
    ) -> None:
        """Return ``prod_i x_i ** m_ij`` for each column j of an int16 matrix, as magnitude and sign.

        In two's complement the sign bit weighs ``-2^15``: the product is magnitude / sign.
        """
    def dense_plan(self, rows: int, columns: int) -> tuple[str, int, int, float]:
        """Return how ``dense`` would go about a shape: method, group size, strips, multiplications.

        The method is "rows" or "columns". The 43 multiplications a column that join its 16 planes
        come on top. More than 2048 columns are taken in blocks of as many.
        """
    def sparse(
        self, elements: Buffer, indptr: Buffer, indices: Buffer, columns: int, out: Buffer
    ) -> None:
        """Return the product of the elements at each column's rows; int64 ``indptr`` and ``indices`` as in CSC."""

@final
class FixedBase:
    """Powers of one base from tables of ``tables * 2**rows`` elements (Lim-Lee), 1 GiB at most."""

    def __new__(
        cls, modulus: Modulus, base_element: Buffer, exponent_bits: int, rows: int, tables: int
    ) -> FixedBase: ...
    @property
    def modulus(self) -> Modulus:
        """The modulus the base belongs to."""
    @property
    def exponent_bytes(self) -> int:
        """Bytes of one exponent."""
    @property
    def table_bytes(self) -> int:
        """Bytes of all tables."""
    def powers(self, exponents: Buffer, exponent_bytes: int, out: Buffer) -> None:
        """Raise the base to each exponent; bits beyond ``exponent_bits`` are ignored."""
