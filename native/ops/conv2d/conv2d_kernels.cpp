// The conv2d kernels, compiled once per instruction set (cpu/simd.h): no std:: here.
#include "cpu/simd.h"
#include "ops/conv2d/conv2d.h"
#include "ops/store_tile.h"

namespace rp {
namespace RP_ISA {
namespace {

constexpr int kPositions = kRegisters == 32 ? 8 : 4;  // × 3 outputs of sums, + 3 weights + x
constexpr int kTapGroup = kRegisters == 32 ? 8 : 4;   // × 3 outputs of sums, + 3 of dy + x
constexpr int kLine = 64;                             // bytes of one position: sixteen images

// ---- gather

// One k, for columns [kFrom, kTo) of the tile.
template <int kHeight, int kWidth, int kStep, int kOutputs, int kVectors, int kFrom, int kTo>
RP_INLINE void gather_k(const char* p, int64_t x_row, const float* w,
                        Vec (&sum)[kOutputs][kHeight * kWidth * kVectors]) {
  Vec wv[kOutputs];
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; o++) wv[o] = broadcast(w[o]);
#pragma GCC unroll 16
  for (int h = 0; h < kHeight; h++) {
#pragma GCC unroll 16
    for (int c = kFrom; c < kTo; c++) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) {
        const Vec xv = load(reinterpret_cast<const float*>(p + c * kStep * kLine) + v * kLanes);
#pragma GCC unroll 4
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
#pragma GCC unroll 4
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
#pragma GCC unroll 4
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

template <int kHeight, int kWidth, int kStep>
void gather(const DenseGatherArgs& args) {
  constexpr int64_t kTile = kHeight * kWidth;
  const int groups = (args.outputs + kOutputGroup - 1) / kOutputGroup;
  PrefetchCursor next(args.next, args.next_count, groups);
  for (int g = 0; g < groups; g++) {
    const int o = group_begin(g, args.outputs), size = group_begin(g + 1, args.outputs) - o;
    next.step();
    if ((args.flags & kLastBlock) && (args.flags & kAddOut)) {
      for (int next = o + kOutputGroup; next < o + 2 * kOutputGroup && next < args.outputs; next++)
        prefetch_tile<kHeight, kWidth>(args.y + next * args.y_channel, args.y_row, args.y_col);
    }
    const float* weights = args.weights + o * args.k_count;
    float* partial = args.partial + o * kTile * 16;
    char* out = args.y + o * args.y_channel;
    if (size == 3) gather_outputs<kHeight, kWidth, kStep, 3>(args, o, weights, partial, out);
    if (size == 2) gather_outputs<kHeight, kWidth, kStep, 2>(args, o, weights, partial, out);
    if (size == 1) gather_outputs<kHeight, kWidth, kStep, 1>(args, o, weights, partial, out);
  }
}

DenseGather find_gather(int height, int width, int x_step) {
#define TILE(h, w)                                                           \
  if (height == h && width == w) {                                           \
    if constexpr (h * w <= kPositions) {                                     \
      if (w == 1 || x_step == 1) return gather<h, w, 1>;                     \
      return x_step == 2 && w > 1 ? gather<h, w, (w > 1 ? 2 : 1)> : nullptr; \
    }                                                                        \
  }
#include "ops/conv2d/tiles.inc"
#undef TILE
  return nullptr;
}

// ---- wgrad

// Adds a tile's Σ dy · x of kOutputs × kTaps to their sums. Lanes are summed at once: with vectors of partial
// sums L2 would hold fewer of them, and x and dy pass over it once for each part of the weights that it
// holds.
template <int kOutputs, int kTaps>
RP_INLINE void wgrad_group(const DenseWgradArgs& args, const TapReach& reach, const char* dy,
                           const int32_t* offsets, float* sums) {
  Vec sum[kOutputs][kTaps];
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; o++) {
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; k++) sum[o][k] = zero();
  }
  // General registers are scarce: one a tap, one index for all of them, and two for the outputs.
  const char* p[kTaps];
#pragma GCC unroll 8
  for (int k = 0; k < kTaps; k++) {
    p[k] = args.x + offsets[k];
    RP_OPAQUE(p[k]);
  }
  const int64_t dy_channel = args.dy_channel, x_col = args.x_col;
  for (int h = reach.row_begin; h < reach.row_end; h++) {
    int64_t at = h * args.x_row + reach.col_begin * x_col;
    const char* d = dy + h * args.dy_row + reach.col_begin * int64_t{kLine};
    const char* end = dy + h * args.dy_row + reach.col_end * int64_t{kLine};
#pragma GCC unroll 1
    for (; d < end; d += kLine, at += x_col) {
#pragma GCC unroll 4
      for (int lane = 0; lane < kLine; lane += kLanes * 4) {
        Vec dv[kOutputs];
#pragma GCC unroll 4
        for (int o = 0; o < kOutputs; o++)
          dv[o] = load(reinterpret_cast<const float*>(d + o * dy_channel + lane));
#pragma GCC unroll 8
        for (int k = 0; k < kTaps; k++) {
          const Vec xv = load(reinterpret_cast<const float*>(p[k] + at + lane));
#pragma GCC unroll 4
          for (int o = 0; o < kOutputs; o++) fmadd_to(sum[o][k], dv[o], xv);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; o++) {
#pragma GCC unroll 2
    for (int k = 0; k < kTaps; k += 4) {
      Vec four[4];  // beyond kTaps: zeros, added to the sums that follow
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) four[i] = k + i < kTaps ? sum[o][k + i] : zero();
      add_lane_sums(sums + o * kTaps + k, four);
    }
  }
}

TapReach reach_of(const DenseWgradArgs& args, int k) {
  if (args.reach == nullptr) return {0, args.height, 0, args.width};
  TapReach reach = args.reach[(args.first_tap + k) / kTapGroup % args.kernel_taps];
  if (reach.row_end > args.height) reach.row_end = args.height;  // the last of a batch's tiles across blocks
  return reach;
}

// `groups` groups of kTaps taps from k on, whose x stays in L1 while the outputs' dy passes.
template <int kTaps>
void wgrad_taps(const DenseWgradArgs& args, int k, int groups, PrefetchCursor& next) {
  for (int group = 0, o; (o = group_begin(group, args.outputs)) < args.outputs; group++) {
    const int size = group_begin(group + 1, args.outputs) - o;
    next.step();
    const char* dy = args.dy + o * args.dy_channel;
    for (int g = 0; g < groups; g++) {
      const int first = k + g * kTaps;
      const TapReach reach = reach_of(args, first);
      if (reach.row_begin >= reach.row_end || reach.col_begin >= reach.col_end) continue;
      const int32_t* offsets = args.offsets + first;
      float* sums = args.sums + int64_t{first} * args.outputs + int64_t{o} * kTaps;
      if (size == 3) {
        wgrad_group<3, kTaps>(args, reach, dy, offsets, sums);
      } else if (size == 2) {
        wgrad_group<2, kTaps>(args, reach, dy, offsets, sums);
      } else {
        wgrad_group<1, kTaps>(args, reach, dy, offsets, sums);
      }
    }
  }
}

void wgrad(const DenseWgradArgs& args) {
  const int groups = args.taps / kTapGroup;
  const int calls = groups > 0 ? (groups + args.groups_at_once - 1) / args.groups_at_once : 1;
  const int steps = calls * ((args.outputs + kOutputGroup - 1) / kOutputGroup);
  PrefetchCursor next(args.next, 2, steps);
  int k = 0;
  for (int left = groups; left > 0; left -= args.groups_at_once) {
    const int now = left < args.groups_at_once ? left : args.groups_at_once;
    wgrad_taps<kTapGroup>(args, k, now, next);
    k += now * kTapGroup;
  }
  if (kTapGroup > 4 && k + 4 <= args.taps) {
    wgrad_taps<4>(args, k, 1, next);
    k += 4;
  }
  if (k + 2 <= args.taps) {
    wgrad_taps<2>(args, k, 1, next);
    k += 2;
  }
  if (k < args.taps) wgrad_taps<1>(args, k, 1, next);
}

void fence() { stream_fence(); }

}  // namespace

const DenseConvKernels& dense_conv_kernels() {
  static const DenseConvKernels kernels = {kLanes, kPositions, find_gather, wgrad, kTapGroup, fence};
  return kernels;
}

}  // namespace RP_ISA
}  // namespace rp
