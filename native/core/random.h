// Bulk draws over Philox: uniforms, normals, masks, permutations. Every value is a function of (seed,
// purpose, epoch, index, element) alone, and of IEEE + - * / and sqrt alone: the same bits on every machine,
// for any number of threads. Ranges let a caller split one array over threads.
#pragma once
#include <cstdint>

#include "core/philox.h"

namespace rp {

// Natural logarithm of a positive normal double, within 2 ulp, from basic operations (libm's differs by
// version).
double portable_log(double x);

// Standard normal quantile of p in (0, 1): Wichura 1988, AS 241 (PPND16), relative error about 1e-16.
double normal_quantile(double p);

// out[i] = mean + deviation * z, for elements begin + i, i < count. Two normals a block.
void fill_normal(const Draws&, double mean, double deviation, int64_t begin, int64_t count, float* out);

// out[i] uniform in [low, high) (rounding to float may give high itself). Two uniforms a block.
void fill_uniform(const Draws&, double low, double high, int64_t begin, int64_t count, float* out);

// Elements whose draws a mask byte shares: ranges of the masks below start at multiples of it.
constexpr int64_t kMaskAlignment = 8;

// Bit i & 7 of bits[i >> 3] = U_i < density, U_i in [0, 1) a multiple of 2^-53, for begin <= i < end. Returns
// the number of ones. begin is a multiple of kMaskAlignment; end too, unless it is the last element, whose
// byte's other bits become 0. Density 1 keeps everything.
int64_t fill_bernoulli_mask(const Draws&, double density, int64_t begin, int64_t end, uint8_t* bits);

// Exactly `keep` of numel elements, every choice equally likely: selection sampling (Knuth, TAOCP 2, 3.4.2
// S). numel < 2^32; the unused bits of the last byte become 0.
void fill_exact_mask(Draws, int64_t keep, int64_t numel, uint8_t* bits);

// A permutation of 0 .. n - 1 (Fisher-Yates); n < 2^32.
void fill_permutation(Draws, uint32_t n, uint32_t* out);

}  // namespace rp
