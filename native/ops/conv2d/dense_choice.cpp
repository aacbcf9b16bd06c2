#include "ops/conv2d/dense_choice.h"

#include <algorithm>
#include <iterator>

#include "ops/conv_model.h"

namespace rp {
namespace {

constexpr TileShape kShapes[] = {
#define TILE(h, w) {h, w},
#include "ops/conv2d/tiles.inc"
#undef TILE
};
constexpr int kShapeCount = sizeof kShapes / sizeof *kShapes;
constexpr int kL1BlockLines[] = {240, 400};  // for an L1 of 512
// Positions of a wgrad tile: many pay for loading and storing the sums, few leave x of a group of taps in L1.
constexpr int kWgradPositions[] = {64, 56, 42, 28, 21, 14, 7, 4};

}  // namespace

HasTile has_dense_gather(const DenseConvKernels& kernels, int x_step) {
  return [&kernels, x_step](int h, int w) { return kernels.gather(h, w, x_step, kOutputGroup) != nullptr; };
}

int dense_output_group(const DenseConvKernels& kernels, const TileChoice& choice) {
  return choice.height * choice.width <= kernels.wide_positions ? kWideOutputGroup : kOutputGroup;
}

bool has_dense_wgrad(int height, int width) { return height * width <= most_wgrad_positions(); }

bool wgrad_by_tap(const ConvPass& pass, int tap_group) {
  // On larger maps the border is little of all work, and taps of one channel share their lines of x.
  return pass.taps.size() > 1 && pass.inputs() >= tap_group && pass.rows * pass.cols <= 64;
}

std::vector<TileChoice> dense_gather_choices(const ConvPass& pass, const DenseConvKernels& kernels,
                                             int blocks) {
  const HasTile has = has_dense_gather(kernels, pass.x_step);
  const double weights = static_cast<double>(pass.inputs()) * std::max<size_t>(pass.taps.size(), 1);
  const std::vector<int> rows = tap_rows(pass);
  std::vector<TileCandidate> candidates;
  for_each_tile(kShapes, kShapeCount, pass, has, blocks, [&](TileChoice choice) {
    const int lines = lines_of(pass, choice);
    int previous = 0;
    // A block may be read from L2: multiply-adds outnumber loads.
    const int limits[] = {lines_of_l1(kL1BlockLines[0]), lines_of_l1(kL1BlockLines[1]),
                          static_cast<int>(core_caches().l2_bytes / 4 / 64)};
    for (int limit : limits) {
      const int channels = even_blocks(pass.inputs(), limit / lines);
      if (channels == previous) continue;
      previous = channels;
      const int count = (pass.inputs() + channels - 1) / channels;
      choice.channels = channels;
      choice.prefetch = beyond_l2(pass.x.block_stride * 4, blocks);
      choice.stream = beyond_l2(pass.y.block_stride * 4, blocks, 8);
      choice.by_rows = choice.prefetch && rows_fit(pass, choice);
      const double memory = memory_factor(lines * channels);
      const int outputs = dense_output_group(kernels, choice);
      const double cost = total_cost(pass, choice, has, blocks, [&](const TileItem& tile) {
        const int sums = outputs * tile.height * tile.width;
        int row_begin, row_end;
        reached_taps(rows, tile.row, choice.across_blocks ? 1 : tile.height, pass.x_step, pass.x.height,
                     &row_begin, &row_end);
        const double reached = rows.empty() ? 0 : static_cast<double>(row_end - row_begin) / rows.size();
        // A k: its multiply-adds, or its loads where these are more, and the loop. A group of outputs: the
        // loop's end, and the sums loaded and stored.
        const int passes = gather_passes(tile.height * tile.width, kernels.lanes, kernels.gather_registers);
        const double loads = (passes * outputs + tile.height * tile.width) * memory + passes;
        return (weights * reached * (std::max<double>(sums, loads) + passes * 2) +
                count * (passes * 30.0 + 3.0 * sums)) /
               outputs;
      });
      candidates.push_back({choice, cost});
    }
  });
  return ranked(candidates);
}

int most_wgrad_positions() {
  return *std::max_element(std::begin(kWgradPositions), std::end(kWgradPositions));
}

std::vector<TileChoice> dense_wgrad_choices(const ConvPass& pass, int tap_group, int blocks) {
  const int taps = std::max<int>(1, pass.taps.size());
  std::vector<TileCandidate> candidates;
  for (int positions : kWgradPositions) {
    TileChoice choice;
    const int widest = std::min(positions, kLargestSide);
    const int parts = (pass.cols + widest - 1) / widest;
    choice.width = (pass.cols + parts - 1) / parts;
    choice.across_blocks = pass.rows * pass.cols < positions && blocks > 1;
    choice.height = std::clamp(positions / choice.width, 1,
                               std::min(kLargestSide, choice.across_blocks ? blocks : pass.rows));
    choice.prefetch = beyond_l2((pass.x.block_stride + pass.y.block_stride) * 4, blocks);
    choice.by_rows = choice.prefetch && rows_fit(pass, choice);
    const int size = choice.height * choice.width;
    const double lines = wgrad_by_tap(pass, tap_group)
                             ? tap_group * size
                             : lines_of(pass, choice) * std::max(1.0, static_cast<double>(tap_group) / taps);
    // Sixteen images of a position: 24 multiply-adds each. A tile: its loop, 24 sums loaded, added and
    // stored.
    candidates.push_back({choice, memory_factor(lines) * (16 * 24.0 * size + 120.0) / size});
  }
  return ranked(candidates);
}

}  // namespace rp
