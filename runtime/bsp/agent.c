/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's half of the protocol of agent.h. */
#include "agent.h"

#include "agent_counter.h"

static const struct agent_board *board;
static const struct agent_image *image;

static unsigned char request[AGENT_PAYLOAD], reply[AGENT_PAYLOAD];
/* Of the request that is being carried out, and of the last one that was. */
static uint32_t sequence, operation, done_sequence, done_operation;
static uint32_t reply_answer, reply_bytes;

static uint32_t crc32(uint32_t crc, const unsigned char *bytes, uint32_t count)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    crc = ~crc;
    for (uint32_t i = 0; i < count; i++) {
        crc = table[(crc ^ bytes[i]) & 15] ^ crc >> 4;
        crc = table[(crc ^ bytes[i] >> 4) & 15] ^ crc >> 4;
    }
    return ~crc;
}

static uint32_t word(uint32_t index)
{
    const unsigned char *at = request + 4 * index;
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_word(unsigned char *at, uint32_t value)
{
    for (uint32_t i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static void copy(unsigned char *to, const unsigned char *from, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = from[i];
}

static void send(uint32_t answer, const unsigned char *payload, uint32_t bytes)
{
    const unsigned char head[6] = {
        'b', 'n', (unsigned char)sequence, (unsigned char)answer, (unsigned char)bytes, (unsigned char)(bytes >> 8)};
    unsigned char tail[4];
    put_word(tail, crc32(crc32(0, head + 2, 4), payload, bytes));
    for (uint32_t i = 0; i < sizeof head; i++)
        agent_put(head[i]);
    for (uint32_t i = 0; i < bytes; i++)
        agent_put(payload[i]);
    for (uint32_t i = 0; i < sizeof tail; i++)
        agent_put(tail[i]);
}

/* Wait for a frame; the payload's bytes, or -1 if it is damaged. */
static int32_t receive(void)
{
    unsigned char head[4], tail[4];
    uint32_t bytes;
    unsigned char byte = agent_get();
    for (;;) {
        while (byte != 'b')
            byte = agent_get();
        byte = agent_get();
        if (byte == 'n')
            break;
    }
    for (uint32_t i = 0; i < sizeof head; i++)
        head[i] = agent_get();
    sequence = head[0];
    operation = head[1];
    bytes = head[2] | (uint32_t)head[3] << 8;
    if (bytes > AGENT_PAYLOAD)
        return -1;
    for (uint32_t i = 0; i < bytes; i++)
        request[i] = agent_get();
    for (uint32_t i = 0; i < sizeof tail; i++)
        tail[i] = agent_get();
    put_word(head, crc32(crc32(0, head, sizeof head), request, bytes));
    for (uint32_t i = 0; i < sizeof tail; i++)
        if (tail[i] != head[i])
            return -1;
    return (int32_t)bytes;
}

static void answer_words(const uint32_t *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        put_word(reply + 4 * i, words[i]);
    reply_answer = AGENT_DONE;
    reply_bytes = 4 * count;
}

static void refuse(const char *why)
{
    for (reply_bytes = 0; why[reply_bytes]; reply_bytes++)
        reply[reply_bytes] = (unsigned char)why[reply_bytes];
    reply_answer = AGENT_REFUSED;
}

static int lies_in(uint32_t at, uint32_t bytes, const unsigned char *start, uint32_t size)
{
    const uint32_t offset = at - (uint32_t)(uintptr_t)start;
    return offset <= size && bytes <= size - offset;
}

/* Memory that the other side may write and read: that for kernels, and the pool of an image. */
static int is_open(uint32_t at, uint32_t bytes)
{
    return lies_in(at, bytes, board->ram, board->ram_bytes)
        || (image && lies_in(at, bytes, image->pool, image->pool_bytes));
}

static void hello(void)
{
    const char *name = board->core;
    const uint32_t words[] = {AGENT_VERSION,    counter_kind(),                 board->clock,
                              (uint32_t)(uintptr_t)board->ram, board->ram_bytes, image ? image->number : 0};
    answer_words(words, sizeof words / sizeof *words);
    for (uint32_t i = 0; name[i]; i++)
        reply[reply_bytes++] = (unsigned char)name[i];
}

static void start(const struct agent_image *built_in)
{
    const uint32_t at = word(0), bytes = word(1);
    unsigned char *memory = (unsigned char *)(uintptr_t)at;
    image = built_in;
    if (bytes) {
        image = 0;
        if (at % 4 || !lies_in(at, bytes, board->ram, board->ram_bytes) || bytes < sizeof *image) {
            refuse("the image does not lie in the memory for kernels");
            return;
        }
        if (crc32(0, memory, bytes) == word(2)) {
            counter_new_code();
            image = (const struct agent_image *)(const void *)memory;
        }
    }
    if (!image || image->magic != AGENT_MAGIC) {
        image = 0;
        refuse("there is no such image");
        return;
    }
    {
        const uint32_t words[3] = {(uint32_t)(uintptr_t)image->pool, image->pool_bytes, image->number};
        answer_words(words, 3);
    }
}

static void call(uint32_t bytes)
{
    uint32_t places[AGENT_PAYLOAD / 4];
    uint64_t taken = 0;
    int failed;
    if (!image) {
        refuse("no image was started");
        return;
    }
    for (uint32_t i = 3; i < bytes / 4; i++)
        places[i - 3] = word(i);
    send(AGENT_ACCEPTED, 0, 0);
    counter_begin(word(2));
    failed = image->call(word(0), word(1), places, counter_read, &taken);
    counter_end();
    if (failed) {
        refuse("the image has no such kernel, or its pool no such places");
        return;
    }
    {
        const uint32_t words[2] = {(uint32_t)taken, (uint32_t)(taken >> 32)};
        answer_words(words, 2);
    }
}

static void carry_out(uint32_t bytes, const struct agent_image *built_in)
{
    const uint32_t words = bytes / 4;
    if (operation == AGENT_HELLO) {
        hello();
    } else if (operation == AGENT_WRITE && words >= 1 && is_open(word(0), bytes - 4)) {
        copy((unsigned char *)(uintptr_t)word(0), request + 4, bytes - 4);
        answer_words(0, 0);
    } else if (operation == AGENT_READ && words == 2 && word(1) <= AGENT_PAYLOAD && is_open(word(0), word(1))) {
        copy(reply, (const unsigned char *)(uintptr_t)word(0), word(1));
        reply_answer = AGENT_DONE;
        reply_bytes = word(1);
    } else if (operation == AGENT_START && words == 3) {
        start(built_in);
    } else if (operation == AGENT_CALL && words >= 3) {
        call(bytes);
    } else if (operation == AGENT_RESET) {
        answer_words(0, 0);
    } else {
        refuse("there is no such request, or no such memory");
    }
}

void agent_main(const struct agent_board *given, const struct agent_image *built_in)
{
    board = given;
    image = 0;
    sequence = 0;
    done_operation = 0;
    counter_find();
    send(AGENT_BOOTED, 0, 0);
    for (;;) {
        const int32_t bytes = receive();
        if (bytes < 0) {
            send(AGENT_NOISE, 0, 0);
            continue;
        }
        /* Whoever says hello may be new here, with numbers that begin again. */
        if (operation == AGENT_HELLO || sequence != done_sequence || operation != done_operation) {
            carry_out((uint32_t)bytes, built_in);
            done_sequence = sequence;
            done_operation = operation;
        }
        send(reply_answer, reply, reply_bytes);
        if (operation == AGENT_RESET)
            agent_reset();
    }
}

void agent_crashed(void)
{
    send(AGENT_CRASHED, 0, 0);
    agent_reset();
}

void agent_tick(void)
{
    if (counter_tick()) {
        send(AGENT_TOO_LONG, 0, 0);
        agent_reset();
    }
}
