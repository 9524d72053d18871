"""Matrix times vector, for decoding: rows of the file's own bytes, shared among the threads.

w uint8 [N, row bytes]; x as in quantize.Quantized with one row, or float32 [1, K]; y [1, N] is written.
One function per type, so that only the types that a file holds are compiled.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from qwen_ref.kernels import rows
from qwen_ref.kernels.compile import kernel

row_q4_k, row_q5_k, row_q6_k = rows.row_q4_k, rows.row_q5_k, rows.row_q6_k
row_q4_0, row_q8_0, row_iq4_nl, row_iq4_xs = rows.row_q4_0, rows.row_q8_0, rows.row_iq4_nl, rows.row_iq4_xs
reorder_q4_k, reorder_q4_0 = rows.reorder_q4_k, rows.reorder_q4_0
row_f32, row_f16, row_bf16 = rows.row_f32, rows.row_f16, rows.row_bf16


@kernel(parallel=True)
def matvec_q4_k(w, q, d, sums, sums4, y):
    ordered = np.empty(q.shape[1], np.int8)
    reorder_q4_k(q[0], ordered)
    for r in prange(w.shape[0]):
        y[0, r] = row_q4_k(w[r], ordered, d[0], sums[0])


@kernel(parallel=True)
def matvec_q5_k(w, q, d, sums, sums4, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_q5_k(w[r], q[0], d[0], sums[0], sums4[0])


@kernel(parallel=True)
def matvec_q6_k(w, q, d, sums, sums4, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_q6_k(w[r], q[0], d[0], sums[0], sums4[0])


@kernel(parallel=True)
def matvec_q4_0(w, q, d, sums, sums4, y):
    ordered, start = np.empty(q.shape[1], np.int8), np.empty(q.shape[1] // 8, np.int32)
    reorder_q4_0(q[0], sums4[0], ordered, start)
    for r in prange(w.shape[0]):
        y[0, r] = row_q4_0(w[r], ordered, d[0], start)


@kernel(parallel=True)
def matvec_q8_0(w, q, d, sums, sums4, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_q8_0(w[r], q[0], d[0], sums[0], sums4[0])


@kernel(parallel=True)
def matvec_iq4_nl(w, q, d, sums, sums4, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_iq4_nl(w[r], q[0], d[0], sums[0], sums4[0])


@kernel(parallel=True)
def matvec_iq4_xs(w, q, d, sums, sums4, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_iq4_xs(w[r], q[0], d[0], sums[0], sums4[0])


@kernel(parallel=True)
def matvec_f32(w, x, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_f32(w[r], x[0])


@kernel(parallel=True)
def matvec_f16(w, x, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_f16(w[r], x[0])


@kernel(parallel=True)
def matvec_bf16(w, x, y):
    for r in prange(w.shape[0]):
        y[0, r] = row_bf16(w[r], x[0])
