// The conv2d kernels, compiled once per instruction set (cpu/simd.h): no std:: here.
#include "cpu/simd.h"
#include "ops/conv2d/conv2d.h"
#include "ops/store_tile.h"

namespace rp {
namespace RP_ISA {
namespace {

constexpr int kPositions = kRegisters == 32 ? 8 : 4;      // × 3 outputs of sums, + 3 weights + x
constexpr int kWidePositions = kRegisters == 32 ? 4 : 0;  // × 6 outputs of sums, + 6 weights + x
constexpr int kTapGroup = kRegisters == 32 ? 12 : 6;      // × 2 vectors of sums, + 2 of dy an image + x
constexpr int kHalfGroup = kTapGroup > 8 ? 8 : 4;         // the largest power of two below it
constexpr int kImages = kRegisters == 32 ? 2 : 1;         // whose dy wgrad holds at a time
constexpr int kGroupsTogether = 3;                        // of pairs, while a few outputs' dy is in L1
constexpr int kLine = 64;                                 // bytes of one position: sixteen images

// ---- gather

template <int kCount>
struct Count {
  static constexpr int value = kCount;
};

// One k, for columns [kFrom, kTo) of the tile.
template <int kHeight, int kWidth, int kStep, int kOutputs, int kVectors, int kFrom, int kTo>
RP_INLINE void gather_k(const char* p, int64_t x_row, const float* w,
                        Vec (&sum)[kOutputs][kHeight * kWidth * kVectors]) {
  Vec wv[kOutputs];
#pragma GCC unroll 6
  for (int o = 0; o < kOutputs; o++) wv[o] = broadcast(w[o]);
#pragma GCC unroll 16
  for (int h = 0; h < kHeight; h++) {
#pragma GCC unroll 16
    for (int c = kFrom; c < kTo; c++) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) {
        const Vec xv = load(reinterpret_cast<const float*>(p + c * kStep * kLine) + v * kLanes);
#pragma GCC unroll 6
        for (int o = 0; o < kOutputs; o++) fmadd_to(sum[o][(h * kWidth + c) * kVectors + v], wv[o], xv);
      }
    }
    if (h + 1 < kHeight) {
      p += x_row;
      RP_OPAQUE(p);
    }
  }
}

// All channels of the block, tap by tap. Four at a time, from addresses that a load can spell without an
// instruction of its own: where threads share a core's front end, each one beside the multiply-adds and
// their loads costs.
template <int kHeight, int kWidth, int kStep, int kOutputs, int kVectors, int kFrom, int kTo>
RP_INLINE void gather_run(const DenseGatherArgs& args, const TapRun& run, const char* x, const float* weights,
                          Vec (&sum)[kOutputs][kHeight * kWidth * kVectors]) {
  constexpr int kTogether = 4;
  const int64_t x_row = args.x_row, x_channel = args.x_channel, x_three = 3 * x_channel;
  const int64_t channels = args.channels, together = channels / kTogether * kTogether;
  const float* w = weights + run.first_tap * channels * kOutputs;
  const int32_t* const last = args.offsets + run.first_tap + run.taps;
  for (const int32_t* offset = last - run.taps; offset < last; offset++) {
    const char* p = x + *offset;
    const float* end = w + together * kOutputs;
#pragma GCC unroll 1
    for (; w < end; w += kTogether * kOutputs, p += kTogether * x_channel) {
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; i++) {
        gather_k<kHeight, kWidth, kStep, kOutputs, kVectors, kFrom, kTo>(
            p + (i < 3 ? i * x_channel : x_three), x_row, w + i * kOutputs, sum);
      }
    }
    end += (channels - together) * kOutputs;
#pragma GCC unroll 1
    for (; w < end; w += kOutputs, p += x_channel)
      gather_k<kHeight, kWidth, kStep, kOutputs, kVectors, kFrom, kTo>(p, x_row, w, sum);
  }
}

template <int kHeight, int kWidth, int kStep, int kOutputs>
RP_INLINE void gather_outputs(const DenseGatherArgs& args, int first_output, const float* weights,
                              float* partial, char* out) {
  constexpr int kTile = kHeight * kWidth;
  constexpr int kVectors = vectors_of_position(kTile, kPositions);
  constexpr int kSums = kTile * kVectors;
  const uint32_t flags = args.flags;
  const bool first = flags & kFirstBlock, last = flags & kLastBlock;
  const int64_t y_row = args.y_row, y_col = args.y_col, y_channel = args.y_channel;
  for (int lane = 0; lane < 16; lane += kLanes * kVectors) {
    Vec sum[kOutputs][kSums];
    const auto partial_of = [&](int o, int s) {
      return partial + (o * kTile + s / kVectors) * 16 + s % kVectors * kLanes + lane;
    };
#pragma GCC unroll 6
    for (int o = 0; o < kOutputs; o++) {
#pragma GCC unroll 16
      for (int s = 0; s < kSums; s++) sum[o][s] = first ? zero() : load(partial_of(o, s));
    }
    const char* x = args.x + lane * 4;
    for (const TapRun* run = args.runs; run < args.runs + args.run_count; run++) {
      switch (run->columns) {
        case DenseColumns::all:
          gather_run<kHeight, kWidth, kStep, kOutputs, kVectors, 0, kWidth>(args, *run, x, weights, sum);
          break;
        case DenseColumns::not_first:
          if constexpr (kWidth > 1)
            gather_run<kHeight, kWidth, kStep, kOutputs, kVectors, 1, kWidth>(args, *run, x, weights, sum);
          break;
        case DenseColumns::not_last:
          if constexpr (kWidth > 1)
            gather_run<kHeight, kWidth, kStep, kOutputs, kVectors, 0, kWidth - 1>(args, *run, x, weights,
                                                                                  sum);
          break;
      }
    }
#pragma GCC unroll 6
    for (int o = 0; o < kOutputs; o++) {
      if (last) {
        if (args.sums.sums != nullptr)
          sum_tile<kHeight, kWidth, kVectors>(sum[o], args.sums, first_output + o, lane);
        store_tile<kHeight, kWidth, kVectors>(sum[o], out + o * y_channel + lane * 4, y_row, y_col, flags);
      } else {
#pragma GCC unroll 16
        for (int s = 0; s < kSums; s++) store(partial_of(o, s), sum[o][s]);
      }
    }
  }
}

// A group has kGroup outputs.
template <int kHeight, int kWidth, int kStep, int kGroup>
void gather(const DenseGatherArgs& args) {
  constexpr int64_t kTile = kHeight * kWidth;
  const int groups = (args.outputs + kGroup - 1) / kGroup;
  PrefetchCursor next(args.next, args.next_count, groups);
  for (int g = 0; g < groups; g++) {
    const int o = group_begin(g, args.outputs, kGroup), end = group_begin(g + 1, args.outputs, kGroup);
    next.step();
    if ((args.flags & kLastBlock) && (args.flags & kAddOut)) {
      for (int next = o + kGroup; next < o + 2 * kGroup && next < args.outputs; next++)
        prefetch_tile<kHeight, kWidth>(args.y + next * args.y_channel, args.y_row, args.y_col);
    }
    const float* weights = args.weights + o * args.k_count;
    float* partial = args.partial + o * kTile * 16;
    char* out = args.y + o * args.y_channel;
    const auto take = [&](auto count) {
      constexpr int kOutputs = decltype(count)::value;
      if constexpr (kOutputs <= kGroup) {
        if (end - o == kOutputs)
          gather_outputs<kHeight, kWidth, kStep, kOutputs>(args, o, weights, partial, out);
      }
    };
    take(Count<1>());
    take(Count<2>());
    take(Count<3>());
    take(Count<4>());
    take(Count<5>());
    take(Count<6>());
  }
}

template <int kGroup, int kMost>
DenseGather gather_of(int height, int width, int x_step) {
#define TILE(h, w)                                                                   \
  if (height == h && width == w) {                                                   \
    if constexpr (h * w <= kMost) {                                                  \
      if (w == 1 || x_step == 1) return gather<h, w, 1, kGroup>;                     \
      return x_step == 2 && w > 1 ? gather<h, w, (w > 1 ? 2 : 1), kGroup> : nullptr; \
    }                                                                                \
  }
#include "ops/conv2d/tiles.inc"
#undef TILE
  return nullptr;
}

DenseGather find_gather(int height, int width, int x_step, int outputs) {
  return outputs == kOutputGroup ? gather_of<kOutputGroup, kPositions>(height, width, x_step)
                                 : gather_of<kWideOutputGroup, kWidePositions>(height, width, x_step);
}

// ---- wgrad

// A tile's dy of kVectors vectors of outputs from `output` on: to[position][image][output]. Outputs beyond
// the last are zeros.
template <int kVectors>
RP_INLINE void transpose_dy(const DenseWgradArgs& args, int output, float* to) {
  const int64_t dy_channel = args.dy_channel;
#pragma GCC unroll 1
  for (int v = 0; v < kVectors; v++, output += kLanes) {
    const int left = args.outputs - output;
    const char* row = args.dy + output * dy_channel;
    float* out = to + v * kLanes;
    const auto copy = [&](bool whole) {
      for (int h = 0; h < args.height; h++, row += args.dy_row) {
        for (const char* position = row; position < row + args.width * kLine; position += kLine) {
          for (int lane = 0; lane < 16; lane += kLanes) {
            const char* d = position + lane * 4;
            Vec rows[kLanes];
#pragma GCC unroll 16
            for (int o = 0; o < kLanes; o++, d += dy_channel) {
              rows[o] = whole || o < left ? load(reinterpret_cast<const float*>(d)) : zero();
              RP_OPAQUE(d);
            }
            transpose(rows);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++, out += kVectors * kLanes) store(out, rows[i]);
          }
        }
      }
    };
    if (left >= kLanes) {
      copy(true);
    } else {
      copy(false);
    }
  }
}

// Adds a tile's Σ dy · x of kTaps × kVectors vectors of outputs to their sums. A tile's sums stand for
// themselves first: one long chain of additions would lose digits. A call: where all of these stand in one
// function, GCC keeps sums in memory.
template <int kTaps, int kVectors>
__attribute__((noinline)) void wgrad_group(const DenseWgradArgs& args, const TapReach& reach,
                                           const int32_t* offsets, const float* dy, float* sums) {
  Vec sum[kTaps * kVectors];
#pragma GCC unroll 24
  for (int s = 0; s < kTaps * kVectors; s++) sum[s] = zero();
  const char* p[kTaps];
#pragma GCC unroll 12
  for (int k = 0; k < kTaps; k++) {
    p[k] = args.x + offsets[k];
    RP_OPAQUE(p[k]);
  }
  // Positions that are neighbours in x are one run of images.
  const int64_t x_col = args.x_col;
  const int cols = reach.col_end - reach.col_begin, runs = x_col == kLine ? 1 : cols;
  for (int h = reach.row_begin; h < reach.row_end; h++) {
    int64_t at = h * args.x_row + reach.col_begin * x_col;
    const float* d = dy + (h * args.width + reach.col_begin) * int64_t{16 * kVectors * kLanes};
    for (int run = 0; run < runs; run++, at += x_col) {
      const int64_t end = at + kLine * cols / runs;
#pragma GCC unroll 1
      for (int64_t image = at; image < end; image += 4 * kImages, d += kImages * kVectors * kLanes) {
        Vec dv[kImages * kVectors];
#pragma GCC unroll 4
        for (int i = 0; i < kImages * kVectors; i++) dv[i] = load(d + i * kLanes);
#pragma GCC unroll 24
        for (int t = 0; t < kTaps * kImages; t++) {
          const int k = t / kImages, i = t % kImages;
          const Vec xv = broadcast(reinterpret_cast<const float*>(p[k] + image)[i]);
          fmadd_to(sum[k * kVectors], dv[i * kVectors], xv);
          if constexpr (kVectors > 1) fmadd_to(sum[k * kVectors + 1], dv[i * kVectors + 1], xv);
        }
      }
    }
  }
#pragma GCC unroll 24
  for (int s = 0; s < kTaps * kVectors; s++) store(sums + s * kLanes, load(sums + s * kLanes) + sum[s]);
}

// Of one group, a few outputs: what its tap reaches of the tile.
template <int kVectors>
void wgrad_of(const DenseWgradArgs& args, const TapGroup& group, const float* dy, float* sums) {
  TapReach reach = {0, args.height, 0, args.width};
  if (args.reach != nullptr) {
    reach = args.reach[group.tap];
    if (reach.row_end > args.height)
      reach.row_end = args.height;  // the last of a batch's tiles across blocks
  }
  if (reach.row_begin >= reach.row_end || reach.col_begin >= reach.col_end) return;
  const int32_t* offsets = args.offsets + group.first;
  switch (group.count) {
    case kTapGroup:
      return wgrad_group<kTapGroup, kVectors>(args, reach, offsets, dy, sums);
    case kHalfGroup:
      return wgrad_group<kHalfGroup, kVectors>(args, reach, offsets, dy, sums);
    case 2:
      return wgrad_group<2, kVectors>(args, reach, offsets, dy, sums);
    case 1:
      return wgrad_group<1, kVectors>(args, reach, offsets, dy, sums);
    default:
      if constexpr (kHalfGroup > 4) wgrad_group<4, kVectors>(args, reach, offsets, dy, sums);
  }
}

void wgrad(const DenseWgradArgs& args) {
  constexpr int kOutputs = kWgradVectors * kLanes;
  const int64_t images = int64_t{args.height} * args.width * 16;
  for (int o = 0; o < args.outputs; o += kOutputs) {
    float* to = args.dy_images + o * images;
    if (args.outputs - o > kLanes) {
      transpose_dy<kWgradVectors>(args, o, to);
    } else {
      transpose_dy<1>(args, o, to);
    }
  }
  const TapGroup* const end = args.groups + args.group_count;
  const int first = args.groups->first;
  const int64_t pairs = end[-1].first + end[-1].count - first;
  PrefetchCursor next(args.next, 2, args.group_count * ((args.outputs + kOutputs - 1) / kOutputs));
  for (const TapGroup* from = args.groups; from < end; from += kGroupsTogether) {
    for (int o = 0; o < args.outputs; o += kOutputs) {
      const float* dy = args.dy_images + o * images;
      float* sums = args.sums + o * pairs;
      for (const TapGroup* group = from; group < end && group < from + kGroupsTogether; group++) {
        next.step();
        if (args.outputs - o > kLanes) {
          wgrad_of<kWgradVectors>(args, *group, dy, sums + (group->first - first) * kOutputs);
        } else {
          wgrad_of<1>(args, *group, dy, sums + (group->first - first) * kLanes);
        }
      }
    }
  }
}

void fence() { stream_fence(); }

}  // namespace

const DenseConvKernels& dense_conv_kernels() {
  static const DenseConvKernels kernels = {kLanes, kPositions, kWidePositions, find_gather,
                                           wgrad,  kTapGroup,  fence};
  return kernels;
}

}  // namespace RP_ISA
}  // namespace rp
