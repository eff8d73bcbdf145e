/* SPDX-License-Identifier: Apache-2.0 */
/* An emulator that counts instructions (count.c) counts between these two; functions of their own, so that each
   begins a block. */
#ifndef BNNCC_COUNT_H
#define BNNCC_COUNT_H

__attribute__((noinline)) void bnncc_count_begin(void);
__attribute__((noinline)) void bnncc_count_end(void);

void bnncc_count_begin(void)
{
    __asm__ volatile("" ::: "memory");
}

void bnncc_count_end(void)
{
    __asm__ volatile("" ::: "memory");
}

#endif /* BNNCC_COUNT_H */
