// What the cost models of the sparse and the dense kernels share: how candidate tiles are counted and
// ordered. Costs are in cycles of one vector of sixteen images.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/features.h"
#include "ops/conv_pass.h"
#include "ops/conv_tiling.h"

namespace rp {

// So many lines of this machine's L1, given for one of 512.
inline int lines_of_l1(int of_512) { return static_cast<int>(of_512 * core_caches().l1_bytes >> 15); }

constexpr int kL1Lines = 440;  // of 512: what a tile of x may take before it is read from L2

// Whether so many bytes an image block are more than `times` L2 holds: they come from, and leave for, memory.
inline bool beyond_l2(int64_t block_bytes, int blocks, int times = 1) {
  return block_bytes * blocks > times * core_caches().l2_bytes;
}

// Whether tiles may follow each other along rows: what such tiles read, and write where it is not streamed,
// and what the next rows add to it, is to stay in L2. Rows of parts are cut to that.
inline bool rows_fit(const ConvPass& pass, const TileChoice& c) {
  if (c.across_blocks || pass.taps.empty()) return false;
  if (pass.x.parts > 1) return true;
  const std::vector<int> taps = tap_rows(pass);
  const int span = *std::max_element(taps.begin(), taps.end()) - *std::min_element(taps.begin(), taps.end());
  const int64_t x_rows = (2 * c.height - 1) * pass.x_step + 1 + span;
  const int64_t y_rows = c.stream ? 0 : 2 * c.height;
  return 4 * (x_rows * pass.x.row_stride + y_rows * pass.y.row_stride) <= core_caches().l2_bytes;
}

// Only where an image alone cannot fill a tile do tiles lie across image blocks.
inline bool fills_tiles(const ConvPass& pass) { return pass.x.parts > 1 || pass.rows * pass.cols > 16; }

// Whether what a pass reads may be made in turns with its tiles, a block in memory of each thread.
inline bool takes_turns(const ConvPass& pass) {
  TileChoice rows;
  rows.height = 4;
  const int64_t block = 4 * (pass.x.block_stride + pass.y.block_stride);
  return fills_tiles(pass) && (block <= 4 * core_caches().l2_bytes || rows_fit(pass, rows));
}

struct TileShape {
  int height, width;
};

// [begin, end) of the taps that meet [0, extent) from some of `count` positions, `step` apart. Taps are
// monotonic, and so is what they reach.
inline void reached_taps(const std::vector<int>& taps, int position, int count, int step, int extent,
                         int* begin, int* end) {
  const auto meets = [&](int tap) {
    for (int i = 0; i < count; i++) {
      const int at = (position + i) * step + tap;
      if (at >= 0 && at < extent) return true;
    }
    return false;
  };
  *begin = 0;
  *end = static_cast<int>(taps.size());
  while (*begin < *end && !meets(taps[*begin])) ++*begin;
  while (*end > *begin && !meets(taps[*end - 1])) --*end;
}

// Lines of x that one channel of a tile touches, counting each column that some tap reaches. Neighbouring
// channels share their border columns. skips_border_rows: rows outside the map are not read.
inline int lines_of(const ConvPass& pass, const TileChoice& c, bool skips_border_rows = false) {
  int r0 = 0, r1 = 0, s0 = 0, s1 = 0;
  for (const PassTap& tap : pass.taps) {
    r0 = std::min(r0, tap.dr);
    r1 = std::max(r1, tap.dr);
    s0 = std::min(s0, tap.ds);
    s1 = std::max(s1, tap.ds);
  }
  const auto extent = [&](int positions, int span) {
    return span == 0 ? positions : (positions - 1) * pass.x_step + 1 + span;
  };
  const int cols = std::min(extent(c.width, s1 - s0), pass.x.width + pass.x.border);
  if (c.across_blocks) return cols * c.height * (r1 - r0 + 1);
  const int rows = extent(c.height, r1 - r0);
  return cols * (skips_border_rows ? std::min(rows, pass.x.height) : rows);
}

// Reads that miss L1 cost up to twice as much where all of them do; a list visits lines in its own order, so
// that a part of a larger tile stays.
inline double memory_factor(double lines, double span = kL1Lines) {
  const double of_512 = lines * (32 << 10) / static_cast<double>(core_caches().l1_bytes);
  return 1.0 + std::clamp((of_512 - kL1Lines) / span, 0.0, 1.0);
}

struct TileCandidate {
  TileChoice choice;
  double cost;
};

inline std::vector<TileChoice> ranked(std::vector<TileCandidate>& candidates) {
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const TileCandidate& a, const TileCandidate& b) { return a.cost < b.cost; });
  std::vector<TileChoice> choices;
  for (const TileCandidate& candidate : candidates) choices.push_back(candidate.choice);
  return choices;
}

// Σ over the tiles of cost(tile).
template <class Cost>
double total_cost(const ConvPass& pass, const TileChoice& choice, const HasTile& has, int blocks,
                  const Cost& cost) {
  const Tiling tiling(pass.rows, pass.cols, choice, has);
  const int sample = choice.across_blocks ? blocks : 1;
  double sum = 0;
  for (int64_t i = 0; i < tiling.items(sample); i++) {
    const TileItem item = tiling.item(i, sample);
    sum += cost(item);
  }
  return sum / sample;
}

// add(choice) for each tile that a kernel and the pass have room for.
template <class Add>
void for_each_tile(const TileShape* shapes, int count, const ConvPass& pass, const HasTile& has, int blocks,
                   const Add& add) {
  for (const TileShape* shape = shapes; shape < shapes + count; shape++) {
    if (!has(shape->height, shape->width) || shape->width > pass.cols) continue;
    TileChoice choice;
    choice.height = shape->height;
    choice.width = shape->width;
    if (shape->height <= pass.rows) add(choice);
    if (!fills_tiles(pass) && shape->height > 1 && shape->height <= std::max(blocks, 2)) {
      choice.across_blocks = true;
      add(choice);
    }
  }
}

// Blocks of even size, at most so many channels.
inline int even_blocks(int inputs, int channels) {
  channels = std::clamp(channels, 1, inputs);
  const int count = (inputs + channels - 1) / channels;
  return (inputs + count - 1) / count;
}

}  // namespace rp
