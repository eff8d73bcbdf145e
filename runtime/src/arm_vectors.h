/* SPDX-License-Identifier: Apache-2.0 */
/* What the micro-kernels for Arm's scalable vectors have in common; vectors may be of any length. */
#ifndef BNNCC_ARM_VECTORS_H
#define BNNCC_ARM_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include <arm_sve.h>

/* These are functions of an object of their own. */
#define BNNCC_MICRO_KERNEL

/* Zeros for `count` sums. */
BNNCC_MICRO_KERNEL void bnncc_arm_clear(int32_t *sums, size_t count)
{
    uint64_t at;
    for (at = 0; at < count; at += svcntw())
        svst1_s32(svwhilelt_b32_u64(at, count), sums + at, svdup_n_s32(0));
}

/* Copy bytes. */
BNNCC_MICRO_KERNEL void bnncc_arm_copy(void *to, const void *from, size_t bytes)
{
    uint8_t *write = to;
    const uint8_t *read = from;
    uint64_t at;
    for (at = 0; at < bytes; at += svcntb()) {
        const svbool_t some = svwhilelt_b8_u64(at, bytes);
        svst1_u8(some, write + at, svld1_u8(some, read + at));
    }
}

#endif /* BNNCC_ARM_VECTORS_H */
