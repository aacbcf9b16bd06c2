// Vector kernels of pool (pool.h); compiled once per instruction set.
#include "ops/activation/rows.h"
#include "ops/combine/combine_vec.h"
#include "ops/pool/pool.h"
#include "ops/pool/pool_vec.h"

namespace rp {
namespace RP_ISA {
namespace {

struct Range {
  int64_t begin, end;
};

RP_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
RP_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Positions of an axis of `size` that output i's window covers.
RP_INLINE Range covered(int64_t i, int extent, int stride, int padding, int64_t size) {
  const int64_t first = i * stride - padding;
  return {larger(first, 0), smaller(first + extent, size)};
}

// Outputs (of `size`) whose window holds position i.
RP_INLINE Range covering(int64_t i, int extent, int stride, int padding, int64_t size) {
  const int64_t last = i + padding;
  const int64_t first = last - extent + 1;
  return {first <= 0 ? 0 : (first + stride - 1) / stride, smaller(last / stride + 1, size)};
}

RP_INLINE void finish_row(const PoolArgs& args, int64_t b, int64_t h) {
  clear_around_row(args.out, args.out_layout, b, h);
  clear_padding_images(args.out, args.out_layout, b, h, args.n);
}

// ---- max

// The maximum over one window for kLanes images, and where it stood. NaN and infinity give NaN.
template <bool normalises>
RP_INLINE void max_window(const float* plane, const Layout& x, const AffineVecs& a, const PoolWindow& window,
                          int64_t p, int64_t q, Vec& best, Vec& chosen) {
  const Range rows = covered(p, window.height, window.stride, window.padding, x.height);
  const Range columns = covered(q, window.width, window.stride, window.padding, x.width);
  const int64_t top = p * window.stride - window.padding, left = q * window.stride - window.padding;
  best = broadcast(-__builtin_inff());
  chosen = zero();
  Vec poison = zero();
  for (int64_t h = rows.begin; h < rows.end; h++) {
    const float* row = plane + h * x.row_stride;
    for (int64_t w = columns.begin; w < columns.end; w++) {
      Vec v = load(row + w * kImagesPerBlock);
      if (normalises) v = max(zero(), affine(v, a));
      const Mask better = greater(v, best);
      best = select(better, v, best);
      chosen = select(better, broadcast(static_cast<float>((h - top) * window.width + (w - left))), chosen);
      poison = fmadd(v, zero(), poison);
    }
  }
  best = best + poison;
}

template <bool normalises>
void max_forward_rows(const PoolArgs& args, int64_t row_begin, int64_t row_end) {
  const Layout& x = args.in_layout;
  const Layout& y = args.out_layout;
  for (int64_t row = row_begin; row < row_end; row++) {
    const int64_t b = row / y.height, p = row % y.height;
    float* out_row = args.out + row_offset(y, b, p);
    for (int64_t c = 0; c < y.channels; c++) {
      const float* plane = args.in + b * x.block_stride + c * x.channel_stride;
      AffineVecs a{};
      if (normalises) a = affine_of(*args.term, c);
      float* out = out_row + c * y.channel_stride;
      for (int64_t q = 0; q < y.width; q++, out += kImagesPerBlock) {
        for (int lane = 0; lane < kImagesPerBlock; lane += kLanes) {
          Vec best, chosen;
          max_window<normalises>(plane + lane, x, a, args.window, p, q, best, chosen);
          store(out + lane, best);
          if (args.choice) store_bytes(args.choice + choice_offset(y, b, p, c, q) + lane, chosen);
        }
      }
      clear_columns(out_row, y, c);
    }
    finish_row(args, b, p);
  }
}

void max_forward(const PoolArgs& args, int64_t row_begin, int64_t row_end) {
  if (args.term) return max_forward_rows<true>(args, row_begin, row_end);
  max_forward_rows<false>(args, row_begin, row_end);
}

void max_backward(const PoolArgs& args, int64_t row_begin, int64_t row_end) {
  const Layout& y = args.in_layout;  // of dy
  const Layout& x = args.out_layout;
  const PoolWindow& window = args.window;
  for (int64_t row = row_begin; row < row_end; row++) {
    const int64_t b = row / x.height, h = row % x.height;
    const Range ps = covering(h, window.height, window.stride, window.padding, y.height);
    float* dx_row = args.out + row_offset(x, b, h);
    for (int64_t c = 0; c < x.channels; c++) {
      for (int64_t w = 0; w < x.width; w++) {
        const Range qs = covering(w, window.width, window.stride, window.padding, y.width);
        float* dx = dx_row + c * x.channel_stride + w * kImagesPerBlock;
        Vec sum[kBlockVecs];
        for (int v = 0; v < kBlockVecs; v++) sum[v] = args.add ? load(dx + v * kLanes) : zero();
        for (int64_t p = ps.begin; p < ps.end; p++) {
          for (int64_t q = qs.begin; q < qs.end; q++) {
            const int64_t here = (h + window.padding - p * window.stride) * window.width +
                                 (w + window.padding - q * window.stride);
            const uint8_t* choice = args.choice + choice_offset(y, b, p, c, q);
            const float* dy = args.in + row_offset(y, b, p) + c * y.channel_stride + q * kImagesPerBlock;
            for (int v = 0; v < kBlockVecs; v++) {
              sum[v] =
                  sum[v] + chosen_gradient(dy + v * kLanes, choice + v * kLanes, static_cast<float>(here));
            }
          }
        }
        for (int v = 0; v < kBlockVecs; v++) store(dx + v * kLanes, sum[v]);
      }
      clear_columns(dx_row, x, c);
    }
    finish_row(args, b, h);
  }
}

// ---- average

void avg_forward(const PoolArgs& args, int64_t row_begin, int64_t row_end) {
  const Layout& x = args.in_layout;
  const Layout& y = args.out_layout;
  const PoolWindow& window = args.window;
  const Vec scale = broadcast(1.0f / static_cast<float>(window.height * window.width));
  for (int64_t row = row_begin; row < row_end; row++) {
    const int64_t b = row / y.height, p = row % y.height;
    float* out_row = args.out + row_offset(y, b, p);
    for (int64_t c = 0; c < y.channels; c++) {
      const float* plane = args.in + row_offset(x, b, p * window.stride) + c * x.channel_stride;
      float* out = out_row + c * y.channel_stride;
      for (int64_t q = 0; q < y.width; q++, out += kImagesPerBlock) {
        for (int lane = 0; lane < kImagesPerBlock; lane += kLanes) {
          Vec sum = zero();
          for (int64_t h = 0; h < window.height; h++) {
            const float* in = plane + h * x.row_stride + q * window.stride * kImagesPerBlock + lane;
            for (int64_t w = 0; w < window.width; w++) sum = sum + load(in + w * kImagesPerBlock);
          }
          store(out + lane, sum * scale);
        }
      }
      clear_columns(out_row, y, c);
    }
    finish_row(args, b, p);
  }
}

void avg_backward(const PoolArgs& args, int64_t row_begin, int64_t row_end) {
  const Layout& y = args.in_layout;  // of dy
  const Layout& x = args.out_layout;
  const PoolWindow& window = args.window;
  const Vec scale = broadcast(1.0f / static_cast<float>(window.height * window.width));
  for (int64_t row = row_begin; row < row_end; row++) {
    const int64_t b = row / x.height, h = row % x.height;
    const Range ps = covering(h, window.height, window.stride, 0, y.height);
    float* dx_row = args.out + row_offset(x, b, h);
    for (int64_t c = 0; c < x.channels; c++) {
      for (int64_t w = 0; w < x.width; w++) {
        const Range qs = covering(w, window.width, window.stride, 0, y.width);
        float* dx = dx_row + c * x.channel_stride + w * kImagesPerBlock;
        for (int lane = 0; lane < kImagesPerBlock; lane += kLanes) {
          Vec sum = zero();
          for (int64_t p = ps.begin; p < ps.end; p++) {
            const float* dy = args.in + row_offset(y, b, p) + c * y.channel_stride + lane;
            for (int64_t q = qs.begin; q < qs.end; q++) sum = sum + load(dy + q * kImagesPerBlock);
          }
          sum = sum * scale;
          if (args.add) sum = load(dx + lane) + sum;
          store(dx + lane, sum);
        }
      }
      clear_columns(dx_row, x, c);
    }
    finish_row(args, b, h);
  }
}

}  // namespace

const PoolKernels& pool_kernels() {
  static const PoolKernels table = {max_forward, max_backward, avg_forward, avg_backward};
  return table;
}

}  // namespace RP_ISA
}  // namespace rp
