#include "ops/conv2d/dense_choice.h"

#include <algorithm>

#include "ops/conv_model.h"

namespace rp {
namespace {

constexpr TileShape kShapes[] = {
#define TILE(h, w) {h, w},
#include "ops/conv2d/tiles.inc"
#undef TILE
};
constexpr int kShapeCount = sizeof kShapes / sizeof *kShapes;
constexpr int kBlockLines[] = {240, 400};
// Positions of a wgrad tile: enough to pay for loading and storing the sums, few enough for L1.
constexpr int kWgradPositions[] = {64, 32, 16};

}  // namespace

HasTile has_dense_gather(const DenseConvKernels& kernels, int x_step) {
  return [&kernels, x_step](int h, int w) { return kernels.gather(h, w, x_step) != nullptr; };
}

bool has_dense_wgrad(int height, int width) { return height <= 64 && width <= 64; }

std::vector<TileChoice> dense_gather_choices(const ConvPass& pass, const HasTile& has, int blocks) {
  const double weights = static_cast<double>(pass.inputs()) * std::max<size_t>(pass.taps.size(), 1);
  std::vector<TileCandidate> candidates;
  for_each_tile(kShapes, kShapeCount, pass, has, blocks, [&](TileChoice choice) {
    const int lines = lines_of(pass, choice);
    int previous = 0;
    for (int limit : kBlockLines) {
      const int channels = even_blocks(pass.inputs(), limit / lines);
      if (channels == previous) continue;
      previous = channels;
      const int count = (pass.inputs() + channels - 1) / channels;
      choice.channels = channels;
      choice.prefetch = pass.x.block_stride * 4 * blocks > kL2Bytes;
      choice.stream = pass.y.block_stride * 4 * blocks > 8 * kL2Bytes;
      const double memory = memory_factor(lines * channels);
      const double cost = total_cost(pass, choice, has, blocks, [&](int positions) {
        const int sums = kOutputGroup * positions;
        // A k: its multiply-adds, or its loads where these are more. A block of three outputs: loop and sums.
        return weights * std::max<double>(sums, (kOutputGroup + positions) * memory + 1) +
               count * (20.0 + 2.0 * sums);
      });
      candidates.push_back({choice, cost});
    }
  });
  return ranked(candidates);
}

std::vector<TileChoice> dense_wgrad_choices(const ConvPass& pass, int blocks) {
  std::vector<TileChoice> choices;
  for (int positions : kWgradPositions) {
    TileChoice choice;
    choice.width = std::min(pass.cols, positions);
    choice.across_blocks = pass.rows * pass.cols < positions && blocks > 1;
    choice.height = std::clamp(positions / choice.width, 1, choice.across_blocks ? blocks : pass.rows);
    if (choices.empty() || choices.back().height != choice.height || choices.back().width != choice.width) {
      choices.push_back(choice);
    }
  }
  return choices;
}

}  // namespace rp
