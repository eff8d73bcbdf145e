/*
 * Made by bnncc VERSION from tiny network.onnx; do not edit.
 * Target: x86-64-v3 (x86-64-v3)
 * Options: input-layout=nhwc
 */

#include "tiny.h"

#include <stddef.h>
#include <stdint.h>

#ifndef BNNCC_PROFILE_H
#define BNNCC_PROFILE_H

/* Layers take the same bytes of the arena one after the other, for numbers of different types. A compiler that tells
   memory apart by the types of what is read and written there (as C lets it) must not move that past a layer's end. */
#if defined(__GNUC__)
#define BNNCC_LAYER_ENDS() __asm__ volatile("" ::: "memory")
#else
#define BNNCC_LAYER_ENDS() ((void)0)
#endif

/* One layer; with BNNCC_PROFILE defined, hook(layer, 0) before it and hook(layer, 1) after it. */
#ifdef BNNCC_PROFILE
#define BNNCC_STEP(hook, layer, call) \
    do {                              \
        hook((layer), 0);             \
        call;                         \
        BNNCC_LAYER_ENDS();           \
        hook((layer), 1);             \
    } while (0)
#else
#define BNNCC_STEP(hook, layer, call) \
    do {                              \
        call;                         \
        BNNCC_LAYER_ENDS();           \
    } while (0)
#endif

#endif /* BNNCC_PROFILE_H */

#ifndef BNNCC_MASK_H
#define BNNCC_MASK_H

#include <stddef.h>
#include <stdint.h>

/* A plane of bits [images, rows, columns, channels], packed along the channels in 32-bit words: channel c is bit
   c % 32 of word c / 32. Strides and offset count words; around each image may lie a halo. */
struct bnncc_plane {
    size_t offset, images, rows, columns, channels;
    size_t image_stride, row_stride, column_stride;
};

/* Whether any bit is 0 in rows first to end - 1, counted through all images. The halo and the bits of a last word
   beyond the channels do not count. */
static int bnncc_any_zero(const uint32_t *words, const struct bnncc_plane *plane, size_t first, size_t end)
{
    const size_t whole = plane->channels / 32;
    const uint32_t beyond = plane->channels % 32 ? ~(uint32_t)0 << plane->channels % 32 : 0;
    const int is_dense = !beyond && plane->column_stride == whole;
    size_t row, x, k;
    for (row = first; row < end; ++row) {
        const uint32_t *pixel = words + plane->offset + row / plane->rows * plane->image_stride
                                + row % plane->rows * plane->row_stride;
        uint32_t all = ~(uint32_t)0;
        for (k = 0; is_dense && k < plane->columns * whole; ++k)
            all &= pixel[k];
        for (x = 0; !is_dense && x < plane->columns; ++x, pixel += plane->column_stride) {
            for (k = 0; k < whole; ++k)
                all &= pixel[k];
            if (beyond)
                all &= pixel[whole] | beyond;
        }
        if (~all)
            return 1;
    }
    return 0;
}

#endif /* BNNCC_MASK_H */

#if defined(__GNUC__) && !defined(__MINGW32__)
#pragma GCC visibility push(hidden)
#endif
extern const float tiny_weights_0[3]; /* bias */
extern const uint32_t tiny_weights_1[6]; /* net.onnx:/fc/ *MatMul* /: dense (bipolar x bipolar): as the test says */

void tiny_sign(const float *x, uint32_t *bits, uint32_t *mask);
void tiny_dense(const uint32_t *bits, const float *bias, const uint32_t *weight, float *out);
void tiny_dense_masked(
    const uint32_t *bits,
    const uint32_t *mask,
    const float *bias,
    const uint32_t *weight,
    float *out);
#if defined(__GNUC__) && !defined(__MINGW32__)
#pragma GCC visibility pop
#endif

/* The memory of one run. */
struct tiny_memory {
    unsigned char *arena;
    const float *input_1;
    float *logits;
};

/* 0: net.onnx:/sign/Sign: binarize */
static void tiny_step_0(const struct tiny_memory *memory)
{
    tiny_sign(memory->input_1, (void *)(memory->arena + 0), (void *)(memory->arena + 64));
}

/* sign(0) is 0: where that happened, its taps must not count. */
static const struct bnncc_plane tiny_mask_1 = {0, 2, 1, 1, 40, 2, 2, 2};

/* 1: net.onnx:/fc/ *MatMul* /: dense (bipolar x bipolar) */
static void tiny_step_1(const struct tiny_memory *memory)
{
    if (bnncc_any_zero((const uint32_t *)(const void *)(memory->arena + 64), &tiny_mask_1, 0, 2))
        tiny_dense_masked(
            (void *)(memory->arena + 0),
            (void *)(memory->arena + 64),
            tiny_weights_0,
            tiny_weights_1,
            memory->logits);
    else
        tiny_dense((void *)(memory->arena + 0), tiny_weights_0, tiny_weights_1, memory->logits);
}

static int tiny_check(const struct tiny_memory *memory)
{
    if (!memory->arena || !memory->input_1 || !memory->logits)
        return TINY_ERROR_NULL;
    if ((uintptr_t)memory->arena % 64 != 0)
        return TINY_ERROR_ALIGNMENT;
    return TINY_OK;
}

int tiny_run(void *arena, const float *input_1, float *logits)
{
    const struct tiny_memory memory_ = {(unsigned char *)arena, input_1, logits};
    const int status_ = tiny_check(&memory_);
    if (status_ == TINY_OK) {
        BNNCC_STEP(tiny_on_layer, 0, tiny_step_0(&memory_));
        BNNCC_STEP(tiny_on_layer, 1, tiny_step_1(&memory_));
    }
    return status_;
}

#ifdef BNNCC_LAYERS
/* One layer by itself, on what the arena holds: for tools that verify or time layers. */
int tiny_layer(int index_, void *arena, const float *input_1, float *logits);

int tiny_layer(int index_, void *arena, const float *input_1, float *logits)
{
    const struct tiny_memory memory_ = {(unsigned char *)arena, input_1, logits};
    const int status_ = tiny_check(&memory_);
    if (status_ != TINY_OK)
        return status_;
    if (index_ < 0 || index_ >= 2)
        return TINY_ERROR_INDEX;
    switch (index_) {
    case 0: tiny_step_0(&memory_); break;
    case 1: tiny_step_1(&memory_); break;
    }
    return TINY_OK;
}

/* All layers in order. done_ is called after each, with the trip of the loop around it, for tools that want
 * to look at what a layer left in memory. */
int tiny_watch(void (*done_)(int, size_t), void *arena, const float *input_1, float *logits);

int tiny_watch(void (*done_)(int, size_t), void *arena, const float *input_1, float *logits)
{
    const struct tiny_memory memory_ = {(unsigned char *)arena, input_1, logits};
    const int status_ = tiny_check(&memory_);
    if (status_ == TINY_OK) {
        tiny_step_0(&memory_), done_(0, 0);
        tiny_step_1(&memory_), done_(1, 0);
    }
    return status_;
}
#endif
