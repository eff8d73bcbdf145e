/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up for RISC-V without an operating system. */
#include <stdint.h>

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

__attribute__((used)) static void start(void)
{
    board_main();
}

/* Memory is zero at power-on and .data is loaded in place, so only the stack pointer needs a value. */
void Reset_Handler(void);
__attribute__((section(".init"), naked, used)) void Reset_Handler(void)
{
    __asm__ volatile("la sp, stack_top\n\tj %0" : : "i"(start));
}
