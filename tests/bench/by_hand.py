# SPDX-License-Identifier: Apache-2.0
"""What 3x3 binary layers that end in numbers take at least, counted by a full adder over three words: a
kernel in C, written by hand for one layer, which does nothing else and whose numbers never leave the first
cache.

It reads sums of three neighbours as `three_word_avx512.py` does. Half of the value is multiplied by a scale,
and a bias is added; of a layer with a residual connection there are a ReLU before and the signs behind, too.
Like ours it puts each tile's epilogue off into the counting of the next one. It runs on random numbers.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bnncc.plan.kernel import BinaryConv, KernelSpec
from bnncc.plan.layout import WORD_BITS
from tests.bench.timing import Call
from tests.kernels.library import aligned

LANES = 16
PIXELS = 7

KERNEL = """
#include <immintrin.h>
#include <stdint.h>
#define EACH _Pragma("GCC unroll 8") for (int p = 0; p < P; ++p)
#define LOAD(i) _mm512_load_si512(w + 16 * (i))
#define SPREAD(i) _mm512_set1_epi32(x[i])
#define COUNT(total, bits) total = _mm512_add_epi32(total, _mm512_popcnt_epi32(bits))
typedef __m512i vector;

/* One step: u and s of a row's pixels at one word. */
static inline __attribute__((always_inline)) void step(
    const uint32_t *x, const uint32_t *w, vector *ones, vector *twos, int is_first)
{
    vector wu = LOAD(0), wv = LOAD(1), ws = LOAD(2);
    EACH {
        if (is_first)
            ones[p] = twos[p] = _mm512_setzero_si512();
        vector s = _mm512_xor_si512(SPREAD((S + 2 + p) * W), ws);
        vector u = _mm512_xor_si512(SPREAD(p * W), wu), v = _mm512_xor_si512(SPREAD((p + 1) * W), wv);
        COUNT(ones[p], s);
        COUNT(twos[p], _mm512_ternarylogic_epi32(u, v, s, 0x56)); /* (u | v) ^ s */
    }
}

static inline __attribute__((always_inline)) void finish(
    const vector *counts, const float *k, float *numbers, uint16_t *bits)
{
    vector most = _mm512_load_si512(k);
    __m512 zero = _mm512_setzero_ps(), scale = _mm512_load_ps(k + 16), bias = _mm512_load_ps(k + 32);
    EACH {
#if RESIDUAL
        __m512 y = _mm512_cvtepi32_ps(_mm512_subs_epu16(most, counts[p]));
        y = _mm512_add_ps(_mm512_fmadd_ps(y, scale, bias), _mm512_load_ps(numbers + p * 16));
        bits[p] = _mm512_cmp_ps_mask(y, zero, _CMP_GE_OQ);
#else
        __m512 y = _mm512_cvtepi32_ps(_mm512_sub_epi32(most, counts[p]));
        y = _mm512_fmadd_ps(y, scale, bias);
#endif
        _mm512_store_ps(numbers + p * 16, y);
    }
}

void layer(
    const uint32_t *sums, const uint32_t *weight, const float *constants, float *numbers, uint16_t *bits)
{
    const vector two = _mm512_set1_epi32(2);
    const float *before = constants;
    vector counts[P] = {0};
    for (int o = 0; o < F / 16; ++o)
        for (int y = 0; y < S; ++y)
            for (int tile = 0; tile < S / P; ++tile) {
                vector ones[P], twos[P];
                const uint32_t *x = sums + y * ROW + tile * P * W, *w = weight + o * 9 * W * 16;
                step(x, w, ones, twos, 1);
                finish(counts, before, numbers, bits);
                for (int k = 1; k < W; ++k)
                    step(x + k, w + k * 48, ones, twos, 0);
                for (int row = 1; row < 3; ++row)
                    for (int k = 0; k < W; ++k)
                        step(x + row * ROW + k, w + (row * W + k) * 48, ones, twos, 0);
                before = constants + o * 48;
                EACH counts[p] = _mm512_dpwssd_epi32(ones[p], twos[p], two);
            }
    finish(counts, before, numbers, bits);
}
"""


def layer_by_hand(spec: KernelSpec) -> Call:
    """A call of the kernel for a square layer whose columns are a multiple of 7, at stride 1."""
    assert isinstance(spec.root, BinaryConv)
    (_, size, _, outputs), words = spec.shape, spec.root.input.shape[3] // WORD_BITS
    rng, row = np.random.default_rng(1), 2 * (size + 2) * words
    numbers = {"S": size, "W": words, "F": outputs, "P": PIXELS, "ROW": row, "RESIDUAL": len(spec.operands)}
    function = _compiled(numbers)
    arrays = (
        rng.integers(0, 1 << 32, (size + 2) * row, np.uint32),
        rng.integers(0, 1 << 32, outputs * 9 * words, np.uint32),
        rng.uniform(-1, 1, outputs * 3).astype(np.float32),
        np.zeros(PIXELS * LANES, np.float32),
        np.zeros(PIXELS, np.uint16),
    )
    kept = [*map(aligned, arrays)]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in kept]
    return lambda kept=kept: function(*pointers)


def _compiled(numbers: dict[str, int]) -> Call:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "layer.c", Path(folder) / "layer.so"
        source.write_text(KERNEL)
        defined = [f"-D{name}={value}" for name, value in numbers.items()]
        options = ["-O2", "-march=native", "-shared", "-fPIC", *defined]
        subprocess.run(["cc", *options, "-o", str(library), str(source)], check=True)
        return ctypes.CDLL(str(library)).layer
