"""NumPy arrays and scalars in all memory layouts."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import BaseModel, ConfigDict

from tests.catalogue.case import Cases
from tests.catalogue.values import floats, texts

CASES = Cases()
case, built = CASES.add, CASES.build


class Arrays(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    array: np.ndarray  # pydantic checks the class alone
    scalar: Any = None


def laid_out(array: Any, layout: str) -> Any:
    """Return an equal array whose memory looks different."""
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "strided" and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    if layout == "reversed" and array.ndim:
        return array[::-1].copy()[::-1]
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


dtypes = st.sampled_from(
    [
        np.dtype(name)
        for name in ("f8", ">f8", "f4", "f2", "i8", ">i8", "i4", "u1", "?", "c16", "S3", "U2")
    ]
    + [np.dtype(name) for name in ("m8[s]", "M8[us]", "M8[D]")]
    + [np.dtype([("x", "f8"), ("y", "i4", (2,))])]
)
shapes = st.sampled_from([(), (0,), (3,), (2, 3), (3, 2), (1, 3), (2, 1, 2)])
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, shapes))
layouts = st.sampled_from(["as it is", "fortran", "strided", "reversed", "read-only"])
numbers = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, ())).map(lambda a: a[()])
case(
    Arrays,
    st.builds(
        lambda array, layout, scalar: Arrays(array=laid_out(array, layout), scalar=scalar),
        arrays,
        layouts,
        st.none() | numbers,
    ),
    kept=False,  # unless the schema says how they are dumped
)


class Embedding(BaseModel):
    vector: list[float]
    label: str = ""


built(Embedding, vector=st.lists(floats, max_size=40), label=texts)
