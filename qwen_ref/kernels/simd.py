"""SIMD values for Numba: a `Vec` is a Numba type whose machine form is one LLVM vector.

A kernel written in ordinary @njit Python keeps such values in registers and works on 64 bytes at a time:

    dots = dot_columns(x, k, 0, columns, no_dots(acc))
    acc = fma(to_f32(dots), splat(scale), acc)

Everything is generic LLVM IR, which becomes AVX-512, AVX2 or NEON, but for two operations that name an
instruction set: `dot_columns`, with the int8 dot product, and `look_up`, the 16-entry table. Both have a
generic form. Vectors longer than a register are split by LLVM.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

I32, WORD, FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
# f16 is kept as its bits: not every processor has instructions for it
ELEMENTS = {"i8": ir.IntType(8), "i32": I32, "f16": ir.IntType(16), "f32": FLOAT}


def arm_dot_product() -> bool:
    """Does Linux list Arm's int8 dot product? Bit 20 of AT_HWCAP, "asimddp" in /proc/cpuinfo."""
    return platform.machine() == "aarch64" and bool(ctypes.CDLL(None).getauxval(16) >> 20 & 1)


def cpu_features() -> set[str]:
    """Instruction sets that Numba compiles for (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES change them)."""
    if numba.config.CPU_FEATURES is None and numba.config.CPU_NAME is None and arm_dot_product():
        # LLVM takes over some of Linux' list, but not this: Numba is told
        numba.config.CPU_FEATURES = "+dotprod," + llvm.get_host_cpu_features().flatten()
    if numba.config.CPU_FEATURES is not None:
        return {f[1:] for f in numba.config.CPU_FEATURES.split(",") if f.startswith("+")}
    if numba.config.CPU_NAME is not None:
        return {"dotprod"} if numba.config.CPU_NAME == "cortex-a76" else set()
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


FEATURES = cpu_features()
if {"avx512vnni", "avx512bw"} <= FEATURES:
    DOT = "avx512vnni"
elif "avxvnni" in FEATURES:
    DOT = "avxvnni"
elif "avx2" in FEATURES:
    DOT = "avx2"
elif "dotprod" in FEATURES:
    DOT = "sdot"
elif "neon" in FEATURES:
    DOT = "neon"
else:
    DOT = "generic"
# x86's dot product takes unsigned weights, Arm's signed ones. Weights of 4 to 6 bits are both; those of 8 are
# moved into the unsigned range by adding BIAS where that is needed.
BIAS = 128 if "vnni" in DOT else 0
# So many of a tile's 16 rows meet so many tokens at once. NEON's registers are four words long, and 32: more
# sums would not stay in them.
PART, TOGETHER = (4, 6) if DOT in ("sdot", "neon") else (16, 4)


# Without instructions for float16, LLVM would call a library that is not there; then integers do it.
HAS_F16 = bool(FEATURES & {"f16c", "avx512f", "dotprod", "fullfp16", "neon"})


class Vec(types.Type):
    """`lanes` values of one element type in one vector register (or several)."""

    def __init__(self, element: str, lanes: int):
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vec({element}x{lanes})")

    @property
    def llvm(self) -> ir.VectorType:
        return ir.VectorType(ELEMENTS[self.element], self.lanes)


@register_model(Vec)
class VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vec):
        super().__init__(dmm, fe_type, fe_type.llvm)

    def as_data(self, builder: Any, value: Any) -> Any:
        return value

    def from_data(self, builder: Any, value: Any) -> Any:
        return value


I8x16, I8x64, I32x16, F16x16, F32x16 = (
    Vec("i8", 16), Vec("i8", 64), Vec("i32", 16), Vec("f16", 16), Vec("f32", 16)
)  # fmt: skip


# ---- helpers that emit IR


def _indices(numbers: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, len(numbers)), numbers)


def _fill(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * vector.count)


def _splat(b: Any, scalar: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(first, undefined, _indices([0] * lanes))


def _address(ctx: Any, b: Any, array_type: Any, array: Any, index_type: Any, index: Any, pointee: Any) -> Any:
    data = ctx.make_array(array_type)(ctx, b, array).data
    return b.bitcast(b.gep(data, [ctx.cast(b, index, index_type, types.intp)]), pointee.as_pointer())


def _read(ctx: Any, b: Any, sig: Any, args: Any, pointee: Any) -> Any:
    value = b.load(_address(ctx, b, sig.args[0], args[0], sig.args[1], args[1], pointee))
    value.align = 1
    return value


def _call(b: Any, name: str, result: Any, args: list[Any]) -> Any:
    function = ir.FunctionType(result, [a.type for a in args])
    return b.call(cgutils.get_or_insert_function(b.module, function, name), args)


def _operation(result: Callable[..., Any], emit: Callable[..., Any], count: int) -> Any:
    """An intrinsic of `count` Vecs; `result(*arguments)` is its type, `emit(builder, *values)` its IR.

    Some or all may be tuples of n Vecs; then it is done n times.
    """

    def typed(*given: Any) -> Any:
        n = next((a.count for a in given if isinstance(a, types.UniTuple)), 0)
        if not n:
            return result(*given)(*given), lambda ctx, b, sig, args: emit(b, *args)

        def emit_each(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            parts = [
                cgutils.unpack_tuple(b, a, n) if isinstance(t, types.UniTuple) else [a] * n
                for a, t in zip(args, sig.args, strict=True)
            ]
            return ctx.make_tuple(b, sig.return_type, [emit(b, *each) for each in zip(*parts, strict=True)])

        one = result(*(a.dtype if isinstance(a, types.UniTuple) else a for a in given))
        return types.UniTuple(one, n)(*given), emit_each

    if count == 1:

        @intrinsic
        def operation(typing, a):
            return typed(a)

    elif count == 2:

        @intrinsic
        def operation(typing, a, c):
            return typed(a, c)

    else:

        @intrinsic
        def operation(typing, a, c, d):
            return typed(a, c, d)

    return operation


def _same(*vectors: Vec) -> Vec:
    return vectors[0]


# ---- memory: an index counts elements of the array, whatever is read there


def _loader(vector: Vec) -> Any:
    @intrinsic
    def load(typing, array, index):
        return vector(array, index), lambda ctx, b, sig, args: _read(ctx, b, sig, args, vector.llvm)

    return load


load_i8x16, load_i8x64 = _loader(I8x16), _loader(I8x64)
load_f16x16, load_f32x16 = map(_loader, (F16x16, F32x16))


def _load_apart(ctx: Any, b: Any, sig: Any, args: Any, kind: types.UniTuple, apart: int) -> Any:
    """The vectors at array[index], array[index + apart], …"""
    first = _address(ctx, b, sig.args[0], args[0], sig.args[1], args[1], ELEMENTS[kind.dtype.element])
    values = []
    for i in range(kind.count):
        place = b.gep(first, [ir.Constant(WORD, apart * i)])
        values.append(b.load(b.bitcast(place, kind.dtype.llvm.as_pointer())))
        values[-1].align = 1 if kind.dtype.element == "i8" else 4
    return ctx.make_tuple(b, kind, values)


@intrinsic
def load_columns(typing, tile, index, like):
    """Of 8 columns of a tile, [8, 16 rows, 4] from tile[index] on, as many rows as `like` has lanes."""
    kind = types.UniTuple(Vec("i8", 4 * like.dtype.lanes), 8)
    return kind(tile, index, like), lambda ctx, b, sig, args: _load_apart(ctx, b, sig, args, kind, 64)


@intrinsic
def store(typing, array, index, vector):
    """array[index:] = the vector's lanes, or those of a tuple of vectors, one after the other."""

    def emit(ctx, b, sig, args):
        many = isinstance(vector, types.UniTuple)
        values = cgutils.unpack_tuple(b, args[2], vector.count) if many else [args[2]]
        first = _address(ctx, b, array, args[0], index, args[1], values[0].type)
        for i, value in enumerate(values):
            b.store(value, b.gep(first, [ir.Constant(WORD, i)])).align = 1
        return ctx.get_dummy_value()

    return types.void(array, index, vector), emit


def _from_f16(b: Any, bits: Any) -> Any:
    """A vector of float16 bits -> float32. In integers: exponent and fraction move to their places in a
    float32, which is then 2**-112 times too small; infinity and NaN get the full exponent."""
    n = bits.type.count
    floats, words = ir.VectorType(FLOAT, n), ir.VectorType(I32, n)
    if HAS_F16:
        return b.fpext(b.bitcast(bits, ir.VectorType(ir.HalfType(), n)), floats)
    wide = b.zext(bits, words)
    sign = b.shl(b.and_(wide, _fill(words, 0x8000)), _fill(words, 16))
    moved = b.shl(b.and_(wide, _fill(words, 0x7FFF)), _fill(words, 13))
    scaled = b.bitcast(b.fmul(b.bitcast(moved, floats), _fill(floats, 2.0**112)), words)
    special = b.icmp_unsigned(">=", moved, _fill(words, 0x7C00 << 13))
    value = b.select(special, b.or_(moved, _fill(words, 0x7F800000)), scaled)
    return b.bitcast(b.or_(value, sign), floats)


def _to_f16(b: Any, v: Any) -> Any:
    """float32 -> float16 bits, to the nearest, ties to even. In integers: half of the last place that stays
    is added before the rest is cut off; below 2**-14, adding 0.5 as a float rounds at the right place."""
    n = v.type.count
    words, halves_ = ir.VectorType(I32, n), ir.VectorType(ir.IntType(16), n)
    if HAS_F16:
        return b.bitcast(b.fptrunc(v, ir.VectorType(ir.HalfType(), n)), halves_)
    bits = b.bitcast(v, words)
    sign = b.lshr(b.and_(bits, _fill(words, 0x80000000)), _fill(words, 16))
    magnitude = b.and_(bits, _fill(words, 0x7FFFFFFF))
    odd = b.and_(b.lshr(magnitude, _fill(words, 13)), _fill(words, 1))
    rounded = b.lshr(b.add(b.add(magnitude, odd), _fill(words, 0xFFF)), _fill(words, 13))
    rounded = b.sub(rounded, _fill(words, 112 << 10))
    large = b.icmp_unsigned(">=", magnitude, _fill(words, 0x47800000))  # 2**16
    rounded = b.select(large, _fill(words, 0x7C00), rounded)
    half = b.bitcast(_fill(v.type, 0.5), words)
    tiny = b.sub(b.bitcast(b.fadd(b.bitcast(magnitude, v.type), _fill(v.type, 0.5)), words), half)
    small = b.icmp_unsigned("<", magnitude, _fill(words, 0x38800000))  # 2**-14
    value = b.select(small, tiny, rounded)
    nan = b.icmp_unsigned(">", magnitude, _fill(words, 0x7F800000))
    return b.trunc(b.or_(b.select(nan, _fill(words, 0x7E00), value), sign), halves_)


@intrinsic
def prefetch(typing, array, index):
    """Ask for the cache line at array[index:], which may lie behind the array's end, in the second cache."""

    def emit(ctx, b, sig, args):
        place = _address(ctx, b, array, args[0], index, args[1], ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        hint = [ir.Constant(I32, 0), ir.Constant(I32, 2), ir.Constant(I32, 1)]  # read, second cache, data
        b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0"), [place, *hint])
        return ctx.get_dummy_value()

    return types.void(array, index), emit


@intrinsic(prefer_literal=True)
def local(typing, count, dtype):
    """An array of `count` elements on the stack: one from the heap takes as long as to unpack a block."""
    array, n = types.Array(dtype.dtype, 1, "C"), count.literal_value

    def emit(ctx, b, sig, args):
        from numba.np.arrayobj import populate_array  # large, and only to compile with

        element = ctx.get_data_type(dtype.dtype)
        size = ctx.get_abi_sizeof(element)
        with b.goto_entry_block():  # cgutils.alloca_once would fill it with zeros, one by one
            place = b.alloca(ir.ArrayType(element, n))
        place.align = 64
        result = ctx.make_array(array)(ctx, b)
        shape, strides, itemsize = (
            [ir.Constant(WORD, n)],
            [ir.Constant(WORD, size)],
            ir.Constant(WORD, size),
        )
        data = b.bitcast(place, element.as_pointer())
        populate_array(result, data, shape, strides, itemsize, meminfo=None)
        return result._getvalue()

    return array(count, dtype), emit


@intrinsic
def lent(typing, arrays):
    """The same arrays, uncounted: Numba counts who holds one, for long where a function has branches."""

    def emit(ctx, b, sig, args):
        results = []
        for kind, array in zip(arrays, cgutils.unpack_tuple(b, args[0]), strict=True):
            result = ctx.make_array(kind)(ctx, b, array)
            result.meminfo = ir.Constant(result.meminfo.type, None)
            results.append(result._getvalue())
        return ctx.make_tuple(b, arrays, results)

    return arrays(arrays), emit


# ---- 16 rows at once: 16 bytes of each are loaded and turned, so that a lane is a row


def _opaque(b: Any, value: Any) -> Any:
    """The same value, of which LLVM does not know where it comes from."""
    return b.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


def _turn(ctx: Any, b: Any, sig: Any, args: Any, count: int) -> Any:
    """w[row : row + 16, at : at + 4 * count] -> `count` vectors: the first 4 bytes of all rows, and so on."""
    array = ctx.make_array(sig.args[0])(ctx, b, args[0])
    row, at = (ctx.cast(b, a, t, types.intp) for a, t in zip(args[1:], sig.args[1:], strict=True))
    stride = b.extract_value(array.strides, 0)
    first = b.gep(b.bitcast(array.data, ir.IntType(8).as_pointer()), [b.add(b.mul(row, stride), at)])
    # 16 places in 4 registers and the stride: LLVM, if it knew, would give each a register that it has not
    places = [
        _opaque(b, b.gep(first, [b.mul(stride, ir.Constant(WORD, 4 * quarter))])) for quarter in range(4)
    ]

    def load(r: int) -> Any:
        place = b.gep(places[r // 4], [b.mul(stride, ir.Constant(WORD, r % 4))])
        value = b.load(b.bitcast(place, ir.VectorType(I32, count).as_pointer()))
        value.align = 1
        return value

    def mix(v: Any, w: Any, order: list[int]) -> Any:
        """In each quarter of four lanes: `order` counts the lanes of v's as 0 to 3, of w's as 4 to 7."""
        return b.shuffle_vector(v, w, _indices([q + i + (i > 3) * 12 for q in (0, 4, 8, 12) for i in order]))

    def turn(v: list[Any]) -> list[Any]:
        """Each quarter of four vectors."""
        pairs = [mix(v[i], v[i + 1], order) for order in ([0, 4, 1, 5], [2, 6, 3, 7]) for i in (0, 2)]
        return [mix(*pairs[i : i + 2], order) for i in (0, 2) for order in ([0, 1, 4, 5], [2, 3, 6, 7])]

    if count == 4:
        words = turn([_join(b, [load(r + i) for r in (0, 4, 8, 12)]) for i in range(4)])
    else:
        low, high = (turn([_join(b, [load(r + i), load(r + i + 4)]) for i in range(4)]) for r in (0, 8))
        quarters = [[part + q + i for part in (0, 8, 16, 24) for i in range(4)] for q in (0, 4)]
        words = [
            b.shuffle_vector(v, w, _indices(q)) for q in quarters for v, w in zip(low, high, strict=True)
        ]
    return ctx.make_tuple(b, sig.return_type, [b.bitcast(v, I8x64.llvm) for v in words])


@intrinsic
def turned4(typing, w, row, at):
    """16 bytes of each of 16 rows, from w[row, at] on, as 4 vectors: 4 bytes of every row, the next 4, …"""
    return types.UniTuple(I8x64, 4)(w, row, at), lambda ctx, b, sig, args: _turn(ctx, b, sig, args, 4)


@intrinsic
def turned8(typing, w, row, at):
    """32 bytes of each, as 8 vectors."""
    return types.UniTuple(I8x64, 8)(w, row, at), lambda ctx, b, sig, args: _turn(ctx, b, sig, args, 8)


as_words = _operation(lambda v: I32x16, lambda b, v: b.bitcast(v, I32x16.llvm), 1)
as_floats = _operation(lambda v: F32x16, lambda b, v: b.bitcast(v, F32x16.llvm), 1)


def _call_fshr(b: Any, v: Any, w: Any) -> Any:
    words = [b.bitcast(x, I32x16.llvm) for x in (w, v)]
    return b.bitcast(_call(b, "llvm.fshr.v16i32", I32x16.llvm, [*words, _fill(I32x16.llvm, 16)]), v.type)


between = _operation(_same, _call_fshr, 2)  # of each 4 bytes the last two of v, then the first two of w


def _half_of_words(b: Any, v: Any, shift: int) -> Any:
    words = b.lshr(b.bitcast(v, I32x16.llvm), _fill(I32x16.llvm, shift))
    return _from_f16(b, b.trunc(words, F16x16.llvm))


low_f16 = _operation(lambda v: F32x16, lambda b, v: _half_of_words(b, v, 0), 1)  # float16 in bytes 0 and 1
high_f16 = _operation(lambda v: F32x16, lambda b, v: _half_of_words(b, v, 16), 1)  # in bytes 2 and 3
low_bf16 = _operation(
    lambda v: F32x16,
    lambda b, v: b.bitcast(b.shl(b.bitcast(v, I32x16.llvm), _fill(I32x16.llvm, 16)), F32x16.llvm), 1,
)  # fmt: skip
high_bf16 = _operation(
    lambda v: F32x16,
    lambda b, v: b.bitcast(b.and_(b.bitcast(v, I32x16.llvm), _fill(I32x16.llvm, 0xFFFF0000)), F32x16.llvm), 1,
)  # fmt: skip


@intrinsic(prefer_literal=True)
def unsigned_byte(typing, v, number):
    """Byte `number` of each word as a float."""

    def emit(ctx, b, sig, args):
        word = b.lshr(b.bitcast(args[0], I32x16.llvm), _fill(I32x16.llvm, 8 * number.literal_value))
        return b.sitofp(b.and_(word, _fill(I32x16.llvm, 255)), F32x16.llvm)

    return F32x16(v, number), emit


@intrinsic(prefer_literal=True)
def signed_byte(typing, v, number):
    def emit(ctx, b, sig, args):
        word = b.shl(b.bitcast(args[0], I32x16.llvm), _fill(I32x16.llvm, 24 - 8 * number.literal_value))
        return b.sitofp(b.ashr(word, _fill(I32x16.llvm, 24)), F32x16.llvm)

    return F32x16(v, number), emit


@intrinsic
def in_turn(typing, v, w):
    """The first of v, the first of w, the second of v, …"""

    def emit(ctx, b, sig, args):
        parts = zip(*(cgutils.unpack_tuple(b, a, v.count) for a in args), strict=True)
        return ctx.make_tuple(b, sig.return_type, [x for pair in parts for x in pair])

    return types.UniTuple(v.dtype, 2 * v.count)(v, w), emit


@intrinsic
def store_apart(typing, array, index, stride, vectors):
    """array[index:], array[index + stride:], … = the vectors."""

    def emit(ctx, b, sig, args):
        first = _address(ctx, b, array, args[0], index, args[1], FLOAT)
        step = ctx.cast(b, args[2], stride, types.intp)
        for i, value in enumerate(cgutils.unpack_tuple(b, args[3], vectors.count)):
            place = b.gep(first, [b.mul(step, ir.Constant(WORD, i))])
            b.store(value, b.bitcast(place, value.type.as_pointer())).align = 4
        return ctx.get_dummy_value()

    return types.void(array, index, stride, vectors), emit


@intrinsic
def add_columns(typing, columns, x, index, acc):
    """acc + the columns, in order, times x[index], x[index + 1], …"""

    def emit(ctx, b, sig, args):
        first, acc = _address(ctx, b, x, args[1], index, args[2], FLOAT), args[3]
        for i, column in enumerate(cgutils.unpack_tuple(b, args[0], columns.count)):
            number = _splat(b, b.load(b.gep(first, [ir.Constant(WORD, i)])), 16)
            acc = _call(b, f"llvm.fma.{_suffix(acc.type)}", acc.type, [column, number, acc])
        return acc

    return acc(columns, x, index, acc), emit


# ---- n tokens at once: tuples of n vectors, for each token one lane per row; `like` says how many


def _zeros(vector: Vec, count: Any) -> Any:
    n = count.literal_value
    kind = types.UniTuple(vector, n)
    return kind(count), lambda ctx, b, sig, args: ctx.make_tuple(b, kind, [_fill(vector.llvm, 0)] * n)


@intrinsic(prefer_literal=True)
def no_sums(typing, tokens):
    """Zeros for so many tokens."""
    return _zeros(F32x16, tokens)


@intrinsic(prefer_literal=True)
def no_part_sums(typing, tokens):
    """The same of PART rows."""
    return _zeros(Vec("f32", PART), tokens)


def _each(ctx: Any, b: Any, sig: Any, args: Any, n: int, pointee: Any) -> list[Any]:
    """The addresses array[index], array[index + stride], …"""
    first = _address(ctx, b, sig.args[0], args[0], sig.args[1], args[1], pointee)
    step = ctx.cast(b, args[2], sig.args[2], types.intp)
    return [b.gep(first, [b.mul(step, ir.Constant(WORD, i))]) for i in range(n)]


@intrinsic
def load_like(typing, array, index, like):
    """n vectors, which begin 16 numbers after one another."""
    return like(array, index, like), lambda ctx, b, sig, args: _load_apart(ctx, b, sig, args, like, 16)


@intrinsic
def each(typing, array, index, stride, like):
    """array[index], array[index + stride], …: the number of each token in all of its lanes."""

    def emit(ctx, b, sig, args):
        places = _each(ctx, b, sig, args, like.count, FLOAT)
        return ctx.make_tuple(b, like, [_splat(b, b.load(place), like.dtype.lanes) for place in places])

    return like(array, index, stride, like), emit


@intrinsic
def times_offset(typing, sums, index, less, stride, offset, like):
    """offset * sums[index], or of sums[index] - sums[less], in all lanes: scalars cost least."""
    kind = types.UniTuple(Vec("i32", like.dtype.lanes), like.count)

    def emit(ctx, b, sig, args):
        array, first, second, step, number, _ = args

        def numbers(index_type: Any, value: Any) -> list[Any]:
            given = types.none(sums, index_type, stride)
            return [b.load(p) for p in _each(ctx, b, given, (array, value, step), like.count, I32)]

        values = numbers(index, first)
        if less != types.none:
            values = [b.sub(v, w) for v, w in zip(values, numbers(less, second), strict=True)]
        factor = ctx.cast(b, number, offset, types.int32)
        return ctx.make_tuple(b, kind, [_splat(b, b.mul(v, factor), like.dtype.lanes) for v in values])

    return kind(sums, index, less, stride, offset, like), emit


@intrinsic
def no_dots(typing, like):
    """Zeros in the place of the dot products of so many tokens."""
    vector = Vec("i32", like.dtype.lanes)
    kind = types.UniTuple(vector, like.count)
    return kind(like), lambda ctx, b, sig, args: ctx.make_tuple(b, kind, [_fill(vector.llvm, 0)] * like.count)


def _word(b: Any, place: Any, i: int, lanes: int) -> Any:
    """4 bytes behind 4 * i others, in all lanes. A register of four words is loaded whole, by LLVM only once:
    Arm's dot product takes one word of it for all lanes."""
    first, count = (i - i % 4, 4) if PART == 4 else (i, 1)
    kind = ir.VectorType(I32, count)
    loaded = b.load(b.bitcast(b.gep(place, [ir.Constant(WORD, 4 * first)]), kind.as_pointer()))
    loaded.align = 1
    return b.bitcast(
        b.shuffle_vector(loaded, loaded, _indices([i - first] * lanes)), Vec("i8", 4 * lanes).llvm
    )


@intrinsic
def dot_columns(typing, q, index, stride, columns, acc):
    """acc + the columns, each four of as many rows (plus BIAS), times the bytes from q[index + stride *
    token] on."""

    def emit(ctx, b, sig, args):
        sums = cgutils.unpack_tuple(b, args[4], acc.count)
        places = _each(ctx, b, sig, args, acc.count, ir.IntType(8))
        for i, w in enumerate(cgutils.unpack_tuple(b, args[3], columns.count)):
            for t, place in enumerate(places):
                sums[t] = _dot4(b, sums[t], w, _word(b, place, i, acc.dtype.lanes))
        return ctx.make_tuple(b, acc, sums)

    return acc(q, index, stride, columns, acc), emit


@intrinsic
def dot_columns_of_two(typing, q, index, stride, columns, others, acc):
    """The same for two sets of 16 rows that share what is read of q: acc + the columns' for each token, then
    acc + the others' for each."""
    kind = types.UniTuple(I32x16, 2 * acc.count)

    def emit(ctx, b, sig, args):
        n = acc.count
        sums = cgutils.unpack_tuple(b, args[5], n) * 2
        places = _each(ctx, b, sig, args, n, ir.IntType(8))
        both = (cgutils.unpack_tuple(b, a, columns.count) for a in args[3:5])
        for i, (w, v) in enumerate(zip(*both, strict=True)):
            for t, place in enumerate(places):
                word = b.load(b.bitcast(b.gep(place, [ir.Constant(WORD, 4 * i)]), I32.as_pointer()))
                word.align = 1
                x = b.bitcast(_splat(b, word, 16), I8x64.llvm)
                sums[t], sums[n + t] = _dot4(b, sums[t], w, x), _dot4(b, sums[n + t], v, x)
        return ctx.make_tuple(b, kind, sums)

    return kind(q, index, stride, columns, others, acc), emit


# ---- constants


@intrinsic
def splat(typing, x):
    """A number 16 times: an integer as I32x16, a float as F32x16."""
    whole = isinstance(x, (types.Integer, types.IntegerLiteral))
    scalar, vector = (types.int32, I32x16) if whole else (types.float32, F32x16)
    return vector(x), lambda ctx, b, sig, args: _splat(b, ctx.cast(b, args[0], x, scalar), 16)


# ---- bytes

and_ = _operation(_same, lambda b, x, y: b.and_(x, y), 2)
or_ = _operation(_same, lambda b, x, y: b.or_(x, y), 2)
join = _operation(  # v, then w
    lambda v, w: Vec(v.element, 2 * v.lanes),
    lambda b, v, w: b.shuffle_vector(v, w, _indices(list(range(2 * v.type.count)))), 2,
)  # fmt: skip
biased = _operation(_same, lambda b, v: b.add(v, _fill(v.type, BIAS - 256 if BIAS > 127 else BIAS)), 1)


def _with_number(emit: Callable[..., Any]) -> Any:
    """An intrinsic of a Vec, or n of them, and a literal number; `emit(builder, value, numbers)`."""

    @intrinsic(prefer_literal=True)
    def operation(typing, v, number):
        many, value = isinstance(v, types.UniTuple), number.literal_value
        lanes = _fill((v.dtype if many else v).llvm, value)

        def emit_each(ctx: Any, b: Any, sig: Any, args: Any) -> Any:
            if not many:
                return emit(b, args[0], lanes)
            values = cgutils.unpack_tuple(b, args[0], v.count)
            return ctx.make_tuple(b, v, [emit(b, value, lanes) for value in values])

        return v(v, number), emit_each

    return operation


shl, shr = _with_number(lambda b, v, n: b.shl(v, n)), _with_number(lambda b, v, n: b.lshr(v, n))
and_all = _with_number(lambda b, v, n: b.and_(v, n))  # every lane & a mask


def _look_up(b: Any, entries: Any, numbers: Any) -> Any:
    if "avx512bw" in FEATURES:
        repeated = b.shuffle_vector(entries, entries, _indices(list(range(16)) * 4))
        return _call(b, "llvm.x86.avx512.pshuf.b.512", numbers.type, [repeated, numbers])
    if "avx2" in FEATURES:
        repeated = b.shuffle_vector(entries, entries, _indices(list(range(16)) * 2))
        halves = [_quarter(b, numbers, i, 32) for i in range(2)]
        return _join(b, [_call(b, "llvm.x86.avx2.pshuf.b", h.type, [repeated, h]) for h in halves])
    if FEATURES & {"neon", "dotprod"}:
        parts = [_quarter(b, numbers, i, 16) for i in range(4)]
        return _join(b, [_call(b, "llvm.aarch64.neon.tbl1.v16i8", I8x16.llvm, [entries, p]) for p in parts])
    result = _splat(b, b.extract_element(entries, ir.Constant(I32, 0)), 64)
    for i in range(1, 16):
        entry = _splat(b, b.extract_element(entries, ir.Constant(I32, i)), 64)
        result = b.select(b.icmp_unsigned("==", numbers, _fill(numbers.type, i)), entry, result)
    return result


look_up = _operation(lambda table, index: index, _look_up, 2)  # table I8x16, index 64 bytes of 0 to 15


# ---- the int8 dot product


def _quarter(b: Any, v: Any, i: int, lanes: int) -> Any:
    return b.shuffle_vector(v, v, _indices(list(range(i * lanes, (i + 1) * lanes))))


def _join(b: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        order = _indices(list(range(2 * parts[0].type.count)))
        parts = [b.shuffle_vector(parts[i], parts[i + 1], order) for i in range(0, len(parts), 2)]
    return parts[0]


def _named(name: str) -> Callable[..., Any]:
    return lambda b, acc, w, x: _call(b, name, acc.type, [acc, w, x])


def _avx2_dot4(b: Any, acc: Any, w: Any, x: Any) -> Any:
    """Pairs of products of unsigned and signed bytes are added up in 16 bits, which 2 * 128 * 127 fits into;
    so each weight's sign goes to its activation."""
    size = _call(b, "llvm.abs.v32i8", w.type, [w, ir.Constant(ir.IntType(1), 0)])
    x = _call(b, "llvm.x86.avx2.psign.b", x.type, [x, w])
    pairs = _call(b, "llvm.x86.avx2.pmadd.ub.sw", ir.VectorType(ir.IntType(16), 16), [size, x])
    return b.add(acc, _call(b, "llvm.x86.avx2.pmadd.wd", acc.type, [pairs, _fill(pairs.type, 1)]))


def _neon_dot4(b: Any, acc: Any, w: Any, x: Any) -> Any:
    sums = []
    for i in range(2):
        wide = [b.sext(_quarter(b, v, i, 8), ir.VectorType(ir.IntType(16), 8)) for v in (w, x)]
        sums.append(_call(b, "llvm.aarch64.neon.saddlp.v4i32.v8i16", ir.VectorType(I32, 4), [b.mul(*wide)]))
    return b.add(acc, _call(b, "llvm.aarch64.neon.addp.v4i32", acc.type, sums))


def _generic_dot4(b: Any, acc: Any, w: Any, x: Any) -> Any:
    wide = ir.VectorType(ir.IntType(16), w.type.count)  # products of two int8 fit: 128 * 127 < 2**15
    products = b.mul(b.sext(w, wide), b.sext(x, wide))
    for i in range(4):
        lane = b.shuffle_vector(products, products, _indices(list(range(i, w.type.count, 4))))
        acc = b.add(acc, b.sext(lane, acc.type))
    return acc


DOTS = {  # sums in a register, and one register's
    "avx512vnni": (16, _named("llvm.x86.avx512.vpdpbusd.512")),
    "avxvnni": (8, _named("llvm.x86.avx512.vpdpbusd.256")),
    "avx2": (8, _avx2_dot4),
    "sdot": (4, _named("llvm.aarch64.neon.sdot.v4i32.v16i8")),
    "neon": (4, _neon_dot4),
    "generic": (4, _generic_dot4),
}


def _dot4(b: Any, acc: Any, w: Any, x: Any) -> Any:
    """acc int32, w (weights plus BIAS) and x four times as many bytes -> acc[i] + the sum of 4 w * x from
    byte 4i on."""
    lanes, dot = DOTS[DOT]
    count = acc.type.count // lanes
    parts = [[_quarter(b, v, i, v.type.count // count) for v in (acc, w, x)] for i in range(count)]
    return _join(b, [dot(b, *part) for part in parts])


# ---- blocks of keys and values, by the type of their array: uint16 is f16, int8 is q8_0, uint8 is q4_0


@intrinsic
def bits_of(typing, array):
    """Of a number that such an array holds: a constant, of which LLVM sees what is never done."""
    bits = {types.uint16: 16, types.int8: 8, types.uint8: 4}[array.dtype]
    return types.intp(array), lambda ctx, b, sig, args: ir.Constant(WORD, bits)


@intrinsic
def nibbles(typing, v, high):
    """16 bytes' low four bits, or with `high` 1 the high ones, less 8, as floats."""

    def emit(ctx, b, sig, args):
        words = b.zext(args[0], I32x16.llvm)
        shift = b.shl(ctx.cast(b, args[1], high, types.int32), ir.Constant(I32, 2))
        few = b.and_(b.lshr(words, _splat(b, shift, 16)), _fill(I32x16.llvm, 15))
        return b.sitofp(b.sub(few, _fill(I32x16.llvm, 8)), F32x16.llvm)

    return F32x16(v, high), emit


@intrinsic(prefer_literal=True)
def butterfly(typing, v, half):
    """Lanes i and i + half become their sum and their difference, for each i without that bit."""
    n = half.literal_value

    def emit(ctx, b, sig, args):
        partner = b.shuffle_vector(args[0], args[0], _indices([i ^ n for i in range(16)]))
        signs = ir.Constant(F32x16.llvm, [-1.0 if i & n else 1.0 for i in range(16)])
        return b.fadd(partner, b.fmul(args[0], signs))

    return v(v, half), emit


# ---- numbers

add = _operation(_same, lambda b, x, y: b.fadd(x, y), 2)
sub = _operation(_same, lambda b, x, y: b.fsub(x, y), 2)
mul = _operation(_same, lambda b, x, y: b.fmul(x, y), 2)
div = _operation(_same, lambda b, x, y: b.fdiv(x, y), 2)


def _suffix(v: Any) -> str:
    return f"v{v.count}f32"


fma = _operation(_same, lambda b, x, y, z: _call(b, f"llvm.fma.{_suffix(x.type)}", x.type, [x, y, z]), 3)
maximum = _operation(_same, lambda b, x, y: _call(b, f"llvm.maxnum.{_suffix(x.type)}", x.type, [x, y]), 2)
absolute = _operation(_same, lambda b, x: _call(b, f"llvm.fabs.{_suffix(x.type)}", x.type, [x]), 1)


def _to_f32(b: Any, v: Any) -> Any:
    result = ir.VectorType(FLOAT, v.type.count)
    if v.type.element == ir.IntType(16):
        return _from_f16(b, v)
    return b.sitofp(v if v.type.element == I32 else b.sext(v, ir.VectorType(I32, v.type.count)), result)


to_f32 = _operation(lambda v: Vec("f32", v.lanes), _to_f32, 1)  # from f16, signed i8 or i32
to_f16 = _operation(lambda v: F16x16, _to_f16, 1)


def _round_i32(b: Any, v: Any) -> Any:
    return b.fptosi(
        _call(b, f"llvm.roundeven.{_suffix(v.type)}", v.type, [v]), ir.VectorType(I32, v.type.count)
    )


round_i8 = _operation(  # nearest integers, ties to even; they must be in -128 to 127
    lambda v: Vec("i8", v.lanes),
    lambda b, v: b.trunc(_round_i32(b, v), ir.VectorType(ir.IntType(8), v.type.count)),
    1,
)  # fmt: skip


def _sum_lanes(b: Any, v: Any) -> Any:
    kind = ir.FunctionType(FLOAT, [FLOAT, v.type])
    function = cgutils.get_or_insert_function(b.module, kind, f"llvm.vector.reduce.fadd.{_suffix(v.type)}")
    return b.call(function, [ir.Constant(FLOAT, 0.0), v], fastmath=("reassoc",))


def _max_lanes(b: Any, v: Any) -> Any:
    """By halves: LLVM's own reduction goes lane by lane, because of NaN."""
    while v.type.count > 1:
        n = v.type.count // 2
        v = _call(
            b, f"llvm.maxnum.v{n}f32", ir.VectorType(FLOAT, n), [_quarter(b, v, 0, n), _quarter(b, v, 1, n)]
        )
    return b.extract_element(v, ir.Constant(I32, 0))


sum_lanes, max_lanes = (_operation(lambda v: types.float32, emit, 1) for emit in (_sum_lanes, _max_lanes))


alternate = _operation(  # v0, w0, v1, w1, …
    lambda v, w: Vec(v.element, 2 * v.lanes),
    lambda b, v, w: b.shuffle_vector(
        v, w, _indices([i // 2 + i % 2 * v.type.count for i in range(2 * v.type.count)])
    ), 2,
)  # fmt: skip


def _exp(b: Any, x: Any) -> Any:
    """2**n * e**r with n = round(x / ln 2): within 2 units in the last place; 0 below -87, e**88 above 88."""
    vector, whole = x.type, ir.VectorType(I32, x.type.count)

    def constant(value: float) -> Any:
        return _fill(vector, value)

    def multiply_add(x: Any, y: Any, z: Any) -> Any:
        return _call(b, f"llvm.fma.{_suffix(vector)}", vector, [x, y, z])

    low = b.fcmp_ordered("<", x, constant(-87.0))
    x = _call(b, f"llvm.minnum.{_suffix(vector)}", vector, [x, constant(88.0)])
    x = _call(b, f"llvm.maxnum.{_suffix(vector)}", vector, [x, constant(-87.0)])
    n = _call(b, f"llvm.roundeven.{_suffix(vector)}", vector, [b.fmul(x, constant(1.4426950408889634))])
    r = multiply_add(n, constant(-0.693359375), x)
    r = multiply_add(n, constant(2.12194440e-4), r)
    p = constant(1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = multiply_add(p, r, constant(c))
    p = b.fadd(multiply_add(b.fmul(r, r), p, r), constant(1.0))
    power = b.shl(b.add(b.fptosi(n, whole), _fill(whole, 127)), _fill(whole, 23))
    return b.select(low, constant(0.0), b.fmul(p, b.bitcast(power, vector)))


exp = _operation(_same, _exp, 1)  # the polynomial is Cephes' expf
