// Vector kernels of combine (combine.h); compiled once per instruction set.
#include "ops/activation/rows.h"
#include "ops/combine/combine.h"
#include "ops/combine/combine_vec.h"
#include "ops/pool/pool_vec.h"

namespace rp {
namespace RP_ISA {
namespace {

enum Kind { kNone, kPlain, kAffine };

// ---- forward

template <Kind k>
RP_INLINE Vec term_value(const float* x, const AffineVecs& a) {
  return k == kAffine ? affine(load(x), a) : load(x);
}

template <Kind k0, Kind k1, bool relu>
void forward_rows(const CombineArgs& args, int64_t row_begin, int64_t row_end) {
  const Layout& zl = args.z_layout;
  const CombineTerm& t0 = args.terms[0];
  const CombineTerm& t1 = args.terms[1];
  int64_t width = narrower(zl.width, t0.layout.width);
  if (k1 != kNone) width = narrower(width, t1.layout.width);
  const int64_t pieces = zl.width / width, floats = kImagesPerBlock * width;
  for (int64_t row = row_begin; row < row_end; row++) {
    const int64_t b = row / zl.height, h = row % zl.height;
    float* out_row = args.z + row_offset(zl, b, h);
    for (int64_t piece = row * pieces; piece < (row + 1) * pieces; piece++) {
      float* out_piece = args.z + piece_offset(zl, piece, width);
      const float* piece0 = t0.x + piece_offset(t0.layout, piece, width);
      const float* piece1 = k1 == kNone ? nullptr : t1.x + piece_offset(t1.layout, piece, width);
      for (int64_t c = 0; c < zl.channels; c++) {
        AffineVecs a0{}, a1{};
        if (k0 == kAffine) a0 = affine_of(t0, c);
        if (k1 == kAffine) a1 = affine_of(t1, c);
        const float* x0 = piece0 + c * t0.layout.channel_stride;
        const float* x1 = k1 == kNone ? nullptr : piece1 + c * t1.layout.channel_stride;
        float* z = out_piece + c * zl.channel_stride;
        for (int64_t i = 0; i < floats; i += kLanes) {
          Vec v = term_value<k0>(x0 + i, a0);
          if (k1 != kNone) v = v + term_value<k1>(x1 + i, a1);
          if (relu) v = max(zero(), v);
          put(z + i, v, args.stream);
        }
        if (piece + 1 == (row + 1) * pieces) clear_columns(out_row, zl, c);
      }
    }
    clear_around_row(args.z, zl, b, h);
    clear_padding_images(args.z, zl, b, h, args.n);
  }
  if (args.stream) stream_fence();
}

template <Kind k0, Kind k1>
void forward_relu(const CombineArgs& args, int64_t row_begin, int64_t row_end) {
  if (args.relu) return forward_rows<k0, k1, true>(args, row_begin, row_end);
  forward_rows<k0, k1, false>(args, row_begin, row_end);
}

template <Kind k0>
void forward_second(const CombineArgs& args, int64_t row_begin, int64_t row_end) {
  if (args.term_count == 1) return forward_relu<k0, kNone>(args, row_begin, row_end);
  if (args.terms[1].mean) return forward_relu<k0, kAffine>(args, row_begin, row_end);
  forward_relu<k0, kPlain>(args, row_begin, row_end);
}

void forward(const CombineArgs& args, int64_t row_begin, int64_t row_end) {
  if (args.terms[0].mean) return forward_second<kAffine>(args, row_begin, row_end);
  forward_second<kPlain>(args, row_begin, row_end);
}

// ---- backward

// Per channel of a group: one vector set of sums of g, then of g·(x_t - mean_t).
struct alignas(64) Accumulators {
  float sum[kChunkChannels][3][kImagesPerBlock];
};

// A piece of a row (rows.h).
template <ReluMask mask, int terms, bool pooled>
RP_INLINE void backward_piece(const CombineBackwardArgs& args, int64_t index, int64_t width, int64_t c_begin,
                              int64_t c_end, Accumulators& acc) {
  const CombineTerm& t0 = args.terms[0];
  const CombineTerm& t1 = args.terms[1];
  const auto from = [&](const float* x, const Layout& l) { return x + piece_offset(l, index, width); };
  const float* const dz_piece = pooled ? nullptr : from(args.dz, args.dz_layout);
  float* const g_piece =
      mask == ReluMask::output ? args.g + piece_offset(args.g_layout, index, width) : nullptr;
  const float* const z_piece = mask == ReluMask::output ? from(args.z, args.z_layout) : nullptr;
  const float* const piece0 = terms > 0 ? from(t0.x, t0.layout) : nullptr;
  const float* const piece1 = terms > 1 ? from(t1.x, t1.layout) : nullptr;
  const int64_t floats = kImagesPerBlock * width, height = args.dz_layout.height;
  for (int64_t c = c_begin; c < c_end; c++) {
    const float* dz = pooled ? nullptr : dz_piece + c * args.dz_layout.channel_stride;
    float* g_out = g_piece ? g_piece + c * args.g_layout.channel_stride : nullptr;
    PooledRow pool{};
    if (pooled) pool = pooled_row(args.pooled, index / height, index % height, c);
    const float* z = z_piece ? z_piece + c * args.z_layout.channel_stride : nullptr;
    const float* x0 = terms > 0 ? piece0 + c * t0.layout.channel_stride : nullptr;
    const float* x1 = terms > 1 ? piece1 + c * t1.layout.channel_stride : nullptr;
    AffineVecs a0{};
    Vec mean0 = zero(), mean1 = zero();
    if (mask == ReluMask::term) a0 = affine_of(t0, c);
    if (terms > 0) mean0 = broadcast(t0.mean[c]);
    if (terms > 1) mean1 = broadcast(t1.mean[c]);
    float(*sums)[kImagesPerBlock] = acc.sum[c - c_begin];
    for (int part = 0; part < kBlockVecs; part++) {
      Vec s = load(sums[0] + part * kLanes), s0 = zero(), s1 = zero();
      if (terms > 0) s0 = load(sums[1] + part * kLanes);
      if (terms > 1) s1 = load(sums[2] + part * kLanes);
      for (int64_t i = part * kLanes; i < floats; i += kImagesPerBlock) {
        Vec g = pooled ? gradient_at(pool, i / kImagesPerBlock, part * kLanes) : load(dz + i);
        const Vec v0 = terms > 0 ? load(x0 + i) : zero();
        if (mask == ReluMask::output) {
          g = select(greater(load(z + i), zero()), g, zero());
          put(g_out + i, g, args.stream);
        }
        if (mask == ReluMask::term) g = select(greater(affine(v0, a0), zero()), g, zero());
        s = s + g;
        if (terms > 0) s0 = fmadd(g, v0 - mean0, s0);
        if (terms > 1) s1 = fmadd(g, load(x1 + i) - mean1, s1);
      }
      store(sums[0] + part * kLanes, s);
      if (terms > 0) store(sums[1] + part * kLanes, s0);
      if (terms > 1) store(sums[2] + part * kLanes, s1);
    }
  }
}

template <ReluMask mask, int terms, bool pooled = false>
void backward_chunks(const CombineBackwardArgs& args, int64_t chunk_begin, int64_t chunk_end) {
  const Layout& l = args.dz_layout;
  const int64_t per_block = (l.height + args.rows_per_chunk - 1) / args.rows_per_chunk;
  int64_t width = l.width;
  if (mask == ReluMask::output) width = narrower(narrower(width, args.z_layout.width), args.g_layout.width);
  for (int t = 0; t < terms; t++) width = narrower(width, args.terms[t].layout.width);
  const int64_t pieces = l.width / width;
  Accumulators acc;
  for (int64_t chunk = chunk_begin; chunk < chunk_end; chunk++) {
    const int64_t b = chunk / per_block, h_begin = chunk % per_block * args.rows_per_chunk;
    const int64_t h_end = h_begin + args.rows_per_chunk < l.height ? h_begin + args.rows_per_chunk : l.height;
    const int images = images_in_block(l, args.n, b);
    for (int64_t c_begin = 0; c_begin < l.channels; c_begin += kChunkChannels) {
      const int64_t c_end = c_begin + kChunkChannels < l.channels ? c_begin + kChunkChannels : l.channels;
      clear(&acc.sum[0][0][0], (c_end - c_begin) * 3 * kImagesPerBlock);
      for (int64_t i = (b * l.height + h_begin) * pieces; i < (b * l.height + h_end) * pieces; i++)
        backward_piece<mask, terms, pooled>(args, i, width, c_begin, c_end, acc);
      if (!args.sums) continue;
      double* out = args.sums + chunk * (1 + terms) * l.channels;
      for (int64_t c = c_begin; c < c_end; c++) {
        for (int s = 0; s < 1 + terms; s++) {
          const float* sums = acc.sum[c - c_begin][s];
          double sum = 0;
          if (images == kImagesPerBlock) {
            for (int i = 0; i < kImagesPerBlock; i += kLanes) sum += sum_in_double(load(sums + i));
          } else {
            for (int i = 0; i < images; i++) sum += sums[i];
          }
          out[s * l.channels + c] = sum;
        }
      }
    }
    const Layout& gl = args.g_layout;
    if (mask == ReluMask::output && gl.border > 0) {
      for (int64_t h = h_begin; h < h_end; h++) {
        for (int64_t c = 0; c < gl.channels; c++) clear_columns(args.g + row_offset(gl, b, h), gl, c);
        clear_around_row(args.g, gl, b, h);
      }
    }
  }
  if (args.stream) stream_fence();
}

void backward(const CombineBackwardArgs& args, int64_t chunk_begin, int64_t chunk_end) {
  if (args.pooled.choice) return backward_chunks<ReluMask::term, 1, true>(args, chunk_begin, chunk_end);
  if (args.mask == ReluMask::term) return backward_chunks<ReluMask::term, 1>(args, chunk_begin, chunk_end);
  if (args.mask == ReluMask::output) {
    if (args.term_count == 0) return backward_chunks<ReluMask::output, 0>(args, chunk_begin, chunk_end);
    if (args.term_count == 1) return backward_chunks<ReluMask::output, 1>(args, chunk_begin, chunk_end);
    return backward_chunks<ReluMask::output, 2>(args, chunk_begin, chunk_end);
  }
  if (args.term_count == 0) return backward_chunks<ReluMask::none, 0>(args, chunk_begin, chunk_end);
  if (args.term_count == 1) return backward_chunks<ReluMask::none, 1>(args, chunk_begin, chunk_end);
  backward_chunks<ReluMask::none, 2>(args, chunk_begin, chunk_end);
}

}  // namespace

const CombineKernels& combine_kernels() {
  static const CombineKernels table = {forward, backward};
  return table;
}

}  // namespace RP_ISA
}  // namespace rp
