// What the dense gather kernels walk: weights packed [channel block][outputs / 3][k][3], where k counts the
// (channel, tap) pairs of a block, and lists of {byte offset, k}. Every output shares a list, so lists are
// short and a tile can have one of its own: taps that reach only the border from all of the tile's positions
// are left out.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/conv_gather.h"

namespace rp {

class DenseList {
 public:
  // Lists for the tiles of this tiling, over so many image blocks.
  DenseList(const ConvPass&, const Tiling&, const TileChoice&, int blocks);

  struct View {
    const int32_t* entries;
    int count;
  };
  View of(const GatherPlace&) const;
  // Weights of one output in this channel block.
  int64_t k_count(int block) const {
    return int64_t{channels_of(block)} * static_cast<int64_t>(pass_.taps.size());
  }
  // Where a channel block's weights begin.
  int64_t weights_begin(int block) const {
    return int64_t{block} * channels_ * static_cast<int64_t>(pass_.taps.size()) * pass_.outputs();
  }
  int blocks() const { return (pass_.inputs() + channels_ - 1) / channels_; }
  int channels() const { return channels_; }
  int64_t bytes() const;

 private:
  // Taps of a list: rows [row_begin, row_end) × columns [col_begin, col_end) of the pass's tap rectangle.
  struct Taps {
    int row_begin, row_end, col_begin, col_end;
  };
  Taps reach(int row, int col, int height, int width) const;
  int id(const Taps&) const;
  int channels_of(int block) const { return std::min(channels_, pass_.inputs() - block * channels_); }
  void add(const Taps&);

  const ConvPass& pass_;
  int channels_;
  bool across_blocks_;
  std::vector<int> drs_, dss_;  // the tap rectangle's rows and columns
  struct Entries {
    std::vector<int32_t> pairs;
    int per_channel = 0;
  };
  std::vector<int> ids_;  // by Taps; -1: no tile needs it
  std::vector<Entries> lists_;
};

}  // namespace rp
