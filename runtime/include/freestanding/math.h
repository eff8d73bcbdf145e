/* SPDX-License-Identifier: Apache-2.0 */
/* For compilers that come without a C library: what generated code uses of <math.h>. Compilers' own run-time
   libraries hold expf, logf, sqrtf and the roundings but for rintf; the others are here. */
#ifndef BNNCC_FREESTANDING_MATH_H
#define BNNCC_FREESTANDING_MATH_H

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")

#define BNNCC_MATH static __attribute__((unused))

float expf(float x);
float logf(float x);
float sqrtf(float x);
float floorf(float x);
float ceilf(float x);
double exp(double x);
double log(double x);
double floor(double x);

BNNCC_MATH float fabsf(float x)
{
    return __builtin_fabsf(x);
}

#if defined(__ARM_FEATURE_DIRECTED_ROUNDING) && defined(__ARM_FP) && (__ARM_FP & 4)
BNNCC_MATH float rintf(float x)
{
    return __builtin_rintf(x);
}
#else
/* To the nearest integer, ties to the even one: adding 2^23 leaves no bit for a fraction. */
BNNCC_MATH float rintf(float x)
{
    const float magic = 8388608.0f;
    volatile float sum;
    if (!(fabsf(x) < magic))
        return x;
    sum = fabsf(x) + magic;
    return __builtin_copysignf(sum - magic, x);
}
#endif

BNNCC_MATH float tanhf(float x)
{
    /* Near 0 the quotient below cancels: x - x^3/3 + 2 x^5/15 is exact to a float there. */
    const double v = x;
    if (fabsf(x) < 0.01f)
        return (float)(v - v * v * v / 3 + 2 * v * v * v * v * v / 15);
    if (fabsf(x) > 10.0f)
        return __builtin_copysignf(1.0f, x);
    return (float)(1 - 2 / (exp(2 * v) + 1));
}

/* The series x * sum (-1)^n x^2n / (n! (2n+1)) up to 2.5, then the continued fraction of the complement
   (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.5 and 7.1.14). */
BNNCC_MATH float erff(float x)
{
    const double v = __builtin_fabs((double)x);
    double sum = v, term = v, tail = 0;
    int n;
    if (v > 4.0 || v != v)
        return v != v ? x : __builtin_copysignf(1.0f, x);
    if (v < 2.5) {
        for (n = 1; n < 40; ++n) {
            term *= -v * v / n;
            sum += term / (2 * n + 1);
        }
        return __builtin_copysignf((float)(sum * 1.1283791670955126), x);
    }
    for (n = 40; n > 0; --n)
        tail = n / 2.0 / (v + tail);
    return __builtin_copysignf((float)(1 - exp(-v * v) / (v + tail) * 0.5641895835477563), x);
}

BNNCC_MATH float powf(float base, float exponent)
{
    const double y = exponent, magnitude = __builtin_fabs((double)base);
    const int is_integer = floor(y) == y;
    const int is_odd = is_integer && floor(y / 2) != y / 2;
    double result;
    if (exponent == 0.0f || base == 1.0f)
        return 1.0f;
    if (base != base || exponent != exponent || (base < 0 && !is_integer))
        return NAN;
    if (magnitude == 0)
        result = y < 0 ? (double)INFINITY : 0;
    else if (magnitude == 1)
        result = 1;
    else
        result = exp(y * log(magnitude));
    return (float)(is_odd && __builtin_signbit(base) ? -result : result);
}

#endif /* BNNCC_FREESTANDING_MATH_H */
