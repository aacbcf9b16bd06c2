#include "ops/sparse_conv2d/sparse_choice.h"

#include <algorithm>

#include "ops/conv_model.h"
#include "ops/sparse_conv2d/sparse_lists.h"

namespace rp {
namespace {

constexpr int kBlockLines[] = {330, 400, 480, 640, 800};  // for an L1 of 512

constexpr TileShape kShapes[] = {
#define TILE(h, w) {h, w},
#include "ops/sparse_conv2d/tiles.inc"
#undef TILE
};

// Lines beyond those of L1 at which reads take twice as long.
constexpr double kMissSpan = 900;

// Multiply-adds of a tile for nonzeros evenly spread over the taps: row kinds leave out the border
// (sparse_lists.h).
double positions_of(const ConvPass& pass, const TileChoice& choice, const TileItem& tile) {
  const int positions = tile.height * tile.width;
  if (!has_row_kinds(pass)) return positions;
  const bool whole = choice.across_blocks || tile.height == 1;
  const int last = choice.across_blocks ? tile.row : tile.row + tile.height - 1;
  const int edges = (tile.row == 0 ? 1 : 0) + (last == pass.rows - 1 ? 1 : 0);
  return positions - edges * (whole ? positions : tile.width) / 3.0;
}

constexpr int kShapeCount = sizeof kShapes / sizeof *kShapes;

// add(choice) for every tile and a channel block for each share of L1 that its lines of x may take.
template <class Add>
void for_each_block(const ConvPass& pass, const HasTile& has, int blocks, const Add& add) {
  for_each_tile(kShapes, kShapeCount, pass, has, blocks, [&](TileChoice choice) {
    const int lines = lines_of(pass, choice, has_row_kinds(pass));
    choice.prefetch = beyond_l2(pass.x.block_stride * 4, blocks);
    choice.stream = beyond_l2(pass.y.block_stride * 4, blocks, 8);
    choice.by_rows = choice.prefetch && rows_fit(pass, choice);
    int previous = 0;
    for (int limit : kBlockLines) {
      choice.channels = even_blocks(pass.inputs(), lines_of_l1(limit) / lines);
      if (choice.channels == previous) continue;
      previous = choice.channels;
      add(choice, memory_factor(lines * choice.channels, kMissSpan));
    }
  });
}

int blocks_of(const ConvPass& pass, const TileChoice& choice) {
  return (pass.inputs() + choice.channels - 1) / choice.channels;
}

}  // namespace

HasTile has_gather(const SparseConvKernels& kernels, int x_step, bool pairs) {
  return [&kernels, x_step, pairs](int h, int w) {
    return kernels.gather(h, w, x_step, pairs ? 2 : 1) != nullptr;
  };
}

HasTile has_gather_dot(const SparseConvKernels& kernels) {
  return [&kernels](int height, int width) { return kernels.gather_dot(height, width) != nullptr; };
}

HasTile has_wgrad(const SparseConvKernels& kernels, int x_step) {
  return [&kernels, x_step](int h, int w) { return kernels.wgrad(h, w, x_step, 1) != nullptr; };
}

std::vector<TileChoice> gather_choices(const ConvPass& pass, int64_t nnz, const SparseConvKernels& kernels,
                                       int blocks) {
  const double per_output = static_cast<double>(nnz) / pass.outputs();
  // Of the nonzeros of an output, those that the other of its pair keeps too: the mask is random.
  const double both = per_output * per_output / (pass.inputs() * std::max<double>(1, pass.taps.size()));
  std::vector<TileCandidate> candidates;
  for (const bool pairs : {false, true}) {
    const HasTile has = has_gather(kernels, pass.x_step, pairs);
    for_each_block(pass, has, blocks, [&](TileChoice choice, double memory) {
      choice.pairs = pairs;
      const int count = blocks_of(pass, choice);
      const double cost = total_cost(pass, choice, has, blocks, [&](const TileItem& tile) {
        const int positions = tile.height * tile.width;
        const double used = positions_of(pass, choice, tile);
        const double partial = count > 1 ? 2.0 * positions : positions;
        // A load for two FMAs where both outputs keep the weight.
        if (pairs) {
          return both * (used * std::max(1.0, memory / 2) + 0.3) +
                 (per_output - both) * (used * memory + 1.5) + count * (24.0 + partial);
        }
        // A nonzero: positions FMAs and, a pass, the broadcast. A block of an output: its loops, and
        // partial sums both ways.
        const int passes = gather_passes(positions, kernels.lanes, kernels.gather_registers);
        return per_output * (used * memory + passes * 2.5) + count * (passes * 22.0 + partial);
      });
      candidates.push_back({choice, cost});
    });
  }
  return ranked(candidates);
}

std::vector<TileChoice> gather_dot_choices(const ConvPass& pass, int64_t nnz,
                                           const SparseConvKernels& kernels, int blocks) {
  const double per_output = static_cast<double>(nnz) / pass.outputs();
  const HasTile has = has_gather_dot(kernels);
  std::vector<TileCandidate> candidates;
  for_each_block(pass, has, blocks, [&](TileChoice choice, double memory) {
    choice.dots = true;
    const int count = blocks_of(pass, choice);
    const double cost = total_cost(pass, choice, has, blocks, [&](const TileItem& tile) {
      const int positions = tile.height * tile.width;
      // A nonzero: a load for two FMAs a position, its dot loaded and stored. A block of an output: x into
      // registers, partial sums both ways.
      return per_output * (positions_of(pass, choice, tile) * std::max(2.0, 1.0 + memory) + 5.0) +
             count * (26.0 + positions + (count > 1 ? 2.0 : 1.0) * positions);
    });
    candidates.push_back({choice, cost});
  });
  return ranked(candidates);
}

std::vector<TileChoice> wgrad_choices(const ConvPass& pass, int64_t nnz, const HasTile& has, int blocks,
                                      int channels) {
  const double per_output = static_cast<double>(nnz) / pass.outputs();
  const int count = (pass.inputs() + channels - 1) / channels;
  std::vector<TileCandidate> candidates;
  for_each_tile(kShapes, kShapeCount, pass, has, blocks, [&](TileChoice choice) {
    choice.channels = channels;
    choice.prefetch = beyond_l2(pass.x.block_stride * 4, blocks);
    choice.by_rows = choice.prefetch && rows_fit(pass, choice);
    const double memory = memory_factor(lines_of(pass, choice, has_row_kinds(pass)) * channels, kMissSpan);
    const double cost = total_cost(pass, choice, has, blocks, [&](const TileItem& tile) {
      const int positions = tile.height * tile.width;
      // A nonzero: positions FMAs, its sum loaded and stored. A block of an output: dy into registers.
      return per_output * (positions_of(pass, choice, tile) * memory + 3.0) + count * (26.0 + positions);
    });
    candidates.push_back({choice, cost});
  });
  return ranked(candidates);
}

}  // namespace rp
