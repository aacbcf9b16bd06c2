// The sparse_conv2d kernels, compiled once per instruction set (cpu/simd.h): no std:: here.
//
// Vectors narrower than sixteen images go over the images of an output in several passes, so that whole lines
// of x stay in use. Row pointers are advanced and hidden from the compiler (RP_OPAQUE): it would otherwise
// keep one register per row and spill (10-25 % slower).
#include "cpu/simd.h"
#include "ops/sparse_conv2d/sparse_conv2d.h"
#include "ops/store_tile.h"

namespace rp {
namespace RP_ISA {
namespace {

// Of the registers: one holds the broadcast weight; the two-operand multiply-add of the portable build needs
// one for the product. wgrad holds four sums beside the tile.
constexpr int kGatherPositions = kRegisters == 32 ? 28 : 14;
constexpr int kWgradPositions = kRegisters == 32 ? 24 : 8;
constexpr int kLine = 64;  // bytes of one position: sixteen images

// ---- gather

template <int kHeight, int kWidth, int kStep, bool kIndexed>
void gather(const SparseGatherArgs& args) {
  constexpr int kTile = kHeight * kWidth;
  const uint32_t flags = args.flags;
  const bool first = flags & kFirstBlock, last = flags & kLastBlock;
  const int32_t* list = args.list;
  const float* weights = args.weights;
  const int64_t x_row = args.x_row, y_row = args.y_row, y_col = args.y_col, y_channel = args.y_channel;
  char* y = args.y;
  int32_t begin = args.ends[0];
  for (int o = 0; o < args.outputs; o++) {
    const int32_t end = args.ends[o + 1];
    if (begin == end && !first && !last) continue;
    for (int lane = 0; lane < 16; lane += kLanes) {
      float* partial = args.partial + (int64_t{o} * kTile * 16 + lane);
      Vec sum[kTile];
      if (first) {
#pragma GCC unroll 32
        for (int t = 0; t < kTile; t++) sum[t] = zero();
      } else {
#pragma GCC unroll 32
        for (int t = 0; t < kTile; t++) sum[t] = load(partial + t * 16);
      }
      const char* x = args.x + lane * 4;
#pragma GCC unroll 1
      for (int32_t j = begin; j < end; j++) {
        // Indices advance along as many lines as the block has channels: too many for the hardware
        // prefetcher.
        if (kIndexed) prefetch(weights + list[2 * (j + kIndexAhead) + 1]);
        const Vec w = broadcast(weights[kIndexed ? list[2 * j + 1] : j]);
        const char* p = x + list[kIndexed ? 2 * j : j];
#pragma GCC unroll 16
        for (int h = 0; h < kHeight; h++) {
#pragma GCC unroll 16
          for (int c = 0; c < kWidth; c++) {
            Vec& s = sum[h * kWidth + c];
            s = fmadd(w, load(reinterpret_cast<const float*>(p + c * kStep * kLine)), s);
          }
          if (h + 1 < kHeight) {
            p += x_row;
            RP_OPAQUE(p);
          }
        }
      }
      if (!last) {
#pragma GCC unroll 32
        for (int t = 0; t < kTile; t++) store(partial + t * 16, sum[t]);
        continue;
      }
      store_tile<kHeight, kWidth>(sum, y + o * y_channel + lane * 4, y_row, y_col, flags);
    }
    begin = end;
  }
}

// ---- wgrad

template <int kHeight, int kWidth, int kStep, int kCount>
RP_INLINE void wgrad_nonzeros(const char* x, int64_t x_row, const Vec* dy, const int32_t* offsets,
                              float* sums) {
  Vec sum[kCount];
  const char* p[kCount];
#pragma GCC unroll 4
  for (int k = 0; k < kCount; k++) {
    sum[k] = load(sums + k * kLanes);
    p[k] = x + offsets[k];
    RP_OPAQUE(p[k]);
  }
#pragma GCC unroll 16
  for (int h = 0; h < kHeight; h++) {
#pragma GCC unroll 16
    for (int c = 0; c < kWidth; c++) {
#pragma GCC unroll 4
      for (int k = 0; k < kCount; k++) {
        sum[k] =
            fmadd(dy[h * kWidth + c], load(reinterpret_cast<const float*>(p[k] + c * kStep * kLine)), sum[k]);
      }
    }
    if (h + 1 < kHeight) {
#pragma GCC unroll 4
      for (int k = 0; k < kCount; k++) {
        p[k] += x_row;
        RP_OPAQUE(p[k]);
      }
    }
  }
#pragma GCC unroll 4
  for (int k = 0; k < kCount; k++) store(sums + k * kLanes, sum[k]);
}

template <int kHeight, int kWidth, int kStep>
void wgrad(const SparseWgradArgs& args) {
  int32_t begin = args.ends[0];
  float* first_sum = args.sums;
  for (int o = 0; o < args.outputs; o++) {
    const int32_t end = args.ends[o + 1];
    if (begin == end) continue;
    for (int lane = 0; lane < 16; lane += kLanes) {
      Vec dy[kHeight * kWidth];
      const char* row = args.dy + o * args.dy_channel + lane * 4;
#pragma GCC unroll 16
      for (int h = 0; h < kHeight; h++) {
#pragma GCC unroll 16
        for (int c = 0; c < kWidth; c++) {
          dy[h * kWidth + c] = load(reinterpret_cast<const float*>(row + c * kLine));
          keep(dy[h * kWidth + c]);
        }
        row += args.dy_row;
        RP_OPAQUE(row);
      }
      const char* x = args.x + lane * 4;
      float* sums = first_sum;
      int32_t j = begin;
#pragma GCC unroll 1
      for (; j + 4 <= end; j += 4, sums += 4 * kLanes) {
        wgrad_nonzeros<kHeight, kWidth, kStep, 4>(x, args.x_row, dy, args.list + j, sums);
      }
      switch (end - j) {
        case 3:
          wgrad_nonzeros<kHeight, kWidth, kStep, 3>(x, args.x_row, dy, args.list + j, sums);
          break;
        case 2:
          wgrad_nonzeros<kHeight, kWidth, kStep, 2>(x, args.x_row, dy, args.list + j, sums);
          break;
        case 1:
          wgrad_nonzeros<kHeight, kWidth, kStep, 1>(x, args.x_row, dy, args.list + j, sums);
          break;
        default:
          break;
      }
    }
    first_sum += int64_t{end - begin} * kLanes;
    begin = end;
  }
}

void reduce(const float* sums, float* dw, int64_t count, bool add) {
  for (int64_t j = 0; j < count; j++) {
    const float sum = horizontal_sum(load(sums + j * kLanes));
    dw[j] = add ? dw[j] + sum : sum;
  }
}

void fence() { stream_fence(); }

// ---- choice by tile

template <int kHeight, int kWidth, int kStep>
SparseGather gather_of(bool indexed) {
  if constexpr (kHeight * kWidth > kGatherPositions) {
    return nullptr;
  } else if constexpr (kStep == 1) {
    return indexed ? gather<kHeight, kWidth, 1, true> : gather<kHeight, kWidth, 1, false>;
  } else {
    return indexed ? nullptr : gather<kHeight, kWidth, kStep, false>;  // dgrad reads with step 1
  }
}

template <int kHeight, int kWidth, int kStep>
SparseWgrad wgrad_of() {
  if constexpr (kHeight * kWidth > kWgradPositions) {
    return nullptr;
  } else {
    return wgrad<kHeight, kWidth, kStep>;
  }
}

SparseGather find_gather(int height, int width, int x_step, bool indexed) {
#define TILE(h, w)                                                                     \
  if (height == h && width == w) {                                                     \
    if (w == 1 || x_step == 1) return gather_of<h, w, 1>(indexed);                     \
    return x_step == 2 && w > 1 ? gather_of<h, w, (w > 1 ? 2 : 1)>(indexed) : nullptr; \
  }
#include "ops/sparse_conv2d/tiles.inc"
#undef TILE
  return nullptr;
}

SparseWgrad find_wgrad(int height, int width, int x_step) {
#define TILE(h, w)                                                             \
  if (height == h && width == w) {                                             \
    if (w == 1 || x_step == 1) return wgrad_of<h, w, 1>();                     \
    return x_step == 2 && w > 1 ? wgrad_of<h, w, (w > 1 ? 2 : 1)>() : nullptr; \
  }
#include "ops/sparse_conv2d/tiles.inc"
#undef TILE
  return nullptr;
}

}  // namespace

const SparseConvKernels& sparse_conv_kernels() {
  static const SparseConvKernels kernels = {kLanes, find_gather, find_wgrad, reduce, fence};
  return kernels;
}

}  // namespace RP_ISA
}  // namespace rp
