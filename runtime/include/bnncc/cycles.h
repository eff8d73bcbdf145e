/* SPDX-License-Identifier: Apache-2.0 */
/* Cycles of every layer of a network that was compiled with --profile, here one named digits:

       #define BNNCC_PROFILE
       #include "digits.h"
       #include "bnncc_cycles.h"

       static uint32_t cycles[DIGITS_LAYERS];
       BNNCC_CYCLES_HOOK(digits, cycles)

       bnncc_cycles_start();
       digits_run(arena, x, y);    now cycles[i] are those of layer i of manifest.json

   Counted by DWT on Cortex-M3 and up, by mcycle on RISC-V in machine mode. For other processors (Cortex-M0+; the
   ESP32-C3, which has a counter of its own) or another clock define BNNCC_CYCLES as the name of a function of
   yours, uint32_t f(void), that counts up. Layers of 2^32 cycles and more wrap around. */
#ifndef BNNCC_CYCLES_H
#define BNNCC_CYCLES_H

#include <stdint.h>

#if defined(BNNCC_CYCLES)

uint32_t BNNCC_CYCLES(void);

static inline void bnncc_cycles_start(void)
{
}

static inline uint32_t bnncc_cycles(void)
{
    return BNNCC_CYCLES();
}

#elif defined(__riscv)

static inline void bnncc_cycles_start(void)
{
}

static inline uint32_t bnncc_cycles(void)
{
    uintptr_t value;
    /* csrr value, mcycle: as numbers, since assemblers want to be told of Zicsr otherwise. */
    __asm__ volatile(".insn i 0x73, 2, %0, x0, -1280" : "=r"(value));
    return (uint32_t)value;
}

#elif defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__) \
    || defined(__ARM_ARCH_8_1M_MAIN__)

static inline void bnncc_cycles_start(void)
{
    *(volatile uint32_t *)0xE000EDFC |= UINT32_C(1) << 24;   /* DEMCR: trace is on */
    *(volatile uint32_t *)0xE0001FB0 = UINT32_C(0xC5ACCE55); /* DWT_LAR: a Cortex-M7 locks it */
    *(volatile uint32_t *)0xE0001004 = 0;                    /* DWT_CYCCNT */
    *(volatile uint32_t *)0xE0001000 |= 1;                   /* DWT_CTRL: it counts */
}

static inline uint32_t bnncc_cycles(void)
{
    return *(volatile uint32_t *)0xE0001004;
}

#else
#error "no counter of cycles is known here: define BNNCC_CYCLES as the name of a function that counts up"
#endif

/* The profiling hook of network `name`: leaves the cycles of each layer in `table`. */
#define BNNCC_CYCLES_HOOK(name, table)                                                   \
    void name##_on_layer(int layer, int after)                                           \
    {                                                                                    \
        (table)[layer] = after ? bnncc_cycles() - (table)[layer] : bnncc_cycles();       \
    }

#endif /* BNNCC_CYCLES_H */
