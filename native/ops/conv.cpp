#include "ops/conv.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "cpu/features.h"
#include "cpu/threads.h"
#include "ops/conv2d/dense_choice.h"
#include "ops/conv_choice.h"
#include "ops/conv_kinds.h"
#include "ops/conv_model.h"
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
  if (mask.bits == nullptr) return make_dense_conv(shape, layouts, options, isa, team);
  if (!on_dense_kernels(options.choice)) return make_sparse_conv(shape, mask, layouts, options, isa, team);
  if (!suits_dense(shape, mask)) {
    fail("[conv] choice \"%s\": expected a mask that keeps at least 65 %% of the weights, got %lld of %lld.",
         options.choice.c_str(), static_cast<long long>(mask.nnz), static_cast<long long>(shape.numel()));
  }
  return make_masked_conv(shape, mask, layouts, options, isa, team);
}

bool conv_takes(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
                const std::string& choice, Isa isa) {
  const bool dense = mask.bits == nullptr || on_dense_kernels(choice);
  if (dense && mask.bits != nullptr && !suits_dense(shape, mask)) return false;
  ConvOptions options;
  options.choice = mask.bits == nullptr ? choice : tiles_of_choice(choice);
  options.isa = isa_name(isa);
  // The tiles alone: a layer that keeps nothing has no lists to build.
  const std::vector<uint8_t> nothing((shape.numel() + 7) / 8);
  ThreadTeam team(1);
  try {
    make_conv(shape, dense ? MaskView{nullptr, shape.numel()} : MaskView{nothing.data(), 0}, layouts, options,
              team);
  } catch (const Error&) {
    return false;
  }
  return true;
}

int density_quarters(const ConvShape& shape, const MaskView& mask) {
  return static_cast<int>(std::round(4 * std::log2(static_cast<double>(mask.nnz) / shape.numel())));
}

bool suits_dense(const ConvShape& shape, const MaskView& mask) {
  return mask.nnz > 0 && density_quarters(shape, mask) >= -2;
}

uint64_t reached_phases(const ConvShape& shape, const ConvLayouts& layouts) {
  const std::vector<ConvPass> passes = dgrad_passes(shape, layouts);
  if (passes.size() > 64) return ~uint64_t{0};
  uint64_t reached = 0;
  for (size_t p = 0; p < passes.size(); p++) {
    if (!passes[p].taps.empty()) reached |= uint64_t{1} << p;
  }
  return reached;
}

bool forward_takes_turns(const ConvShape& shape, const ConvLayouts& layouts) {
  return takes_turns(forward_pass(shape, layouts));
}

bool has_joint_backward(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts) {
  const std::vector<ConvPass> passes = dgrad_passes(shape, layouts);
  if (!takes_turns(forward_pass(shape, layouts)) || !takes_turns(main_pass(passes)) ||
      !std::all_of(passes.begin(), passes.end(), fills_tiles))
    return false;
  const bool dense = mask.bits == nullptr || suits_dense(shape, mask);
  return (!dense || dense_wgrad_goes_beside(shape)) &&
         (mask.bits == nullptr || sparse_wgrad_goes_beside(layouts.x, mask.nnz));
}

std::string shape_text(const ConvShape& s) {
  char text[160];
  std::snprintf(text, sizeof text, "%dx%dx%dx%d stride %d padding %d on %dx%d", s.out_channels, s.in_channels,
                s.kernel_h, s.kernel_w, s.stride, s.padding, s.in_height, s.in_width);
  return text;
}

int64_t conv_weights_bytes(const ConvShape& s, const MaskView& mask, const ConvLayouts& layouts) {
  const bool dense = mask.bits == nullptr || suits_dense(s, mask);
  return dense ? 4 * s.numel() * (layouts.has_dgrad ? 2 : 1) : 4 * mask.nnz;
}

int64_t conv_bytes(const ConvShape& s, const MaskView& mask, const ConvLayouts& layouts, int threads,
                   int max_blocks) {
  const int64_t taps = int64_t{s.kernel_h} * s.kernel_w;
  const int64_t positions =
      int64_t{1} * s.in_height * s.in_width + int64_t{1} * s.out_height() * s.out_width();
  // Partial sums of forward or dgrad (at most 28 positions a tile) and of wgrad (a part of L2), a dense
  // wgrad's copy of a tile's dy, and what goes tile by tile.
  const int64_t wide = std::max(s.in_channels, s.out_channels);
  const int64_t scratch = (28 + most_wgrad_positions()) * 64 * wide + core_caches().l2_bytes * 5 / 8 +
                          4 * wide + 64 * taps * wide + 128;
  const int64_t tiles = 20 * positions * 2;
  const int64_t weights = conv_weights_bytes(s, mask, layouts);
  // In scratch, wgrad's sums of eight parts of the images, of few weights (counted with every layer); or of a
  // kernel that does both gradients, of as many parts as there are blocks.
  const auto images = [&](int64_t summed, bool one_kernel) {
    if (!layouts.has_wgrad) return int64_t{0};
    const int64_t few = std::min<int64_t>(32 * summed, 4 << 20);
    return one_kernel && threads > 0 ? std::max(few, 4 * std::min(8, max_blocks) * summed) : few;
  };
  const int64_t dense = weights + 8 * taps * s.in_channels + 8 * taps * wide * 32 + tiles +
                        scratch * threads + images(s.numel(), false);
  if (mask.bits == nullptr) return dense;
  // Offset 4; dgrad: offset and index 8, and its weights in scratch 4. Ends and splits: at worst a block a
  // channel. Behind each list a few entries.
  const int64_t phases = int64_t{s.stride} * s.stride;
  const int64_t sparse =
      weights + mask.nnz * (layouts.has_dgrad ? 16 : 4) + images(mask.nnz, layouts.has_dgrad) +
      12 * int64_t{s.in_channels} * (s.out_channels + 2) * (layouts.has_dgrad ? 1 + phases : 1) +
      (4 * int64_t{s.out_channels + 1} + 64) * (layouts.has_dgrad ? 1 + phases : 1) + tiles +
      scratch * threads;
  if (!suits_dense(s, mask)) return sparse;
  // The mask, where outputs begin, and in scratch every weight.
  return std::max(sparse, dense + s.numel() / 8 + 1 + 8 * int64_t{s.out_channels + 1} + 4 * s.numel() + 64);
}

}  // namespace rp
