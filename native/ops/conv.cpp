#include "ops/conv.h"

#include <algorithm>
#include <cstdio>

#include "core/error.h"
#include "cpu/features.h"
#include "cpu/threads.h"
#include "ops/conv_kinds.h"
#include "ops/conv_pass.h"
#include "ops/conv_search.h"

namespace rp {

std::unique_ptr<ConvLayer> make_conv(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
                                     const ConvOptions& options, ThreadTeam& team) {
  check_conv(shape, mask, layouts);
  if (options.measure && options.choice.empty()) {
    ConvOptions measured = options;
    measured.measure = false;
    measured.choice = ConvSearch(team).search(shape, mask, layouts, options).choice;
    return make_conv(shape, mask, layouts, measured, team);
  }
  const Isa isa = options.isa.empty() ? cpu_isa() : parse_isa(options.isa);
  return mask.bits == nullptr ? make_dense_conv(shape, layouts, options, isa, team)
                              : make_sparse_conv(shape, mask, layouts, options, isa, team);
}

bool conv_takes(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
                const std::string& choice, Isa isa) {
  ConvOptions options;
  options.choice = choice;
  options.isa = isa_name(isa);
  // The tiles alone: a layer that keeps nothing has no lists to build.
  const std::vector<uint8_t> nothing(
      (int64_t{shape.in_channels} * shape.out_channels * shape.kernel_h * shape.kernel_w + 7) / 8);
  ThreadTeam team(1);
  try {
    make_conv(shape, mask.bits == nullptr ? mask : MaskView{nothing.data(), 0}, layouts, options, team);
  } catch (const Error&) {
    return false;
  }
  return true;
}

std::string shape_text(const ConvShape& s) {
  char text[160];
  std::snprintf(text, sizeof text, "%dx%dx%dx%d stride %d padding %d on %dx%d", s.out_channels, s.in_channels,
                s.kernel_h, s.kernel_w, s.stride, s.padding, s.in_height, s.in_width);
  return text;
}

int64_t conv_bytes(const ConvShape& s, const MaskView& mask, const ConvLayouts& layouts, int threads) {
  const int64_t taps = int64_t{s.kernel_h} * s.kernel_w;
  const int64_t numel = taps * s.in_channels * s.out_channels;
  const int64_t positions =
      int64_t{1} * s.in_height * s.in_width + int64_t{1} * s.out_height() * s.out_width();
  // Partial sums of forward or dgrad (at most 28 positions a tile), or of wgrad (a part of L2), and what goes
  // tile by tile.
  const int64_t wide = std::max(s.in_channels, s.out_channels);
  const int64_t scratch =
      std::max<int64_t>(28 * 64 * wide, core_caches().l2_bytes * 5 / 8 + 4 * wide) + 64 * taps * wide;
  const int64_t tiles = 20 * positions * 2;
  if (mask.bits == nullptr) {
    return 4 * numel * (layouts.has_dgrad ? 2 : 1) + 8 * taps * s.in_channels + 8 * taps * wide * 32 + tiles +
           scratch * threads;
  }
  // Value 4, offset 4; dgrad: offset and index 8, and its weights in scratch 4. Ends and splits: at
  // worst a block a channel.
  const int64_t phases = int64_t{s.stride} * s.stride;
  return mask.nnz * (layouts.has_dgrad ? 20 : 8) +
         12 * int64_t{s.in_channels} * (s.out_channels + 1) * (layouts.has_dgrad ? 1 + phases : 1) +
         4 * int64_t{s.out_channels + 1} * (layouts.has_dgrad ? 1 + phases : 1) + tiles + scratch * threads;
}

}  // namespace rp
