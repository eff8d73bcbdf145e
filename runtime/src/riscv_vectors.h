/* SPDX-License-Identifier: Apache-2.0 */
/* What the micro-kernels for RISC-V's vectors have in common; vectors may be of any length. */
#ifndef BNNCC_RISCV_VECTORS_H
#define BNNCC_RISCV_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include <riscv_vector.h>

/* Not every kernel calls every function. */
#define BNNCC_MICRO_KERNEL __attribute__((unused)) static inline

/* The bits sums[pitch * channel] <= limits[channel] of up to 32 channels; zeros above. */
BNNCC_MICRO_KERNEL uint32_t bnncc_riscv_compare(
    const int32_t *sums, size_t pitch, const int32_t *limits, size_t channels)
{
    uint32_t word = 0;
    size_t first, some;
    for (first = 0; first < channels; first += some) {
        uint8_t bits[4] = {0, 0, 0, 0};
        some = __riscv_vsetvl_e32m8(channels - first);
        const vint32m8_t sum = __riscv_vlse32_v_i32m8(sums + pitch * first, (ptrdiff_t)(4 * pitch), some);
        __riscv_vsm_v_b4(
            bits, __riscv_vmsle_vv_i32m8_b4(sum, __riscv_vle32_v_i32m8(limits + first, some), some), some);
        word |= (bits[0] | (uint32_t)bits[1] << 8 | (uint32_t)bits[2] << 16 | (uint32_t)bits[3] << 24) << first;
    }
    return channels < 32 ? word & ~(~UINT32_C(0) << channels) : word;
}

/* Zeros for `count` sums. */
BNNCC_MICRO_KERNEL void bnncc_riscv_clear(int32_t *sums, size_t count)
{
    while (count) {
        const size_t some = __riscv_vsetvl_e32m8(count);
        __riscv_vse32_v_i32m8(sums, __riscv_vmv_v_x_i32m8(0, some), some);
        sums += some;
        count -= some;
    }
}

/* Copy bytes. */
BNNCC_MICRO_KERNEL void bnncc_riscv_copy(void *to, const void *from, size_t bytes)
{
    uint8_t *write = to;
    const uint8_t *read = from;
    while (bytes) {
        const size_t some = __riscv_vsetvl_e8m8(bytes);
        __riscv_vse8_v_u8m8(write, __riscv_vle8_v_u8m8(read, some), some);
        write += some;
        read += some;
        bytes -= some;
    }
}

#endif /* BNNCC_RISCV_VECTORS_H */
