/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for Cortex-M. */
#include <stdint.h>

#ifdef BNNCC_AGENT
#include "agent_board.h"
#else
static long semihost(long operation, const void *argument)
{
    register long r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

#include "semihosting.h"
#endif

extern uint32_t data_start, data_end, data_load, bss_start, bss_end, stack_top;

#define CPACR (*(volatile uint32_t *)0xE000ED88)

void Reset_Handler(void);
void Reset_Handler(void)
{
    volatile uint32_t *to;
    const uint32_t *from = &data_load;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    CPACR |= UINT32_C(0xf) << 20; /* coprocessors 10 and 11: floating point and MVE */
    __asm__ volatile("dsb\n\tisb");
#endif
    for (to = &data_start; to < &data_end;)
        *to++ = *from++;
    for (to = &bss_start; to < &bss_end;)
        *to++ = 0;
    board_main();
}

static void fault(void)
{
    board_exit(99);
}

#ifdef BNNCC_AGENT
#define AIRCR (*(volatile uint32_t *)0xE000ED0C)
#define SYSTICK agent_tick

void agent_reset(void)
{
    AIRCR = UINT32_C(0x05FA0004); /* the key, and SYSRESETREQ */
    for (;;)
        ;
}
#else
#define SYSTICK fault
#endif

/* Objects for Arm name this in their unwind tables even where nothing can throw. */
__attribute__((weak)) void __aeabi_unwind_cpp_pr0(void)
{
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, (const void *)Reset_Handler, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault, (const void *)fault,
    [15] = (const void *)SYSTICK,
};
