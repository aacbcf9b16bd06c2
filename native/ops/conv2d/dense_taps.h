// What the dense gather kernels walk: weights packed [channel block][group of outputs][tap][channel][output],
// and the byte offset of each tap. Every output shares them, so a tile can have its own taps: those that
// reach only the border from all of its positions are left out, and those that reach it from the first or the
// last column stand apart (conv2d.h: TapRun).
#pragma once
#include <cstdint>
#include <vector>

#include "ops/conv2d/conv2d.h"
#include "ops/conv_gather.h"

namespace rp {

class DenseTaps {
 public:
  // For the tiles of a phase cut by this choice, over so many image blocks. The phase must outlive
  // them. first_weight: of this phase among those of all.
  DenseTaps(const GatherPhase&, const TileChoice&, int blocks, int64_t first_weight);

  // x_channel, runs, channels, k_count and offsets for this place.
  void fill(const GatherPlace&, DenseGatherArgs*) const;
  // Weights of one output in this channel block.
  int64_t k_count(int block) const { return int64_t{channels_of(block)} * taps(); }
  // Where a channel block's weights begin.
  int64_t weights_begin(int block) const {
    return first_weight_ + int64_t{block} * channels_ * taps() * pass_.outputs();
  }
  int blocks() const { return (pass_.inputs() + channels_ - 1) / channels_; }
  int channels() const { return channels_; }
  int channels_of(int block) const { return std::min(channels_, pass_.inputs() - block * channels_); }
  int64_t bytes() const;

 private:
  // Which taps a tile walks, and how: two tiles of equal reach share runs.
  struct Reach {
    int row_begin, row_end, col_begin, col_end;  // of the pass's rectangle of taps
    int first_outside, last_outside;             // columns of taps that the tile's first (last) column loses
    bool operator==(const Reach& o) const {
      return row_begin == o.row_begin && row_end == o.row_end && col_begin == o.col_begin &&
             col_end == o.col_end && first_outside == o.first_outside && last_outside == o.last_outside;
    }
  };
  struct Runs {
    Reach reach;
    std::vector<TapRun> runs;
  };
  Reach reach(int row, int col, int height, int width) const;
  int taps() const { return static_cast<int>(pass_.taps.size()); }
  const Runs* find(const Reach&) const;
  void add(const Reach&, int col, int width);

  const ConvPass& pass_;
  int64_t first_weight_;
  int channels_;
  bool across_blocks_;
  std::vector<int> drs_, dss_;  // the tap rectangle's rows and columns
  std::vector<Runs> runs_;
  std::vector<int32_t> offsets_;  // of each tap
};

}  // namespace rp
