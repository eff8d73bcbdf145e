/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for RISC-V without an operating system. */
#include <stdint.h>

#ifdef BNNCC_AGENT
#include "agent_board.h"
#else
/* The call is three instructions that must lie in one page, none of them compressed. */
__attribute__((noinline, aligned(16))) static long semihost(long operation, const void *argument)
{
    register long a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n\t.option norvc\n\t.balign 16\n\t"
                     "slli x0, x0, 0x1f\n\tebreak\n\tsrai x0, x0, 7\n\t.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

#include "semihosting.h"
#endif

#ifdef BNNCC_AGENT
void Reset_Handler(void);

void agent_reset(void)
{
    Reset_Handler();
}

__attribute__((aligned(4))) static void fault(void)
{
    board_exit(99);
}
#endif

__attribute__((used)) static void start(void)
{
#ifdef BNNCC_AGENT
    /* csrw mtvec, fault: as numbers, since assemblers want to be told of Zicsr otherwise. */
    __asm__ volatile(".insn i 0x73, 1, x0, %0, 0x305" ::"r"((uintptr_t)fault));
#endif
    board_main();
}

/* Memory is zero at power-on and .data is loaded in place, so only the stack pointer needs a value. */
void Reset_Handler(void);
__attribute__((section(".init"), naked, used)) void Reset_Handler(void)
{
    __asm__ volatile("la sp, stack_top\n\tj %0" : : "i"(start));
}
