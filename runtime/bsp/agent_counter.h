/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's counter of cycles: DWT's on Cortex-M3 and up, or SysTick where that reads 0 or is not there; mcycle on
   RISC-V in machine mode. SysTick runs in both cases on a Cortex-M: it ends calls that take too long. */
#ifndef BNNCC_AGENT_COUNTER_H
#define BNNCC_AGENT_COUNTER_H

#include <stdint.h>

#include "agent.h"

static uint32_t counter;
static volatile uint32_t counter_wraps, counter_limit;

static uint32_t counter_kind(void)
{
    return counter;
}

/* One more wrap of SysTick; whether there are as many as there may be. */
static int counter_tick(void)
{
    counter_wraps = counter_wraps + 1;
    return counter_limit && counter_wraps >= counter_limit;
}

#if defined(__riscv)

static uint64_t counter_read(void)
{
    uintptr_t value;
    /* csrr value, mcycle: as numbers, since assemblers want to be told of Zicsr otherwise. */
    __asm__ volatile(".insn i 0x73, 2, %0, x0, -1280" : "=r"(value));
#if __riscv_xlen == 32
    {
        uintptr_t high, again;
        do { /* csrr high, mcycleh */
            __asm__ volatile(".insn i 0x73, 2, %0, x0, -1152" : "=r"(high));
            __asm__ volatile(".insn i 0x73, 2, %0, x0, -1280" : "=r"(value));
            __asm__ volatile(".insn i 0x73, 2, %0, x0, -1152" : "=r"(again));
        } while (high != again);
        return (uint64_t)high << 32 | value;
    }
#else
    return value;
#endif
}

static void counter_find(void)
{
    const uint64_t before = counter_read();
    for (volatile int i = 0; i < 100; i++)
        ;
    counter = counter_read() != before ? AGENT_MCYCLE : AGENT_NO_COUNTER;
}

static void counter_begin(uint32_t limit)
{
    counter_limit = limit;
}

static void counter_end(void)
{
}

/* What was written as data is about to be executed. */
static void counter_new_code(void)
{
    __asm__ volatile(".insn i 0x0f, 1, x0, x0, 0" ::: "memory"); /* fence.i */
}

#else /* Cortex-M */

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define SYST_CSR REGISTER(0xE000E010)
#define SYST_RVR REGISTER(0xE000E014)
#define SYST_CVR REGISTER(0xE000E018)
#define DEMCR REGISTER(0xE000EDFC)
#define DWT_CTRL REGISTER(0xE0001000)
#define DWT_CYCCNT REGISTER(0xE0001004)
#define DWT_LAR REGISTER(0xE0001FB0)
#define ICIALLU REGISTER(0xE000EF50)
#define SYSTICK_BITS 24

/* SysTick counts down from 2^24 - 1, and its handler counts the wraps. */
static uint64_t counter_systick(void)
{
    uint32_t wraps, value;
    do {
        wraps = counter_wraps;
        value = SYST_CVR;
    } while (wraps != counter_wraps);
    return ((uint64_t)wraps << SYSTICK_BITS) + ((UINT32_C(1) << SYSTICK_BITS) - 1 - value);
}

static uint64_t counter_read(void)
{
#ifndef __ARM_ARCH_6M__
    /* Of 32 bits, which is more than half a minute of every core that there is; SysTick tells of longer ones. */
    if (counter == AGENT_CYCCNT)
        return DWT_CYCCNT;
#endif
    return counter_systick();
}

static void counter_begin(uint32_t limit)
{
    counter_limit = limit;
    counter_wraps = 0;
    SYST_RVR = (UINT32_C(1) << SYSTICK_BITS) - 1;
    SYST_CVR = 0;
    SYST_CSR = 7; /* enabled, with its exception, at the core's clock */
#ifndef __ARM_ARCH_6M__
    DWT_CYCCNT = 0;
#endif
    while (SYST_CVR == 0)
        ;
}

static void counter_end(void)
{
    SYST_CSR = 0;
}

static void counter_find(void)
{
    counter = AGENT_SYSTICK;
#ifndef __ARM_ARCH_6M__
    DEMCR |= UINT32_C(1) << 24; /* trace is on */
    DWT_LAR = UINT32_C(0xC5ACCE55); /* a Cortex-M7 locks it */
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1;
    for (volatile int i = 0; i < 100; i++)
        ;
    if (DWT_CYCCNT)
        counter = AGENT_CYCCNT;
#endif
    counter_begin(0);
    {
        const uint64_t before = counter_systick();
        for (volatile int i = 0; i < 1000; i++)
            ;
        if (counter == AGENT_SYSTICK && counter_systick() == before)
            counter = AGENT_NO_COUNTER;
    }
    counter_end();
}

/* What was written as data is about to be executed. */
static void counter_new_code(void)
{
#ifndef __ARM_ARCH_6M__
    ICIALLU = 0; /* without effect where there is no instruction cache */
#endif
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

#endif

#endif /* BNNCC_AGENT_COUNTER_H */
