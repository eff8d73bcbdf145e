/* SPDX-License-Identifier: Apache-2.0 */
/* Leaky neurons whose membranes are integers: leak, threshold, reset and the packing of spikes.

       s = saturate(x + v)
       u = s + ((v * factor + half) >> W)     half = 2^(W - 1); KEEP: without this term
       fires where u > level (GT) or u >= level (GE)
       v = u - level (SUBTRACT), or reset (SET), where it fires, else u

   W is 16 or 32, the bits of a membrane and of a current; saturate gives -2^15 to 2^15 - 1, or -2^30 to 2^30 - 1.
   Bit i % 32 of words[i / 32] is the spike of neuron i. level: one for all neurons (ALL), or one for each (EACH).
   factor: the number for all (LEAK), or a pointer to one for each (LEAKS).

   With Arm's DSP extension two neurons of 16 bits are updated at a time: SMLABB and SMLATB, whose upper halves PKHTB
   joins, QADD16, SADD16; SSUB16 compares and SEL chooses. 32 bits: SSAT, SMMLAR, and predicated instructions. */
#ifndef BNNCC_FIXED_LIF_H
#define BNNCC_FIXED_LIF_H

#include <stdint.h>

#define BNNCC_LIF_LEVEL_ALL(i) level[0]
#define BNNCC_LIF_LEVEL_EACH(i) level[i]
#define BNNCC_LIF_FIRES_GT(u, l) ((u) > (l))
#define BNNCC_LIF_FIRES_GE(u, l) ((u) >= (l))
#define BNNCC_LIF_SUBTRACT(u, l) ((u) - (l))
#define BNNCC_LIF_SET(u, l) reset
#define BNNCC_LIF_LEAK16(v) (((v) * factor + 32768) >> 16)
#define BNNCC_LIF_LEAK32(v) ((int32_t)(((int64_t)(v) * factor + INT64_C(0x80000000)) >> 32))
#define BNNCC_LIF_LEAKS16(v) (((v) * factor[at] + 32768) >> 16)
#define BNNCC_LIF_LEAKS32(v) ((int32_t)(((int64_t)(v) * factor[at] + INT64_C(0x80000000)) >> 32))
#define BNNCC_LIF_KEEP16(v) 0
#define BNNCC_LIF_KEEP32(v) 0
#define BNNCC_LIF_FACTOR_LEAK(T) int32_t
#define BNNCC_LIF_FACTOR_LEAKS(T) const T *
#define BNNCC_LIF_FACTOR_KEEP(T) int32_t

static inline int32_t bnncc_lif_saturate(int32_t y, int32_t limit)
{
    return y < -limit ? -limit : y > limit - 1 ? limit - 1 : y;
}

/* Neuron `at`, written plainly. */
#define BNNCC_LIF_PLAIN(limit, leak, FIRES, RESET, LEVEL)                               \
    {                                                                                   \
        const int32_t l = BNNCC_LIF_LEVEL_##LEVEL(at);                                  \
        const int32_t u = bnncc_lif_saturate(x[at] + membrane[at], limit) + (leak);     \
        const uint32_t fires = BNNCC_LIF_FIRES_##FIRES(u, l);                           \
        word = (at % 32 == 0 ? 0u : word) | fires << (at % 32);                         \
        value = fires ? BNNCC_LIF_##RESET(u, l) : u;                                    \
        words[at / 32] = word;                                                          \
    }

#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__) && !defined(__ARM_BIG_ENDIAN)
/* Half of a word of spikes, which is read as a whole right after. */
typedef uint16_t __attribute__((may_alias)) bnncc_lif_half;

/* Two neurons, y their currents and then their membranes, v the old membranes; v and t are lost. */
#define BNNCC_LIF_ASM16_LEAKING(y, v, odd)        \
    "qadd16 " y ", " y ", " v "\n\t"              \
    odd " %[t], " v ", %[factor], %[half]\n\t"    \
    "smlabb " v ", " v ", %[factor], %[half]\n\t" \
    "pkhtb %[t], %[t], " v ", asr #16\n\t"        \
    "sadd16 " y ", " y ", %[t]\n\t"
#define BNNCC_LIF_ASM16_LEAK(y, v) BNNCC_LIF_ASM16_LEAKING(y, v, "smlatb")
#define BNNCC_LIF_ASM16_LEAKS(y, v) \
    "ldr %[factor], [%[factors]], #4\n\t" BNNCC_LIF_ASM16_LEAKING(y, v, "smlatt")
#define BNNCC_LIF_ASM16_KEEP(y, v) "qadd16 " y ", " y ", " v "\n\t"

/* They fire where u = y is above their levels l: their spikes, bits 2 k and 2 k + 16 of a word, are the `pair`, and
   what is left is in y. lost: a register that is free to change, l itself where it is read again. */
#define BNNCC_LIF_ASM16_SUBTRACT_GT(y, v, l, lost, pair) \
    "ssub16 %[t], " y ", " l "\n\t"                     \
    "orr " v ", %[word], #" pair "\n\t"                 \
    "ssub16 " lost ", " l ", " y "\n\t"                 \
    "sel " y ", " y ", %[t]\n\t"                        \
    "sel %[word], %[word], " v "\n\t"
#define BNNCC_LIF_ASM16_SUBTRACT_GE(y, v, l, lost, pair) \
    "orr " v ", %[word], #" pair "\n\t"                 \
    "ssub16 " lost ", " y ", " l "\n\t"                 \
    "sel " y ", " lost ", " y "\n\t"                    \
    "sel %[word], " v ", %[word]\n\t"
#define BNNCC_LIF_ASM16_SET_GT(y, v, l, lost, pair) \
    "orr " v ", %[word], #" pair "\n\t"            \
    "ssub16 " lost ", " l ", " y "\n\t"            \
    "sel " y ", " y ", %[set]\n\t"                 \
    "sel %[word], %[word], " v "\n\t"
#define BNNCC_LIF_ASM16_SET_GE(y, v, l, lost, pair) \
    "orr " v ", %[word], #" pair "\n\t"            \
    "ssub16 " lost ", " y ", " l "\n\t"            \
    "sel " y ", %[set], " y "\n\t"                 \
    "sel %[word], " v ", %[word]\n\t"

/* Four neurons. */
#define BNNCC_LIF_FOUR(LEAK, FIRES, RESET, LEVEL, one, other)                                               \
    "ldrd %[y], %[z], [%[x]], #8\n\t" BNNCC_LIF_ASM16_LEVEL_##LEVEL##_##RESET                               \
    "ldrd %[v], %[w], [%[m]]\n\t" BNNCC_LIF_ASM16_##LEAK("%[y]", "%[v]")                                    \
    BNNCC_LIF_ASM16_##RESET##_##FIRES("%[y]", "%[v]", "%[l]", BNNCC_LIF_LOST_##LEVEL("%[l]"), one)          \
    BNNCC_LIF_ASM16_##LEAK("%[z]", "%[w]") BNNCC_LIF_ASM16_NEXT_##LEVEL##_##RESET                           \
    BNNCC_LIF_ASM16_##RESET##_##FIRES("%[z]", "%[w]", BNNCC_LIF_SECOND_##LEVEL##_##RESET,                   \
                                      BNNCC_LIF_LOST_##LEVEL(BNNCC_LIF_SECOND_##LEVEL##_##RESET), other)    \
    "strd %[y], %[z], [%[m]], #8\n\t"

/* Where there is a number to set, too few registers are left for two pairs of levels. */
#define BNNCC_LIF_ASM16_LEVEL_ALL_SUBTRACT ""
#define BNNCC_LIF_ASM16_LEVEL_ALL_SET ""
#define BNNCC_LIF_ASM16_LEVEL_EACH_SUBTRACT "ldrd %[l], %[k], [%[levels]], #8\n\t"
#define BNNCC_LIF_ASM16_LEVEL_EACH_SET "ldr %[l], [%[levels]], #4\n\t"
#define BNNCC_LIF_ASM16_NEXT_ALL_SUBTRACT ""
#define BNNCC_LIF_ASM16_NEXT_ALL_SET ""
#define BNNCC_LIF_ASM16_NEXT_EACH_SUBTRACT ""
#define BNNCC_LIF_ASM16_NEXT_EACH_SET "ldr %[l], [%[levels]], #4\n\t"
#define BNNCC_LIF_SECOND_ALL_SUBTRACT "%[l]"
#define BNNCC_LIF_SECOND_ALL_SET "%[l]"
#define BNNCC_LIF_SECOND_EACH_SUBTRACT "%[k]"
#define BNNCC_LIF_SECOND_EACH_SET "%[l]"
#define BNNCC_LIF_LOST_ALL(l) "%[k]"
#define BNNCC_LIF_LOST_EACH(l) l
#define BNNCC_LIF_PLACE_ALL 0u
#define BNNCC_LIF_PLACE_EACH (uintptr_t)level
#define BNNCC_LIF_PLACE_LEAK 0u
#define BNNCC_LIF_PLACE_LEAKS (uintptr_t)factor
#define BNNCC_LIF_PLACE_KEEP 0u
#define BNNCC_LIF_MORE_ALL_SUBTRACT , [k] "=&r"(k)
#define BNNCC_LIF_MORE_ALL_SET , [k] "=&r"(k)
#define BNNCC_LIF_MORE_EACH_SUBTRACT , [levels] "+&r"(levels), [l] "=&r"(l), [k] "=&r"(k)
#define BNNCC_LIF_MORE_EACH_SET , [levels] "+&r"(levels), [l] "=&r"(l)
#define BNNCC_LIF_MORE_LEAK
#define BNNCC_LIF_MORE_LEAKS , [factors] "+&r"(factors), [factor] "=&r"(own)
#define BNNCC_LIF_MORE_KEEP
#define BNNCC_LIF_LAST_ALL [l] "r"(l)
#define BNNCC_LIF_LAST_EACH [none] "i"(0)
#define BNNCC_LIF_SET_SUBTRACT
#define BNNCC_LIF_SET_SET , [set] "r"(set)
#define BNNCC_LIF_GIVEN_LEAK , [factor] "r"(factor), [half] "r"(32768)
#define BNNCC_LIF_GIVEN_LEAKS , [half] "r"(32768)
#define BNNCC_LIF_GIVEN_KEEP
#define BNNCC_LIF_FACTORS_LEAK(T)
#define BNNCC_LIF_FACTORS_LEAKS(T) \
    const T *factors = factor;     \
    int32_t own, next;             \
    (void)own;                     \
    (void)next;
#define BNNCC_LIF_FACTORS_KEEP(T)

/* Sixteen neurons; `half` words of spikes are stored one by one. */
#define BNNCC_LIF_DSP16(LEAK, FIRES, RESET, LEVEL)                                                          \
    if ((((uintptr_t)x | (uintptr_t)membrane | BNNCC_LIF_PLACE_##LEVEL | BNNCC_LIF_PLACE_##LEAK) & 3u) == 0) { \
        const int16_t *from = x, *levels = level;                                                           \
        int16_t *to = membrane;                                                                             \
        bnncc_lif_half *spikes = (bnncc_lif_half *)(void *)words;                                           \
        const uint32_t set = ((uint32_t)reset & 0xffffu) | (uint32_t)reset << 16;                           \
        uint32_t l = ((uint32_t)level[0] & 0xffffu) | (uint32_t)level[0] << 16;                             \
        BNNCC_LIF_FACTORS_##LEAK(int16_t)                                                                   \
        (void)set;                                                                                          \
        (void)levels;                                                                                       \
        (void)l;                                                                                            \
        for (; at + 16 <= count; at += 16) {                                                                \
            uint32_t bits = 0, y, z, v, w, t, k;                                                            \
            (void)k;                                                                                        \
            __asm__ volatile(BNNCC_LIF_FOUR(LEAK, FIRES, RESET, LEVEL, "0x00010001", "0x00040004")          \
                             BNNCC_LIF_FOUR(LEAK, FIRES, RESET, LEVEL, "0x00100010", "0x00400040")          \
                             BNNCC_LIF_FOUR(LEAK, FIRES, RESET, LEVEL, "0x01000100", "0x04000400")          \
                             BNNCC_LIF_FOUR(LEAK, FIRES, RESET, LEVEL, "0x10001000", "0x40004000")          \
                             : [x] "+&r"(from), [m] "+&r"(to), [word] "+&r"(bits), [y] "=&r"(y),            \
                               [z] "=&r"(z), [v] "=&r"(v), [w] "=&r"(w), [t] "=&r"(t)                       \
                                   BNNCC_LIF_MORE_##LEVEL##_##RESET BNNCC_LIF_MORE_##LEAK                   \
                             : BNNCC_LIF_LAST_##LEVEL BNNCC_LIF_GIVEN_##LEAK BNNCC_LIF_SET_##RESET          \
                             : "cc", "memory");                                                             \
            *spikes++ = (bnncc_lif_half)(bits | bits >> 15);                                                \
        }                                                                                                   \
        word = at % 32 ? words[at / 32] & 0xffffu : 0;                                                      \
    }

#define BNNCC_LIF_ASM32_LEAK(u, v, factor) "smmlar " u ", " v ", %[factor], " u "\n\t"
#define BNNCC_LIF_ASM32_LEAKS(u, v, factor) "smmlar " u ", " v ", " factor ", " u "\n\t"
#define BNNCC_LIF_ASM32_KEEP(u, v, factor) ""
#define BNNCC_LIF_ASM32_FACTOR_LEAK ""
#define BNNCC_LIF_ASM32_FACTOR_LEAKS "ldrd %[factor], %[next], [%[factors]], #8\n\t"
#define BNNCC_LIF_ASM32_FACTOR_KEEP ""
#define BNNCC_LIF_ASM32_SUBTRACT_GT(u, l, bit) \
    "itt gt\n\tsubgt " u ", " u ", " l "\n\torrgt %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_SUBTRACT_GE(u, l, bit) \
    "itt ge\n\tsubge " u ", " u ", " l "\n\torrge %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_SET_GT(u, l, bit) "itt gt\n\tmovgt " u ", %[set]\n\torrgt %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_SET_GE(u, l, bit) "itt ge\n\tmovge " u ", %[set]\n\torrge %[word], %[word], #" bit "\n\t"
#define BNNCC_LIF_ASM32_LEVEL_ALL ""
#define BNNCC_LIF_ASM32_LEVEL_EACH "ldrd %[l], %[k], [%[levels]], #8\n\t"
#define BNNCC_LIF_SECOND32_ALL "%[l]"
#define BNNCC_LIF_SECOND32_EACH "%[k]"
#define BNNCC_LIF_ONE32(LEAK, FIRES, RESET, u, v, l, factor, bit)                         \
    "add " u ", " u ", " v "\n\t"                                                         \
    "ssat " u ", #31, " u "\n\t" BNNCC_LIF_ASM32_##LEAK(u, v, factor) "cmp " u ", " l "\n\t" \
    BNNCC_LIF_ASM32_##RESET##_##FIRES(u, l, bit)
#define BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, one, other)                                              \
    "ldrd %[y], %[z], [%[x]], #8\n\t" BNNCC_LIF_ASM32_LEVEL_##LEVEL BNNCC_LIF_ASM32_FACTOR_##LEAK           \
    "ldrd %[v], %[w], [%[m]]\n\t"                                                                           \
    BNNCC_LIF_ONE32(LEAK, FIRES, RESET, "%[y]", "%[v]", "%[l]", "%[factor]", one)                           \
    BNNCC_LIF_ONE32(LEAK, FIRES, RESET, "%[z]", "%[w]", BNNCC_LIF_SECOND32_##LEVEL, "%[next]", other)       \
    "strd %[y], %[z], [%[m]], #8\n\t"
#define BNNCC_LIF_MORE32_ALL
#define BNNCC_LIF_MORE32_EACH , [levels] "+&r"(levels), [l] "=&r"(l), [k] "=&r"(k)
#define BNNCC_LIF_SET32_SUBTRACT
#define BNNCC_LIF_SET32_SET , [set] "r"(reset)
#define BNNCC_LIF_GIVEN32_LEAK , [factor] "r"(factor)
#define BNNCC_LIF_GIVEN32_LEAKS
#define BNNCC_LIF_GIVEN32_KEEP
#define BNNCC_LIF_MORE32_LEAK
#define BNNCC_LIF_MORE32_LEAKS , [factors] "+&r"(factors), [factor] "=&r"(own), [next] "=&r"(next)
#define BNNCC_LIF_MORE32_KEEP

/* Eight neurons. */
#define BNNCC_LIF_DSP32(LEAK, FIRES, RESET, LEVEL)                                                          \
    {                                                                                                       \
        const int32_t *from = x, *levels = level;                                                           \
        int32_t *to = membrane;                                                                             \
        uint8_t *spikes = (uint8_t *)words;                                                                 \
        int32_t l = level[0], k;                                                                            \
        BNNCC_LIF_FACTORS_##LEAK(int32_t)                                                                   \
        (void)levels;                                                                                       \
        (void)k;                                                                                            \
        for (; at + 8 <= count; at += 8) {                                                                  \
            uint32_t bits = 0;                                                                              \
            int32_t y, z, v, w;                                                                             \
            __asm__ volatile(BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "1", "2")                           \
                             BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "4", "8")                           \
                             BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "16", "32")                         \
                             BNNCC_LIF_TWO32(LEAK, FIRES, RESET, LEVEL, "64", "128")                        \
                             : [x] "+&r"(from), [m] "+&r"(to), [word] "+&r"(bits), [y] "=&r"(y),            \
                               [z] "=&r"(z), [v] "=&r"(v), [w] "=&r"(w) BNNCC_LIF_MORE32_##LEVEL            \
                                   BNNCC_LIF_MORE32_##LEAK                                                  \
                             : BNNCC_LIF_LAST_##LEVEL BNNCC_LIF_GIVEN32_##LEAK BNNCC_LIF_SET32_##RESET      \
                             : "cc", "memory");                                                             \
            *spikes++ = (uint8_t)bits;                                                                      \
        }                                                                                                   \
        word = at % 32 ? words[at / 32] & ((1u << at % 32) - 1u) : 0;                                       \
    }
#else
#define BNNCC_LIF_DSP16(LEAK, FIRES, RESET, LEVEL)
#define BNNCC_LIF_DSP32(LEAK, FIRES, RESET, LEVEL)
#endif

/* Functions of the kinds that are asked for: W 16 or 32, T int16_t or int32_t. */
#define BNNCC_FIXED_LIF(NAME, W, T, LIMIT, LEAK, FIRES, RESET, LEVEL)                                       \
    static void NAME(const T *x, T *membrane, const T *level, BNNCC_LIF_FACTOR_##LEAK(T) factor,            \
                     int32_t reset, int32_t count, uint32_t *words)                                         \
    {                                                                                                       \
        uint32_t word = 0;                                                                                  \
        int32_t at = 0, value;                                                                              \
        (void)factor;                                                                                       \
        (void)reset;                                                                                        \
        BNNCC_LIF_DSP##W(LEAK, FIRES, RESET, LEVEL)                                                         \
        for (; at < count; ++at) {                                                                          \
            BNNCC_LIF_PLAIN(LIMIT, BNNCC_LIF_##LEAK##W(membrane[at]), FIRES, RESET, LEVEL)                  \
            membrane[at] = (T)value;                                                                        \
        }                                                                                                   \
    }

#endif /* BNNCC_FIXED_LIF_H */
