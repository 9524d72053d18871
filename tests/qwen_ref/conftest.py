import gc
import os
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

# NumPy's products of such small matrices are slower with more threads, which wait for each other. Read when
# NumPy is loaded, here and in the programs that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Compiling kernels makes so many objects, and leaves so many, that looking through them for garbage takes a
# tenth of the time; so it is done less often.
gc.set_threshold(10_000, 20, 20)


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """As many compute afterwards as before: `threads=` counts for all of a process."""
    import numba

    before = numba.get_num_threads()
    with threadpool_limits(1, user_api="blas"):
        yield
    numba.set_num_threads(before)
