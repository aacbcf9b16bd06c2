#include "ops/conv2d/dense_lists.h"

namespace rp {
namespace {

// [begin, end) of the offsets that meet [0, extent) from some of `count` positions, `step` apart. The offsets
// are monotonic, and so is what they reach.
void reached(const std::vector<int>& offsets, int position, int count, int step, int extent, int* begin,
             int* end) {
  const auto meets = [&](int offset) {
    for (int i = 0; i < count; i++) {
      const int at = (position + i) * step + offset;
      if (at >= 0 && at < extent) return true;
    }
    return false;
  };
  *begin = 0;
  *end = static_cast<int>(offsets.size());
  while (*begin < *end && !meets(offsets[*begin])) ++*begin;
  while (*end > *begin && !meets(offsets[*end - 1])) --*end;
}

}  // namespace

DenseList::DenseList(const ConvPass& pass, const Tiling& tiling, const TileChoice& choice, int blocks)
    : pass_(pass), channels_(choice.channels), across_blocks_(choice.across_blocks) {
  for (const PassTap& tap : pass.taps) {
    if (drs_.empty() || drs_.back() != tap.dr) drs_.push_back(tap.dr);
    if (tap.dr == pass.taps.front().dr) dss_.push_back(tap.ds);
  }
  const size_t rows = drs_.size() + 1, cols = dss_.size() + 1;
  ids_.assign(rows * rows * cols * cols, -1);
  // Tiles of one image block; those of a smaller batch have the same columns and rows.
  const int sample = choice.across_blocks ? blocks : 1;
  for (int64_t i = 0; i < tiling.items(sample); i++) {
    const TileItem tile = tiling.item(i, sample);
    add(reach(tile.row, tile.col, tile.height, tile.width));
  }
}

DenseList::Taps DenseList::reach(int row, int col, int height, int width) const {
  Taps taps;
  reached(drs_, row, across_blocks_ ? 1 : height, pass_.x_step, pass_.x.height, &taps.row_begin,
          &taps.row_end);
  reached(dss_, col, width, pass_.x_step, pass_.x.width, &taps.col_begin, &taps.col_end);
  return taps;
}

int DenseList::id(const Taps& taps) const {
  const int rows = static_cast<int>(drs_.size()) + 1, cols = static_cast<int>(dss_.size()) + 1;
  return ((taps.row_begin * rows + taps.row_end) * cols + taps.col_begin) * cols + taps.col_end;
}

void DenseList::add(const Taps& taps) {
  int& slot = ids_[id(taps)];
  if (slot >= 0) return;
  slot = static_cast<int>(lists_.size());
  Entries entries;
  entries.per_channel = (taps.row_end - taps.row_begin) * (taps.col_end - taps.col_begin);
  const int count = static_cast<int>(pass_.taps.size()), cols = static_cast<int>(dss_.size());
  for (int c = 0; c < channels_; c++) {
    for (int r = taps.row_begin; r < taps.row_end; r++) {
      for (int s = taps.col_begin; s < taps.col_end; s++) {
        entries.pairs.push_back(
            static_cast<int32_t>(4 * (c * pass_.x.channel_stride + drs_[r] * pass_.x.row_stride +
                                      int64_t{dss_[s]} * kImagesPerBlock)));
        entries.pairs.push_back(c * count + r * cols + s);
      }
    }
  }
  lists_.push_back(std::move(entries));
}

DenseList::View DenseList::of(const GatherPlace& place) const {
  const Entries& list = lists_[ids_[id(reach(place.row, place.col, place.height, place.width))]];
  return {list.pairs.data(), list.per_channel * channels_of(place.channel_block)};
}

int64_t DenseList::bytes() const {
  int64_t bytes = 4 * static_cast<int64_t>(ids_.capacity());
  for (const Entries& list : lists_) bytes += 4 * static_cast<int64_t>(list.pairs.capacity());
  return bytes;
}

}  // namespace rp
