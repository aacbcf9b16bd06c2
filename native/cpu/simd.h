// Vec: the vector of the instruction set that this translation unit is compiled for (RP_ISA_AVX512,
// RP_ISA_AVX2, or neither; RP_EMULATED_AVX512: the same kernels and results as AVX-512, without its
// instructions, for tests on processors that lack them). The only file with intrinsics. Everything is in
// namespace rp::RP_ISA, so that the three compilations of a kernel source never share a symbol:
//
//   #include "cpu/simd.h"
//   namespace rp { namespace RP_ISA { ... const Table& my_kernels() { static const Table table = {...}; ... }
//   } }
//
// Vec is a GCC vector type: + - * / work on it lane by lane. kLanes divides the 16 images of a block; loads
// and stores are aligned to the vector.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(RP_ISA_AVX512) || defined(RP_ISA_AVX2) || defined(RP_EMULATED_AVX512)
#include <immintrin.h>
#endif

#if defined(RP_ISA_AVX512) || defined(RP_EMULATED_AVX512)
#define RP_ISA avx512
#elif defined(RP_ISA_AVX2)
#define RP_ISA avx2
#else
#define RP_ISA portable
#endif

#define RP_INLINE static inline __attribute__((always_inline))
// Keeps the compiler from expanding a pointer into many precomputed ones, which it would spill.
#define RP_OPAQUE(pointer) asm volatile("" : "+r"(pointer))

namespace rp {
namespace RP_ISA {

#if defined(RP_ISA_AVX512)

using Vec = __m512;
using Mask = __mmask16;  // one bit a lane
// max, min, sqrt: the zero-masked forms compile to the plain instruction, without GCC 12's false
// -Wuninitialized.
constexpr int kLanes = 16;
constexpr int kRegisters = 32;

RP_INLINE Vec zero() { return _mm512_setzero_ps(); }
RP_INLINE Vec broadcast(float s) { return _mm512_set1_ps(s); }
RP_INLINE Vec load(const float* p) { return _mm512_load_ps(p); }
RP_INLINE void store(float* p, Vec v) { _mm512_store_ps(p, v); }
// Non-temporal: for data not read again soon. Follow the last one with stream_fence().
RP_INLINE void stream(float* p, Vec v) { _mm512_stream_ps(p, v); }
RP_INLINE void stream_fence() { _mm_sfence(); }
// a * b + c, one rounding where the instruction set has it.
RP_INLINE Vec fmadd(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
RP_INLINE Vec max(Vec a, Vec b) { return _mm512_maskz_max_ps(0xffff, a, b); }
RP_INLINE Vec min(Vec a, Vec b) { return _mm512_maskz_min_ps(0xffff, a, b); }
RP_INLINE Vec sqrt(Vec a) { return _mm512_maskz_sqrt_ps(0xffff, a); }
RP_INLINE Mask greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
RP_INLINE Vec select(Mask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m, no, yes); }
RP_INLINE uint32_t mask_bits(Mask m) { return m; }
RP_INLINE Mask mask_of(uint32_t bits) { return static_cast<Mask>(bits); }
RP_INLINE void keep(Vec& v) { asm volatile("" : "+v"(v)); }
// c += a * b, all three in registers and c where it is: the compiler would fold a load that others share, or
// move sums about and spill them.
RP_INLINE void fmadd_to(Vec& c, Vec a, Vec b) { asm("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b)); }

#elif defined(RP_ISA_AVX2)

using Vec = __m256;
using Mask = __m256;  // all ones or all zeros a lane
constexpr int kLanes = 8;
constexpr int kRegisters = 16;

RP_INLINE Vec zero() { return _mm256_setzero_ps(); }
RP_INLINE Vec broadcast(float s) { return _mm256_set1_ps(s); }
RP_INLINE Vec load(const float* p) { return _mm256_load_ps(p); }
RP_INLINE void store(float* p, Vec v) { _mm256_store_ps(p, v); }
RP_INLINE void stream(float* p, Vec v) { _mm256_stream_ps(p, v); }
RP_INLINE void stream_fence() { _mm_sfence(); }
RP_INLINE Vec fmadd(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
RP_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
RP_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
RP_INLINE Vec sqrt(Vec a) { return _mm256_sqrt_ps(a); }
RP_INLINE Mask greater(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
RP_INLINE Vec select(Mask m, Vec yes, Vec no) { return _mm256_blendv_ps(no, yes, m); }
RP_INLINE uint32_t mask_bits(Mask m) { return static_cast<uint32_t>(_mm256_movemask_ps(m)); }
RP_INLINE Mask mask_of(uint32_t bits) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(
      _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane), lane));
}
RP_INLINE void keep(Vec& v) { asm volatile("" : "+x"(v)); }
RP_INLINE void fmadd_to(Vec& c, Vec a, Vec b) { asm("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b)); }

#else

#if defined(RP_EMULATED_AVX512)
constexpr int kLanes = 16;
constexpr int kRegisters = 32;
#else
constexpr int kLanes = 4;
constexpr int kRegisters = 16;
#endif
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t Mask __attribute__((vector_size(4 * kLanes)));

RP_INLINE Vec zero() { return Vec{}; }
RP_INLINE Vec broadcast(float s) { return s - Vec{}; }  // one shuffle; lane by lane would be many
RP_INLINE Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
RP_INLINE void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
RP_INLINE void stream(float* p, Vec v) { store(p, v); }
RP_INLINE void stream_fence() {}
RP_INLINE Vec fmadd(Vec a, Vec b, Vec c) {
#if defined(RP_EMULATED_AVX512)
  __m256 halves[3][2];  // lane by lane, the unrolled kernels would take minutes to compile
  __builtin_memcpy(halves[0], &a, sizeof a);
  __builtin_memcpy(halves[1], &b, sizeof b);
  __builtin_memcpy(halves[2], &c, sizeof c);
  for (int h = 0; h < 2; h++) halves[2][h] = _mm256_fmadd_ps(halves[0][h], halves[1][h], halves[2][h]);
  __builtin_memcpy(&c, halves[2], sizeof c);
  return c;
#else
  return a * b + c;
#endif
}
RP_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
RP_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
RP_INLINE Vec sqrt(Vec a) {
  for (int i = 0; i < kLanes; i++) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
RP_INLINE Mask greater(Vec a, Vec b) { return a > b; }
RP_INLINE Vec select(Mask m, Vec yes, Vec no) { return m ? yes : no; }
RP_INLINE uint32_t mask_bits(Mask m) {
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; i++) bits |= m[i] & (1u << i);
  return bits;
}
RP_INLINE Mask mask_of(uint32_t bits) {
  Mask lane = {};
  for (int i = 0; i < kLanes; i++) lane[i] = 1 << i;
  return ((static_cast<int32_t>(bits) - Mask{}) & lane) == lane;
}
RP_INLINE void keep(Vec&) {}
RP_INLINE void fmadd_to(Vec& c, Vec a, Vec b) { c = fmadd(a, b, c); }

#endif

#if defined(RP_ISA_AVX512) || defined(RP_ISA_AVX2)
RP_INLINE float horizontal_sum_of_4(__m128 v) {
  v = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}
RP_INLINE float horizontal_sum_of_8(__m256 v) {
  return horizontal_sum_of_4(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}
#endif

// Whole numbers of 0 to 255 from and to a byte a lane.
RP_INLINE Vec load_bytes(const uint8_t* p) {
#if defined(RP_ISA_AVX512)
  const __m512i wide =
      _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_maskz_cvtepi32_ps(0xffff, wide);
#elif defined(RP_ISA_AVX2)
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Vec v = {};
  for (int i = 0; i < kLanes; i++) v[i] = static_cast<float>(p[i]);
  return v;
#endif
}
RP_INLINE void store_bytes(uint8_t* p, Vec v) {
#if defined(RP_ISA_AVX512)
  const __m512i wide = _mm512_maskz_cvttps_epi32(0xffff, v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xffff, wide));
#elif defined(RP_ISA_AVX2)
  const __m256i wide = _mm256_cvttps_epi32(v);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
#else
  for (int i = 0; i < kLanes; i++) p[i] = static_cast<uint8_t>(v[i]);
#endif
}

// Sum over the lanes, in a fixed order (pairwise halves).
RP_INLINE float horizontal_sum(Vec v) {
#if defined(RP_ISA_AVX512)
  // Zero-masked, as above.
  return horizontal_sum_of_8(
      _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, v, 0), _mm512_maskz_extractf32x8_ps(0xff, v, 1)));
#elif defined(RP_ISA_AVX2)
  return horizontal_sum_of_8(v);
#else
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) v[i] += v[i + half];
  }
  return v[0];
#endif
}

// The same of lanes as doubles.
RP_INLINE double sum_in_double(Vec v) {
#if defined(RP_ISA_AVX512)
  const __m512d whole = _mm512_add_pd(_mm512_maskz_cvtps_pd(0xff, _mm512_maskz_extractf32x8_ps(0xff, v, 0)),
                                      _mm512_maskz_cvtps_pd(0xff, _mm512_maskz_extractf32x8_ps(0xff, v, 1)));
  const __m256d half =
      _mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xf, whole, 0), _mm512_maskz_extractf64x4_pd(0xf, whole, 1));
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
#elif defined(RP_ISA_AVX2)
  const __m256d half =
      _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
#else
  double d[kLanes];
  for (int i = 0; i < kLanes; i++) d[i] = v[i];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) d[i] += d[i + half];
  }
  return d[0];
#endif
}

// to[i] += Σ over the lanes of v[i], in a fixed order.
RP_INLINE void add_lane_sums(float* to, Vec (&v)[4]) {
#if defined(RP_ISA_AVX512) || defined(RP_ISA_AVX2)
#if defined(RP_ISA_AVX512)
  const Vec ab = _mm512_maskz_unpacklo_ps(0xffff, v[0], v[1]) + _mm512_maskz_unpackhi_ps(0xffff, v[0], v[1]);
  const Vec cd = _mm512_maskz_unpacklo_ps(0xffff, v[2], v[3]) + _mm512_maskz_unpackhi_ps(0xffff, v[2], v[3]);
  const Vec quads =
      _mm512_maskz_shuffle_ps(0xffff, ab, cd, 0x44) + _mm512_maskz_shuffle_ps(0xffff, ab, cd, 0xee);
  const __m256 half =
      _mm512_maskz_extractf32x8_ps(0xff, quads, 0) + _mm512_maskz_extractf32x8_ps(0xff, quads, 1);
#else
  const Vec ab = _mm256_unpacklo_ps(v[0], v[1]) + _mm256_unpackhi_ps(v[0], v[1]);
  const Vec cd = _mm256_unpacklo_ps(v[2], v[3]) + _mm256_unpackhi_ps(v[2], v[3]);
  const __m256 half = _mm256_shuffle_ps(ab, cd, 0x44) + _mm256_shuffle_ps(ab, cd, 0xee);
#endif
  const __m128 sums = _mm256_castps256_ps128(half) + _mm256_extractf128_ps(half, 1);
  _mm_storeu_ps(to, _mm_loadu_ps(to) + sums);
#else
  for (int i = 0; i < 4; i++) {
    float quads[kLanes / 4];
    for (int q = 0; q < kLanes / 4; q++)
      quads[q] = (v[i][4 * q] + v[i][4 * q + 2]) + (v[i][4 * q + 1] + v[i][4 * q + 3]);
    for (int half = kLanes / 8; half > 0; half /= 2) {
      for (int q = 0; q < half; q++) quads[q] += quads[q + half];
    }
    to[i] += quads[0];
  }
#endif
}

// rows[i][j] becomes rows[j][i]: rows of blocks change places, then rows of blocks half as large.
RP_INLINE void transpose(Vec (&rows)[kLanes]) {
  typedef int32_t Lanes __attribute__((vector_size(4 * kLanes)));
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
    Lanes low, high;  // of a row and the one `half` below it
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) {
      low[i] = i & half ? kLanes + (i ^ half) : i;
      high[i] = i & half ? kLanes + i : i ^ half;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) {
      if (i & half) continue;
      const Vec upper = rows[i], lower = rows[i + half];
      rows[i] = __builtin_shuffle(upper, lower, low);
      rows[i + half] = __builtin_shuffle(upper, lower, high);
    }
  }
}

RP_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }     // to L1
RP_INLINE void prefetch_l2(const void* p) { __builtin_prefetch(p, 0, 2); }  // to L2
RP_INLINE void prefetch_write(const void* p) { __builtin_prefetch(p, 1, 3); }

}  // namespace RP_ISA
}  // namespace rp
