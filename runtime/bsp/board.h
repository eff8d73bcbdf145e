/* SPDX-License-Identifier: Apache-2.0 */
/* What programs need of a board. Reading and writing return 0 where all bytes went through. */
#ifndef BNNCC_BOARD_H
#define BNNCC_BOARD_H

#include <stdint.h>

int board_read(void *to, uint32_t bytes);
int board_write(const void *from, uint32_t bytes);

/* A clock; 0 on boards that have none. */
uint64_t board_nanoseconds(void);

/* Text for the person who looks on; boards without an operating system only. */
void board_print(const char *text);

#endif /* BNNCC_BOARD_H */
