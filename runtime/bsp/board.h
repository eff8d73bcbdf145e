/* SPDX-License-Identifier: Apache-2.0 */
/* What the runner needs of a board: bytes in, bytes out. Both return 0 where all went through. */
#ifndef BNNCC_BOARD_H
#define BNNCC_BOARD_H

#include <stdint.h>

int board_read(void *to, uint32_t bytes);
int board_write(const void *from, uint32_t bytes);

#endif /* BNNCC_BOARD_H */
