// Vector kernels of batch_norm (batch_norm.h); compiled once per instruction set.
#include "ops/activation/rows.h"
#include "ops/batch_norm/batch_norm.h"
#include "ops/combine/combine_vec.h"
#include "ops/pool/pool_vec.h"

namespace rp {
namespace RP_ISA {
namespace {

// ---- statistics

struct alignas(64) Accumulators {
  float origin[kChunkChannels][kImagesPerBlock];  // x at the chunk's first position
  float sum[kChunkChannels][2][kImagesPerBlock];  // of x - origin, of its square
};

RP_INLINE void statistics_row(const StatisticsArgs& args, int64_t b, int64_t h, bool first, int64_t c_begin,
                              int64_t c_end, Accumulators& acc) {
  const float* row = args.x + row_offset(args.layout, b, h);
  const int64_t floats = kImagesPerBlock * int64_t{args.layout.width};
  for (int64_t c = c_begin; c < c_end; c++) {
    const float* x = row + c * args.layout.channel_stride;
    float* origin = acc.origin[c - c_begin];
    float(*sums)[kImagesPerBlock] = acc.sum[c - c_begin];
    for (int part = 0; part < kBlockVecs; part++) {
      const int lane = part * kLanes;
      if (first) store(origin + lane, load(x + lane));
      const Vec o = load(origin + lane);
      Vec s = first ? zero() : load(sums[0] + lane), q = first ? zero() : load(sums[1] + lane);
      for (int64_t i = lane; i < floats; i += kImagesPerBlock) {
        const Vec d = load(x + i) - o;
        s = s + d;
        q = fmadd(d, d, q);
      }
      store(sums[0] + lane, s);
      store(sums[1] + lane, q);
    }
  }
}

void statistics(const StatisticsArgs& args, int64_t chunk_begin, int64_t chunk_end) {
  const Layout& l = args.layout;
  const int64_t per_block = (l.height + args.rows_per_chunk - 1) / args.rows_per_chunk;
  Accumulators acc;
  for (int64_t chunk = chunk_begin; chunk < chunk_end; chunk++) {
    const int64_t b = chunk / per_block, h_begin = chunk % per_block * args.rows_per_chunk;
    const int64_t h_end = h_begin + args.rows_per_chunk < l.height ? h_begin + args.rows_per_chunk : l.height;
    const int images = images_in_block(l, args.n, b);
    const double count = static_cast<double>((h_end - h_begin) * l.width);
    double* out = args.sums + chunk * 2 * l.channels;
    for (int64_t c_begin = 0; c_begin < l.channels; c_begin += kChunkChannels) {
      const int64_t c_end = c_begin + kChunkChannels < l.channels ? c_begin + kChunkChannels : l.channels;
      for (int64_t h = h_begin; h < h_end; h++) {
        statistics_row(args, b, h, h == h_begin, c_begin, c_end, acc);
      }
      for (int64_t c = c_begin; c < c_end; c++) {
        // Σ x = Σ d + count·o and Σ x² = Σ d² + 2 o Σ d + count·o², an image at a time.
        double sum = 0, squares = 0;
        for (int i = 0; i < images; i++) {
          const double o = acc.origin[c - c_begin][i], s = acc.sum[c - c_begin][0][i];
          sum += s + count * o;
          squares += acc.sum[c - c_begin][1][i] + o * (2 * s + count * o);
        }
        out[c] = sum;
        out[l.channels + c] = squares;
      }
    }
  }
}

// ---- apply

template <bool relu_mask, bool add, bool pooled = false>
void apply_rows(const BatchNormApplyArgs& args, int64_t row_begin, int64_t row_end) {
  const Layout& l = args.dx_layout;
  const int64_t width = narrower(narrower(l.width, args.g_layout.width), args.term.layout.width);
  const int64_t pieces = l.width / width, floats = kImagesPerBlock * width;
  for (int64_t row = row_begin; row < row_end; row++) {
    const int64_t b = row / l.height, h = row % l.height;
    float* dx_row = args.dx + row_offset(l, b, h);
    for (int64_t piece = row * pieces; piece < (row + 1) * pieces; piece++) {
      float* dx_piece = args.dx + piece_offset(l, piece, width);
      const float* g_piece = pooled ? nullptr : args.g + piece_offset(args.g_layout, piece, width);
      const float* x_piece = args.term.x + piece_offset(args.term.layout, piece, width);
      for (int64_t c = 0; c < l.channels; c++) {
        const Vec k1 = broadcast(args.k1[c]), k2 = broadcast(args.k2[c]), k3 = broadcast(args.k3[c]);
        const Vec mean = broadcast(args.term.mean[c]);
        AffineVecs a{};
        if (relu_mask) a = affine_of(args.term, c);
        const float* g = pooled ? nullptr : g_piece + c * args.g_layout.channel_stride;
        PooledRow pool{};
        if (pooled) pool = pooled_row(args.pooled, b, h, c);
        const float* x = x_piece + c * args.term.layout.channel_stride;
        float* dx = dx_piece + c * l.channel_stride;
        for (int64_t i = 0; i < floats; i += kLanes) {
          const Vec v = load(x + i);
          Vec gradient = pooled ? gradient_at(pool, i / kImagesPerBlock, i % kImagesPerBlock) : load(g + i);
          if (relu_mask) gradient = select(greater(affine(v, a), zero()), gradient, zero());
          Vec d = fmadd(k1, gradient, fmadd(k2, v - mean, k3));
          if (add) d = load(dx + i) + d;
          put(dx + i, d, args.stream);
        }
        if (piece + 1 == (row + 1) * pieces) clear_columns(dx_row, l, c);
      }
    }
    clear_around_row(args.dx, l, b, h);
    clear_padding_images(args.dx, l, b, h, args.n);
  }
  if (args.stream) stream_fence();
}

void apply(const BatchNormApplyArgs& args, int64_t row_begin, int64_t row_end) {
  if (args.pooled.choice) {
    if (args.add) return apply_rows<true, true, true>(args, row_begin, row_end);
    return apply_rows<true, false, true>(args, row_begin, row_end);
  }
  if (args.relu_mask) {
    if (args.add) return apply_rows<true, true>(args, row_begin, row_end);
    return apply_rows<true, false>(args, row_begin, row_end);
  }
  if (args.add) return apply_rows<false, true>(args, row_begin, row_end);
  apply_rows<false, false>(args, row_begin, row_end);
}

}  // namespace

const BatchNormKernels& batch_norm_kernels() {
  static const BatchNormKernels table = {statistics, apply};
  return table;
}

}  // namespace RP_ISA
}  // namespace rp
