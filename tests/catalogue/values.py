"""Few and easily confused values of the builtin types, so that draws often coincide."""

from hypothesis import strategies as st

integers = st.sampled_from([0, 1, -1, 2, 255, 256, 2**53 + 1]) | st.integers(-(2**63), 2**64 - 1)
floats = st.sampled_from([0.0, -0.0, 1.0, 1.5, 0.1, 5e-324, 1e308]) | st.floats()
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.sampled_from(["", "a", "b", "ab", "1", "True", "None", "é", "e\u0301", "\0"]) | st.text(
    max_size=8
)
surrogates = st.text(st.sampled_from(["\ud83d", "\ude00", "\U0001f600", "a"]), max_size=4)
blobs = st.sampled_from([b"", b"a", b"1", b"\xff\xfe", b"\0"]) | st.binary(max_size=8)
small = st.integers(0, 3)
